"""A function as a flat list of equations: its jaxpr, with its calls inlined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from rnn_jax.errors import invalid
from rnn_jax.types import Array

Place = int
"""The index of a value in an evaluation of the program."""


class Equation(NamedTuple):
    """A primitive and the places of the values that it reads and writes.

    `scope` is the `jax.named_scope` that it was traced in, and the scopes around that: `layer/f`.
    """

    primitive: Any
    params: dict[str, Any]
    reads: list[Place]
    writes: list[Place]
    scope: str = ""


class Product(NamedTuple):
    """A product u = P z: the places of `u` and of the vector `z`."""

    u: Place
    z: Place


def body_of_call(eqn: Any) -> ClosedJaxpr | None:
    """Return what a call to `jit` or `checkpoint` computes; None for every other equation."""
    # Other calls stay whole: a loop's body stands for many equations, and a custom derivative must
    # not be taken apart, or its rule would be lost.
    match eqn.primitive.name:
        case "jit":
            return eqn.params["jaxpr"]
        case "checkpoint" | "remat" | "remat2":  # by the version of jax
            return ClosedJaxpr(eqn.params["jaxpr"], ())
        case _:
            return None


def has_custom_vjp(function: Callable[..., Any], params: Any, state: Any, xs: Any) -> bool:
    """Return whether a step at xs[0] has a `jax.custom_vjp` in it."""
    first = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), xs)
    program = Program(jax.make_jaxpr(function)(params, state, first))
    return any(is_custom_vjp(equation.primitive) for equation in program.equations)


def is_custom_vjp(primitive: Any) -> bool:
    """Return whether a primitive is the call of a `jax.custom_vjp` function."""
    return primitive.name.startswith("custom_vjp_call")


def _evaluated(equation: Equation, reads: list[Array]) -> Any:
    bind_params = equation.primitive.get_bind_params(equation.params)

    def bind(*reads: Any):
        return equation.primitive.bind(*reads, **bind_params)

    if is_custom_vjp(equation.primitive):
        return in_both_modes(lambda *reads: tuple(bind(*reads)))(*reads)
    return bind(*reads)


def in_both_modes(function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    """Return `function`, which has a rule for reverse mode only, with forward mode as well.

    Raises:
      ValueError: in forward mode, a rule that is not linear in the cotangent (one that clips it).
    """
    # u -> uᵀ J, the rule in reverse, is linear in u, and its transpose is v -> J v. Integers and
    # bools have no cotangent: they are closed over, and their tangents out are float0.
    inexact = lambda value: jnp.issubdtype(value.dtype, jnp.inexact)

    @jax.custom_jvp
    def call(*args: Array) -> tuple[Array, ...]:
        return function(*args)

    @call.defjvp
    def derivative(primals: Any, tangents: Any):
        moved = [i for i, value in enumerate(primals) if inexact(value)]

        def of_moved(*values: Any):
            args = list(primals)
            for i, value in zip(moved, values, strict=True):
                args[i] = value
            outs = function(*args)
            return [out for out in outs if inexact(out)], outs

        at = [primals[i] for i in moved]
        floats, pull, outs = jax.vjp(of_moved, *at, has_aux=True)
        shapes = [jax.ShapeDtypeStruct(out.shape, out.dtype) for out in floats]
        try:
            push = jax.linear_transpose(pull, shapes)
            (d_floats,) = push(tuple(tangents[i] for i in moved))
        except Exception as error:
            raise invalid(
                "cell.step",
                f"a custom_vjp whose rule has no transpose ({type(error).__name__})",
                "a rule that is linear in the cotangent, for tools that use forward mode",
                "Write it as a jax.custom_jvp.",
            ) from error
        d_outs = iter(d_floats)
        zero = lambda out: np.zeros(out.shape, jax.dtypes.float0)
        return outs, tuple(next(d_outs) if inexact(out) else zero(out) for out in outs)

    return call


class Program:
    """A jaxpr as a flat list of equations between numbered places.

    Attributes:
      equations: all equations, in the order of the computation.
      inputs: the places of its arguments.
      outputs: the places of its results.
      constants: `{place: value}` of literals and of arrays closed over.
    """

    def __init__(
        self, closed: ClosedJaxpr, body: Callable[[Any], ClosedJaxpr | None] = body_of_call
    ):
        """Inline every equation of which `body` returns the jaxpr that it stands for."""
        self.equations: list[Equation] = []
        self.constants: dict[Place, Any] = {}
        self._avals: list[Any] = []
        self._body = body
        self.inputs = [self._place(var.aval) for var in closed.jaxpr.invars]
        self.outputs = self._inline(closed, self.inputs)

    def evaluate(
        self,
        inputs: list[Array],
        perturbations: dict[Place, Array],
        given: Mapping[Place, Array] = MappingProxyType({}),
    ) -> dict[Place, Array]:
        """Return every value by its place: `given`, or computed, plus its perturbation if any."""
        # Given values cut the program: what follows does not depend on what they come from.
        values = dict(zip(self.inputs, inputs, strict=True)) | self.constants
        for equation in self.equations:
            reads = [values[place] for place in equation.reads]
            results = _evaluated(equation, reads)
            if not equation.primitive.multiple_results:
                results = [results]
            for place, value in zip(equation.writes, results, strict=True):
                computed = value + perturbations[place] if place in perturbations else value
                values[place] = given.get(place, computed)
        return values

    def only_matrix_vector_product(self, matrix: Place) -> Product | None:
        """Return the product with a vector if that is the only use of the value at `matrix`."""
        # Then ∂E/∂P is an outer product, (∂E/∂u) zᵀ, whose norm needs no matrix. A second use, or
        # being a result, adds terms to it; so may batch axes, or a factor that is itself a matrix.
        uses = [e for e in self.equations for place in e.reads if place == matrix]
        if len(uses) != 1 or matrix in self.outputs:
            return None
        (use,) = uses
        if use.primitive.name == "transpose":
            return self.only_matrix_vector_product(use.writes[0])
        if use.primitive.name != "dot_general":
            return None
        (vector,) = [place for place in use.reads if place != matrix]
        _, batch_axes = use.params["dimension_numbers"]
        if batch_axes != ((), ()) or self._avals[vector].ndim != 1 or self._avals[matrix].ndim != 2:
            return None
        return Product(u=use.writes[0], z=vector)

    def shape_and_dtype(self, place: Place) -> tuple[tuple[int, ...], Any]:
        """Return the shape and the dtype of the value at `place`."""
        return self._avals[place].shape, self._avals[place].dtype

    def _place(self, aval: Any) -> Place:
        self._avals.append(aval)
        return len(self._avals) - 1

    def _constant(self, aval: Any, value: Any) -> Place:
        place = self._place(aval)
        self.constants[place] = value
        return place

    def _inline(self, closed: ClosedJaxpr, inputs: list[Place], caller: str = "") -> list[Place]:
        # Variables are looked up in this call's own table: a jaxpr that is called twice has the
        # same variables both times. Its arguments and results are the caller's places.
        jaxpr = closed.jaxpr
        places = dict(zip(jaxpr.invars, inputs, strict=True))
        for var, value in zip(jaxpr.constvars, closed.consts, strict=True):
            places[var] = self._constant(var.aval, value)

        def place_of(atom: Any):
            is_literal = isinstance(atom, Literal)
            return self._constant(atom.aval, atom.val) if is_literal else places[atom]

        for eqn in jaxpr.eqns:
            reads = [place_of(atom) for atom in eqn.invars]
            # Scopes inside a called jaxpr are relative to the call.
            scope = "/".join(filter(None, (caller, str(eqn.source_info.name_stack))))
            inner = self._body(eqn)
            if inner is not None:
                writes = self._inline(inner, reads, scope)
            else:
                writes = [self._place(var.aval) for var in eqn.outvars]
                equation = Equation(eqn.primitive, eqn.params, reads, writes, scope)
                self.equations.append(equation)
            places.update(zip(eqn.outvars, writes, strict=True))
        return [place_of(atom) for atom in jaxpr.outvars]
