"""A data set as a trial, and what a classifier without recurrence makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure

from experiments.common import comparison
from experiments.common.compared_cells import COMPARED
from experiments.common.comparison import Trial
from experiments.common.numbers import Result
from experiments.figures import arms as figures
from experiments.tables import arms as tables
from rnn_jax.errors import optional
from rnn_jax.tasks import Task
from rnn_jax.types import Params

INSTALL = "pip install scikit-learn, or the extra [data]"
LINEAR_ITERATIONS = 2000
"""Most iterations of the linear classifier, which needs a few hundred."""


def trial_of(make: Callable[..., Task], batch_size: int, **options: Any) -> Trial:
    """Return the trial of a data set: trained on one split, evaluated on all of the other."""
    return Trial(
        make(batch_size=batch_size, split="train", **options), whole(make, "test", **options)
    )


def whole(make: Callable[..., Task], split: str, **options: Any) -> Task:
    """Return a split of a data set in one batch, each sequence once."""
    size = make(batch_size=1, split=split, **options).sequences
    return make(batch_size=size, split=split, **options)


def learned(
    config: Any, trials: Mapping[str, Mapping[str, Trial]], names: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Params]]:
    """Return what cells of `COMPARED` learn of data sets, at one rate: a tenth for the IRNN."""
    cells = {name: COMPARED[name] for name in names}
    rates = dict.fromkeys(cells, config.learning_rate)
    if "IRNN" in rates:
        rates["IRNN"] /= 10
    return comparison.measure(config, trials, cells, rates)


def classified_without_memory(make: Callable[..., Task], **options: Any) -> dict[str, np.ndarray]:
    """Return the accuracy on the test split of two classifiers that see a whole sequence at once.

    "majority" is the commonest class of the training split; "linear" is logistic regression on
    all numbers of a sequence, each scaled to unit variance.
    """
    of = lambda module: optional(f"sklearn.{module}", INSTALL)
    scale, classify = of("preprocessing").StandardScaler(), of("linear_model").LogisticRegression
    (xs, labels), (test_xs, test_labels) = (
        _flat(whole(make, split, **options)) for split in ("train", "test")
    )
    linear = classify(max_iter=LINEAR_ITERATIONS).fit(scale.fit_transform(xs), labels)
    commonest = np.bincount(labels).argmax()
    return {
        "majority": np.array(np.mean(test_labels == commonest)),
        "linear": np.array(linear.score(scale.transform(test_xs), test_labels)),
    }


def _flat(task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Return all sequences `[N, T I]` and their classes `[N]`."""
    xs, targets = task.batch(jax.random.key(0), 0)
    mask = np.asarray(task.mask(xs, targets))
    labels = np.where(mask, targets, 0).sum(0)  # one step counts
    return np.moveaxis(np.asarray(xs), 1, 0).reshape(len(labels), -1), labels


def told(title: str, result: Result) -> str:
    """Return tables of accuracies and gradients, in Markdown."""
    parts = [f"# {title}", tables.accuracies(result), "## Gradients"]
    return "\n\n".join([*parts, tables.gradients(result["arms"])])


def accuracy_curves(result: Result) -> Mapping[str, Figure]:
    """Return accuracies over training, beside those of classifiers without recurrence."""
    options: dict[str, Any] = {"metric": "solved", "unit": "accuracy, held out", "log": False}
    baselines = result["baselines"]
    return {"accuracy": figures.learning(result["arms"], across=baselines, **options)}
