"""Autoregressive networks: outputs become inputs, from the start, after a prompt, or at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cell import Cell
from rnn_jax.errors import check_key, check_number, check_size, describe, invalid, is_traced
from rnn_jax.lengths import is_array, select
from rnn_jax.losses import at_last_step
from rnn_jax.topologies.feeds import Feed, feed_output, sample_one_hot
from rnn_jax.transforms.broadcasts import with_wide_sums
from rnn_jax.transforms.compiled import compiled
from rnn_jax.transforms.precision import as_read, for_sums
from rnn_jax.types import Array, Key, Params, State
from rnn_jax.unrolling.arguments import checked
from rnn_jax.unrolling.unroll import unroll


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
    r"""Run autoregressively from one input: one-to-many.

    .. math:: x_1 = x, \qquad x_{t+1} = \mathrm{feed}(y_t)

    Args:
      cell, params, initial_state: as for `unroll`.
      x: first input, `[*batch, I]`.
      steps: number of steps, T.
      key: PRNG key, for a feed that draws.
      feed: maps an output to the next input; by default it is the output itself, of size O = I.

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
    final, _, ys = _run_on_outputs(cell, params, state, x, steps, key, feed)
    return final, ys


class Generated(NamedTuple):
    """A generated sequence.

    Attributes:
      state: state after the last step.
      xs: inputs that were fed, `[steps, *batch, I]`: the continuation of the prompt.
      ys: outputs, `[steps, *batch, O]`.
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
    """Run over a prompt, then autoregressively, feeding outputs back as inputs.

    Args:
      cell, params, initial_state: as for `unroll`.
      prompt: inputs of the prompt, `[P, *batch, I]`.
      steps: number of steps of the continuation.
      key: PRNG key.
      feed: `sample_one_hot(temperature)` for symbols, `feed_output` for values.
      lengths: lengths of the prompts, `[*batch]`, each at least 1.

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
    final, xs, ys = _run_on_outputs(cell, params, state, x, steps, key, feed)
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
    r"""Run on the true inputs with probability `ratio`, else on the network's own outputs.

    .. math::
        \tilde x_t = x_t \text{ if } t = 1 \text{ or with probability } r,
        \text{ else } \mathrm{feed}(y_{t-1})

    Each step of each example is drawn independently. A ratio of 1 is `unroll`, of 0
    `unroll_feedback`; one that falls in the course of training is scheduled sampling (Bengio et
    al. 2015, arXiv 1506.03099), `ratio=optax.linear_schedule(1.0, 0.0, steps)(step)`.

    Args:
      cell, params, initial_state: as for `unroll`.
      xs: true inputs, `[T, *batch, I]`: the targets, one step late.
      ratio: probability of a true input, r, in [0, 1].
      key: PRNG key, for the draws and the feed.
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
    given_key, key = jax.random.split(key)
    given = jax.random.uniform(given_key, xs.shape[:-1]) < ratio
    given = given.at[0].set(True)
    final, _, ys = _run_on_outputs(cell, params, state, xs[0], len(xs), key, feed, xs, given)
    return final, ys


def _run_on_outputs(
    cell: Cell,
    params: Params,
    state: State,
    x: Array,
    steps: Any,
    key: Key | None,
    feed: Any,
    xs: Any = None,
    given: Any = None,
):
    """Return (final state, inputs, ys); `xs` replace the outputs where `given`."""
    # A feed that does not draw is given a key all the same, so that all feeds have one signature.
    keys = jax.random.split(jax.random.key(0) if key is None else key, steps)
    return _run(cell, params, state, x, keys, feed, xs, given)


@compiled("cell", "feed")
def _run(
    cell: Cell, params: Params, state: State, x: Array, keys: Any, feed: Any, xs: Any, given: Any
):
    # In half precision the gradients of all steps are summed in float32: the loop closes over wide
    # parameters, and each step rounds them as it reads them.
    wide, rounded = for_sums(params, like=as_read(params, x.dtype))
    cell_step = with_wide_sums(cell.step)

    def step(carry: Any, at: Any):
        state, x = carry
        key, true_x, is_given = at
        if true_x is not None:
            x = select(is_given, true_x, x)
        state, y = cell_step(rounded(wide), state, x)
        return (state, _fed(feed, key, y, x)), (x, y)

    (state, _), (inputs, ys) = jax.lax.scan(step, (state, x), (keys, xs, given))
    return state, inputs, ys


def _check_one_array(argument: str, xs: Any) -> None:
    """Raise ValueError for several arrays: an output becomes one input."""
    if not is_array(xs):
        remedy = "Put the arrays of xs side by side."
        raise invalid(argument, xs, "one array [T, *batch, I]", remedy)


def _fed(feed: Any, key: Key, y: Any, x: Array):
    fed = feed(key, y)
    if (fed.shape, fed.dtype) != (x.shape, x.dtype):
        raise invalid(
            "feed",
            f"{describe(fed)} from y {describe(y)}",
            f"the next x, {describe(x)}",
            "Give the cell a readout of the size of its input, or pass a feed that makes one.",
        )
    return fed
