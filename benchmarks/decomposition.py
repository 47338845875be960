"""What a decomposition costs: against one vjp for each (t, k), and in backward passes.

    python -m benchmarks.decomposition [--out FOLDER]

An LSTM and an Elman network with a readout; squared error. The obvious method restarts the network
from state k with a copy of the parameters for step k alone, runs it to step t, and takes the vjp,
for each (t, k); it is jitted whole, over examples by vmap. One backward pass is what
`jax.value_and_grad` of E takes beyond E alone, both by `unroll`. Medians of interleaved rounds.
About four minutes on two cores.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.plots import growth, growth_exponent
from benchmarks.report import Row, conclude, read_rows, save_rows, table
from benchmarks.timing import compiled, in_rounds, summary
from rnn_jax import cells, trajectory, unroll
from rnn_jax.gradients import decompose, decompose_windows
from rnn_jax.losses import per_step, squared_error

LABELS = {"elman": "Elman, steps T", "lstm": "LSTM, steps T"}


@dataclass(frozen=True)
class Config:
    """Sizes."""

    H: int = 128
    """Hidden units."""
    I: int = 32
    """Inputs, and outputs."""
    B: int = 8
    """Examples."""
    cells: tuple[str, ...] = ("elman", "lstm")
    """Names of `cells.CELLS`."""
    T: tuple[int, ...] = (32, 64, 128, 256, 512, 1024)
    """Lengths."""
    obvious_T: tuple[int, ...] = (32,)
    """Lengths at which the obvious method is timed too."""
    max_lag: int = 32
    """The largest lag of the windows."""
    rounds: int = 5
    """Timed calls of each, interleaved."""
    seconds: float = 15.0
    """After which no further round is begun."""
    out: Path = Path("runs/benchmark_decomposition")
    """Where the numbers of each cell, table.md and the figure go."""


def one_vjp_each(cell, params, xs, targets):
    """Return the same norms by one vjp for each (t, k): E_t with its own parameters at step k."""
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


def all_pairs(cell, params, xs, targets):
    parts = decompose(cell, params, xs, targets, squared_error)
    return parts.state_log_norms[:, :-1], parts.param_log_norms


def windows(max_lag, **options):
    def run(cell, params, xs, targets):
        arguments = cell, params, xs, targets, squared_error
        return decompose_windows(*arguments, max_lag=max_lag, **options)

    return run


def forward(cell, params, xs, targets):
    return per_step(squared_error, unroll(cell, params, xs)[1], targets).sum()


def forward_and_backward(cell, params, xs, targets):
    return jax.value_and_grad(lambda p: forward(cell, p, xs, targets))(params)


def methods(T, config):
    """Return what is timed at T; the first two make up one backward pass."""
    L = config.max_lag
    timed = {
        "forward": forward,
        "forward and backward": forward_and_backward,
        "all (t, k)": all_pairs,
        f"lags to {L}": windows(L),
        f"lags to {L}, mean over t": windows(L, mean_over=("steps",)),
    }
    return timed | ({"one vjp each": one_vjp_each} if T in config.obvious_T else {})


def program(method, cell, params, T, config):
    """Return the arguments, the compiled program, and seconds to trace and compile it."""
    keys = jax.random.split(jax.random.key(T))
    xs, targets = (jax.random.normal(key, (T, config.B, config.I)) for key in keys)
    arguments = (params, xs, targets)
    return arguments, *compiled(functools.partial(method, cell), *arguments)


def measure(name: str, T: int, config: Config) -> list[Row]:
    """Return one row for each method, with its time in backward passes."""
    cell = cells.readout(cells.CELLS[name](config.H), config.I)
    params = cell.init(jax.random.key(0), config.I)
    programs = {m: program(f, cell, params, T, config) for m, f in methods(T, config).items()}
    results = {m: jax.block_until_ready(run(*args)) for m, (args, run, _) in programs.items()}
    if "one vjp each" in results:
        _check_same(results["all (t, k)"], results["one vjp each"], T)
    calls = {m: functools.partial(run, *args) for m, (args, run, _) in programs.items()}
    # Short ones, several times.
    in_a_row = {m: 5 if m.startswith("forward") else 1 for m in programs}
    timed = in_rounds(calls, config.rounds, in_a_row, pause=0, limit=config.seconds)
    times = {method: found.means for method, found in timed.items()}
    pairs = zip(times["forward and backward"], times["forward"], strict=True)
    backward = statistics.median(both - alone for both, alone in pairs)
    rows = []
    for method, (_, run, compile_time) in programs.items():
        memory = run.memory_analysis()
        rows.append(
            {
                "cell": name,
                "T": T,
                "method": method,
                **summary(times[method]),
                "backward passes": statistics.median(times[method]) / backward,
                "temporary MiB": memory.temp_size_in_bytes / 2**20,
                "output MiB": memory.output_size_in_bytes / 2**20,
                "compile s": compile_time,
            }
        )
        passes = f"{rows[-1]['backward passes']:.1f} backward passes"
        print(f"{name} T={T} {method}: {rows[-1]['ms']:.1f} ms, {passes}", flush=True)
    return rows


def lines(rows: list[Row], cell: str, quantity: Callable[[Row], float]):
    """Return T and a quantity of each way to decompose."""
    shown = [row for row in rows if row["cell"] == cell and not row["method"].startswith("forward")]
    points: dict[str, list[tuple[float, float]]] = {}
    for row in shown:
        points.setdefault(row["method"], []).append((row["T"], quantity(row)))
    return {method: tuple(np.array(pairs).T) for method, pairs in points.items()}


def passes(row: Row) -> float:
    return row["backward passes"]


def plot(rows: list[Row]):
    """Draw time in backward passes, and memory, against T."""
    memory = lambda row: row["temporary MiB"] + row["output MiB"]
    columns = {
        label: {
            "time, in backward passes": lines(rows, cell, passes),
            "memory, MiB": lines(rows, cell, memory),
        }
        for cell, label in LABELS.items()
        if any(row["cell"] == cell for row in rows)
    }
    title = "A decomposition in multiples of one backward pass"
    return growth(columns, title=title, letters=dict.fromkeys(columns, "T"))


def main(config: Config) -> list[Row]:
    for cell in config.cells:
        found = [row for T in config.T for row in measure(cell, T, config)]
        save_rows(config.out / f"{cell}.json", found)
    files = [config.out / f"{cell}.json" for cell in LABELS]
    rows = [row for file in files if file.exists() for row in read_rows(file)["rows"]]
    conclude(config.out, table(rows), figures={"decomposition_cost": plot(rows)})
    for cell in config.cells:
        for method, (T, multiples) in lines(rows, cell, passes).items():
            print(f"{cell}, {method}: backward passes ~ T^{growth_exponent(T, multiples):.2f}")
    return rows


def _check_same(one, other, T):
    """Raise unless both methods give the same numbers below the diagonal, to float32's rounding."""
    rows = np.tril_indices(T)
    for a, b in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        a, b = np.asarray(a)[rows], np.asarray(b)[rows]
        finite = b > -60  # without exponents of its own, the obvious method underflows
        np.testing.assert_allclose(a[finite], b[finite], atol=2e-3)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
