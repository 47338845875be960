r"""Comparison matrices: bounds on ∂s_t/∂s_k that keep the leaves of a state apart.

The step Jacobian of a state of m leaves, (c, h) of an LSTM, has m × m blocks. With M_i a matrix of
upper bounds on their norms, [M_i]_ab ≥ ‖[J_i]_ab‖₂,

.. math::
    \|[\partial s_t / \partial s_k]_{ab}\|_2 \le [M_t \cdots M_{k+1}]_{ab}, \qquad
    \|\partial s_t / \partial s_k\|_2 \le \|M_t \cdots M_{k+1}\|_2

`docs/bounds.md` derives this and all that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_array, check_flag, check_size, invalid
from rnn_jax.gradients.jacobians.step_jacobians import jacobians_along
from rnn_jax.gradients.step.continuous import continuous
from rnn_jax.gradients.step.linearized_step import LinearizedStep, flat_trajectory, is_unitwise
from rnn_jax.gradients.step.step_jacobian import FedBack, StepJacobian
from rnn_jax.lengths import batch_of
from rnn_jax.linalg import log_power_of_two, spectral_norm, split_exponent
from rnn_jax.linalg.largest_singular_value import norm, scaled
from rnn_jax.linalg.norms_of_sums import norm_of_sum, root_norm
from rnn_jax.transforms.batch_axes import over_batch
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params, State

MATRICES = ("T", "*batch", "m", "m")


def comparison_matrices(
    cell: Cell,
    params: Params,
    xs: Array,
    initial_state: State | None = None,
    *,
    exact: bool = False,
) -> Array:
    """Return M_i along the trajectory, `[T, *batch, m, m]`, for a state of m leaves in order.

    From the diagonals of a unit-wise structure and norms of its matrices, which are taken once:
    O(T H), where the singular values of every J_i are O(T H³). No LAPACK.

    Args:
      cell, params, xs, initial_state: as for `unroll`.
      exact: the norms of the blocks themselves, by singular values at every step; any Cell.

    Raises:
      ValueError: a cell without a unit-wise structure, unless `exact`; what `unroll` raises.
    """
    exact = check_flag("exact", exact)
    cell, xs, start = continuous(cell, params, xs, initial_state)
    if exact:
        return exact_blocks(jacobians_along(cell, params, xs, start), start)
    if not is_unitwise(cell):
        raise invalid(
            "cell",
            "one without a unit-wise structure",
            "one whose step Jacobian is diagonals around matrices",
            "Pass exact=True, which serves every cell.",
        )
    return from_diagonals(cell, params, xs, start, flat_trajectory(cell, params, xs, start))


def exact_blocks(jacobians: Array, start: State) -> Array:
    """Return the norms of the blocks that the leaves of `start` make of `jacobians`."""
    batch_ndim = jacobians.ndim - 3
    sizes = [leaf[(0,) * batch_ndim].size for leaf in jax.tree.leaves(start)]
    return block_norms(jacobians, sizes)


@compiled("cell")
def from_diagonals(cell: Cell, params: Params, xs: Array, start: State, hs: Array) -> Array:
    """Find `comparison_matrices` of a unit-wise structure, along `hs [T+1, *batch, S]`."""
    structure: Any = cell.structure

    def diagonals(start: State, xs: Any, before: Array):
        step = LinearizedStep(cell, params, start)
        J = jax.vmap(step.parts)(before, xs)
        return J.A, [(product.A, product.D, product.D_before) for product in J.products]

    A, around = over_batch(diagonals, len(batch_of(xs)), out_axis=1)(start, xs, hs[:-1])
    products = tuple(
        FedBack(A_j, product.W(params), D, D_before)
        for product, (A_j, D, D_before) in zip(structure.products, around, strict=True)
    )
    return comparison_matrix(StepJacobian(A, products))


def block_norms(jacobians: Array, sizes: Sequence[int]) -> Array:
    """Return ‖[J]_ab‖₂ of `jacobians [..., S, S]` in blocks of `sizes`: `[..., m, m]`.

    Singular values: see `linalg.spectral_norm`.

    Raises:
      ValueError: what are no square matrices of floats, or sizes that do not add to theirs.
    """
    J = check_array("jacobians", jacobians, ("*batch", "S", "S"))
    sizes = [check_size(f"sizes[{n}]", size, least=0) for n, size in enumerate(sizes)]
    if sum(sizes) != J.shape[-1]:
        remedy = "Pass the sizes of the state's leaves."
        raise invalid("sizes", sizes, f"sizes that add to S = {J.shape[-1]}", remedy)
    edges = [sum(sizes[:i]) for i in range(1, len(sizes))]
    norms = [
        jnp.stack([spectral_norm(block) for block in jnp.split(row, edges, axis=-1)], -1)
        for row in jnp.split(jacobians, edges, axis=-2)
    ]
    return jnp.stack(norms, -2)


def comparison_bound(matrices: Array) -> Array:
    """Return ln ‖M_t ··· M_{k+1}‖₂ ≥ ln ‖∂s_t/∂s_k‖₂: `[T, *batch, m, m] -> [T+1, T+1, *batch]`.

    Theorem 2 of `docs/bounds.md`. It is at least as tight as what any weighting of the blocks makes
    of it: with D = diag(d), ‖M_t ··· M_{k+1}‖ ≤ cond(D) Π ‖D M_i D⁻¹‖.

    Raises:
      ValueError: what are no square matrices of floats.
    """
    return _bound(check_array("matrices", matrices, MATRICES))


@compiled()
def _bound(matrices: Array) -> Array:
    blocks = _blocks(matrices)
    largest = blocks.max((-2, -1))
    scale = jnp.where(jnp.isneginf(largest), 0, largest)
    # ‖P‖ of the entries over the largest of them, which alone may leave the range.
    P = jnp.exp(blocks - scale[..., None, None])
    return scale + jnp.log(root_norm(P.mT @ P))


def comparison_blocks(matrices: Array) -> Array:
    """Return ln [M_t ··· M_{k+1}]_ab ≥ ln ‖[∂s_t/∂s_k]_ab‖₂: `[T+1, T+1, *batch, m, m]`.

    For an LSTM, whose leaves are (c, h), [..., 0, 0] is the bound of ∂c_t/∂c_k and [..., 1, 1] that
    of ∂h_t/∂h_k. -inf for k > t, and where no path leads from block b to block a.

    Raises:
      ValueError: what are no square matrices of floats.
    """
    return _blocks(check_array("matrices", matrices, MATRICES))


@compiled()
def _blocks(matrices: Array) -> Array:
    T, *batch, m, _ = matrices.shape
    k = jnp.arange(T + 1).reshape(T + 1, *[1] * len(batch), 1, 1)
    identity, zero = jnp.eye(m, dtype=matrices.dtype), jnp.zeros((m, m), jnp.int32)

    def logs(product: Any, exponent: Array):
        return jnp.log(product) + log_power_of_two(exponent, product.dtype)

    def next_row(carry: Any, step: Any):
        t, M, e_M = step
        product, exponent = _times_by_entry((M, e_M), carry)
        carry = jnp.where(k == t, identity, product), jnp.where(k == t, 0, exponent)
        return carry, logs(*carry)

    start = jnp.where(k == 0, identity, 0)
    shape = (T + 1, *batch, m, m)
    first = jnp.broadcast_to(start, shape), jnp.broadcast_to(zero, shape)
    steps = (jnp.arange(1, T + 1), *split_exponent(matrices, ()))
    _, rows = jax.lax.scan(next_row, first, steps)
    return jnp.concatenate([logs(*first)[None], rows])


def _times_by_entry(M: tuple[Array, Array], P: tuple[Array, Array]) -> tuple[Array, Array]:
    """Return M P of matrices ≥ 0, each entry a mantissa and an exponent of its own.

    So that a path does not underflow beside one that is 2^126 times as strong, and may end.
    """
    terms = M[0][..., :, :, None] * P[0][..., None, :, :]
    exponents = M[1][..., :, :, None] + P[1][..., None, :, :]
    lowest = jnp.iinfo(jnp.int32).min // 2
    top = jnp.where(terms == 0, lowest, exponents).max(-2)
    top = jnp.where(top > lowest, top, 0)
    below = jnp.exp2((exponents - top[..., None, :]).astype(terms.dtype))
    product, e = split_exponent(jnp.where(terms == 0, 0, terms * below).sum(-2), ())
    return product, top + e


def comparison_matrix(J: StepJacobian) -> Array:
    r"""Return M with [M]_ab ≥ ‖J_ab‖₂, `[..., m, m]`, of diagonals `[..., rows, columns, n]` of J.

    A block of J is a sum of diagonals around matrices, diag(α_0) + Σ_q diag(α_q) W_q E_q, which
    `norm_of_sum` bounds (theorem 3 of `docs/bounds.md`). n is H, or more where diagonals are
    suprema that a unit reaches at one of several corners.

    Raises:
      ValueError: no StepJacobian.
    """
    if not isinstance(J, StepJacobian):
        raise invalid("J", J, "a StepJacobian", "Pass one of gradients.step_jacobian.")
    return _comparison_matrix(J)


@compiled()
def _comparison_matrix(J: StepJacobian) -> Array:
    matrices = [_Matrix.of(product) for product in J.products]
    E: list[Array] = []
    for product in J.products:
        before = zip(product.D_before, matrices, E, strict=False)
        E.append(_bounds(product.D.diagonals, [(D.diagonals, W, e) for D, W, e in before]))
    after = zip(J.products, matrices, E, strict=True)
    return _bounds(J.A.diagonals, [(product.A.diagonals, W, e) for product, W, e in after])


class _Matrix(NamedTuple):
    """The H × H gates W_qr of one product, each scaled by a power of two.

    Attributes:
      gram: 4^-e W_qrᵀ W_qr, `[k, r, H, H]`.
      exponent: e, `[k, r]`.
      norms: ‖W_qr‖, `[k, r]`.
    """

    gram: Array
    exponent: Array
    norms: Array

    @staticmethod
    def of(product: FedBack) -> _Matrix:
        k, r = product.A.diagonals.shape[-2], product.D.diagonals.shape[-3]
        blocks = product.W.reshape(k, product.W.shape[0] // k, r, -1)
        blocks, exponent = split_exponent(blocks, (1, 3))
        gram = jnp.einsum("kirj,kirl->krjl", blocks, blocks, precision="highest")
        return _Matrix(gram, exponent, jnp.ldexp(root_norm(gram), exponent))


def _bounds(own: Array, through: list[tuple[Array, _Matrix, Array]]) -> Array:
    """Bound the blocks of diag(own) + Σ diag(α_q) Σ_r W_qr E_r, a sum a product: `[..., R, m]`.

    Once with the blocks of each product apart, and once with them together, as
    [√u_1 W_1; √u_2 W_2; ..] and diagonals over √u: √u is the root mean square of α. Rounding of
    either is made up for, so that a bound it is.

    Args:
      own: `[..., R, m, n]`.
      through: for each product α `[..., R, k, n]`, its matrix, and bounds on E `[..., r, m]`.
    """
    m = own.shape[-2]
    for_each_column = lambda alpha: jnp.repeat(alpha[..., None, :, :], m, axis=-3)
    diagonals, ones = own[..., None, :], jnp.ones((*own.shape[:-1], 1), own.dtype)
    apart, together = [(diagonals, ones)], [(diagonals, ones)]
    for alpha, W, E in through:
        omega = _over_paths(W.norms, E).mT
        omega = jnp.broadcast_to(omega[..., None, :, :], (*alpha.shape[:-2], m, alpha.shape[-2]))
        apart.append((for_each_column(alpha), omega))
        root_u = _root_mean_square(alpha)
        mantissa, power = scaled(jnp.where(root_u > 0, root_u, 1), ())
        over_u = norm((alpha / power[..., None] / mantissa[..., None]).mT)
        # At a step whose α is small beside all others', it is small, but it is not zero.
        tiny = jnp.where((alpha != 0).any(-2), jnp.finfo(alpha.dtype).tiny, 0)
        over_u = jnp.maximum(over_u, tiny)
        omega = _over_paths(_stacked_norm(root_u, W), E)[..., None]
        together.append((for_each_column(over_u[..., None, :]), omega))
    # Neither of the two is always the smaller: apart, each product's α keeps its own supremum;
    # together, gates of one W that cannot all be large at once are counted by one norm. Both are
    # bounds, so the smaller of them is one.
    bounds = [
        norm_of_sum(jnp.concatenate(alphas, -2), jnp.concatenate(omegas, -1))
        for alphas, omegas in (zip(*terms, strict=True) for terms in (apart, together))
    ]
    # A product of sizes up to H is off by ε H at most, and what is done to one number by ε.
    H = max([own.shape[-1], *(W.gram.shape[-1] for _, W, _ in through)])
    rounding = (H + 32 if through else 1) * jnp.finfo(own.dtype).eps
    return jnp.minimum(*bounds) * jnp.asarray(1 + rounding, own.dtype)


def _over_paths(norms: Array, E: Array) -> Array:
    """Return Σ_r ω_kr E_rm of `[k, r]` and `[..., r, m]`; an infinite ω does nothing to E = 0."""
    return jnp.where(E[..., None, :, :] > 0, norms[:, :, None] * E[..., None, :, :], 0).sum(-2)


def _root_mean_square(alpha: Array) -> Array:
    """Average over all steps and units what is finite: `[..., R, k, n] -> [R, k]`."""
    alpha = jnp.where(jnp.isfinite(alpha), alpha, 0)
    alpha = jnp.moveaxis(alpha, (-3, -2), (0, 1)).reshape(*alpha.shape[-3:-1], -1)
    return norm(alpha / jnp.sqrt(jnp.asarray(alpha.shape[-1], alpha.dtype)))


def _stacked_norm(root_u: Array, W: _Matrix) -> Array:
    """Return ‖[√u_1 W_1r; √u_2 W_2r; ..]‖ `[p, r]` for `root_u [p, k]`."""
    weights, e = split_exponent(root_u, ())
    e = e[:, :, None] + W.exponent
    used = (root_u > 0)[:, :, None] & (W.norms > 0)
    lowest = jnp.iinfo(jnp.int32).min // 2
    top = jnp.where(used, e, lowest).max(1)
    top = jnp.where(top > lowest, top, 0)
    weights = jnp.where(
        used, weights[:, :, None] * jnp.exp2((e - top[:, None]).astype(weights.dtype)), 0
    )
    gram = jnp.einsum("pkr,krij->prij", jnp.square(weights), W.gram, precision="highest")
    return jnp.ldexp(root_norm(gram), top)
