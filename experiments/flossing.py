"""Gradient flossing: a delay that is learned because gradients were first made to last that long.

Claim (Engelken 2023, arXiv 2312.17306): where a delay is too long for an Elman network, its
Lyapunov exponents are what is in the way. A random network's are negative, most of them far below
−1/d, and a gradient that must go back d steps in many directions at once does so in none. Descent
on Σ λ_i² over the K largest ("flossing"), before the task is ever seen, brings them up, and the
task is then learned; flossing again from time to time while it is learned helps further. Two other
remedies of the same ill stand beside it: Pascanu's Ω, and a penalty that keeps W near orthogonal.
Their weights were not searched for.

The task is the paper's: a stream of random bits, and the bit of d steps ago (or the exclusive or of
those of d/2 and d steps ago) is to be said at every step, so that d bits must be held at a time.
What a network without memory reaches is ln 2.

    python -m experiments.flossing [--out FOLDER]
    python -m experiments.flossing plot FOLDER

About three minutes on two cores.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import rnn_jax
from experiments.common.checks import Check, at_least, at_most
from experiments.common.numbers import Result
from experiments.common.progress import progress
from experiments.common.report import spread, table
from experiments.common.settings import Limits, NotNegative, Positive, Seed, Settings, Size
from experiments.common.study import Study
from experiments.figures import flossing as flossing_figures
from rnn_jax.cell import Cell
from rnn_jax.cells import elman_preactivation, initializers, readout
from rnn_jax.errors import check_integer, invalid
from rnn_jax.gradients import flossing, lyapunov_spectrum, omega, orthogonality_penalty
from rnn_jax.losses import bernoulli_cross_entropy, per_step
from rnn_jax.training import create_train_state, make_train_step, over_ensemble
from rnn_jax.types import Array, Key, Params

MEMORYLESS = math.log(2)
"""Loss of any network that knows nothing of the past, in nats."""
SOLVED = 0.1
"""Fraction of the memoryless loss below which the task counts as solved."""


@dataclass(frozen=True)
class Config(Settings):
    """The task, the networks, and how they are trained."""

    out: Path = Path("runs/flossing")
    """The run folder."""
    task: Literal["copy", "xor"] = "copy"
    """"copy", x_{t−d}, or "xor", |x_{t−d/2} − x_{t−d}|."""
    delay: Annotated[int, Limits(least=2)] = 24
    """d, steps from a bit to its answer."""
    T: Size = 72
    """Steps of a sequence; the loss is a mean over those from d on."""
    units: Size = 32
    """N, units of each network."""
    gain: Positive = 1.0
    """W_ij ~ N(0, gain²/N) at the start; 1 is where a network without input turns chaotic."""
    seeds: Size = 8
    """Networks in each arm; they start from the same weights in all arms."""
    batch_size: Size = 16
    """Fresh sequences in each step of training."""
    steps: Size = 2000
    """Number of optimizer steps."""
    rounds: Size = 8
    """Equal parts of the training; the loss on fresh sequences is measured after each."""
    learning_rate: Positive = 1e-3
    """Adam's, for the task and for flossing, each with moments of its own."""
    clip_norm: Positive = 1.0
    """Global norm that the task's gradients are clipped to."""
    num_exponents: Size = 28
    """K, of the exponents that are flossed: more than d, which are needed."""
    interval: Size = 2
    """Steps from one orthonormalization to the next, in flossing."""
    floss_steps: Size = 150
    """Steps of flossing before training and, in that arm, in each interlude."""
    floss_every: Size = 2
    """Rounds of training from one interlude to the next."""
    omega_weight: NotNegative = 1.0
    """Weight of Ω / T in the loss."""
    orthogonality_weight: NotNegative = 0.1
    """Weight of ‖WᵀW − I‖_F² in the loss."""
    tested: Size = 128
    """Fresh sequences on which the loss is measured."""
    seed: Seed = 0
    """PRNG seed."""

    def check_together(self) -> None:
        check_integer("T", self.T, self.delay + 1, remedy="Sequences are longer than the delay.")
        check_integer("delay", self.delay, most=self.units, remedy="There are N exponents.")
        check_integer(
            "num_exponents", self.num_exponents, most=self.units, remedy="There are N exponents."
        )
        if self.steps % self.rounds:
            raise invalid(
                "rounds", self.rounds, f"a divisor of {self.steps} steps", "Choose another."
            )


class Arm(NamedTuple):
    """One way to train: what is added to the loss, by name, and when there is flossing."""

    penalty: str = "none"
    before: bool = False
    during: bool = False


ARMS = {
    "nothing": Arm(),
    "flossed before": Arm(before=True),
    "flossed before and during": Arm(before=True, during=True),
    "Ω": Arm(penalty="omega"),
    "orthogonality": Arm(penalty="orthogonality"),
}


def bits(config: Config, key: Key, *batch: int) -> tuple[Array, Array]:
    """Return `xs [T, *batch, 1]` and targets like them; those of the first d steps are not read."""
    xs = jax.random.bernoulli(key, 0.5, (config.T, *batch, 1)).astype(jnp.float32)
    ago = lambda n: jnp.roll(xs, n, 0)
    if config.task == "copy":
        return xs, ago(config.delay)
    return xs, jnp.abs(ago(config.delay // 2) - ago(config.delay))


def network(config: Config) -> Cell:
    """Return x_t = W tanh(x_{t−1}) + U u_t + b, read by V tanh(x_t) + c."""
    N = config.units
    W, U = initializers.gaussian(config.gain * N**-0.5), initializers.gaussian(1.0)
    return readout(elman_preactivation(N, recurrent_init=W, input_init=U), 1)


def task_loss(config: Config, ys: Array, targets: Array) -> Array:
    """Return the mean over steps of each example's cross-entropy: `[*batch]`."""
    return per_step(bernoulli_cross_entropy, ys, targets)[config.delay :].mean(0)


def penalties(config: Config, cell: Cell) -> dict[str, Callable[[Params, Array, Array], Array]]:
    """Return what each arm adds to the loss of a batch."""

    def of_omega(params, xs, targets):
        E = functools.partial(task_loss, config, targets=targets)
        return config.omega_weight / config.T * omega(cell, params, xs, E)

    def of_orthogonality(params, xs, targets):
        return config.orthogonality_weight * orthogonality_penalty(params.cell.W)

    return {
        "none": lambda params, xs, targets: jnp.zeros(()),
        "omega": of_omega,
        "orthogonality": of_orthogonality,
    }


class Programs:
    """The compiled programs, each over the seeds."""

    def __init__(self, config: Config):
        self._config = config
        self.cell = cell = network(config)
        self.task_optimizer, self.floss_optimizer = (
            optax.adam(config.learning_rate) for _ in range(2)
        )

        def loss(params, batch):
            xs, targets = batch
            return task_loss(config, rnn_jax.unroll(cell, params, xs)[1], targets).mean()

        def flossed(params, xs):
            K = config.num_exponents
            return flossing(cell, params, xs, num_exponents=K, interval=config.interval) / K

        def exponents(params, key):
            xs, _ = bits(config, key)
            spectrum = lyapunov_spectrum(
                cell, params, xs, warmup=config.delay, interval=1, blocks=1
            )
            return spectrum.exponents

        over_seeds = functools.partial(over_ensemble, members=config.seeds)
        one_sequence = lambda key: bits(config, key)[0]
        self.floss = over_seeds(_descent(flossed, self.floss_optimizer, one_sequence))
        self.exponents = over_seeds(exponents)
        self.test = over_seeds(lambda p, key: loss(p, bits(config, key, config.tested)))
        self.train = {}
        for name, penalty in penalties(config, cell).items():
            total = lambda p, batch, penalty=penalty: loss(p, batch) + penalty(p, *batch)
            draw = lambda key: bits(config, key, config.batch_size)
            steps = _descent(total, self.task_optimizer, draw, clip_norm=config.clip_norm)
            self.train[name] = over_seeds(steps)

    def start(self, params: Params, optimizer: optax.GradientTransformation):
        """Return a train state for each seed."""
        return jax.vmap(lambda params: create_train_state(params, optimizer))(params)


def _descent(loss, optimizer, draw, **options):
    """Return `(state, keys [n]) -> (state, losses [n])`: a step for each key, on `draw(key)`."""
    step = make_train_step(loss, optimizer, **options)

    def one(state, key):
        state, metrics = step(state, draw(key))
        return state, metrics["loss"]

    return lambda state, keys: jax.lax.scan(one, state, keys)


def measure(config: Config) -> tuple[Result, dict[str, Params]]:
    """Return what is measured of every arm, and the networks that it ends with."""
    programs = Programs(config)
    init_key, data_key = jax.random.split(jax.random.key(config.seed))
    init = functools.partial(programs.cell.init, input_size=1)
    params = jax.jit(jax.vmap(init))(jax.random.split(init_key, config.seeds))
    print(f"{config.task}, delay {config.delay}: {config.seeds} networks in each arm.", flush=True)

    networks: dict[str, Params] = {}
    result: dict[str, Any] = {
        "arms": np.array(list(ARMS)),
        "steps": np.linspace(0, config.steps, config.rounds + 1),
        "delay": np.array(config.delay),
    }
    for name, arm in ARMS.items():
        began = time.perf_counter()
        keys = jax.random.split(data_key, config.seeds)
        result[name], networks[name] = _run(config, programs, name, arm, params, keys)
        final = np.median(relative_loss(result, name)[-1])
        seconds = time.perf_counter() - began
        print(f"{name}: {final:.3f} of the memoryless loss, {seconds:.0f} s.", flush=True)
    return result, networks


def _run(
    config: Config, programs: Programs, name: str, arm: Arm, params: Params, keys: Key
) -> tuple[dict[str, np.ndarray], Params]:
    """Return an arm's test losses `[rounds + 1, seeds]`, exponents `[N, seeds]`, and networks.

    All arms see the same sequences, seed by seed.
    """
    keys_for = lambda purpose: jax.vmap(lambda key: jax.random.fold_in(key, purpose))(keys)
    many = lambda keys, n: jax.vmap(lambda key: jax.random.split(key, n))(keys)
    task, fresh = many(keys_for(0), config.steps), keys_for(1)

    def flossed(params, turn=0):
        state = programs.start(params, programs.floss_optimizer)
        return programs.floss(state, many(keys_for(2 + turn), config.floss_steps))[0].params

    def measured(params):
        return np.asarray(programs.test(params, fresh))

    def spectrum(params):
        return np.asarray(programs.exponents(params, fresh)).T

    params = flossed(params) if arm.before else params
    before, losses = spectrum(params), [measured(params)]
    state = programs.start(params, programs.task_optimizer)
    for turn, seen in enumerate(progress(jnp.split(task, config.rounds, axis=1), name)):
        if arm.during and turn and turn % config.floss_every == 0:
            state = state.replace(params=flossed(state.params, turn))
        state, _ = programs.train[arm.penalty](state, seen)
        losses.append(measured(state.params))
    numbers = {"loss": np.stack(losses), "before": before, "after": spectrum(state.params)}
    return numbers, state.params


def relative_loss(result: Result, arm: str) -> np.ndarray:
    """Return loss on fresh sequences over that without memory, `[rounds + 1, seeds]`."""
    return result[arm]["loss"] / MEMORYLESS


def checks(result: Result) -> list[Check]:
    """Return the claim, number by number."""
    final = {arm: relative_loss(result, arm)[-1] for arm in ARMS}
    median = {arm: float(np.median(losses)) for arm, losses in final.items()}
    d = int(result["delay"])
    needed = {arm: float(np.median(result[arm]["before"][d - 1])) for arm in ARMS}
    before, during = "flossed before", "flossed before and during"
    return [
        at_least("median loss with nothing done, of the memoryless", median["nothing"], 0.9),
        at_most("flossed before training", median[before], 0.5),
        at_most("flossed before and during training", median[during], median[before]),
        at_most("λ_d at a random start, nats per step", needed["nothing"], -10 / d),
        at_most("λ_d once flossed, over that", needed[before] / needed["nothing"], 0.5),
    ]


def summarize(result: Result) -> str:
    """Return tables of what was found, in Markdown."""
    d, rows = int(result["delay"]), []
    for arm in result["arms"]:
        final = relative_loss(result, arm)[-1]
        solved = f"{np.sum(final < SOLVED)} of {len(final)}"
        exponents = [_two_exponents(result[arm][phase], d) for phase in ("before", "after")]
        rows.append([arm, spread(final), solved, *exponents])
    headers = ["arm", "loss / memoryless (10–90 %)", f"below {SOLVED:g}"]
    headers += ["λ_1, λ_d before", "after training"]
    return (
        f"# Gradient flossing\n\nDelay d = {d}. Medians over seeds; exponents in nats per step.\n\n"
        f"{table(rows, headers)}"
    )


def _two_exponents(exponents: np.ndarray, d: int) -> str:
    """Return medians of λ_1 and λ_d, of the networks whose exponents are finite."""
    known = exponents[:, np.isfinite(exponents).all(0)]
    seeds, left_out = exponents.shape[1], exponents.shape[1] - known.shape[1]
    first, last = (np.median(known[i]) if known.size else np.nan for i in (0, d - 1))
    return f"{first:.3f}, {last:.3f}" + (f" ({left_out} of {seeds} not known)" if left_out else "")


def plot(result: Result) -> dict[str, flossing_figures.Figure]:
    """Return every figure, from the result alone."""
    arms = [str(arm) for arm in result["arms"]]
    figure = flossing_figures.flossing(
        result["steps"],
        {arm: relative_loss(result, arm) for arm in arms},
        {
            "before training": {
                "random": result["nothing"]["before"],
                "flossed": result["flossed before"]["before"],
            },
            "after training": {arm: result[arm]["after"] for arm in arms},
        },
        delay=int(result["delay"]),
    )
    return {"flossing": figure}


STUDY = Study(__doc__, Config, measure, checks, summarize, plot, ensemble=True)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
