"""How often the flags of Lyapunov spectra and singular spectra are right: a Markdown table.

    python -m benchmarks.flag_coverage_spectra

Each ensemble's truth is known: Newman's closed form for products of Gaussian matrices, eigenvalues
and eigenvectors of constant maps, -inf of dead directions, a run twenty times as long of driven
networks, or float64 along the same Jacobians for what float32 claims. A trusted exponent says
"within 3 standard errors and rounding", unless the long run meets a step at which the direction
dies (the last column); a rounding says "no further than this" of the same trajectory in exact
numbers; a trusted covariant vector is within 0.05 of the direction. Some ten minutes on two cores.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import show, table
from rnn_jax import cells, theory
from rnn_jax.gradients import covariant_vectors, lyapunov_spectrum, singular_spectra
from rnn_jax.gradients.lyapunov.initial_frame import initial_frame

EXAMPLES, N = 300, 4


class Cases(NamedTuple):
    """How far values are off, what each claims that to be at most, and whether it is trusted."""

    name: str
    claim: str
    off: Any
    says: Any
    trusted: Any


def given(dtype: Any) -> Any:
    """Return the cell h ← X h, with X as its input."""
    return cells.from_function(
        lambda p, h, x: (x.reshape(N, N) @ h,) * 2, state=jnp.zeros(N, dtype)
    )


def spectrum(J: np.ndarray, dtype: Any = np.float64, **how: Any) -> Any:
    """Return exponents of `J [T, examples, N, N]`."""
    xs = jnp.asarray(J.reshape(*J.shape[:2], -1), dtype)
    return jax.jit(lambda xs: lyapunov_spectrum(given(dtype), (), xs, **how))(xs)


def turn(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Return random orthogonal matrices."""
    return np.linalg.qr(rng.normal(size=(*shape, N, N)))[0]


def by_numpy(J: np.ndarray) -> np.ndarray:
    """Return exponents by NumPy's QR in float64, from the frame that float32 starts from."""
    Q = np.asarray(initial_frame(None, jnp.zeros(N, np.float32), 0, N), float)
    Q = np.broadcast_to(Q, J.shape[1:])
    total = np.zeros(J.shape[1:3])
    for each in J:
        Q, R = np.linalg.qr(each @ Q)
        total += np.log(np.abs(np.diagonal(R, axis1=1, axis2=2)))
    return np.sort(total / len(J), 1)[:, ::-1].T


def statistical(name: str, got: Any, true: Any) -> Cases:
    off = np.abs(np.asarray(got.exponents) - true)
    says = 3 * np.asarray(got.standard_errors) + np.asarray(got.rounding) + 1e-9
    return Cases(name, "3 standard errors", off, says, np.asarray(got.trusted))


def exponents_against_truth() -> Iterator[Cases]:
    """Yield random products, constant maps with gaps of all sizes, and dead directions."""
    rng = np.random.default_rng(0)
    for T in (400, 2000):
        J = rng.normal(size=(T, EXAMPLES, N, N)) / N**0.5
        true = np.asarray(theory.gaussian_product_exponents(N))[:, None]
        yield statistical(f"Gaussian products, T {T}", spectrum(J, warmup=50), true)
    for name, gap in (("nearly degenerate", 0.01), ("apart", 0.3)):
        X = np.eye(N) + 0.3 * rng.normal(size=(EXAMPLES, N, N))
        logs = -gap * np.sort(rng.exponential(size=(EXAMPLES, N)), 1)
        J = X * np.exp(logs)[:, None] @ np.linalg.inv(X)
        for T in (50, 500):
            got = spectrum(np.broadcast_to(J, (T, *J.shape)), warmup=T // 5)
            yield statistical(f"constant maps, {name}, T {T}", got, logs.T)
    J = rng.normal(size=(300, EXAMPLES, N, N)) / N**0.5
    J = J * (rng.uniform(size=(300, EXAMPLES, 1, N)) > 0.01)
    got = spectrum(J)
    dead = (np.linalg.matrix_rank(J) < N).any(0)
    off = np.where(np.isposinf(np.asarray(got.rounding[-1])) == dead, 0, np.inf)
    yield Cases("units that die", "rounding ∞ iff dead", off, 0 * off, np.asarray(got.trusted[-1]))


NETWORKS = {
    "elman, saturated": ("elman", 4, 5.0, None),
    "elman, rank 2": ("elman", 4, 1.5, 2),
    "irnn": ("irnn", 4, 1.0, None),
    "gru": ("gru", 4, 1.0, None),
    "gru, saturated": ("gru", 4, 5.0, None),
    "lstm": ("lstm", 2, 1.0, None),
    "slstm, saturated": ("slstm", 1, 5.0, None),
}
"""By name: the cell, H, what its weights are multiplied by, and the rank of W."""


def networks_against_long_runs() -> Iterator[Cases]:
    """Yield driven networks, each with weights of its own, and the same ones for longer."""
    for name, (cell_name, H, gain, rank) in NETWORKS.items():
        cell = cells.CELLS[cell_name](H, dtype=jnp.float64)

        def drawn(key: Any, cell: Any = cell, gain: float = gain, rank: int | None = rank) -> Any:
            params = jax.tree.map(lambda p: gain * p, cell.init(key, 2))
            if rank is not None:
                params = params.replace(W=params.W.at[rank:].set(params.W[:rank]))
            return params

        @functools.partial(jax.jit, static_argnames="T")
        @functools.partial(jax.vmap, in_axes=(0, None))
        def run(key: Any, T: int, cell: Any = cell, drawn: Any = drawn) -> Any:
            weights, inputs = jax.random.split(key)
            xs = jax.random.normal(inputs, (T, 2), jnp.float64)
            return lyapunov_spectrum(cell, drawn(weights), xs, warmup=100, interval=1)

        keys = jax.random.split(jax.random.key(2), EXAMPLES)
        short, long = run(keys, 1000), run(keys, 20_000)
        finite = jnp.isfinite(long.exponents)
        off = jnp.where(finite, jnp.abs(short.exponents - long.exponents), jnp.inf)
        says = 3 * jnp.hypot(short.standard_errors, long.standard_errors)
        says = says + short.rounding + long.rounding + 1e-9
        yield Cases(name, "3 standard errors", off, says, np.asarray(short.trusted))


def vectors_against_truth() -> Iterator[Cases]:
    """Yield covariant vectors of constant maps, and of random products in a longer run."""
    rng = np.random.default_rng(3)
    sine = lambda u, v: np.sqrt(np.maximum(0, 1 - np.square((u * v).sum(-2))))
    find = lambda xs, side: covariant_vectors(
        given(jnp.float64), (), xs, warmup=side, cooldown=side
    )
    find = jax.jit(find, static_argnums=1)
    for name, gap in (("nearly degenerate", 0.05), ("apart", 0.5)):
        X = np.eye(N) + 0.3 * rng.normal(size=(EXAMPLES, N, N))
        logs = -gap * np.sort(rng.exponential(size=(EXAMPLES, N)), 1)
        J = X * np.exp(logs)[:, None] @ np.linalg.inv(X)
        xs = jnp.asarray(np.broadcast_to(J.reshape(EXAMPLES, -1), (60, EXAMPLES, N * N)))
        got = find(xs, 25)
        off = sine(np.asarray(got.vectors), X / np.linalg.norm(X, axis=1, keepdims=True)).max(0)
        trusted = np.asarray(got.trusted).T
        yield Cases(f"vectors of constant maps, {name}", "within 0.05", off, 0.05, trusted)
    for side in (10, 40):
        T = 10 + 2 * 200
        xs = jnp.asarray(rng.normal(size=(T, EXAMPLES, N * N)) / N**0.5)
        true = np.asarray(find(xs, 200).vectors)
        got = find(xs[200 - side : 210 + side], side)
        off = sine(np.asarray(got.vectors), true).max(0)
        trusted = np.asarray(got.trusted).T
        yield Cases(f"vectors of Gaussian products, {side}", "within 0.05", off, 0.05, trusted)


def rounding_against_float64() -> Iterator[Cases]:
    """Yield float32's exponents and singular values of graded and gated products."""
    rng, examples = np.random.default_rng(1), 5 * EXAMPLES
    for name, k, interval in (
        ("condition 1e2", 2, None),
        ("condition 1e5", 5, None),
        ("condition 1e2, interval 4", 2, 4),
    ):
        J = turn(rng, 60, examples) * np.logspace(0, -k, N) @ turn(rng, 60, examples)
        J = J.astype(np.float32).astype(np.float64)
        low = spectrum(J, np.float32, interval=interval)
        off = np.abs(np.asarray(low.exponents, float) - by_numpy(J))
        finite = np.asarray(low.rounding) < 0.01
        yield Cases(f"exponents, {name}", "rounding", off, np.asarray(low.rounding), finite)
    for name, k in (("condition 1e2", 2), ("condition 1e4", 4), ("condition 1e6", 6)):
        J = turn(rng, 5, examples) * np.logspace(0, -k, N) @ turn(rng, 5, examples)
        xs = J.astype(np.float32).reshape(5, examples, -1)
        run = lambda xs: singular_spectra(given(xs.dtype), (), xs, lags=[5])
        low, high = jax.jit(run)(jnp.asarray(xs)), jax.jit(run)(jnp.asarray(xs, np.float64))
        off = np.abs(np.asarray(low.log_values, float) - np.asarray(high.log_values))
        says = np.asarray(low.rounding)
        yield Cases(f"singular values, {name}", "rounding", off, says, np.asarray(low.trusted))


def main() -> list[dict[str, Any]]:
    """Count the cases within each claim, and show the table."""
    jax.config.update("jax_enable_x64", True)
    rows = []
    for cases in (
        *exponents_against_truth(),
        *networks_against_long_runs(),
        *vectors_against_truth(),
        *rounding_against_float64(),
    ):
        off, trusted = np.asarray(cases.off), np.asarray(cases.trusted)
        within = off <= cases.says
        known = np.isfinite(off)
        rows.append(
            {
                "ensemble": cases.name,
                "claim": cases.claim,
                "cases": off.size,
                "within, of all, %": 100 * within[known].mean(),
                "trusted": int(trusted.sum()),
                "trusted and off by more": int((trusted & known & ~within).sum()),
                "trusted, and dies later": int((trusted & ~known).sum()),
            }
        )
    show(table(rows))
    return rows


if __name__ == "__main__":
    main()
