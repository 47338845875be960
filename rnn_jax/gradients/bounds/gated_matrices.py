r"""Bounds on gated cells from their parameters alone, for every trajectory.

Gates lie in intervals that the parameters and a bound on the input give, and the suprema of the
diagonals of J over those intervals make one comparison matrix M for all steps
(`gradients.comparison`):

.. math:: \|\partial s_t / \partial s_k\|_2 \le \|M^{t-k}\|_2

which falls with the lag if and only if ρ(M) < 1. `docs/bounds.md` derives the suprema.
"""

from __future__ import annotations

from itertools import product
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.cells import AffineParams, GRUParams, GRUResetBeforeParams, LSTMState
from rnn_jax.errors import check_array, check_number, check_size, invalid
from rnn_jax.gradients.bounds.comparison_matrices import comparison_bound, comparison_matrix
from rnn_jax.gradients.step.step_jacobian import FedBack, StepJacobian, UnitBlocks
from rnn_jax.transforms.compiled import compiled
from rnn_jax.types import Array, Params

REFINEMENTS = 20


class Range(NamedTuple):
    """Pre-activations between b − R and b + R: `b, R [..]`.

    What is one minus a number near one is computed from the other end, 1 − σ(a) = σ(−a) and
    1 − tanh² a = 4 σ(2a) σ(−2a), for by subtraction nothing would be left of it in float32.
    """

    b: Array
    R: Array

    @staticmethod
    def around(b: Array, R: Array, terms: int) -> Range:
        """Return the range with its own rounding in it, where R is a sum of `terms` products."""
        eps = jnp.finfo(b.dtype).eps
        return Range(b, R + jnp.asarray((terms + 4) * eps, b.dtype) * (jnp.abs(b) + R))

    def sigmoid(self) -> tuple[Array, Array]:
        """Return inf σ and sup σ."""
        return jax.nn.sigmoid(self.b - self.R), _not_zero(jax.nn.sigmoid(self.b + self.R))

    def one_minus_sigmoid(self) -> tuple[Array, Array]:
        """Return 1 − inf σ and 1 − sup σ."""
        return jax.nn.sigmoid(self.R - self.b), jax.nn.sigmoid(-self.b - self.R)

    def sigmoid_slope(self) -> Array:
        """Return sup σ' = σ (1 − σ): ¼ at 0."""
        a = jnp.maximum(jnp.abs(self.b) - self.R, 0)
        return _not_zero(jax.nn.sigmoid(a) * jax.nn.sigmoid(-a))

    def tanh(self) -> tuple[Array, Array]:
        """Return inf |tanh| and sup |tanh|."""
        least, largest = self._sizes()
        return jnp.tanh(least), jnp.tanh(largest)

    def tanh_slope(self) -> tuple[Array, Array]:
        """Return tanh' where |tanh| is least, which is its supremum, and where it is largest."""
        least, largest = self._sizes()
        return _tanh_slope(least), _tanh_slope(largest)

    def _sizes(self) -> tuple[Array, Array]:
        b = jnp.abs(self.b)
        return jnp.maximum(b - self.R, 0), b + self.R


def _tanh_slope(a: Array) -> Array:
    return _not_zero(4 * jax.nn.sigmoid(2 * a) * jax.nn.sigmoid(-2 * a))


def _not_zero(sup: Array) -> Array:
    """Return a supremum that may have underflowed as no zero: its factor may be as large."""
    return jnp.maximum(sup, jnp.finfo(sup.dtype).tiny)


def gated_bound(matrix: Array, T: int) -> Array:
    """Return ln ‖M^(t−k)‖₂ ≥ ln ‖∂s_t/∂s_k‖₂ of `lstm_matrix` or `gru_matrix`: `[T+1, T+1]`.

    Theorems 4 and 5 of `docs/bounds.md`. It takes no trajectory: it holds for all that start and
    are driven within what the matrix was made for. +inf for t > k where M is not finite.
    """
    check_size("T", T)
    matrix = check_array(
        "matrix", matrix, ("m", "m"), remedy="Pass lstm_matrix's, or gru_matrix's."
    )
    known = jnp.isfinite(matrix).all()
    table = comparison_bound(jnp.broadcast_to(jnp.where(known, matrix, 1), (T, *matrix.shape)))
    below_diagonal = jnp.tri(T + 1, k=-1, dtype=bool)
    return jnp.where(below_diagonal & ~known, jnp.inf, table)


def lstm_matrix(
    params: AffineParams,
    *,
    input_bound: ArrayLike = jnp.inf,
    initial_state: LSTMState | None = None,
    steps: float = jnp.inf,
) -> Array:
    r"""Return M of `cells.lstm` for all inputs and all times, `[2, 2]`, in the order (c, h).

    From |c_t| ≤ c̄, with everything else an interval or a supremum over one,

    .. math::
        \frac{\partial c_t}{\partial s} : \; \bar f, \quad
        \bar\sigma'_i |g|\, W_i + \bar\sigma'_f \bar c\, W_f + \bar i (1 - g^2) W_g; \qquad
        \bar c = \max\Bigl(|c_0|, \frac{\bar i \bar g}{1 - \bar f}\Bigr)
        \text{ or } |c_0| + \mathrm{steps} \cdot \bar i \bar g,

    and ∂h_t/∂s = o (1 − tanh² c_t) ∂c_t/∂s + σ'_o tanh(c_t) W_o. Without a bound on the input f̄
    is 1, and M is finite only for a finite number of steps.

    Args:
      params: parameters of `cells.lstm`; other cells have other equations.
      input_bound: sup |x|, a number or `[I]`.
      initial_state: start of the trajectories, zero by default; the largest over its batch axes.
      steps: the most that are taken.

    Returns:
      M, all +inf where c̄ is not finite.

    Raises:
      ValueError: a W that is not `[4H, H]`.

    Reference: compare Miller and Hardt, Stable recurrent models (2019), arXiv 1805.10369, whose
    condition for a stable LSTM is one on ∞-norms of the same suprema.
    """
    if not isinstance(params, AffineParams):
        remedy = "Pass the parameters of cells.lstm."
        raise invalid("params", type(params).__name__, "AffineParams", remedy)
    G, H = params.W.shape
    if G != 4 * H:
        raise invalid("params.W", params.W, "[4H, H]", "Pass the parameters of cells.lstm.")
    steps = check_number("steps", steps, least=0, infinite=True)
    start = LSTMState(c=jnp.zeros(H), h=jnp.zeros(H)) if initial_state is None else initial_state
    c_0, h_0 = (_largest(leaf, H, params.W.dtype) for leaf in (start.c, start.h))
    return _lstm_matrix(params, _radius(params.U, input_bound), c_0, h_0, steps)


@compiled()
def _lstm_matrix(params: Params, driven: Any, c_0: Any, h_0: Any, steps: Any) -> Array:
    H = len(c_0)

    def gates(h: Array):
        radius = driven + jnp.abs(params.W) @ h
        ends = zip(*(_blocks(a, 4) for a in (params.b, radius)), strict=True)
        return [Range.around(b, R, H + params.U.shape[1]) for b, R in ends]

    def refine(_: Any, bounds: Any):
        i, f, o, g = gates(bounds[1])
        g_bar, forgets = g.tanh()[1], f.one_minus_sigmoid()[1]
        written = jnp.where(g_bar > 0, _not_zero(i.sigmoid()[1] * g_bar), 0)
        ever = lambda times: jnp.where(written > 0, written * times, 0)
        c = jnp.minimum(jnp.maximum(c_0, ever(1 / forgets)), c_0 + ever(steps))
        c = c * jnp.asarray(1 + 8 * jnp.finfo(c.dtype).eps, c.dtype)
        return c, jnp.maximum(h_0, o.sigmoid()[1] * jnp.tanh(c))

    # Each turn holds for all times if the one before does.
    first = jnp.full_like(c_0, jnp.inf), jnp.maximum(h_0, 1)
    c, h = jax.lax.fori_loop(0, REFINEMENTS, refine, first)
    i, f, o, g = gates(h)
    f_bar, i_bar, o_bar = (gate.sigmoid()[1] for gate in (f, i, o))
    zero, corners = jnp.zeros_like(c), []
    g_ends = zip(g.tanh(), g.tanh_slope(), strict=True)
    c_ends = ((zero, zero + 1), (jnp.tanh(c), _tanh_slope(c)))
    for (g_end, g_slope), (tanh_c, c_slope) in product(g_ends, c_ends):
        to_c = [
            i.sigmoid_slope() * g_end,
            f.sigmoid_slope() * c,
            zero,
            i_bar * g_slope,
        ]
        shown = o_bar * c_slope
        to_h = [shown * part for part in to_c]
        to_h[2] = o.sigmoid_slope() * tanh_c
        corners.append(([[f_bar, zero], [shown * f_bar, zero]], [to_c, to_h]))
    A, around_W = (
        UnitBlocks(jnp.concatenate([*map(jnp.array, x)], -1)) for x in zip(*corners, strict=True)
    )
    from_h = UnitBlocks(jnp.stack([zero, zero + 1])[None])
    M = comparison_matrix(StepJacobian(A, (FedBack(around_W, params.W, from_h, ()),)))
    return jnp.where(jnp.isfinite(c).all(), M, jnp.inf)


def gru_matrix(
    params: GRUParams | GRUResetBeforeParams,
    *,
    input_bound: ArrayLike = jnp.inf,
    initial_state: Array | None = None,
) -> Array:
    r"""Return M of `cells.gru` and `cells.gru_reset_before` for all inputs and all times, `[1, 1]`.

    From |h_t| ≤ h̄ = max(|h_0|, n̄), with q = W_n h + b_n,

    .. math::
        J = z + z' (h - n) W_z + (1 - z) n' (r W_n + r' q W_r) \quad\text{or}\quad
        z + z' (h - n) W_z + (1 - z) n' W_n (r + r' h W_r)

    where each letter but W is a diagonal: r and r', h − n, n' and z' at their suprema, z at either
    end of its interval. Always finite.

    Args:
      params: their type says which of the two cells it is.
      input_bound, initial_state: as for `lstm_matrix`.

    Raises:
      ValueError: parameters of another cell.
    """
    if not isinstance(params, GRUParams | GRUResetBeforeParams):
        raise invalid(
            "params", type(params).__name__, "GRUParams or GRUResetBeforeParams", "Pass a GRU's."
        )
    H, dtype = params.W.shape[1], params.W.dtype
    h_0 = _largest(jnp.zeros(H) if initial_state is None else initial_state, H, dtype)
    return _gru_matrix(params, _radius(params.U, input_bound), h_0)


@compiled()
def _gru_matrix(params: Params, driven: Any, h_0: Any) -> Array:
    b_n: Array | None = None
    if isinstance(params, GRUResetBeforeParams):
        (W_r, W_z), W_n = _blocks(params.W, 2), params.W_n
    else:
        (W_r, W_z, W_n), b_n = _blocks(params.W, 3), params.b_n
    terms = params.W.shape[1] + params.U.shape[1]
    driven = _blocks(driven, 3)
    b_r, b_z, b = _blocks(params.b, 3)
    zero = jnp.zeros_like(h_0)

    def gates(h: Array):
        r = Range.around(b_r, driven[0] + jnp.abs(W_r) @ h, terms)
        z = Range.around(b_z, driven[1] + jnp.abs(W_z) @ h, terms)
        r_bar = r.sigmoid()[1]
        if b_n is None:
            q = zero
            fed_back = jnp.abs(W_n) @ (r_bar * h)
        else:
            q = jnp.abs(b_n) + jnp.abs(W_n) @ h
            fed_back = r_bar * q
        return r, z, Range.around(b, driven[2] + fed_back, terms + 2), q

    refine = lambda _, h: jnp.maximum(h_0, gates(h)[2].tanh()[1])
    h = jax.lax.fori_loop(0, REFINEMENTS, refine, jnp.maximum(h_0, 1))
    r, z, n, q = gates(h)
    r_bar, slope = r.sigmoid()[1], n.tanh_slope()[0]
    to_z = z.sigmoid_slope() * (h + n.tanh()[1])
    kept, new = z.sigmoid(), z.one_minus_sigmoid()
    A = _row([[end] for end in kept])
    one = UnitBlocks(jnp.ones((1, 1, len(h)), h.dtype))
    products: tuple[FedBack, ...]
    if b_n is not None:
        around = [[end * slope * r.sigmoid_slope() * q, to_z, end * slope * r_bar] for end in new]
        products = (FedBack(_row(around), params.W, one, ()),)
    else:
        products = (
            FedBack(_row([[zero, to_z] for _ in new]), params.W, one, ()),
            FedBack(
                _row([[end * slope] for end in new]),
                W_n,
                _row([[r_bar]]),
                (_row([[r.sigmoid_slope() * h, zero]]),),
            ),
        )
    return comparison_matrix(StepJacobian(A, products))


def _row(corners: list[list[Array]]) -> UnitBlocks:
    """Return one row of blocks `[H]`, its corners side by side: `[1, blocks, corners H]`."""
    return UnitBlocks(jnp.concatenate([jnp.stack(blocks) for blocks in corners], -1)[None])


def _radius(U: Array, input_bound: ArrayLike) -> Array:
    """Return sup |U x| `[G]`."""
    if getattr(input_bound, "ndim", 0) == 0:
        check_number("input_bound", input_bound, least=0, infinite=True)
    else:
        remedy = "Pass one number, or one for each input."
        check_array("input_bound", input_bound, (U.shape[1],), remedy=remedy)
    bound = jnp.abs(jnp.asarray(input_bound, U.dtype))
    return jnp.where(U == 0, 0, jnp.abs(U) * bound).sum(-1)


def _largest(leaf: Array, H: int, dtype: Any) -> Array:
    return jnp.abs(leaf.astype(dtype)).reshape(-1, H).max(0)


def _blocks(a: Array, blocks: int) -> list[Array]:
    return jnp.split(a, blocks)
