"""Train a cell on a task: the field's sequences or data sets, any cell, several seeds at once.

Claim: the network learns to answer sequences that it has not seen better than any network without
memory could. It is trained on fresh batches and evaluated on held-out ones as it goes; training
ends early once all seeds solve `--solved` of those, by the task's own criterion. What training did
to the gradients is told for the first, the best and the last parameters: the rate at which
‖∂s_t/∂s_k‖ decays, the horizon that this leaves, and the largest Lyapunov exponent.

    python -m experiments.train [--task adding] [--T 100] [--cell lstm] [--seeds 5] [--out FOLDER]
    python -m experiments.train plot FOLDER

About two minutes on two cores.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.common import laboratory
from experiments.common.cell_named import cell_named
from experiments.common.checks import Check, at_least, at_most
from experiments.common.numbers import Result, flatten
from experiments.common.run_folder import RunFolder
from experiments.common.settings import OpenUnit, Positive, Seed, Settings, Size
from experiments.common.study import Study, Together
from experiments.common.task_ensemble import PHASES, Members, Plan, Trained, held_out_key, train
from experiments.tables import train as train_tables
from rnn_jax import plotting
from rnn_jax.cells import readout
from rnn_jax.errors import choose, invalid
from rnn_jax.tasks import DATA_SETS, TASKS, Task
from rnn_jax.training import Telemetry, to_tensorboard
from rnn_jax.training.record import Recorder
from rnn_jax.types import Params

ALL_TASKS = {**TASKS, **DATA_SETS}
TOGETHER = ("seed", "learning_rate", "clip_norm")
"""What members of one program may have of their own."""
SHOWN = 3
"""Examples in the figure of the task."""


@dataclass(frozen=True)
class Config(Settings):
    """The task, the network and its training."""

    out: Path = Path("runs/train")
    """The run folder."""
    task: str = "adding"
    """A key of `tasks.TASKS` or `tasks.DATA_SETS`."""
    T: Size | None = None
    """The task's length, in its own terms; its default if left out."""
    cell: str = "lstm"
    """A name of `cells.CELLS`, or `package.module:factory`."""
    hidden_size: Size = 64
    """H, units of the network."""
    seeds: Size = 1
    """Networks, all in one program: `seed`, `seed` + 1 and so on."""
    seed: Seed = 0
    """PRNG seed of the first network's parameters and batches."""
    batch_size: Size = 32
    """Sequences in a batch."""
    accumulate: Size = 1
    """Equal parts of a batch that are gone through one after another."""
    steps: Size = 8000
    """Most optimizer steps."""
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = "adam"
    """Optimizer, of optax."""
    learning_rate: Positive = 0.003
    """Its learning rate at the start."""
    schedule: Literal["constant", "cosine"] = "constant"
    """How the learning rate goes on: as it is, or down along a cosine over all steps."""
    clip_norm: Positive | None = 1.0
    """Global norm that gradients are clipped to; None for no clipping."""
    evaluate_every: Size = 100
    """Steps between evaluations on held-out sequences."""
    held_out_batches: Size = 10
    """Batches of each evaluation."""
    solved: OpenUnit | None = 0.99
    """Part of the held-out sequences that every seed has to solve for training to end early; None
    to take all steps."""
    telemetry: bool = False
    """Measure what the gradient does on its way back at every step, and write events for
    TensorBoard."""

    def check_together(self) -> None:
        choose("task", self.task, ALL_TASKS)
        if self.batch_size % self.accumulate:
            got = f"{self.accumulate} for batches of {self.batch_size}"
            raise invalid("accumulate", got, "a divisor of batch_size", "Choose another.")


def prepare(config: Config) -> tuple[dict[str, object], Plan]:
    """Return the plan of the training, for which all that does not fit raises."""
    make = ALL_TASKS[config.task]
    sizes: dict[str, Any] = {"batch_size": config.batch_size}
    if config.T is not None:
        sizes["T"] = config.T
    has_splits = "split" in inspect.signature(make).parameters
    task = make(**sizes)
    held_out = make(**sizes, split="test") if has_splits else task
    cell = readout(cell_named(config.cell, config.hidden_size), task.output_size)
    return {}, Plan(
        cell=cell,
        task=task,
        held_out=held_out,
        optimizer=config.optimizer,
        schedule=config.schedule,
        steps=config.steps,
        accumulate=config.accumulate,
        evaluate_every=config.evaluate_every,
        held_out_batches=config.held_out_batches,
        solved=config.solved,
        telemetry=Telemetry(cell) if config.telemetry else None,
    )


def measure(config: Config, plan: Plan) -> tuple[Result, dict[str, Params]]:
    """Return all numbers, and the networks `[seeds, ...]`."""
    folder = RunFolder(config.out)
    seeds = [replace(config, seed=config.seed + n) for n in range(config.seeds)]
    events = [to_tensorboard(folder.path / "tensorboard")] if config.telemetry else []
    trained = _train(seeds, plan, folder.checkpoints / "training", events)
    measured = _gradients(plan, trained)
    networks = dict(zip(PHASES, trained[:3], strict=True))
    numbers = {"metrics": trained.metrics, "laboratory": measured}
    return {**numbers, **description(config, plan)}, networks


def measure_together(
    configs: Sequence[Config], plan: Plan, checkpoints: Path
) -> Sequence[tuple[Result, dict[str, Params]]]:
    """Return what `measure` returns of each of several runs, trained in one program.

    They end together, once all of them have solved the task.
    """
    trained = _train(configs, plan, checkpoints, [])
    measured = _gradients(plan, trained)
    steps = trained.metrics["held_out"].pop("step")
    runs = []
    for n, config in enumerate(configs):
        only = lambda tree, axis=0, n=n: jax.tree.map(lambda v: v.take([n], axis), tree)
        metrics = only(trained.metrics, 1)
        metrics["held_out"]["step"] = steps
        networks = {name: only(net) for name, net in zip(PHASES, trained[:3], strict=True)}
        numbers = {"metrics": metrics, "laboratory": only(measured)}
        runs.append(({**numbers, **description(config, plan)}, networks))
    return runs


def _train(
    configs: Sequence[Config], plan: Plan, checkpoints: Path, recorders: Sequence[Recorder]
) -> Trained:
    """Train a network for each config, which differ in `TOGETHER` alone."""
    members = Members(
        seed=np.array([config.seed for config in configs]),
        learning_rate=np.array([config.learning_rate for config in configs]),
        clip_norm=np.array([config.clip_norm or np.inf for config in configs]),
    )
    label = f"{configs[0].task}, {configs[0].cell}"
    return train(plan, members, checkpoints, label, recorders)


def _gradients(plan: Plan, trained: Trained) -> dict[str, dict[str, np.ndarray]]:
    """Return the laboratory's numbers of the networks of each phase, `[members]`."""
    print("measuring the gradients of the first, the best and the last parameters", flush=True)
    xs = plan.held_out.batch(held_out_key(), 0)[0]
    return laboratory.measure(plan.cell, dict(zip(PHASES, trained[:3], strict=True)), xs)


def description(config: Config, plan: Plan) -> dict[str, Any]:
    """Return what tables and figures have to know of the task and the settings."""
    xs, targets = (array[:, :SHOWN] for array in plan.task.batch(held_out_key(), 0))
    text = lambda names: np.array([str(name) for name in names])
    numbered = lambda names, size: text(names or range(size))
    return {
        "title": np.array(title(config, plan.task)),
        "cell": np.array(config.cell),
        "chance_loss": np.array(plan.task.chance_loss),
        "clip_norm": np.array(config.clip_norm or np.inf),
        "solved": np.array(config.solved or np.nan),
        "examples": {
            "xs": np.asarray(xs),
            "targets": np.asarray(targets),
            "mask": np.asarray(plan.task.mask(xs, targets)),
            "inputs": numbered(plan.task.inputs, plan.task.input_size),
            "outputs": numbered(plan.task.outputs, plan.task.output_size),
        },
    }


def title(config: Config, task: Task) -> str:
    """Return the name of the task and its length."""
    length = "" if config.T is None else f", T = {config.T}"
    return f"{(task.name or config.task).replace('_', ' ')}{length}"


def rows(result: Result) -> Iterator[tuple[str, float, float]]:
    """Yield the median seed's metrics at each evaluation, training's as means since the last."""
    metrics, held_out = result["metrics"], result["metrics"]["held_out"]
    steps = held_out["step"].tolist()
    for n, step in enumerate(steps):
        for name in ("loss", "solved"):
            yield f"held_out_{name}", step, float(np.median(held_out[name][n]))
        for name in ("loss", "grad_norm", "clipped", "skipped"):
            if n > 0:
                since = metrics[name][steps[n - 1] : step]
                yield name, step, float(np.median(since.mean(0)))
    for phase in PHASES:
        for name, values in sorted(result["laboratory"][phase].items()):
            yield f"{phase}_{name}", math.nan, float(np.median(values))


def checks(result: Result) -> list[Check]:
    """Return the claim: better than chance on held-out sequences, where chance is known."""
    held_out = result["metrics"]["held_out"]
    lowest = np.nanmin(held_out["loss"], axis=0)
    chance = float(result["chance_loss"])
    first = f"loss on held-out sequences, best / {'chance' if chance > 0 else 'first'}, median seed"
    other = chance if chance > 0 else np.median(held_out["loss"][0])
    found = [at_most(first, np.median(lowest) / other, 1)]
    if np.isfinite(result["solved"]):
        share = np.median(held_out["solved"].max(0))
        found += [at_least("held-out sequences solved, best, median seed", share, result["solved"])]
    return found


def plot(result: Result) -> dict[str, Figure]:
    """Return every figure, from the result alone."""
    metrics, name = result["metrics"], str(result["title"])
    held_out, examples = metrics["held_out"], result["examples"]
    cell = str(result["cell"])
    curve = lambda metric: {name: {cell: metrics[metric]}}
    evaluated = lambda metric: {name: {cell: (held_out["step"], held_out[metric])}}
    channels = lambda key: tuple(map(str, examples[key]))
    figures = {
        "learning_curves": plotting.learning_curves(
            curve("loss"), held_out=evaluated("loss"), baseline=float(result["chance_loss"])
        ),
        "solved": plotting.learning_curves(
            {name: {cell: metrics["loss"][:0]}},
            held_out=evaluated("solved"),
            unit="part solved",
            baseline=float(result["solved"]),
            baseline_label="criterion",
            limits=(-0.03, 1.03),
        ),
        "gradient_norms": plotting.gradient_norms(
            curve("grad_norm"), clip_norm=float(result["clip_norm"])
        ),
        "task": plotting.task_examples(
            *(examples[key] for key in ("xs", "targets", "mask")),
            title=name,
            inputs=channels("inputs"),
            outputs=channels("outputs"),
        ),
    }
    if "state_log_norms" in metrics:
        # Flat, as telemetry has them; names with a slash are nested once they were on disk.
        flat = flatten({key: values for key, values in metrics.items() if key != "held_out"})
        of_first = {key: values[:, 0] for key, values in flat.items()}
        limit = float(result["clip_norm"])
        clip_norm = limit if np.isfinite(limit) else None
        figures["telemetry"] = plotting.telemetry(of_first, clip_norm=clip_norm)
    return figures


STUDY = Study(
    __doc__,
    Config,
    measure,
    checks,
    train_tables.training,
    plot,
    prepare,
    ensemble=True,
    together=Together(TOGETHER, measure_together),
    rows=rows,
)
main = STUDY.main

if __name__ == "__main__":
    STUDY.command_line()
