"""All (t, k) spectral norms, chosen lags and states of 2,048, against SVDs of every product.

    python -m benchmarks.jacobian_products [--out FOLDER]

The baseline takes step Jacobians by `jax.jacrev` under `vmap`, multiplies them up from every k
by a scan over t, and takes `jnp.linalg.svd(compute_uv=False)` of each row of products, all under
`jit`. At T = 256 that takes minutes, so it is timed on the products of a few k and scaled to all
T (T + 1) / 2, on one CPU device, which has both cores: on two, batched LAPACK calls can wait for
each other forever (see `linalg.spectral_norm`). Ours run on one and, sharing the pairs, on two with
one thread each. Float32; medians of interleaved rounds; the worst error is that of ln ‖·‖ against
float64 at a few k. The share is that of our matrix products' rate in that of a large product in the
same run.
"""

from __future__ import annotations

import functools
import statistics
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax.flatten_util import ravel_pytree

from benchmarks.layers import ONE_THREAD
from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import compiled, in_rounds, large_product, seconds, summary
from rnn_jax import cells, trajectory
from rnn_jax.gradients import jacobian_log_norms, jacobian_log_norms_by_lag, step_jacobians
from rnn_jax.linalg.lanczos import steps_taken
from rnn_jax.linalg.product_norms import lanczos_norm, log_norm_table
from rnn_jax.training import batch_mesh

BASELINE = "baseline: jacrev, scan and SVD"


@dataclass(frozen=True)
class Config:
    """Sizes."""

    cells: tuple[str, ...] = ("elman", "lstm")
    """Cells to measure, of elman (S = H) and lstm (S = 2 H)."""
    T: int = 256
    """Steps."""
    H: int = 128
    """Hidden units."""
    I: int = 16
    """Inputs."""
    gain: float = 1.2
    """Times 1/√H: the standard deviation of W."""
    rtols: tuple[float, ...] = (1e-5, 1e-4)
    """Accuracy asked of the norms; 1e-5 is the default in float32."""
    rows: int = 2
    """Number of k that the baseline is timed on: 0, T / 16, .."""
    rounds: int = 3
    """Timed calls of each, interleaved."""
    wide: int = 2048
    """State of the matrix-free measurement; 0 leaves it out."""
    out: Path = Path("runs/benchmark_jacobian_products")
    """Where rows.json and table.md go."""


def baseline(cell, params, xs, sources):
    """Return ln ‖∂h_t/∂h_k‖₂ for all t > k of `sources [rows]`: `[rows, T]`, garbage for t ≤ k."""
    states = trajectory(cell, params, xs)
    start = jax.tree.map(lambda leaf: leaf[0], states)
    flat, unravel = ravel_pytree(start)
    step = lambda h, x: ravel_pytree(cell.step(params, unravel(h), x)[0])[0]
    h = jax.vmap(lambda state: ravel_pytree(state)[0])(states)
    J = jax.vmap(jax.jacrev(step))(h[:-1], xs)
    eye = jnp.eye(flat.size, dtype=flat.dtype)

    def row(k):
        def multiply(carry, at_t):
            P, log_scale = carry
            t, J_t = at_t
            P = jnp.where(t > k, J_t @ P, eye)
            size = jnp.abs(P).max()
            log_scale = jnp.where(t > k, log_scale + jnp.log(size), 0)
            P = jnp.where(t > k, P / size, eye)
            return (P, log_scale), (P, log_scale)

        first = (eye, jnp.zeros((), flat.dtype))
        _, (P, log_scale) = jax.lax.scan(multiply, first, (jnp.arange(1, len(xs) + 1), J))
        return jnp.log(jnp.linalg.svd(P, compute_uv=False)[:, 0]) + log_scale

    return jax.lax.map(row, sources)


def reference(J, sources):
    """Return the same in float64, from `J` as float32 has them: `[rows, T]`, NaN for t ≤ k."""
    J = np.asarray(J, np.float64)
    table = np.full((len(sources), len(J)), np.nan)
    for row, k in enumerate(sources):
        P, log_scale = np.eye(J.shape[-1]), 0.0
        for t in range(k, len(J)):
            P = J[t] @ P
            size = np.abs(P).max()
            P, log_scale = P / size, log_scale + np.log(size)
            table[row, t] = np.log(np.linalg.norm(P, 2)) + log_scale
    return table


def network(name, H, config):
    init = cells.initializers.gaussian(config.gain / H**0.5)
    cell = cells.CELLS[name](H, recurrent_init=init)
    return cell, cell.init(jax.random.key(0), config.I)


def lanczos_steps(J, rtol) -> float:
    """Return the mean Lanczos steps of a norm, those of single steps left out."""
    norm = lanczos_norm(rtol, steps_taken)
    entries = np.arange(J.shape[-1])
    counts = jax.jit(
        lambda J: log_norm_table(J, norm, entries, entries, lambda found: found.error)
    )(J)
    t, k = np.indices(counts.shape)
    return float(np.mean(np.asarray(counts)[t > k + 1]))


def all_pairs(name, config, rate) -> list[Row]:
    T = config.T
    cell, params = network(name, config.H, config)
    xs = jax.random.normal(jax.random.key(1), (T, config.I))
    sources = jnp.arange(config.rows) * (T // 16)
    settings = {f"rnn_jax, rtol {rtol:g}": ("spectral", rtol) for rtol in config.rtols}
    settings["rnn_jax, Frobenius"] = ("frobenius", None)
    programs = {}
    for mesh, options in ((None, None), (batch_mesh(), ONE_THREAD)):
        devices = 1 if mesh is None else mesh.size
        for method, (norm, rtol) in settings.items():
            ours = functools.partial(jacobian_log_norms, cell, norm=norm, rtol=rtol, mesh=mesh)
            programs[method, devices] = compiled(ours, params, xs, options=options)
    theirs = functools.partial(baseline, cell)
    programs[BASELINE, 1] = compiled(theirs, params, xs, sources)
    J = jax.jit(lambda p, x: step_jacobians(cell, p, x))(params, xs)
    S = J.shape[-1]
    calls = {
        key: functools.partial(program, params, xs, *(() if key[0] in settings else (sources,)))
        for key, (program, _) in programs.items()
    }
    times = {name: found.calls for name, found in in_rounds(calls, config.rounds, pause=0).items()}
    all_of_them = T * (T + 1) / 2 / np.sum(T - np.asarray(sources))
    times[BASELINE, 1] = [took * all_of_them for took in times[BASELINE, 1]]
    some = np.arange(4) * (T // 4)
    truth = reference(J, some)
    there = np.isfinite(truth)
    medians = {key: statistics.median(every) for key, every in times.items()}
    slow = medians[BASELINE, 1]
    rows = []
    for (method, devices), every in times.items():
        program, compile_s = programs[method, devices]
        median = medians[method, devices]
        row: Row = {"cell": name, "T": T, "S": S, "method": method, "devices": devices}
        row |= summary(every, "s") | {"times as fast": slow / median}
        row["compile s"] = compile_s
        if method in settings:
            norm, rtol = settings[method]
            if norm == "spectral":
                found = np.asarray(program(params, xs))[1:, some].T
                row["worst error"] = np.abs(found - truth)[there].max()
                steps = row["Lanczos steps"] = lanczos_steps(J, rtol)
                flop = T * (T + 1) / 2 * steps * 8 * S**2
            else:
                flop = T * (T + 1) / 2 * 2 * S**3
            row["share of rate"] = flop / median / rate
        rows.append(row)
        print(table([row]), flush=True)
    return rows


def wide(config) -> Row:
    """Return the row of ∂h_t/∂h_{t−l} of an Elman network of `wide` units, S x S never formed."""
    cell, params = network("elman", config.wide, config)
    xs = jax.random.normal(jax.random.key(1), (config.T, config.I))
    lags, at = (1, 8, 32), (config.T - 2, config.T - 1, config.T)
    program, compile_time = compiled(
        lambda p, x: jacobian_log_norms_by_lag(cell, p, x, lags=lags, times=at, rtol=1e-3),
        params,
        xs,
    )
    took = seconds(lambda: program(params, xs))
    worst = float(program(params, xs).error.max())
    row = {"cell": "elman", "T": config.T, "S": config.wide, "s": took, "compile s": compile_time}
    return row | {"method": f"vectors, lags {lags}, 3 times, rtol 1e-3", "worst error": worst}


def main(config: Config) -> list[Row]:
    product, flop = large_product()
    rate = flop / min(in_rounds({"product": product}, rounds=1, in_a_row=5)["product"].calls)
    print(f"a large float32 product: {rate / 1e9:.0f} GFLOP/s", flush=True)
    rows = [row for name in config.cells for row in all_pairs(name, config, rate)]
    if config.wide:
        rows.append(wide(config))
    save_rows(config.out / "rows.json", rows, product_gflop_per_s=rate / 1e9)
    conclude(config.out, table(rows))
    return rows


if __name__ == "__main__":
    jax.config.update("jax_num_cpu_devices", 2)
    main(tyro.cli(Config, description=__doc__))
