"""All (t, k) state norms and parameter-term norms: one backward sweep against one vjp for each.

    python -m benchmarks.decomposition [--out FOLDER]

An LSTM and an Elman network with a readout; squared error. The obvious method restarts the network
from state k with a copy of the parameters for step k alone, runs it to step t, and takes the vjp,
for each (t, k); it is jitted whole, over examples by vmap. Medians of interleaved rounds. About
two minutes on two cores.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from tabulate import tabulate

from rnn_jax import cells, trajectory
from rnn_jax.gradients import decompose
from rnn_jax.losses import squared_error


@dataclass(frozen=True)
class Config:
    """Sizes."""

    H: int = 128
    """Hidden units."""
    I: int = 32
    """Inputs, and outputs."""
    B: int = 8
    """Examples."""
    sweep_T: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Lengths at which the sweep is timed."""
    obvious_T: tuple[int, ...] = (16, 32)
    """Lengths at which the obvious method is timed too."""
    rounds: int = 3
    """Timed calls of each, interleaved."""
    out: Path = Path("runs/benchmark_decomposition")
    """Where table.md and numbers.json go."""


def one_vjp_each(cell, params, xs, targets):
    """The same norms by one vjp for each (t, k): E_t with its own parameters at step k."""
    T = xs.shape[0]

    def one_example(xs, targets):
        states = trajectory(cell, params, xs)

        def norms(pair):
            t, k = pair

            def E_t(state_k, params_at_k):
                def step(carry, i):
                    state, _ = carry
                    p = jax.tree.map(
                        lambda at_k, p: jnp.where(i == k, at_k, p), params_at_k, params
                    )
                    new = cell.step(p, state, xs[i])
                    active = (k <= i) & (i <= t)
                    return jax.tree.map(lambda a, b: jnp.where(active, a, b), new, carry), None

                y = jnp.zeros_like(targets[0])
                (_, y), _ = jax.lax.scan(step, (state_k, y), jnp.arange(T))
                return squared_error(y, targets[t])

            state_k = jax.tree.map(lambda leaf: leaf[k], states)
            d_state, d_params = jax.grad(E_t, (0, 1))(state_k, params)
            flat = jax.flatten_util.ravel_pytree(d_state)[0]
            log_norm = lambda x: jnp.where(k <= t, jnp.log(jnp.linalg.norm(x)), -jnp.inf)
            return log_norm(flat), jax.tree.map(lambda d: log_norm(d.ravel()), d_params)

        pairs = jnp.stack(jnp.meshgrid(jnp.arange(T), jnp.arange(T), indexing="ij"), -1)
        flat = jax.lax.map(norms, pairs.reshape(-1, 2))
        return jax.tree.map(lambda leaf: leaf.reshape(T, T), flat)

    return jax.vmap(one_example, in_axes=1, out_axes=2)(xs, targets)


def sweep(cell, params, xs, targets):
    parts = decompose(cell, params, xs, targets, squared_error)
    return parts.state_log_norms[:, :-1], parts.param_log_norms


def compiled(method, cell, params, T, config):
    keys = jax.random.split(jax.random.key(T))
    xs, targets = (jax.random.normal(key, (T, config.B, config.I)) for key in keys)
    start = time.perf_counter()
    program = jax.jit(lambda p, x, y: method(cell, p, x, y)).lower(params, xs, targets).compile()
    return program, (params, xs, targets), time.perf_counter() - start


def main(config: Config) -> list[dict]:
    rows = []
    for name in ("elman", "lstm"):
        cell = cells.readout(cells.CELLS[name](config.H), config.I)
        params = cell.init(jax.random.key(0), config.I)
        for T in config.sweep_T:
            methods = {"sweep": sweep}
            if T in config.obvious_T:
                methods["one vjp each"] = one_vjp_each
            programs = {m: compiled(f, cell, params, T, config) for m, f in methods.items()}
            results = {m: program(*args) for m, (program, args, _) in programs.items()}
            if len(results) == 2:
                _check_same(results["sweep"], results["one vjp each"], T)
            times: dict[str, list[float]] = {m: [] for m in methods}
            for _ in range(config.rounds):
                for method, (program, args, _) in programs.items():
                    start = time.perf_counter()
                    jax.block_until_ready(program(*args))
                    times[method].append(time.perf_counter() - start)
            for method, (program, _, compile_time) in programs.items():
                memory = program.memory_analysis()
                rows.append(
                    {
                        "cell": name,
                        "T": T,
                        "method": method,
                        "ms": 1e3 * statistics.median(times[method]),
                        "fastest ms": 1e3 * min(times[method]),
                        "slowest ms": 1e3 * max(times[method]),
                        "temporary MiB": memory.temp_size_in_bytes / 2**20,
                        "output MiB": memory.output_size_in_bytes / 2**20,
                        "compile s": compile_time,
                    }
                )
                print(f"{name} T={T} {method}: {rows[-1]['ms']:.1f} ms", flush=True)
    table = tabulate(rows, headers="keys", tablefmt="github", floatfmt=".4g")
    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "numbers.json").write_text(json.dumps(rows, indent=2))
    (config.out / "table.md").write_text(table + "\n")
    print(table)
    return rows


def _check_same(one, other, T):
    """Both methods give the same numbers below the diagonal, to float32's rounding."""
    rows = np.tril_indices(T)
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        a, b = np.asarray(a)[rows], np.asarray(b)[rows]
        finite = b > -60  # without exponents of its own, the obvious method underflows
        np.testing.assert_allclose(a[finite], b[finite], atol=2e-3)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
