"""Calls of `unroll`, topologies, graphs and interop."""

import equinox as eqx
import haiku as hk
import jax.numpy as jnp
from flax import linen as nn
from flax import nnx

import rnn_jax
from rnn_jax import graph, interop, topologies
from tests.public_calls.call import (
    CELL,
    DTYPE,
    KEY,
    ON,
    ON_BATCH,
    PARAMS,
    STATE,
    XS,
    B,
    Call,
    H,
    T,
    run_cell,
)


def unroll_calls():
    return {
        "length_mask": Call(rnn_jax.length_mask, {"lengths": jnp.array([1, 3]), "T": T}, kinds={}),
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
    }


def topology_calls():
    return {
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
    }


def graph_calls():
    return {
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
    }


def interop_calls():
    return {
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
    }
