"""The same recurrent layer in each library: `name -> make(cell, B, T, I, H) -> Layer`.

Each maker imports its library when called, so that a library that is not installed is a peer that
is skipped, by name. Every layer starts from the state zero and returns the outputs of all steps,
time-major; parameters are each library's own draw, which no timing depends on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp


class Layer(NamedTuple):
    """A layer of a JAX library: parameters, and `run(params, xs [T, B, I]) -> ys [T, B, H]`."""

    params: Any
    run: Callable[[Any, jax.Array], jax.Array]


KEY = 0


def ours(cell: str, B: int, T: int, I: int, H: int, strategy: Any = "auto") -> Layer:
    import rnn_jax

    made = rnn_jax.cells.CELLS[cell](H)
    params = made.init(jax.random.key(KEY), I)
    return Layer(params, lambda p, xs: rnn_jax.unroll(made, p, xs, strategy=strategy)[1])


def ours_by_scan(cell: str, B: int, T: int, I: int, H: int) -> Layer:
    return ours(cell, B, T, I, H, strategy="scan")


def ours_kept(cell: str, B: int, T: int, I: int, H: int) -> Layer:
    from rnn_jax import Fused

    return ours(cell, B, T, I, H, strategy=Fused(recompute=False))


def linen(cell: str, B: int, T: int, I: int, H: int) -> Layer:
    from flax import linen

    made: Any = {"lstm": linen.OptimizedLSTMCell, "gru": linen.GRUCell, "elman": linen.SimpleCell}[
        cell
    ]
    layer = linen.RNN(made(H), time_major=True)
    params = layer.init(jax.random.key(KEY), jnp.zeros((1, B, I)))
    return Layer(params, lambda p, xs: cast(jax.Array, layer.apply(p, xs)))


def nnx(cell: str, B: int, T: int, I: int, H: int) -> Layer:
    from flax import nnx

    made: Any = {"lstm": nnx.OptimizedLSTMCell, "gru": nnx.GRUCell, "elman": nnx.SimpleCell}[cell]
    layer = nnx.RNN(made(I, H, rngs=nnx.Rngs(KEY)), time_major=True)
    split: Any = nnx.split(layer, nnx.Param, ...)
    graph, params, rest = split
    return Layer(params, lambda p, xs: nnx.merge(graph, p, rest)(xs, rngs=nnx.Rngs(KEY)))


def haiku(cell: str, B: int, T: int, I: int, H: int) -> Layer:
    import haiku as hk

    def unrolled(xs):
        core = {"lstm": hk.LSTM, "gru": hk.GRU, "elman": hk.VanillaRNN}[cell](H)
        return hk.dynamic_unroll(core, xs, core.initial_state(xs.shape[1]))[0]

    layer: Any = hk.without_apply_rng(hk.transform(unrolled))
    return Layer(layer.init(jax.random.key(KEY), jnp.zeros((1, B, I))), layer.apply)


def equinox(cell: str, B: int, T: int, I: int, H: int) -> Layer:
    import equinox as eqx

    if cell == "elman":
        raise NotImplementedError("equinox has no Elman cell")
    made = {"lstm": eqx.nn.LSTMCell, "gru": eqx.nn.GRUCell}[cell]
    params, static = eqx.partition(made(I, H, key=jax.random.key(KEY)), eqx.is_array)

    def run(p, xs):
        step = jax.vmap(eqx.combine(p, static))

        def body(state, x):
            state = step(x, state)
            return state, state[0] if cell == "lstm" else state

        zeros = jnp.zeros((xs.shape[1], H))
        return jax.lax.scan(body, (zeros, zeros) if cell == "lstm" else zeros, xs)[1]

    return Layer(params, run)


JAX_LIBRARIES: dict[str, Callable[..., Layer]] = {
    "rnn_jax": ours,
    "rnn_jax, nothing recomputed": ours_kept,
    "rnn_jax, plain scan": ours_by_scan,
    "flax.linen": linen,
    "flax.nnx": nnx,
    "haiku": haiku,
    "equinox": equinox,
}


def torch_calls(
    cell: str, B: int, T: int, I: int, H: int, threads: int
) -> dict[str, Callable[[], Any]]:
    """Return `{"forward": call, "gradient": call}` of torch.nn."""
    import torch

    made = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "elman": torch.nn.RNN}[cell]
    layer, xs, weights = made(I, H), torch.randn(T, B, I), torch.randn(T, B, H)

    def forward():
        torch.set_num_threads(threads)
        with torch.no_grad():
            return layer(xs)[0]

    def gradient():
        torch.set_num_threads(threads)
        layer.zero_grad()
        (layer(xs)[0] * weights).sum().backward()

    return {"forward": forward, "gradient": gradient}
