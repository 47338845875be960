"""Dyck languages: balanced brackets of several types, nested to a limited depth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import check_size, invalid
from rnn_jax.losses import bernoulli_cross_entropy
from rnn_jax.tasks.answers import is_the_set
from rnn_jax.tasks.examples import batch_of, check_common, integers, of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import set_answer
from rnn_jax.types import Key

PAIRS = ("()", "[]", "{}", "<>")


@of_any_length
def dyck(
    *,
    T: int = 40,
    num_types: int = 2,
    max_depth: int = 5,
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return Dyck-(k, m): which brackets may come next, of k types nested at most m deep.

    Inputs, one-hot: a string of T brackets, uniform over the balanced ones whose depth d_t is at
    most m. Targets: for each of 2 k brackets whether it may come next: every opening one if
    d_t < m, and the closing one of the innermost open bracket, if any. Every step counts; an answer
    is correct if every output has the right sign. What may come next is a matter of the language:
    that a string ends after T brackets is not held against it.

    Chance: p(o may come next | t, x_t), from the distribution of d_t; its loss is a sum of
    entropies.

    Args:
      T: number of brackets, even.
      num_types: number of types, k.
      max_depth: greatest depth, m.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Hewitt et al. 2020 for Dyck-(k, m); Suzgun et al. 2019 for the targets.

    Departure: strings of one length, uniform among themselves; the papers draw them from a grammar
    with probabilities. Hewitt et al. predict the next symbol, of which the end is one.
    """
    remedy = "A bracket is opened and closed: pass an even number."
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=2, remedy=remedy)
    if T % 2:
        raise invalid("T", T, "an even number", remedy)
    k, m = check_size("num_types", num_types), check_size("max_depth", max_depth)
    opens = p_open(T, m)
    p_open_now = jnp.asarray(opens, jnp.float32)

    def draw(key: Key):
        of_moves, of_types = jax.random.split(key)

        def step(state, drawn):
            depth, stack = state
            t, u, new = drawn
            is_open = u < p_open_now[t, depth]
            bracket = jnp.where(is_open, new, k + stack[depth - 1])
            stack = jnp.where(is_open, stack.at[depth].set(new), stack)
            depth = depth + jnp.where(is_open, 1, -1).astype(jnp.int32)
            closing = jax.nn.one_hot(stack[depth - 1], k, dtype=dtype) * (depth > 0).astype(dtype)
            opening = jnp.full(k, (depth < m).astype(dtype))
            return (depth, stack), (bracket, jnp.concatenate([opening, closing]))

        u = jax.random.uniform(of_moves, (T,), jnp.float32)
        drawn = (jnp.arange(T), u, integers(of_types, (T,), 0, k))
        start = (jnp.zeros((), jnp.int32), jnp.zeros(m, jnp.int32))
        _, (brackets, targets) = jax.lax.scan(step, start, drawn)
        return jax.nn.one_hot(brackets, 2 * k, dtype=dtype), targets

    chance, chance_loss = set_answer(*_sets_by_step(opens, k))
    pairs = [PAIRS[i] if i < len(PAIRS) else (f"({i}", f"){i}") for i in range(k)]
    names = tuple(pair[side] for side in (0, 1) for pair in pairs)
    return Task(
        input_size=2 * k,
        output_size=2 * k,
        loss=bernoulli_cross_entropy,
        batch=batch_of(draw, batch_size),
        correct=is_the_set,
        chance=chance,
        chance_loss=chance_loss,
        name="dyck",
        inputs=names,
        outputs=names,
    )


def p_open(T: int, m: int) -> np.ndarray:
    """Return the probability that the bracket at step t is an opening one, by depth: `[T, m + 1]`.

    It is N_{r−1}(d + 1) / (N_{r−1}(d + 1) + N_{r−1}(d − 1)), N_r(d) the number of ways, up to a
    factor, from depth d to 0 in r steps, r = T − t.
    """
    ways, p = np.zeros(m + 2), np.zeros((T, m + 1))
    ways[0] = 1
    for t in reversed(range(T)):
        up = np.append(ways[1 : m + 1], 0)
        down = np.append(0, ways[:m])
        p[t] = up / np.where(up + down > 0, up + down, 1)
        ways[: m + 1] = (up + down) / (up + down).max()
    return p


def _sets_by_step(opens: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return P(x_t = x), `[T, 2 k]`, and P(x_t = x, o may come next), `[T, 2 k, 2 k]`."""
    T, m = opens.shape[0], opens.shape[1] - 1
    seen, joint = np.zeros((T, 2 * k)), np.zeros((T, 2 * k, 2 * k))
    depth = np.eye(m + 1)[0]
    for t in range(T):
        up, down = depth * opens[t], depth * (1 - opens[t])
        seen[t, :k], seen[t, k:] = up.sum() / k, down.sum() / k
        joint[t, :k, :k] = up[: m - 1].sum() / k  # not yet at depth m
        joint[t, :k, k:] = np.eye(k) * up.sum() / k
        joint[t, k:, :k] = down.sum() / k
        joint[t, k:, k:] = down[2:].sum() / k**2  # the type beneath is independent
        depth = np.append(0, up[:m]) + np.append(down[1:], 0)
    return seen, joint
