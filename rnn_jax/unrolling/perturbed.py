r"""Steps that are differentiable with respect to the states that they hand on.

Each state gets two zeros, whose cotangents are gradients with respect to it,

.. math::
    \tilde h_t = h_t + n_t, \qquad y_t = y(\tilde h_t, \cdot), \qquad
    h_{t+1} = \mathrm{step}(\tilde h_t + m_t, x_{t+1})

What y_t reads of the state is read off the step's own computation, its jaxpr: a function
(h_{t-1}, x_t) -> (h_t, y_t) does not give ∂y_t/∂h_t away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import flax.struct
import jax

from rnn_jax.cell import Structure
from rnn_jax.transforms.program import Program
from rnn_jax.types import Array, State


@flax.struct.dataclass
class Perturbations:
    """Zero perturbations of the states of all steps, or what `spread` makes them of.

    Attributes:
      read: n_t, leaves `[T, *batch, ...]`, or what `spread` makes them of.
      passed: m_t, likewise.
      spread: makes zeros like the state of what is in `read` and `passed`, at one step or at
        several that are taken together.
    """

    read: Any
    passed: Any
    spread: Callable[[Any], State] = flax.struct.field(pytree_node=False)

    def states(self) -> tuple[State, State]:
        """Return (n_t, m_t), like the state."""
        return self.spread(self.read), self.spread(self.passed)


def perturbed_structure(structure: Structure, like: tuple[State, State]) -> Structure:
    """Return `structure` with the leaves of (n_t, m_t) as its last drives, and added to s_t."""
    leaves, tree = jax.tree.flatten(like)

    def pointwise(constants: Any, state: State, *a: Any):
        perturbations = jax.tree.unflatten(tree, a[-len(leaves) :])
        step = perturbed(structure.pointwise, num_before=2)
        return step(perturbations, constants, state, *a[: -len(leaves)])

    return replace(structure, pointwise=pointwise)


def perturbed(
    function: Callable[..., tuple[State, Any]], num_before: int
) -> Callable[..., tuple[State, Any]]:
    """Return `((n, m), *args) -> (state, y)` from `(*args) -> (state, y)`.

    The first `num_before` arguments are from before the step. The others may be the state after it,
    as a pre-activation may.
    """

    def step(perturbations: tuple[State, State], *args: Any) -> tuple[State, Any]:
        inputs = jax.tree.leaves(args)
        # y_t may be computed from h_t (a readout), and from h_{t-1} and the gates beside it. The
        # jaxpr tells them apart: once all values of the step are known, those that are handed on as
        # h_t are replaced by h_t + n_t, and whatever y_t computes from them is computed again. What
        # h_t+1 itself is made of is not: m_t is added where the step hands the state on.
        closed, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        program = Program(closed)
        values = program.evaluate(inputs, {})
        own = {place for equation in program.equations for place in equation.writes}
        own.update(program.inputs[len(jax.tree.leaves(args[:num_before])) :])
        seen: dict[int, Array] = {}
        after = []
        # The outputs are the leaves of the state, and then y.
        for place, read, passed in zip(
            program.outputs, *map(jax.tree.leaves, perturbations), strict=False
        ):
            state = add_zero(values[place], read)
            if place in own and place not in seen:
                seen[place] = state
            after.append(add_zero(state, passed))
        ys = program.outputs[len(after) :]
        reading = seen
        if not set(ys) <= set(seen):
            inputs = [seen.get(place, x) for place, x in zip(program.inputs, inputs, strict=True)]
            reading = program.evaluate(inputs, {}, seen)
        outputs = [*after, *(reading[place] for place in ys)]
        return jax.tree.unflatten(jax.tree.structure(shapes), outputs)

    return step


@jax.custom_jvp
def add_zero(value: Array, zero: Array) -> Array:
    """Return value + zero, a sum which the primal does not have to compute."""
    return value


@add_zero.defjvp
def _derivative(primals: Any, tangents: Any):
    return add_zero(*primals), tangents[0] + tangents[1]
