r"""Networks over time beyond one pass through given inputs.

| topology      | how                                                                        |
| ------------- | -------------------------------------------------------------------------- |
| many-to-many  | `unroll`                                                                   |
| many-to-one   | `unroll` and `losses.last_step`                                            |
| one-to-many   | `unroll_feedback`; or `unroll` with the one input repeated at every step   |
| both ways     | `bidirectional`                                                            |
| deep          | `cells.stack`; a stack of bidirectional layers is one call after the other |
| encode-decode | `encode_decode`, with any of these as the decoder's way of running         |

A network that is fed its own outputs takes a `feed`, `(key, y [*batch, O]) -> x [*batch, I]`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell, check_cell
from rnn_jax.errors import check_key, check_number, check_size, describe, invalid, is_traced
from rnn_jax.lengths import is_array, select
from rnn_jax.losses import at_last_step
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.compiled import compiled
from rnn_jax.transforms.precision import as_read, for_sums
from rnn_jax.types import Array, Key, Params, State, at_least_float32
from rnn_jax.unrolling.strategies import Strategy
from rnn_jax.unrolling.unroll import checked, unroll

Feed = Callable[[Key, Array], Array]


def feed_output(key: Key, y: Array) -> Array:
    """The output itself is the next input."""
    del key
    return y


def sample_one_hot(temperature: float | Array = 1.0) -> Feed:
    """A feed that draws a symbol from softmax(y / temperature) and feeds its one-hot vector.

    0, as a Python number, takes the likeliest symbol. No gradient passes through a draw.

    Raises:
      ValueError: a temperature that is no number from 0.
    """
    remedy = "Pass 0 for the likeliest symbol."
    check_number("temperature", temperature, least=0, infinite=True, remedy=remedy)
    return _SampleOneHot(temperature)


@dataclass(frozen=True)
class _SampleOneHot:
    """Equal where the temperature is, so that a loop of calls compiles once."""

    temperature: float | Array

    def __call__(self, key: Key, y: Array) -> Array:
        if not is_traced(self.temperature) and float(self.temperature) == 0:
            symbol = y.argmax(-1)
        else:
            # In half precision draws would tie, and a small temperature overflow.
            below = at_least_float32(y) - at_least_float32(y.max(-1, keepdims=True))
            logits = below / jnp.asarray(self.temperature, below.dtype)
            symbol = jax.random.categorical(key, jnp.where(below == 0, 0, logits))
        return jax.nn.one_hot(symbol, y.shape[-1], dtype=y.dtype)


def bidirectional(
    cells: tuple[Cell, Cell],
    params: tuple[Params, Params],
    xs: Array,
    initial_states: tuple[State | None, State | None] = (None, None),
    *,
    lengths: Array | None = None,
    resets: Array | None = None,
    strategy: Strategy | str = "auto",
) -> tuple[tuple[State, State], Array]:
    """One cell from the first step to the last, another from the last to the first.

    Args:
      cells, params, initial_states: forward, backward.
      xs, lengths, resets, strategy: as for `unroll`. The backward cell starts at each example's
        own last step.

    Returns:
      Both final states, and `ys [T, *batch, O_forward + O_backward]`, which at each step has read
      all that was before it and all that comes after.

    Reference: Schuster and Paliwal, Bidirectional recurrent neural networks (1997).
    """
    for name, pair in (("cells", cells), ("params", params), ("initial_states", initial_states)):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            remedy = "Pass one for each direction."
            raise invalid(name, pair, "a pair, forward and backward", remedy)
    runs = [
        unroll(
            cell,
            p,
            xs,
            start,
            lengths=lengths,
            resets=resets,
            reverse=reverse,
            strategy=strategy,
        )
        for cell, p, start, reverse in zip(
            cells, params, initial_states, (False, True), strict=True
        )
    ]
    (forward, forward_ys), (backward, backward_ys) = runs
    return (forward, backward), jnp.concatenate([forward_ys, backward_ys], axis=-1)


def unroll_feedback(
    cell: Cell,
    params: Params,
    x: Array,
    steps: int,
    initial_state: State | None = None,
    *,
    key: Key | None = None,
    feed: Feed = feed_output,
) -> tuple[State, Array]:
    r"""One-to-many: the first input is given, every later one is fed back.

    .. math:: x_1 = x, \qquad x_{t+1} = \mathrm{feed}(y_t)

    Args:
      cell, params, initial_state: as for `unroll`.
      x: `[*batch, I]`.
      steps: T, how many.
      key: for a feed that draws; a feed that does not needs none.
      feed: what is made of an output; by default the output itself, of size O = I.

    Returns:
      The final state and `ys [T, *batch, O]`.

    Raises:
      ValueError: steps that are not a positive integer; a feed that returns another shape or dtype
        than that of x; what `unroll` raises.
    """
    check_size("steps", steps)
    if key is not None:
        check_key("key", key)
    _, state = checked(cell, params, x[None], initial_state)
    final, _, ys = _free_running(cell, params, state, x, steps, key, feed)
    return final, ys


class Generated(NamedTuple):
    """What `generate` returns.

    Attributes:
      state: after the last step.
      xs: `[steps, *batch, I]`, what was fed: after a prompt, its continuation.
      ys: `[steps, *batch, O]`, the outputs that followed.
    """

    state: State
    xs: Array
    ys: Array


def generate(
    cell: Cell,
    params: Params,
    prompt: Array,
    steps: int,
    key: Key,
    initial_state: State | None = None,
    *,
    feed: Feed = sample_one_hot(),
    lengths: Array | None = None,
) -> Generated:
    """Warm up on a prompt, then run on what the network itself says.

    Args:
      cell, params, initial_state: as for `unroll`.
      prompt: `[P, *batch, I]`.
      steps: of the continuation.
      key: of all draws.
      feed: `sample_one_hot(temperature)` for symbols, `feed_output` for values.
      lengths: `[*batch]`, each at least 1, of prompts that differ in length.

    Raises:
      ValueError: as `unroll_feedback`.
    """
    check_size("steps", steps)
    check_key("key", key)
    _check_one_array("prompt", prompt)
    state, ys = unroll(cell, params, prompt, initial_state, lengths=lengths)
    if lengths is not None:
        lengths = jnp.asarray(lengths)
        if not is_traced(lengths) and lengths.size and lengths.min() < 1:
            remedy = "Give every example one step of prompt at least."
            raise invalid("lengths", f"a value of {lengths.min()}", "values of at least 1", remedy)
    first_key, key = jax.random.split(key)
    x = _fed(feed, first_key, at_last_step(ys, lengths), prompt[0])
    final, xs, ys = _free_running(cell, params, state, x, steps, key, feed)
    return Generated(final, xs, ys)


def teacher_forcing(
    cell: Cell,
    params: Params,
    xs: Array,
    ratio: Array | float,
    key: Key,
    initial_state: State | None = None,
    *,
    feed: Feed = sample_one_hot(),
) -> tuple[State, Array]:
    r"""Run on the true inputs with probability `ratio`, else on what the network itself says.

    .. math::
        \tilde x_t = x_t \text{ if } t = 1 \text{ or with probability } r,
        \text{ else } \mathrm{feed}(y_{t-1})

    A coin is thrown at every step for every example. A ratio of 1 is `unroll`, of 0
    `unroll_feedback`; one that falls in the course of training is scheduled sampling (Bengio et
    al. 2015, arXiv 1506.03099), `ratio=optax.linear_schedule(1.0, 0.0, steps)(step)`.

    Args:
      cell, params, initial_state: as for `unroll`.
      xs: `[T, *batch, I]`, the true inputs: targets, one step late.
      ratio: r, in [0, 1].
      key: of coins and feeds.
      feed: as for `generate`.

    Returns:
      The final state and `ys [T, *batch, O]`.

    Raises:
      ValueError: a ratio outside [0, 1] (values are seen outside `jit` only); what
        `unroll_feedback` raises.
    """
    check_number("ratio", ratio, least=0, most=1, remedy="Pass 1 for true inputs alone.")
    check_key("key", key)
    _check_one_array("xs", xs)
    _, state = checked(cell, params, xs, initial_state)
    coins_key, key = jax.random.split(key)
    given = jax.random.uniform(coins_key, xs.shape[:-1]) < ratio
    given = given.at[0].set(True)
    final, _, ys = _free_running(cell, params, state, xs[0], len(xs), key, feed, xs, given)
    return final, ys


def encode_decode(
    encoder: Cell,
    params: Params,
    xs: Array,
    decode: Callable[[State], Any],
    *,
    bridge: Callable[[State], State] = lambda state: state,
    initial_state: State | None = None,
    lengths: Array | None = None,
    strategy: Strategy | str = "auto",
) -> Any:
    """Read a sequence into a state, and write another from there.

    ```
    def decode(state):
        return teacher_forcing(decoder, decoder_params, targets_in, 0.5, key, state)

    final, ys = encode_decode(encoder, encoder_params, xs, decode, lengths=lengths)
    ```

    Args:
      encoder, params, initial_state, xs, lengths, strategy: as for `unroll`.
      decode: how the decoder runs from its initial state: by `unroll`, `teacher_forcing`,
        `unroll_feedback` or `generate`.
      bridge: the encoder's final state to the decoder's initial state, where they differ.

    Returns:
      What `decode` returns.

    Reference: Sutskever, Vinyals and Le, Sequence to sequence learning (2014), arXiv 1409.3215.
    """
    check_cell("encoder", encoder)
    run = functools.partial(unroll, lengths=lengths, strategy=strategy)
    final, _ = run(encoder, params, xs, initial_state)
    return decode(bridge(final))


def _free_running(cell, params, state, x, steps, key, feed, xs=None, given=None):
    """(final state, inputs, ys); `xs` are taken where they are `given`."""
    keys = jax.random.split(jax.random.key(0) if key is None else key, steps)
    return _run(cell, params, state, x, keys, feed, xs, given)


@compiled("cell", "feed")
def _run(cell, params, state, x, keys, feed, xs, given):
    wide, rounded = for_sums(params, like=as_read(params, x.dtype))
    cell_step = with_wide_sums(cell.step)

    def step(carry, at):
        state, x = carry
        key, true_x, is_given = at
        if true_x is not None:
            x = select(is_given, true_x, x)
        state, y = cell_step(rounded(wide), state, x)
        return (state, _fed(feed, key, y, x)), (x, y)

    (state, _), (inputs, ys) = jax.lax.scan(step, (state, x), (keys, xs, given))
    return state, inputs, ys


def _check_one_array(argument: str, xs: Any) -> None:
    """Raise ValueError for several arrays: what is fed back is one."""
    if not is_array(xs):
        remedy = "Put the arrays of xs side by side."
        raise invalid(argument, xs, "one array [T, *batch, I]", remedy)


def _fed(feed, key, y, x):
    fed = feed(key, y)
    if (fed.shape, fed.dtype) != (x.shape, x.dtype):
        raise invalid(
            "feed",
            f"{describe(fed)} from y {describe(y)}",
            f"the next x, {describe(x)}",
            "Give the cell a readout of the size of its input, or pass a feed that makes one.",
        )
    return fed
