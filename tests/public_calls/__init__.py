"""One small valid call of every public function: what `test_public_calls` takes apart."""

import functools
import types

import rnn_jax
from rnn_jax import (
    cells,
    gradients,
    graph,
    interop,
    linalg,
    losses,
    reporting,
    tasks,
    theory,
    topologies,
    training,
)
from rnn_jax.cells import initializers
from tests.public_calls.call import Call
from tests.public_calls.of_cells import cell_calls, initializer_calls
from tests.public_calls.of_gradients import gradient_calls
from tests.public_calls.of_networks import graph_calls, interop_calls, topology_calls, unroll_calls
from tests.public_calls.of_numbers import linalg_calls, loss_calls
from tests.public_calls.of_reports import report_calls, reporting_calls
from tests.public_calls.of_tasks import task_calls
from tests.public_calls.of_theory import theory_calls
from tests.public_calls.of_training import training_calls

MODULES = {
    "rnn_jax": rnn_jax,
    "cells": cells,
    "initializers": initializers,
    "gradients": gradients,
    "graph": graph,
    "interop": interop,
    "linalg": linalg,
    "losses": losses,
    "reporting": reporting,
    "tasks": tasks,
    "theory": theory,
    "topologies": topologies,
    "training": training,
}

# What functions return or hold. Building one does no work, and checks nothing.
RECORDS = """
    Activation AffineParams BoundCheck Cell Configuration Correlation CovariantVectors CriticalPoint
    Decomposition DiagonalParams Edge Evaluation FastGRNNParams Feed GRUParams GRUResetBeforeParams
    GatedMeanField Generated Graph IndRNNParams InputParams JordanParams LEMParams LEMState
    LRUParams LearnedInitialStateParams LSTMState LayerNormParams LinenCell LogNorm
    LyapunovSpectrum MGUParams MGUResetAfterParams Masks MeanField MonitoredTrainState NNXCell
    Node Nudges OscillatorState Parallel Path PeepholeParams RGLRUParams ReadoutParams SLSTMState
    Scan Rule SelectiveParams Sentence SingularSpectra SingularValue StackMachine StackNetwork
    StatefulTrainState StepJacobian StreamTask Task Templates Text TrainState TruncationError
    WindowedDecomposition
    Axis Line Panel
"""


CALLS = {
    "rnn_jax": lambda: unroll_calls() | report_calls(),
    "cells": cell_calls,
    "initializers": initializer_calls,
    "gradients": gradient_calls,
    "graph": graph_calls,
    "interop": interop_calls,
    "linalg": linalg_calls,
    "losses": loss_calls,
    "reporting": reporting_calls,
    "tasks": task_calls,
    "theory": theory_calls,
    "topologies": topology_calls,
    "training": training_calls,
}


@functools.cache
def calls_of(module: str) -> dict[str, Call]:
    """Return a call of every public function of a module, by name."""
    return CALLS[module]()


def public_functions():
    """(module, name) of everything public that is called with arguments to do something."""
    for title, module in MODULES.items():
        names = getattr(module, "__all__", None)
        if names is None or title == "initializers":
            names = [
                name
                for name, value in vars(module).items()
                if not name.startswith("_")
                and getattr(value, "__module__", "") == module.__name__
                and callable(value)
            ]
        for name in names:
            value = getattr(module, name)
            if not isinstance(value, types.ModuleType | dict) and name not in RECORDS.split():
                yield title, name
