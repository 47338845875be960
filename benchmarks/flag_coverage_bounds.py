"""How often the truth lies within what bounds and penalties say of their accuracy.

    python -m benchmarks.flag_coverage_bounds

Each row is a statement of a docstring, an ensemble of at least 1,000 cases and how many of them
were outside. Truth is float64 LAPACK's on the same entries. One to three minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import show, table
from rnn_jax import cells
from rnn_jax.gradients import (
    comparison_matrices,
    gru_matrix,
    largest_singular_value,
    lstm_matrix,
    step_jacobians,
)
from rnn_jax.linalg import norms_of_sums, spectral_radius

DRAWS = 1000
N = 12


def gaussian(rng) -> np.ndarray:
    """Return `[DRAWS, N, N]`, each at a scale of its own, 1e-30 to 1e30."""
    return 10.0 ** rng.uniform(-30, 30, (DRAWS, 1, 1)) * rng.normal(size=(DRAWS, N, N))


def far_from_normal(rng) -> np.ndarray:
    """Return triangular matrices in rotated bases."""
    Q = np.linalg.qr(rng.normal(size=(DRAWS, N, N)))[0]
    diagonal = np.eye(N) * rng.uniform(0.3, 1, (DRAWS, 1, N))
    above = np.triu(rng.normal(size=(DRAWS, N, N)), 1) * rng.uniform(0, 0.4, (DRAWS, 1, 1))
    return Q @ (diagonal + above) @ Q.swapaxes(1, 2)


def low_rank(rng) -> np.ndarray:
    """Return matrices of rank 1 to N."""
    kept = rng.integers(1, N + 1, DRAWS)[:, None, None] > np.arange(N)[:, None]
    return rng.normal(size=(DRAWS, N, N)) @ (kept * rng.normal(size=(DRAWS, N, N)))


def nearly_degenerate(rng) -> np.ndarray:
    """Return matrices whose singular values are all within 1e-4 of one."""
    U, V = (np.linalg.qr(rng.normal(size=(DRAWS, N, N)))[0] for _ in range(2))
    return U * (1 + 1e-4 * rng.uniform(size=(DRAWS, 1, N))) @ V


ENSEMBLES: dict[str, Callable] = {
    "Gaussian, 1e-30 to 1e30": gaussian,
    "far from normal": far_from_normal,
    "low rank": low_rank,
    "nearly degenerate": nearly_degenerate,
}


def outside_radius(W: np.ndarray) -> np.ndarray:
    """Return where `spectral_radius` is off by more than 5 ε κ K² ρ, K = max ‖Wⁿ‖ / ρⁿ."""
    got = np.asarray(jax.jit(jax.vmap(spectral_radius))(W), np.float64)
    exact = W.astype(np.float64)
    values, right = np.linalg.eig(exact)
    left = np.linalg.inv(right)
    i = np.abs(values).argmax(1)
    each = np.arange(len(W))
    rho = np.abs(values[each, i])
    kappa = np.linalg.norm(left[each, i], axis=1) * np.linalg.norm(right[each, :, i], axis=1)
    power, growth = exact / rho[:, None, None], np.zeros(len(W))
    for _ in range(12):
        growth = np.maximum(growth, np.linalg.norm(power, 2, (1, 2)))
        power = power @ power
    allowed = 5 * np.finfo(np.float32).eps * kappa * growth**2
    return np.abs(got / rho - 1) > allowed


def outside_residual(W: np.ndarray) -> np.ndarray:
    """Return where no s has |s² − σ²| ≤ (residual + n ε) σ² after five iterations, or σ > σ_max."""
    run = jax.jit(jax.vmap(lambda W: largest_singular_value(W, iterations=5)))
    sigma, residual, _ = (np.asarray(x, np.float64) for x in run(W))
    s = np.linalg.svd(W.astype(np.float64), compute_uv=False)
    allowed = residual + N * np.finfo(np.float32).eps
    nearest = np.abs((s / sigma[:, None]) ** 2 - 1).min(1)
    return (nearest > allowed) | (sigma > s[:, 0] * (1 + N * np.finfo(np.float32).eps))


def draw_params(name: str, rng, size: int, decade: float):
    """Return `DRAWS` parameters in float32, each leaf at a scale of its own, 1e-3 to 10^decade."""
    like = cells.CELLS[name](size).init(jax.random.key(0), 2)
    scale = lambda leaf: 10.0 ** rng.uniform(-3, decade, (DRAWS, *[1] * leaf.ndim))
    draw = lambda leaf: scale(leaf) * rng.normal(size=(DRAWS, *leaf.shape))
    return jax.tree.map(lambda leaf: draw(leaf).astype(np.float32), like)


def outside_matrix(name: str, rng) -> np.ndarray:
    """Return where a block of J is above M of `comparison_matrices`, both in float32."""
    cell, params = cells.CELLS[name](4), draw_params(name, rng, 4, 2)
    xs = rng.normal(size=(DRAWS, 10, 2)).astype(np.float32)
    run = lambda p, xs: (comparison_matrices(cell, p, xs), step_jacobians(cell, p, xs))
    M, J = (np.asarray(x, np.float64) for x in jax.jit(jax.vmap(run))(params, xs))
    m = M.shape[-1]
    blocks = J.reshape(*J.shape[:-2], m, 4, m, 4).swapaxes(-3, -2)
    finite = np.asarray(np.isfinite(J).all((-2, -1)))
    norms = np.linalg.norm(np.where(np.isfinite(blocks), blocks, 0), 2, (-2, -1))
    above = np.logical_not(norms <= M) & finite[..., None, None]
    return np.any(np.reshape(above, (DRAWS, -1)), axis=1, keepdims=True)[:, 0]


def outside_gated(name: str, rng) -> np.ndarray:
    """Return where M of `lstm_matrix` or `gru_matrix` in float32 is below that in float64.

    That of float64 with a hundred times the steps towards its best u. Weights to 10 alone: beyond,
    a gate may be so far shut that float32 has no number for its slope and leaves it out, which
    changes u for the others, and either of the two bounds may then be the tighter one.
    """
    params, sup = draw_params(name, rng, 3, 1), 10.0 ** rng.uniform(-2, 1, DRAWS)
    tool = lstm_matrix if name == "lstm" else gru_matrix
    cast = lambda dtype: jax.tree.map(lambda x: jnp.asarray(np.float32(x), dtype), (params, sup))

    def matrices(dtype, iterations):
        before, norms_of_sums.ITERATIONS = norms_of_sums.ITERATIONS, iterations
        try:
            run = jax.jit(jax.vmap(lambda p, sup: tool(p, input_bound=sup)))
            return np.asarray(run(*cast(dtype)), np.float64)
        finally:
            norms_of_sums.ITERATIONS = before

    single, double = matrices(jnp.float32, norms_of_sums.ITERATIONS), matrices(jnp.float64, 3000)
    normal = double > np.finfo(np.float32).tiny * 10
    below = np.logical_not(single >= double * (1 - 1e-12)) & normal
    return np.any(np.reshape(below, (DRAWS, -1)), axis=1, keepdims=True)[:, 0]


def main() -> list[dict]:
    """Count what is outside of each statement, and show the table."""
    rows = []

    def add(statement, ensemble, outside):
        rows.append({"statement": statement, "ensemble": ensemble, "cases": len(outside)})
        rows[-1]["outside"] = int(outside.sum())

    rng = np.random.default_rng(0)
    for name, make in ENSEMBLES.items():
        W = make(rng).astype(np.float32)
        if name != "nearly degenerate":
            add("spectral_radius within 5 ε κ K²", name, outside_radius(W))
        add("largest_singular_value: residual, σ ≤ σ_max", name, outside_residual(W))
    for name in ("lstm", "gru", "gru_reset_before", "lem"):
        text = f"{name}, weights 1e-3 to 100, float32"
        add("comparison_matrices: every block of J", text, outside_matrix(name, rng))
    for name in ("lstm", "gru", "gru_reset_before"):
        add(
            "gated bounds: float32 ≥ float64",
            f"{name}, weights 1e-3 to 10",
            outside_gated(name, rng),
        )
    show(table(rows))
    return rows


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)
    main()
