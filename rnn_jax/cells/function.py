"""A Cell from any function of one step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.cells._structured import with_own_buffers
from rnn_jax.cells.maker import named
from rnn_jax.errors import check_function, invalid
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.types import Array, Key, Params, State


@named
def from_function(
    step: Callable[[Params, State, Array], tuple[State, Array]],
    state: State | Callable[[Params], State],
    init: Callable[..., Params] | None = None,
) -> Cell:
    """Return a Cell from a plain function of one step of one example.

    ```
    def my_step(p, h, x):
        h = jnp.tanh(p["W"] @ h + p["U"] @ x)
        return h, h

    cell = from_function(my_step, state=jnp.zeros(64))
    ```

    Args:
      step: `(params, state, x [I]) -> (state, y [O])`, written for a single example; batch axes
        are mapped over. Params, state, x and y are any pytrees, and a state may be empty. Leaves of
        the state that are not floats, a counter say, are carried along.
      state: initial state of one example, or a function of params that returns it. A key of
        `jax.random.key` in it is split, so that each example of a batch has noise of its own, and a
        reset does not draw the same noise again: the key goes on. A raw key of
        `jax.random.PRNGKey` is an array of numbers like any other, and is repeated.
      init: `(key, input_size) -> params`; optional if you already have parameters.

    Raises:
      ValueError: `init` is called but was not given; a state whose leaves have fewer axes than
        those of the initial state.
    """
    check_function("step", step, "(params, state, x) -> (state, y)")
    if init is not None:
        check_function("init", init, "(key, input_size) -> params")

    def start(params: Params):
        return jax.tree.map(jnp.asarray, state(params) if callable(state) else state)

    def missing_init(key: Key, input_size: int):
        raise invalid(
            "init",
            "none",
            "a function (key, input_size) -> params",
            "Pass from_function(init=...).",
        )

    def initial_state(params: Params, batch: Any = ()):
        def of_examples(params: Params):
            return jax.tree.map(lambda leaf: _for_examples(leaf, batch), start(params))

        return with_own_buffers(with_wide_sums(of_examples)(params), (state, params))

    # How many batch axes there are is read off the state, and not off x: a pytree of inputs may
    # have leaves of any rank, but each leaf of the state has its rank in one example, and the batch
    # axes in front of it.
    def batched_step(params: Params, state: State, x: Array):
        one, many = jax.eval_shape(start, params), state
        axes = {b.ndim - a.ndim for a, b in zip(*map(jax.tree.leaves, (one, many)), strict=True)}
        if not jax.tree.leaves(one):  # no state: the last axis of x is the feature axis
            axes = {min(leaf.ndim for leaf in jax.tree.leaves(x)) - 1}
        if len(axes) != 1 or min(axes) < 0:
            raise invalid(
                "state",
                str(jax.tree.map(jnp.shape, many)),
                f"{jax.tree.map(jnp.shape, one)} behind the same batch axes in every leaf",
                "Start from cell.initial_state(params, batch).",
            )
        mapped = step
        for _ in range(axes.pop()):
            mapped = jax.vmap(mapped, in_axes=(None, 0, 0))
        return mapped(params, state, x)

    return Cell(init or missing_init, initial_state, batched_step)


def _for_examples(leaf: Array, batch: tuple[int, ...]) -> Array:
    """Return `leaf` of one example for each example of a batch."""
    if batch and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        keys = jax.vmap(lambda key: jax.random.split(key, batch))(leaf.reshape(-1))
        return jnp.moveaxis(keys, 0, -1).reshape(*batch, *leaf.shape)
    return jnp.broadcast_to(leaf, (*batch, *leaf.shape))
