"""Train steps built from an optax optimizer, the loop that runs them, what it keeps on disk."""

from rnn_jax.training._batch_mesh import batch_mesh
from rnn_jax.training._fit import fit
from rnn_jax.training.ensemble import over_ensemble
from rnn_jax.training.evaluation import Evaluation, evaluate, evaluate_lengths
from rnn_jax.training.held_out import HeldOut
from rnn_jax.training.record import read_record, to_disk, to_tensorboard
from rnn_jax.training.save_restore import restore, save
from rnn_jax.training.stateful import make_stateful_train_step
from rnn_jax.training.task_step import make_task_train_step
from rnn_jax.training.telemetry import Telemetry
from rnn_jax.training.train_state import (
    MonitoredTrainState,
    StatefulTrainState,
    TrainState,
    create_monitored_train_state,
    create_stateful_train_state,
    create_train_state,
)
from rnn_jax.training.train_step import make_monitored_train_step, make_train_step

__all__ = [
    "Evaluation",
    "HeldOut",
    "MonitoredTrainState",
    "StatefulTrainState",
    "Telemetry",
    "TrainState",
    "batch_mesh",
    "create_monitored_train_state",
    "create_stateful_train_state",
    "create_train_state",
    "evaluate",
    "evaluate_lengths",
    "fit",
    "make_monitored_train_step",
    "make_stateful_train_step",
    "make_task_train_step",
    "make_train_step",
    "over_ensemble",
    "read_record",
    "restore",
    "save",
    "to_disk",
    "to_tensorboard",
]
