r"""The step Jacobian of a unit-wise structured cell: diagonals, and diagonals around each W_j.

With the letters of `Structure`, s the flattened state and e_j = operand_j(s, a_1 .. a_{j-1}),

.. math::
    \dot e_j = D_j \dot s + \sum_{i<j} D_{ji} \dot a_i, \qquad
    \dot a_j = W_j \dot e_j, \qquad
    J \dot s = A_0 \dot s + \sum_j A_j \dot a_j

where A and D are diagonal from each leaf or gate of H units to each other one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from rnn_jax.cell import Structure
from rnn_jax.errors import fitting, invalid
from rnn_jax.linalg import matvec
from rnn_jax.types import Array, Params, State


class UnitBlocks(NamedTuple):
    """A matrix of blocks, each of them diagonal.

    Attributes:
      diagonals: `[m, k, H]`, of m × k blocks of H × H.
    """

    diagonals: Array

    def times(self, M: Array) -> Array:
        """Return `[m H, n]` from `M [k H, n]`."""
        m, k, H = self.diagonals.shape
        return jnp.einsum("mkh,khn->mhn", self.diagonals, M.reshape(k, H, -1)).reshape(m * H, -1)

    def left_times(self, M: Array) -> Array:
        """Return M times this, `[n, k H]` from `M [n, m H]`."""
        m, k, H = self.diagonals.shape
        return jnp.einsum("nmh,mkh->nkh", M.reshape(-1, m, H), self.diagonals).reshape(-1, k * H)

    def dense(self) -> Array:
        """Return `[m H, k H]`."""
        m, k, H = self.diagonals.shape
        blocks = self.diagonals[:, :, :, None] * jnp.eye(H, dtype=self.diagonals.dtype)
        return blocks.transpose(0, 2, 1, 3).reshape(m * H, k * H)


class FedBack(NamedTuple):
    """The parts of J that one product makes: ∂s'/∂a_j, W_j, ∂e_j/∂s and ∂e_j/∂a_i, i < j."""

    A: UnitBlocks
    W: Array
    D: UnitBlocks
    D_before: tuple[UnitBlocks, ...]


@flax.struct.dataclass
class StepJacobian:
    """J = ∂s_t/∂s_{t-1} of one example, in its parts.

    Attributes:
      A: ∂s_t/∂s_{t-1} with every a_j held constant.
      products: one for each product.
    """

    A: UnitBlocks
    products: tuple[FedBack, ...]

    def times(self, M: Array) -> Array:
        """Return J M, `[S, n]` from `M [S, n]`."""
        d_a: list[Array] = []
        total = self.A.times(M)
        for product in self.products:
            d_e = product.D.times(M)
            for D, d in zip(product.D_before, d_a, strict=True):
                d_e = d_e + D.times(d)
            d_a.append(product.W @ d_e)
            total = total + product.A.times(d_a[-1])
        return total

    def left_times(self, M: Array) -> Array:
        """Return M J, `[n, S]` from `M [n, S]`."""
        total = self.A.left_times(M)
        at_a = [product.A.left_times(M) for product in self.products]
        for j in reversed(range(len(self.products))):
            product = self.products[j]
            at_e = at_a[j] @ product.W
            total = total + product.D.left_times(at_e)
            for i, D in enumerate(product.D_before):
                at_a[i] = at_a[i] + D.left_times(at_e)
        return total

    def dense(self) -> Array:
        """Return J, `[S, S]`; the first product costs no matrix product."""
        d_a: list[Array] = []
        total = self.A.dense()
        for product in self.products:
            d = product.D.left_times(product.W)
            for D, before in zip(product.D_before, d_a, strict=True):
                d = d + product.W @ D.times(before)
            d_a.append(d)
            total = total + product.A.times(d)
        return total


def step_jacobian(structure: Structure, params: Params, state: State, x: Array) -> StepJacobian:
    """Return the step Jacobian at `state` and `x [I]` of one example, of a unit-wise structure.

    State leaves stand in the order of `jax.flatten_util.ravel_pytree`.

    Raises:
      ValueError: no Structure; params, a state and x that do not go together with it.
    """
    if not isinstance(structure, Structure):
        raise invalid("structure", structure, "a Structure", "Pass cell.structure.")
    with fitting(params, "structure.step"):
        jax.eval_shape(structure.step, params, state, x)
    constants = structure.constants(params)
    matrices = tuple(product.W(params) for product in structure.products)
    # By `matvec`, as in the step itself: XLA takes once what is the same.
    drives = structure.drive(params, matvec(structure.U(params), x))
    add_product = lambda drive, W, e: drive + matvec(W, e)
    a = structure.preactivations(constants, state, drives, matrices, add_product)
    s, unravel = ravel_pytree(state)
    H = jax.tree.leaves(state)[0].shape[-1]

    def after(s: Any, *a: Any):
        return ravel_pytree(structure.pointwise(constants, unravel(s), *a)[0])[0]

    A, *by_a = _unit_blocks(after, H, s, *a)
    products = []
    for j, (product, W) in enumerate(zip(structure.products, matrices, strict=True)):
        e = lambda s, *a, operand=product.operand: operand(constants, unravel(s), *a)
        D, *D_before = _unit_blocks(e, H, s, *a[:j])
        products.append(FedBack(by_a[j], W, D, tuple(D_before)))
    return StepJacobian(A, tuple(products))


def _unit_blocks(function: Callable[..., Array], H: int, *at: Array) -> list[UnitBlocks]:
    """Return ∂function/∂each argument, by one tangent of ones for each block of H of it."""
    # Unit n of the result depends on unit n alone of each gate, so that one tangent of ones over a
    # gate finds its whole diagonal: as many tangents as gates, not as units.
    _, tangent = jax.linearize(function, *at)
    zeros = [jnp.zeros_like(x) for x in at]
    parts = []
    for i, x in enumerate(at):
        k = x.size // H
        ones = jnp.repeat(jnp.eye(k, dtype=x.dtype), H, axis=1)
        columns = jax.vmap(lambda one, i=i: tangent(*zeros[:i], one, *zeros[i + 1 :]))(ones)
        parts.append(UnitBlocks(columns.reshape(k, -1, H).swapaxes(0, 1)))
    return parts
