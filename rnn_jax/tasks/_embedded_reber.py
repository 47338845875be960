"""The embedded Reber grammar: B, T or P, a Reber string, the same T or P again, E."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.losses import bernoulli_cross_entropy
from rnn_jax.tasks.answers import is_the_set
from rnn_jax.tasks.examples import batch_of, check_common, of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import set_answer
from rnn_jax.types import Array, Key

SYMBOLS = "BTPSXVE"
REBER = ("B1", "T2 P3", "S2 X4", "T3 V5", "X3 S6", "P4 V6", "E7")
"""Symbols that each node of the Reber grammar emits, and the nodes that they lead to."""
SHORTEST = 8
"""Inputs of BTBPVVETE, the shortest string."""


@of_any_length
def embedded_reber(*, T: int = 40, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return the embedded Reber grammar: which symbols may come next.

    Inputs, one-hot: a string without its last symbol E, and zeros behind it. Strings are drawn by
    choosing each way of the grammar with probability ½, given that they have at most T + 1 symbols.
    Targets: for each of the 7 symbols whether the grammar lets it come next. Every symbol counts,
    and an answer is correct if every output has the right sign. The second to last symbol is the
    second one again, and only memory of it tells which.

    Chance: p(o may come next | t, x_t), from the distribution of the grammar's state at t; its loss
    is a sum of entropies.

    Args:
      T: number of steps, at least 8.
      batch_size: number of sequences, B.
      dtype: dtype of inputs and targets.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Hochreiter and Schmidhuber 1997, experiment 1; Fahlman 1991.

    Departure: fresh strings in each batch, not 256; strings of more than T + 1 symbols are left out
    (with T = 40, four in a hundred thousand); cross-entropy of independent outputs, not squared
    error.
    """
    remedy = f"The shortest string has {SHORTEST + 1} symbols."
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=SHORTEST, remedy=remedy)
    symbol, after = automaton()
    p_first = first_way(symbol, after, T + 1)
    may_come = _may_come(symbol)
    end = len(symbol) - 1

    def draw(key: Key):
        def step(state, drawn):
            p, u = drawn
            way = (u >= p[state]).astype(jnp.int32)
            shown, state = jnp.asarray(symbol)[state, way], jnp.asarray(after)[state, way]
            shown = jnp.where(state == end, -1, shown)  # the last E is no input
            return state, (shown, jnp.asarray(may_come, dtype)[state])

        u = jax.random.uniform(key, (T,), jnp.float32)
        drawn = (jnp.asarray(p_first[:T], jnp.float32), u)
        _, (shown, targets) = jax.lax.scan(step, jnp.zeros((), jnp.int32), drawn)
        return jax.nn.one_hot(shown, len(SYMBOLS), dtype=dtype), targets

    chance, chance_loss = set_answer(*_sets_by_step(symbol, after, p_first[:T]))
    return Task(
        input_size=len(SYMBOLS),
        output_size=len(SYMBOLS),
        loss=bernoulli_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=_of_the_string,
        correct=is_the_set,
        chance=chance,
        chance_loss=chance_loss,
        name="embedded_reber",
        inputs=tuple(SYMBOLS),
        outputs=tuple(SYMBOLS),
    )


def _of_the_string(xs: Array, targets: Array) -> Array:
    del targets
    return (xs > 0).any(-1)


def automaton() -> tuple[np.ndarray, np.ndarray]:
    """Return the symbol of each of two ways out of each state and where it leads: `[S, 2]`, int32.

    State 0 is the start, S − 1 the end, which stays; a state with one way out has it twice.
    """
    ways = ["B1", f"T2 P{2 + len(REBER) + 2}"]
    for outer in "TP":
        first = len(ways)
        ways += [" ".join(f"{w[0]}{first + int(w[1:])}" for w in row.split()) for row in REBER]
        ways += [f"{outer}{len(ways) + 1}", "E-1"]
    ways = [way.replace("E-1", f"E{len(ways)}") for way in ways]
    ways.append(f"E{len(ways)}")
    pairs = [(row.split() * 2)[:2] for row in ways]
    symbol = np.array([[SYMBOLS.index(w[0]) for w in pair] for pair in pairs], np.int32)
    return symbol, np.array([[int(w[1:]) for w in pair] for pair in pairs], np.int32)


def first_way(symbol: np.ndarray, after: np.ndarray, longest: int) -> np.ndarray:
    """Return the probability of the first way out of each state at each step: `[longest, S]`.

    It is f_r(s') / (f_r(s') + f_r(s'')), f_r(s) the probability that a walk from s ends within r
    steps, r = longest − t − 1, and ½ where no walk does.
    """
    S = len(symbol)
    ends, p = np.eye(S)[-1], np.full((longest, S), 0.5)
    for t in reversed(range(longest)):
        both = ends[after]
        total = both.sum(-1)
        p[t] = np.where(total > 0, both[:, 0] / np.where(total > 0, total, 1), 0.5)
        ends = total / 2
    return p


def _may_come(symbol: np.ndarray) -> np.ndarray:
    """Return the symbols that may come next in each state: `[S, 7]`, ones and zeros."""
    return np.eye(len(SYMBOLS))[symbol].max(1)


def _sets_by_step(
    symbol: np.ndarray, after: np.ndarray, p_first: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return P(x_t = x), `[T, 7]`, and P(x_t = x, o may come next), `[T, 7, 7]`."""
    (T, S), size, may_come = p_first.shape, len(SYMBOLS), _may_come(symbol)
    seen, joint, state = np.zeros((T, size)), np.zeros((T, size, size)), np.eye(S)[0]
    for t in range(T):
        here = state[:, None] * np.stack([p_first[t], 1 - p_first[t]], -1)
        counts = here * (after < S - 1)
        np.add.at(seen[t], symbol, counts)
        np.add.at(joint[t], symbol, counts[..., None] * may_come[after])
        state = np.bincount(after.ravel(), here.ravel(), S)
    return seen, joint
