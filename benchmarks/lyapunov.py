"""Lyapunov exponents of an Elman network: the library against the usual algorithm.

    python -m benchmarks.lyapunov [--out FOLDER]

The usual algorithm (Benettin et al. 1980; for recurrent networks Vogt et al. 2022) orthonormalizes
by QR at every step. Here it is written in torch, with the step Jacobian applied as φ' ⊙ (W Q)
rather than formed, in place and without autograd, and in JAX by
`jax.jacrev` and `jnp.linalg.qr` in one jitted scan. torch once more with an orthonormalization as
seldom as the library's is the fairest comparison. Medians of interleaved rounds; the rates of
matrix products and of QR are measured in the same rounds. About three minutes on two cores.
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from benchmarks.report import Row, conclude, save_rows, table
from benchmarks.timing import in_rounds, large_product, summary
from rnn_jax import cells
from rnn_jax.errors import optional
from rnn_jax.gradients import lyapunov_spectrum
from rnn_jax.gradients.lyapunov.initial_frame import initial_frame
from rnn_jax.linalg.orthonormalization import orthonormalize

INSTALL = "pip install torch, or the extra [bench]"
LARGE = 2048
"""Of the products that show the machine's rates."""


@dataclass(frozen=True)
class Config:
    """Sizes."""

    N: int = 512
    """Units."""
    gain: float = 1.5
    """√N times the standard deviation of W's entries: above 1, chaos."""
    leading: int = 64
    """Exponents of the first comparison; the second one's are all N."""
    steps: int = 1000
    """Steps of the first comparison."""
    steps_of_all: int = 200
    """Steps of the second."""
    rounds: int = 5
    """Timed calls of each, interleaved."""
    threads: int = 2
    """Threads of torch."""
    out: Path = Path("runs/benchmark_lyapunov")
    """Where rows.json and table.md go."""


def by_torch(W, h, Q, steps: int, interval: int) -> np.ndarray:
    """Return exponents by the usual algorithm, in the order that QR leaves them in."""
    torch = optional("torch", INSTALL)
    with torch.no_grad():
        log_growth = torch.zeros(Q.shape[1])
        for t in range(steps):
            h = torch.tanh(W @ h)
            Q = W @ Q
            Q *= (1 - h * h)[:, None]
            if (t + 1) % interval == 0 or t + 1 == steps:
                Q, R = torch.linalg.qr(Q)
                log_growth += R.diagonal().abs().log()
        return (log_growth / steps).numpy()


def by_jacrev(cell, params, h, Q, xs) -> jax.Array:
    """Return exponents by the usual algorithm under jit."""

    def step(carry, x):
        h, Q = carry
        advance = lambda h: cell.step(params, h, x)[0]
        Q, R = jnp.linalg.qr(jax.jacrev(advance)(h) @ Q)
        return (advance(h), Q), jnp.log(jnp.abs(jnp.diagonal(R)))

    _, log_growth = jax.lax.scan(step, (h, Q), xs)
    return log_growth.mean(0)


def compare(config: Config, K: int, steps: int) -> tuple[list[Row], list[Row]]:
    """Return rows of the spectra, and of the operations that they are made of."""
    torch = optional("torch", INSTALL)
    torch.set_num_threads(config.threads)
    N = config.N
    cell = cells.elman(N, recurrent_init=cells.initializers.gaussian(config.gain / N**0.5))
    params = cell.init(jax.random.key(0), 0)
    h, xs = 0.5 * jax.random.normal(jax.random.key(1), (N,)), jnp.zeros((steps, 0))
    Q = initial_frame(None, h, 0, K)
    W_t, h_t, Q_t = (torch.tensor(np.asarray(a)) for a in (params.W, h, Q))

    leading = functools.partial(lyapunov_spectrum, cell, num_exponents=K)
    library = jax.jit(leading).lower(params, xs, h).compile()
    jacrev = jax.jit(functools.partial(by_jacrev, cell)).lower(params, h, Q, xs).compile()
    spectrum = library(params, xs, h)
    interval = max(1, round(float(spectrum.interval)))
    spectra: dict[str, Callable[[], Any]] = {
        "library": lambda: np.asarray(library(params, xs, h).exponents),
        "torch, QR at every step": lambda: by_torch(W_t, h_t, Q_t, steps, 1),
        f"torch, QR every {interval} steps": lambda: by_torch(W_t, h_t, Q_t, steps, interval),
        "jax.jacrev and jnp.linalg.qr": lambda: np.asarray(jacrev(params, h, Q, xs)),
    }
    if interval == 1:
        spectra.pop("torch, QR every 1 steps")
    exponents = {name: np.sort(call())[::-1] for name, call in spectra.items()}
    large = torch.ones(LARGE, LARGE)
    product, product_flop = large_product(LARGE)
    M = jax.block_until_ready(params.W @ Q)
    M_t = W_t @ Q_t
    times, ours, theirs = jax.jit(jnp.matmul), jax.jit(orthonormalize), jax.jit(jnp.linalg.qr)
    operations: dict[str, Callable[[], Any]] = {
        f"torch: {LARGE} × {LARGE} product": lambda: large @ large,
        f"jax: {LARGE} × {LARGE} product": product,
        "torch: W Q": lambda: W_t @ Q_t,
        "jax: W Q": lambda: jax.block_until_ready(times(params.W, Q)),
        "torch.linalg.qr": lambda: torch.linalg.qr(M_t),
        "jnp.linalg.qr": lambda: jax.block_until_ready(theirs(M)),
        "orthonormalize": lambda: jax.block_until_ready(ours(M)),
    }
    for call in operations.values():
        call()
    of_spectra = in_rounds(spectra, config.rounds)
    parts = in_rounds(operations, config.rounds, 10)

    flops = {"Q": 2 * N**2 * K, "product": product_flop}
    qr_flops = 4 * N * K**2 - 4 * K**3 / 3
    medians = {name: statistics.median(times.calls) for name, times in parts.items()}
    rates = {
        name: flops.get(name.split()[-1], qr_flops) / median / 1e9
        for name, median in medians.items()
    }
    best = max(rate for name, rate in rates.items() if name.split()[-1] in flops)
    library_s = statistics.median(of_spectra["library"].calls)
    errors = np.asarray(spectrum.standard_errors)
    rows = []
    for name, measured in of_spectra.items():
        middle = statistics.median(measured.calls)
        away = np.abs(exponents[name] - exponents["library"])
        rows.append(
            {
                "exponents": f"{K} of {N}",
                "steps": steps,
                "method": name,
                **summary(measured.calls, "ms a step", per=steps),
                "times the library's": middle / library_s,
                "share of the product rate": flops["Q"] * steps / middle / 1e9 / best,
                "λ₁": float(exponents[name][0]),
                "mean λ": float(exponents[name].mean()),
                "largest difference": float(away.max()),
                "the same, standard errors": float((away / np.hypot(errors, errors)).max()),
                "interval": float(spectrum.interval) if name == "library" else None,
            }
        )
    shape = f"{N} × {K}"
    return rows, [
        {"operation": name, "shape": shape, **summary(parts[name].calls), "GFLOP/s": rate}
        for name, rate in rates.items()
    ]


def main(config: Config) -> tuple[list[Row], list[Row]]:
    rows: list[Row] = []
    operations: list[Row] = []
    for K, steps in ((config.leading, config.steps), (config.N, config.steps_of_all)):
        some, parts = compare(config, K, steps)
        rows, operations = rows + some, operations + parts
    save_rows(config.out / "rows.json", rows, operations=operations)
    conclude(config.out, table(rows), table(operations))
    return rows, operations


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
