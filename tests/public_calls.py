"""One small valid call of every public function: what `test_bad_arguments` takes apart."""

import functools
import inspect
import tempfile
import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import equinox as eqx
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from flax import nnx

import rnn_jax
from rnn_jax import (
    cells,
    gradients,
    graph,
    interop,
    linalg,
    losses,
    tasks,
    theory,
    topologies,
    training,
)
from rnn_jax.cells import initializers

MODULES = {
    "rnn_jax": rnn_jax,
    "cells": cells,
    "initializers": initializers,
    "gradients": gradients,
    "graph": graph,
    "interop": interop,
    "linalg": linalg,
    "losses": losses,
    "tasks": tasks,
    "theory": theory,
    "topologies": topologies,
    "training": training,
}

# What functions return or hold. Building one does no work, and checks nothing.
RECORDS = """
    Activation AffineParams BoundCheck Cell Correlation CovariantVectors CriticalPoint Decomposition
    DiagonalParams Edge FastGRNNParams Feed GRUParams GRUResetBeforeParams GatedMeanField
    Generated Graph IndRNNParams InputParams JordanParams LEMParams LEMState LRUParams
    LearnedInitialStateParams
    LSTMState LayerNormParams LinenCell LogNorm LyapunovSpectrum MGUParams
    MGUResetAfterParams Masks MeanField MonitoredTrainState NNXCell Node Nudges
    OscillatorState Parallel Path PeepholeParams RGLRUParams ReadoutParams SLSTMState Scan
    SelectiveParams Sentence SingularSpectra SingularValue StatefulTrainState StepJacobian
    StreamTask Task Templates Text TrainState TruncationError WindowedDecomposition
"""


class Call(NamedTuple):
    """A public function and arguments that it takes.

    Attributes:
      function: the function.
      good: its arguments, by name.
      then: what is done with what it returns, where that does the work.
      never: by argument, values that cannot mean anything and look like ones that do.
      kinds: by argument, where the value does not say what is meant; "skip" for an argument that
        is free to be anything.
      cheap: whether a call that is accepted takes no compilation to speak of.
    """

    function: Callable[..., Any]
    good: dict[str, Any]
    then: Callable[[Any], Any] = lambda result: result
    never: Mapping[str, list[Any]] = types.MappingProxyType({})
    kinds: Mapping[str, str] = types.MappingProxyType({})
    cheap: bool = True


H, I, T, B = 2, 2, 3, 1
KEY = jax.random.key(0)
DTYPE = jnp.float64


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, DTYPE)


CELL, LSTM = cells.elman(H, dtype=DTYPE), cells.lstm(H, dtype=DTYPE)
PARAMS, LSTM_PARAMS = CELL.init(KEY, I), LSTM.init(KEY, I)
OTHER_H = cells.elman(H + 1, dtype=DTYPE).init(KEY, I)
XS, YS, TARGETS = draw(1, T, I), draw(2, T, B, H), draw(3, T, H)
ON = {"cell": CELL, "params": PARAMS, "xs": XS}
ON_BATCH = {**ON, "xs": draw(1, T, B, I)}
STATE = CELL.initial_state(PARAMS)
J = draw(4, T, H, H)
TABLE = jnp.where(jnp.tril(jnp.ones((T + 1, T + 1), bool)), draw(5, T + 1, T + 1), -jnp.inf)
PROFILE = TABLE[:, 0]
LOSS = losses.squared_error
COMPLEX = dict.fromkeys(("W", "x", "transposed"), "complex too")
NO_LOSS = lambda y, target: jnp.square(y - target)
ON_LOSS = {**ON, "targets": TARGETS, "loss": LOSS}
NEVER_LOSS = {"loss": [NO_LOSS]}
UNFOLDED = graph.unfolded_graph(CELL, PARAMS, XS[0], 2)
PROBABILITIES = jax.nn.softmax(draw(7, B, H))


@functools.cache
def text():
    return tasks.load_text()


def run_cell(cell):
    """A cell at work: its parameters and two steps, eagerly."""
    params = cell.init(KEY, I)
    state = cell.initial_state(params)
    for x in (jnp.ones(I), -jnp.ones(I)):
        state, y = cell.step(params, state, x.astype(jax.tree.leaves(params)[0].dtype))
    return params, state, y


def structured_parts():
    return {
        "init": CELL.init,
        "initial_state": CELL.initial_state,
        "structure": CELL.structure,
    }


def linear_parts():
    cell = cells.diagonal(H, dtype=DTYPE)
    return {
        "init": cell.init,
        "initial_state": cell.initial_state,
        "U": lambda params: params.U,
        "drive": lambda params, Ux: (Ux + params.b,),
        "coefficients": lambda params, d: (jnp.full_like(d, 0.5), d),
    }


def cell_makers():
    extra = {
        "gated": {"blocks": 1, "pointwise": lambda h, a: (jnp.tanh(a), jnp.tanh(a))},
        "jordan": {"output_size": 2},
    }
    no_makers = {"draw_masks", "dropout", "from_function", "layer_norm", "linear", "readout"}
    no_makers |= {"learned_initial_state", "residual", "stack", "structured"}
    for name in cells.__all__:
        make = getattr(cells, name)
        if not inspect.isfunction(make) or name in no_makers:
            continue
        good = {"hidden_size": H, **extra.get(name, {})}
        for argument, parameter in inspect.signature(make).parameters.items():
            if isinstance(parameter.default, int | float | str) and argument not in good:
                good[argument] = parameter.default
        yield name, Call(make, good, then=run_cell, cheap=False)


def calls():
    """{module: {name: Call}}."""
    train_loss = lambda params, batch: jnp.square(params["w"] - batch).sum()
    sgd, some = optax.sgd(0.1), {"w": jnp.ones(2)}
    telemetry = training.Telemetry(CELL)

    def train(step, state, batch):
        with jax.numpy_dtype_promotion("standard"):
            return step(state, batch)

    return {
        "rnn_jax": {
            "length_mask": Call(
                rnn_jax.length_mask, {"lengths": jnp.array([1, 3]), "T": T}, kinds={}
            ),
            "trajectory": Call(rnn_jax.trajectory, ON | {"initial_state": STATE}, cheap=False),
            "unroll": Call(
                rnn_jax.unroll,
                {
                    **ON_BATCH,
                    "initial_state": CELL.initial_state(PARAMS, (B,)),
                    "lengths": jnp.array([2]),
                    "resets": jnp.zeros((T, B), bool),
                    "reverse": False,
                    "strategy": "scan",
                },
                never={"lengths": [jnp.array([-1]), jnp.array([T + 1])]},
                cheap=False,
            ),
            "Checkpointed": Call(
                rnn_jax.Checkpointed,
                {"levels": 2, "inside": "scan"},
                then=lambda how: rnn_jax.unroll(**ON, strategy=how),
                cheap=False,
            ),
            "Fused": Call(
                rnn_jax.Fused,
                {"chunk": 2, "recompute": True},
                then=lambda how: rnn_jax.unroll(**ON, strategy=how),
                cheap=False,
            ),
        },
        "cells": {
            **dict(cell_makers()),
            "draw_masks": Call(
                cells.draw_masks,
                {
                    "key": KEY,
                    "cell": CELL,
                    "params": PARAMS,
                    "input_size": I,
                    "batch": (B,),
                    "input_rate": 0.5,
                    "recurrent_rate": 0.5,
                    "output_rate": 0.5,
                },
                kinds={"params": "shape"},
            ),
            "dropout": Call(
                cells.dropout,
                {"cell": CELL, "masks": cells.draw_masks(KEY, CELL, PARAMS, I, input_rate=0.5)},
                then=run_cell,
            ),
            "from_function": Call(
                cells.from_function,
                {
                    "step": lambda p, h, x: (jnp.tanh(p["W"] @ h + x), h),
                    "state": jnp.zeros(H, DTYPE),
                    "init": lambda key, size: {"W": jnp.eye(H, dtype=DTYPE)},
                },
                then=run_cell,
                kinds={"state": "skip"},
            ),
            "layer_norm": Call(cells.layer_norm, {"cell": CELL, "epsilon": 1e-6}, then=run_cell),
            "linear": Call(cells.linear, linear_parts(), then=run_cell),
            "readout": Call(cells.readout, {"cell": CELL, "output_size": 2}, then=run_cell),
            "learned_initial_state": Call(
                cells.learned_initial_state, {"cell": CELL}, then=run_cell
            ),
            "residual": Call(cells.residual, {"cell": CELL}, then=run_cell),
            "stack": Call(
                lambda layers: cells.stack(layers, CELL), {"layers": CELL}, then=run_cell
            ),
            "structured": Call(cells.structured, structured_parts(), then=run_cell),
        },
        "initializers": {
            name: Call(
                getattr(initializers, name),
                good,
                then=lambda init: init(KEY, (4, 2), jnp.float64),
                kinds={"std": "positive or None"},
            )
            for name, good in {
                "gaussian": {"std": 0.5},
                "identity": {"scale": 1.0},
                "orthogonal": {"gain": 1.0},
                "rotations": {},
                "sparse_spectral_radius": {"radius": 0.9, "connections": 1},
                "stacked": {"init": initializers.gaussian(0.5), "blocks": 2},
                "uniform": {"low": -0.5, "high": 0.5},
            }.items()
            if name != "sparse_spectral_radius"
        }
        | {
            "sparse_spectral_radius": Call(
                initializers.sparse_spectral_radius,
                {"radius": 0.9, "connections": 2},
                then=lambda init: init(KEY, (4, 4), jnp.float64),
                cheap=False,
            )
        },
        "gradients": gradient_calls(),
        "graph": {
            "step_graph": Call(
                graph.step_graph, {"cell": CELL, "params": PARAMS, "x": XS[0]}, kinds={"x": "shape"}
            ),
            "unfolded_graph": Call(
                graph.unfolded_graph,
                {"cell": CELL, "params": PARAMS, "x": XS[0], "steps": 2, "detail": "states"},
                kinds={"x": "shape"},
            ),
            "gradient_path": Call(
                graph.gradient_path,
                {
                    "graph": graph.unfolded_graph(CELL, PARAMS, XS[0], 2),
                    "t": 2,
                    "k": 1,
                    "leaf": "h",
                },
            ),
            "without_operations": Call(
                graph.without_operations, {"graph": graph.step_graph(CELL, PARAMS, XS[0])}
            ),
        },
        "interop": {
            "from_linen": Call(
                interop.from_linen, {"module": nn.SimpleCell(H, param_dtype=DTYPE)}, then=run_cell
            ),
            "from_nnx": Call(
                interop.from_nnx,
                {"module": lambda n, rngs: nnx.SimpleCell(n, H, param_dtype=DTYPE, rngs=rngs)},
                then=run_cell,
            ),
            "from_haiku": Call(
                interop.from_haiku,
                {"make_core": lambda: hk.VanillaRNN(H), "dtype": jnp.float64},
                then=run_cell,
            ),
            "from_equinox": Call(
                interop.from_equinox,
                {"module": lambda n, key: eqx.nn.GRUCell(n, H, dtype=DTYPE, key=key)},
                then=run_cell,
            ),
            "import_weights": Call(
                interop.import_weights,
                {
                    "framework": "linen",
                    "kind": "elman",
                    "weights": interop.export_weights("linen", "elman", PARAMS),
                },
            ),
            "export_weights": Call(
                interop.export_weights,
                {"framework": "linen", "kind": "elman", "params": PARAMS},
                kinds={"params": "of any size"},
            ),
        },
        "linalg": {
            "exponential": Call(
                linalg.exponential,
                {"A": J[0], "squarings": 12},
                cheap=False,
                never={"A": [J[0, 0], draw(1, 2, 3)]},
            ),
            "spectral_radius": Call(
                linalg.spectral_radius,
                {"W": J[0], "squarings": 30},
                never={"W": [J[0, 0], draw(1, 2, 3)]},
                cheap=False,
            ),
            "spectral_norm": Call(
                linalg.spectral_norm, {"W": J[0]}, never={"W": [J[0, 0]]}, cheap=False
            ),
            "log_spectral_norm": Call(
                linalg.log_spectral_norm, {"A": J[0]}, never={"A": [J[0, 0]]}, cheap=False
            ),
            "matvec": Call(linalg.matvec, {"W": J[0], "x": XS[0]}, kinds=COMPLEX),
            "times": Call(linalg.times, {"transposed": J[0], "x": XS}, kinds=COMPLEX),
            "row_major_transpose": Call(linalg.row_major_transpose, {"W": J[0]}, kinds=COMPLEX),
            "split_exponent": Call(linalg.split_exponent, {"x": J, "axes": (-2, -1)}),
            "log_norm": Call(linalg.log_norm, {"x": J, "axes": (-2, -1)}),
            "log_power_of_two": Call(
                linalg.log_power_of_two, {"e": jnp.array([3]), "dtype": jnp.float64}
            ),
        },
        "losses": {
            "squared_error": Call(losses.squared_error, {"y": YS[0], "target": YS[1]}),
            "bernoulli_cross_entropy": Call(
                losses.bernoulli_cross_entropy,
                {"logits": YS[0], "target": PROBABILITIES},
                never={"target": [5 + PROBABILITIES, -PROBABILITIES]},
            ),
            "softmax_cross_entropy": Call(
                losses.softmax_cross_entropy,
                {"logits": YS[0], "target": PROBABILITIES},
                never={"target": [jnp.array([-1]), jnp.array([H])]},
                kinds={"target": "floats, no integers"},
            ),
            "per_step": Call(
                losses.per_step,
                {"loss": LOSS, "ys": YS, "targets": draw(6, T, B, H), "mask": YS[..., 0] > 0},
                never={"loss": [NO_LOSS]},
            ),
            "last_step": Call(
                losses.last_step,
                {"loss": LOSS, "ys": YS, "target": YS[0], "lengths": jnp.array([2])},
                never={
                    "loss": [NO_LOSS],
                    "lengths": [jnp.array([n]) for n in (0, -1, T + 1)],
                },
            ),
            "at_last_step": Call(
                losses.at_last_step,
                {"ys": YS, "lengths": jnp.array([2])},
                never={"lengths": [jnp.array([n]) for n in (0, -1, T + 1)]},
            ),
        },
        "tasks": {
            "load_text": Call(tasks.load_text, {"path": None, "held_out_fraction": 0.1}),
            "next_character": Call(
                tasks.next_character,
                {"text": text(), "T": T, "batch_size": B},
                then=lambda task: task.batch(KEY, 0),
            ),
            "consecutive_characters": Call(
                tasks.consecutive_characters,
                {"text": text(), "T": T, "batch_size": B},
                then=lambda task: task.batch(KEY, 0),
            ),
            "one_hot": Call(
                tasks.one_hot,
                {"text": text(), "symbols": jnp.array([0, 1]), "dtype": jnp.float32},
                never={"symbols": [jnp.array([-1]), jnp.array([10_000])]},
            ),
            "streams": Call(tasks.streams, {"symbols": np.arange(9), "count": 2}),
            "unigram_entropy": Call(
                tasks.unigram_entropy,
                {"symbols": np.arange(9)},
                never={"symbols": [np.arange(-3, 3), np.zeros(0, int)]},
            ),
            "year_sentences": Call(
                tasks.year_sentences, {"years": range(1990, 2000), "max_length": 20}, cheap=False
            ),
        },
        "theory": theory_calls(),
        "topologies": {
            "bidirectional": Call(
                lambda cell, params, xs: topologies.bidirectional(
                    (CELL, cell), (PARAMS, params), xs, strategy="scan"
                ),
                ON,
                cheap=False,
            ),
            "encode_decode": Call(
                topologies.encode_decode,
                {
                    "encoder": CELL,
                    "params": PARAMS,
                    "xs": XS,
                    "decode": lambda state: state,
                    "strategy": "scan",
                },
                cheap=False,
            ),
            "feed_output": Call(
                topologies.feed_output, {"key": KEY, "y": XS[0]}, kinds={"key": "skip", "y": "skip"}
            ),
            "generate": Call(
                topologies.generate,
                {
                    "cell": CELL,
                    "params": PARAMS,
                    "prompt": ON_BATCH["xs"],
                    "steps": 2,
                    "key": KEY,
                    "feed": topologies.feed_output,
                    "lengths": jnp.array([2]),
                },
                cheap=False,
            ),
            "sample_one_hot": Call(
                topologies.sample_one_hot,
                {"temperature": 1.0},
                then=lambda feed: feed(KEY, XS[0]),
            ),
            "teacher_forcing": Call(
                topologies.teacher_forcing,
                {**ON, "ratio": 0.5, "key": KEY, "feed": topologies.feed_output},
                cheap=False,
            ),
            "unroll_feedback": Call(
                topologies.unroll_feedback,
                {"cell": CELL, "params": PARAMS, "x": XS[0], "steps": 2, "key": KEY},
                cheap=False,
            ),
        },
        "training": {
            "Telemetry": Call(training.Telemetry, {"cell": CELL, "every": 1, "iterations": 2}),
            "batch_mesh": Call(training.batch_mesh, {"devices": jax.local_devices()[:1]}),
            "create_train_state": Call(
                training.create_train_state, {"params": some, "optimizer": sgd}
            ),
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
            "over_ensemble": Call(
                training.over_ensemble,
                {"function": jnp.sin, "members": 2},
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
                },
                kinds={"state": "skip", "label": "skip"},
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
            "read_record": Call(
                training.read_record, {"folder": record()}, kinds={"folder": "path"}
            ),
            "to_tensorboard": Call(
                training.to_tensorboard,
                {"folder": FRESH, "every": 1},
                then=lambda recorder: recorder(0, {"loss": np.ones(2)}),
                kinds={"folder": "path"},
            ),
        },
    }


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


def gradient_calls():
    g = gradients
    W = {"W": J[0]}
    structure = CELL.structure
    at_a_step = {"structure": structure, "params": PARAMS, "state": STATE, "x": XS[0]}
    lstm = {"params": LSTM_PARAMS, "input_bound": 1.0}
    gru = {"params": cells.gru(H, dtype=DTYPE).init(KEY, I), "input_bound": 1.0}
    mlstm = gradients.comparison_matrices(LSTM, LSTM_PARAMS, XS)
    on_jacobians = {"jacobians": J, "norm": "spectral", "rtol": 1e-3}
    slow = functools.partial(Call, cheap=False)
    return {
        "add_penalty": Call(
            g.add_penalty,
            {"penalty": lambda p: jnp.square(p["w"]).sum(), "weight": 0.1},
            then=lambda o: o.update(
                {"w": jnp.ones(2)}, o.init({"w": jnp.ones(2)}), {"w": jnp.ones(2)}
            ),
        ),
        "block_norms": slow(g.block_norms, {"jacobians": J, "sizes": (1, 1)}),
        "by_lag": Call(
            g.by_lag,
            {"log_norms": TABLE, "average": "median"},
            never={"log_norms": [PROFILE, TABLE[:2]]},
        ),
        "certified_log_norms": slow(g.certified_log_norms, on_jacobians),
        "check_bound": Call(
            g.check_bound,
            {"log_norms": TABLE, "log_bound": TABLE + 1, "state_size": H},
            never={"log_bound": [PROFILE], "log_norms": [PROFILE]},
        ),
        "check_bounds": slow(g.check_bounds, ON),
        "comparison_blocks": Call(g.comparison_blocks, {"matrices": mlstm}),
        "comparison_bound": slow(g.comparison_bound, {"matrices": mlstm}),
        "comparison_matrices": slow(
            g.comparison_matrices,
            {"cell": LSTM, "params": LSTM_PARAMS, "xs": XS, "exact": False},
        ),
        "comparison_matrix": Call(g.comparison_matrix, {"J": g.step_jacobian(**at_a_step)}),
        "covariant_vectors": slow(
            g.covariant_vectors, {**ON, "num_exponents": 2, "warmup": 1, "cooldown": 1}
        ),
        "decay_rate": Call(
            g.decay_rate,
            {"log_norms": TABLE},
            never={"log_norms": [PROFILE, TABLE[:2]]},
            kinds={"log_norms": "two lags"},
        ),
        "decompose": slow(g.decompose, ON_LOSS, never=NEVER_LOSS),
        "decompose_terms": slow(g.decompose_terms, ON_LOSS, never=NEVER_LOSS),
        "decompose_windows": slow(g.decompose_windows, ON_LOSS | {"max_lag": 2}, never=NEVER_LOSS),
        "effective_horizon": Call(
            g.effective_horizon, {"log_left": -jnp.arange(4.0), "factor": 2.0}
        ),
        "flossing": slow(
            g.flossing, {**ON, "num_exponents": 1, "target": 0.0, "interval": 1, "warmup": 0}
        ),
        "gated_bound": slow(g.gated_bound, {"matrix": jnp.abs(J[0]), "T": T}),
        "gru_matrix": slow(g.gru_matrix, gru, kinds={"input_bound": "numbers"}),
        "lstm_matrix": slow(g.lstm_matrix, lstm | {"steps": 3.0}, kinds={"input_bound": "numbers"}),
        "jacobian_log_norms": slow(g.jacobian_log_norms, {**ON, "norm": "spectral", "rtol": 1e-3}),
        "jacobian_log_norms_by_lag": slow(
            g.jacobian_log_norms_by_lag, {**ON, "lags": (1, 2), "norm": "frobenius"}
        ),
        "largest_singular_value": slow(
            g.largest_singular_value, W | {"iterations": 3, "start": XS[0]}
        ),
        "lyapunov_spectrum": slow(
            g.lyapunov_spectrum,
            {**ON, "num_exponents": 1, "warmup": 1, "key": KEY, "interval": 1, "blocks": 1},
        ),
        "norm_bound": Call(g.norm_bound, {"cell": CELL, "params": PARAMS}, cheap=False),
        "omega": slow(
            g.omega,
            {**ON, "objective": lambda ys: jnp.square(ys).sum(), "derivative": "immediate"},
            never={"objective": [jnp.square]},
        ),
        "orthogonality_penalty": Call(g.orthogonality_penalty, W, never={"W": [J[0, 0]]}),
        "power_bound": Call(
            g.power_bound,
            {"lambda_W": 0.9, "lambda_phi": 1.0, "T": T},
            kinds={"lambda_W": "numbers"},
        ),
        "product_bound": slow(g.product_bound, {"jacobians": J}),
        "product_log_norms": slow(g.product_log_norms, on_jacobians),
        "recurrent_matrices": Call(g.recurrent_matrices, {"cell": CELL, "params": PARAMS}),
        "singular_spectra": slow(g.singular_spectra, {**ON, "lags": (1, 2), "times": (3,)}),
        "spectral_norm_penalty": slow(
            g.spectral_norm_penalty, W | {"target": 1.0, "one_sided": True, "iterations": 3}
        ),
        "state_blocks": Call(g.state_blocks, {"cell": LSTM, "params": LSTM_PARAMS}),
        "step_jacobian": slow(g.step_jacobian, at_a_step),
        "step_jacobians": slow(g.step_jacobians, ON),
        "truncated_gradient": slow(
            g.truncated_gradient,
            ON_LOSS | {"k1": 1, "k2": 2, "strategy": "scan"},
            never=NEVER_LOSS,
        ),
        "truncation_error": slow(
            g.truncation_error,
            ON_LOSS | {"k1": 1, "k2s": (1, 2), "strategy": "scan"},
            never=NEVER_LOSS,
        ),
        "unroll_nudged": slow(
            g.unroll_nudged,
            {**ON, "nudges": g.zero_nudges(CELL, PARAMS, XS), "strategy": "scan"},
        ),
        "zero_nudges": Call(g.zero_nudges, ON, kinds={"params": "shape", "xs": "shape"}),
    }


def theory_calls():
    numbers = lambda *names: dict.fromkeys(names, "numbers")
    stds = numbers("weight_std", "bias_std", "input_std", "q", "c", "mean", "factor")
    stds |= numbers("bias", "variance", "s", "p", "v", "std", "kappa", "input_correlation")
    stds |= numbers("update_bias", "reset_bias")
    of = {"weight_std": 0.9, "bias_std": 0.1, "input_std": 0.2}
    call = functools.partial(Call, kinds=stds)
    slow = functools.partial(call, cheap=False)
    t = theory
    return {
        "correlation": slow(t.correlation, of | {"activation": "tanh", "input_correlation": 0.5}),
        "critical_gain": slow(
            t.critical_gain, {"bias_std": 0.1, "input_std": 0.2, "activation": "tanh"}
        ),
        "critical_line": call(t.critical_line, {"q": 0.5, "activation": "tanh"}),
        "forget_rate": call(t.forget_rate, {"bias": 1.0, "variance": 0.5}),
        "fraction_of_exponents_below": call(
            t.fraction_of_exponents_below,
            {"s": -1.0, "weight_std": 0.9},
            never={"weight_std": [1.5, -0.5]},
        ),
        "gaussian_mean": call(t.gaussian_mean, {"f": jnp.tanh, "q": 0.5, "mean": 0.1}),
        "gaussian_pair_mean": slow(
            t.gaussian_pair_mean, {"f": jnp.tanh, "q": 0.5, "c": 0.1}, never={"c": [0.6, -0.6]}
        ),
        "gaussian_product_exponents": call(
            t.gaussian_product_exponents, {"size": 3, "std": 1.5}, never={"std": [-1.0]}
        ),
        "gru_mean_field": slow(
            t.gru_mean_field,
            {"weight_std": 0.9, "input_std": 0.2, "update_bias": 0.5, "reset_bias": 0.5},
        ),
        "linear_sensitivity_power": call(
            t.linear_sensitivity_power, {"factor": 0.5}, never={"factor": [2.0, -1.0]}
        ),
        "linear_state_power": call(
            t.linear_state_power, {"factor": 0.5}, never={"factor": [2.0, -1.0]}
        ),
        "mean_field": slow(t.mean_field, of | {"activation": "tanh"}, never={"weight_std": [-1.5]}),
        "normalized_sensitivity_power": call(
            t.normalized_sensitivity_power, {"factor": 0.5}, never={"factor": [2.0, -1.0]}
        ),
        "tied_growth": call(t.tied_growth, {"p": 0.1, "q": 0.2, "v": 0.5, "kappa": 0.1}),
    }


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
