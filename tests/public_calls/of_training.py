"""Calls of training and what it keeps on disk."""

import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax import cells, tasks, training
from tests.public_calls.call import CELL, KEY, LOSS, NO_LOSS, ON_BATCH, PARAMS, TARGETS, B, Call

ADDING = tasks.adding(T=4, batch_size=2)
ADDER = cells.readout(cells.elman(2), 1)
ADDER_PARAMS = ADDER.init(KEY, ADDING.input_size)
FRESH = "a folder of its own for each call"
FOLDERS = tempfile.TemporaryDirectory()


def folder():
    return tempfile.mkdtemp(dir=FOLDERS.name)


def saved(tree):
    where = f"{folder()}/tree.npz"
    training.save(where, tree)
    return where


def record():
    where = folder()
    training.to_disk(where, 2)(0, {"loss": np.ones(2)})
    return where


def training_calls():
    train_loss = lambda params, batch: jnp.square(params["w"] - batch).sum()
    sgd, some = optax.sgd(0.1), {"w": jnp.ones(2)}
    telemetry = training.Telemetry(CELL)

    def train(step, state, batch):
        with jax.numpy_dtype_promotion("standard"):
            return step(state, batch)

    return {
        "Telemetry": Call(training.Telemetry, {"cell": CELL, "every": 1, "iterations": 2}),
        "batch_mesh": Call(training.batch_mesh, {"devices": jax.local_devices()[:1]}),
        "create_train_state": Call(training.create_train_state, {"params": some, "optimizer": sgd}),
        "create_stateful_train_state": Call(
            training.create_stateful_train_state,
            {"cell": CELL, "params": PARAMS, "optimizer": sgd, "batch_size": B},
        ),
        "create_monitored_train_state": Call(
            training.create_monitored_train_state,
            {"params": PARAMS, "optimizer": sgd, "telemetry": telemetry},
        ),
        "make_train_step": Call(
            training.make_train_step,
            {"loss": train_loss, "optimizer": sgd, "clip_norm": 1.0},
            then=lambda step: train(step, training.create_train_state(some, sgd), jnp.ones(2)),
            never={"loss": [lambda params, batch: params["w"] - batch]},
        ),
        "make_stateful_train_step": Call(
            training.make_stateful_train_step,
            {
                "cell": CELL,
                "loss": LOSS,
                "optimizer": sgd,
                "clip_norm": 1.0,
                "strategy": "scan",
            },
            then=lambda step: train(
                step,
                training.create_stateful_train_state(CELL, PARAMS, sgd, B),
                (ON_BATCH["xs"], TARGETS[:, None], jnp.ones(B, bool)),
            ),
            never={"loss": [NO_LOSS]},
            cheap=False,
        ),
        "make_monitored_train_step": Call(
            training.make_monitored_train_step,
            {
                "loss": lambda params, batch, unroll: unroll(CELL, params, batch)[1].sum(),
                "optimizer": sgd,
                "telemetry": telemetry,
                "clip_norm": 1.0,
            },
            then=lambda step: train(
                step,
                training.create_monitored_train_state(PARAMS, sgd, telemetry),
                ON_BATCH["xs"],
            ),
            cheap=False,
        ),
        "make_task_train_step": Call(
            training.make_task_train_step,
            {
                "cell": ADDER,
                "task": ADDING,
                "optimizer": sgd,
                "penalty": lambda params, xs, targets: jnp.square(xs).mean(),
                "clip_norm": 1.0,
                "clip_value": 1.0,
                "accumulate": 2,
            },
            then=lambda step: step(training.create_train_state(ADDER_PARAMS, sgd), KEY)[1]["loss"],
            cheap=False,
        ),
        "over_ensemble": Call(
            training.over_ensemble,
            {"function": jnp.sin, "members": 2, "at_once": 1},
            then=lambda f: f(jnp.ones(2)),
        ),
        "fit": Call(
            training.fit,
            {
                "train_step": lambda state, batch: (state, {"loss": batch}),
                "state": training.create_train_state(some, sgd),
                "batch_at": lambda step: jnp.ones(()),
                "steps": 1,
                "label": "training",
                "progress": False,
                "held_out": training.HeldOut(lambda state: {"loss": state.params["w"].sum()}),
                "checkpoint_every": 2,
                "keep": 1,
                "hooks": (lambda step, state: None,),
                "max_skipped": 3,
            },
            kinds={"state": "skip", "label": "skip", "hooks": "skip"},
            cheap=False,
        ),
        "HeldOut": Call(
            training.HeldOut,
            {"evaluate": lambda state: {"loss": 1.0}, "every": 3, "best_by": "loss"},
            kinds={"best_by": "skip"},
        ),
        "evaluate": Call(
            training.evaluate,
            {"cell": ADDER, "params": ADDER_PARAMS, "task": ADDING, "key": KEY, "batches": 2},
            cheap=False,
        ),
        "evaluate_lengths": Call(
            training.evaluate_lengths,
            {
                "cell": ADDER,
                "params": ADDER_PARAMS,
                "task": ADDING,
                "lengths": (3, 5),
                "key": KEY,
                "batches": 2,
            },
            kinds={"params": "skip"},
            never={"lengths": [()]},
            cheap=False,
        ),
        "save": Call(
            training.save,
            {"path": saved(some), "tree": some, "overwrite": True},
            kinds={"path": "path", "tree": "pytree"},
        ),
        "restore": Call(
            training.restore, {"path": saved(some), "like": some}, kinds={"path": "path"}
        ),
        "to_disk": Call(
            training.to_disk,
            {"folder": FRESH, "steps": 2},
            then=lambda recorder: recorder(0, {"loss": np.ones(2)}),
            kinds={"folder": "path"},
        ),
        "read_record": Call(training.read_record, {"folder": record()}, kinds={"folder": "path"}),
        "to_tensorboard": Call(
            training.to_tensorboard,
            {"folder": FRESH, "every": 1},
            then=lambda recorder: recorder(0, {"loss": np.ones(2)}),
            kinds={"folder": "path"},
        ),
    }
