"""How often the truth lies within what norms of Jacobian products say of themselves.

    python -m benchmarks.flag_coverage_norms

Two tables in Markdown. The first holds `certified_log_norms` and `jacobian_log_norms_by_lag`, for
all times by products and for some by vectors, against products of the same float32 matrices in
long double. The second counts false alarms of `check_bounds`: float32 networks of many cells, sizes
and scales, for which every bound is a theorem, and what is missed of a bound that is too low by a
factor of 1 − 1e-4 where norms reach it. Some minutes on two cores.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import show, table
from rnn_jax import cells, gradients

MATRICES, T, S = 40, 24, 8
LAGS = (2, 5, 13, 24)
TIMES = tuple(range(14, T + 1))
"""Where norms by lag are found by vectors."""


def ensembles(rng: np.random.Generator) -> dict[str, Callable[[], np.ndarray]]:
    """Return name -> a draw of `[T, S, S]`."""
    gaussian = lambda: rng.normal(size=(T, S, S)) / S**0.5
    orthogonal = lambda: np.linalg.qr(rng.normal(size=(S, S)))[0]

    def rotated(D):
        Q = orthogonal()
        return np.stack([Q @ D @ Q.T] * T)

    def low_rank():
        return np.stack([rng.normal(size=(S, 2)) @ rng.normal(size=(2, S))] * T)

    def saturated():
        return gaussian() * np.where(rng.random((T, S, 1)) < 0.3, 10.0 ** rng.uniform(-30, 0), 1)

    draws = {
        "independent Gaussian": gaussian,
        "one Gaussian matrix": lambda: np.stack([1.5 * gaussian()[0]] * T),
        "orthogonal": lambda: np.stack([orthogonal()] * T),
        "upper triangular": lambda: np.triu(rng.normal(size=(T, S, S))),
        "half of the units off": lambda: gaussian() * (rng.random((T, S, 1)) < 0.5),
        "saturated units": saturated,
        "rank two": low_rank,
        "graded, rotated": lambda: rotated(np.diag(10.0 ** -np.arange(S))),
        "nearly degenerate": lambda: rotated(np.diag(1 - 1e-6 * rng.random(S))),
        "nilpotent, rotated": lambda: rotated(np.eye(S, k=1)),
    }
    return draws


def exact(J: np.ndarray) -> np.ndarray:
    """Return ln ‖J_t ··· J_{k+1}‖ `[T+1, T+1]` in long double, -inf for k > t."""
    J = J.astype(np.longdouble)
    table = np.full((T + 1, T + 1), -np.inf)
    for k in range(T + 1):
        P, scale = np.eye(S, dtype=np.longdouble), 0.0
        table[k, k] = 0
        for t in range(k, T):
            P = J[t] @ P
            size = np.abs(P).max()
            if size == 0:
                break
            P, scale = P / size, scale + float(np.log(size))
            table[t + 1, k] = np.log(np.linalg.norm(P.astype(float), 2)) + scale
    return table


@jax.jit
@jax.vmap
def measured(J):
    """Return what the three tools find for `J [T, S, S]`, each with its error."""
    step = lambda J, h, x: (J[x[0].astype(int)] @ h,) * 2
    cell = cells.from_function(step, state=jnp.zeros(S))
    xs = jnp.arange(T, dtype=jnp.float32)[:, None]
    by_lag = lambda times: gradients.jacobian_log_norms_by_lag(cell, J, xs, lags=LAGS, times=times)
    return gradients.certified_log_norms(J), by_lag(None), by_lag(TIMES)


def norms() -> list[dict]:
    """Return the rows of the first table."""
    rows = []
    for name, draw in ensembles(np.random.default_rng(0)).items():
        J = np.stack([draw() for _ in range(MATRICES)]).astype(np.float32)
        truth = np.stack([exact(one) for one in J])
        t, lags = np.arange(T + 1)[:, None], np.array(LAGS)
        of_lags = np.where(lags <= t, truth[:, t, np.maximum(t - lags, 0)], np.nan)
        lower = np.subtract.outer(np.arange(T + 1), np.arange(T + 1)) > 0
        expected = np.where(lower, truth, np.nan), of_lags, of_lags[:, TIMES]
        row: dict[str, object] = {"products": name}
        tools = ("all (t, k)", "by lag", "by lag, vectors")
        for tool, (value, error), true in zip(
            tools, measured(jnp.asarray(J)), expected, strict=True
        ):
            value, error = np.asarray(value, float), np.asarray(error, float)
            known = ~np.isnan(true)
            with np.errstate(invalid="ignore"):
                off = np.where(value == true, 0, np.abs(value - true))
            row[tool] = f"{int((known & ~(off <= error)).sum())} of {int(known.sum())}"
            row[f"error, {tool}"] = f"{np.median(error[known]):.0e}"
        rows.append(row)
    return rows


NAMES = (
    "elman",
    "irnn",
    "lstm",
    "gru",
    "lem",
    "antisymmetric",
    "orthogonal_rnn",
    "indrnn",
    "leaky",
)


def alarms(seeds: int = 60, steps: int = 20) -> list[dict]:
    """Return the rows of the second table."""
    rows = []
    for name in NAMES:
        runs = reported = reached = missed = 0
        for size in (2, 5):
            cell = cells.CELLS[name](size)

            @jax.jit
            @jax.vmap
            def check(key, input_scale, weight_scale, cell=cell, size=size):
                keys = jax.random.split(key)
                params = jax.tree.map(lambda p: p * weight_scale, cell.init(keys[0], 2))
                xs = input_scale * jax.random.normal(keys[1], (steps, 2))
                checks = gradients.check_bounds(cell, params, xs)
                product = checks["product"]
                low = product.bound + jnp.log1p(-1e-4)
                caught = gradients.check_bound(product.measured, low, state_size=size).violations
                there = (product.slack < 1e-5).sum() - (steps + 1)
                return sum(found.violations for found in checks.values()), there, caught

            for scale in (1e-3, 1.0, 10.0):
                for weights in (1e-3, 0.3, 1.0, 3.0):
                    keys = jax.random.split(
                        jax.random.key(hash((size, scale, weights)) % 2**31), seeds
                    )
                    found = check(keys, jnp.full(seeds, scale), jnp.full(seeds, weights))
                    violations, there, caught = map(np.asarray, found)
                    runs, reported = runs + seeds, reported + int((violations > 0).sum())
                    reached = reached + int(np.maximum(there, 0).sum())
                    missed = missed + int(np.maximum(there - caught, 0).sum())
        rows.append(
            {
                "cell": name,
                "networks": runs,
                "with a false alarm": reported,
                "pairs that reach their bound": reached,
                "of them missed at a bound 1e-4 lower": missed,
            }
        )
    return rows


if __name__ == "__main__":
    show(table(norms()), table(alarms()))
