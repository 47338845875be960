"""A call of a public function, and the small arguments that calls are made of."""

import types
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax import cells, losses


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
PROBABILITIES = jax.nn.softmax(draw(7, B, H))


def run_cell(cell):
    """A cell at work: its parameters and two steps, eagerly."""
    params = cell.init(KEY, I)
    state = cell.initial_state(params)
    for x in (jnp.ones(I), -jnp.ones(I)):
        state, y = cell.step(params, state, x.astype(jax.tree.leaves(params)[0].dtype))
    return params, state, y
