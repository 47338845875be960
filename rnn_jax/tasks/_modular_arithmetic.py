"""Modular arithmetic: the value of 2 − 1 + 3 · 4, modulo 5."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import check_integer, invalid
from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, numbered, of_any_length
from rnn_jax.tasks.task import Task, last_step_only
from rnn_jax.tasks.without_memory import class_answer
from rnn_jax.types import Key

OPERATORS = ("+", "−", "·")


@of_any_length
def modular_arithmetic(
    *, T: int = 21, modulus: int = 5, batch_size: int = 32, dtype: DTypeLike = jnp.float32
) -> Task:
    """Return the value of a formula n_0 ∘ n_1 ∘ ... modulo m, without brackets, ∘ one of + − ·.

    Inputs, one-hot: numbers from 0 to m − 1 and operators in turn, T symbols, all uniform. Products
    come before sums and differences. The last step counts.

    A finite automaton of m² states (s, p) has the value at its end: s is the sum of the terms that
    are complete, p the term that is not, with its sign. + n: (s + p, n); − n: (s + p, −n);
    · n: (s, p n); the value is s + p.

    Chance: p(value | last number), from the distribution of (s, p) after T symbols; its loss is the
    conditional entropy, a finite sum.

    Args:
      T: number of symbols, odd, at least 3.
      modulus: m, at least 2.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Delétang et al. 2023, modular arithmetic (simple).

    Departure: all formulas have T symbols; the paper draws lengths up to 40.
    """
    remedy = "A formula of n numbers has 2 n − 1 symbols."
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=3, remedy=remedy)
    if T % 2 == 0:
        raise invalid("T", T, "an odd number", remedy)
    m = check_integer("modulus", modulus, 2, remedy="Pass 5, as the paper does.")

    def draw(key: Key):
        of_numbers, of_operators = jax.random.split(key)
        numbers = integers(of_numbers, ((T + 1) // 2,), 0, m)
        operators = integers(of_operators, (T // 2,), 0, 3)

        def step(state, read):
            (s, p), (operator, n) = state, read
            total = (s + p) % m
            s, p = jnp.where(operator == 2, s, total), jnp.where(operator == 2, p * n, n)
            p = jnp.where(operator == 1, -n, p) % m
            return (s, p), None

        start = (jnp.zeros((), jnp.int32), numbers[0])
        (s, p), _ = jax.lax.scan(step, start, (operators, numbers[1:]))
        symbols = jnp.zeros(T, jnp.int32).at[::2].set(numbers).at[1::2].set(m + operators)
        return jax.nn.one_hot(symbols, m + 3, dtype=dtype), jnp.full(T, (s + p) % m)

    chance, chance_loss = class_answer(_last_number_and_value(T, m))
    return Task(
        input_size=m + 3,
        output_size=m,
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=last_step_only,
        chance=chance,
        chance_loss=chance_loss,
        name="modular_arithmetic",
        inputs=(*numbered(m), *OPERATORS),
        outputs=numbered(m),
    )


def _last_number_and_value(T: int, m: int) -> np.ndarray:
    """Return P(last number, value) at the last step, and zeros before: `[T, m + 3, m]`."""
    moves = np.zeros((m, m * m, m * m))  # number, state before, state after; state = m s + p
    for n, s, p in itertools.product(range(m), repeat=3):
        total = m * ((s + p) % m)
        for after in (total + n, total + -n % m, m * s + p * n % m):
            moves[n, m * s + p, after] += 1 / (3 * m)
    before = np.where(np.arange(m * m) < m, 1 / m, 0)
    for _ in range(T // 2 - 1):
        before = before @ moves.sum(0)
    states = np.arange(m * m)
    value = (states // m + states % m) % m == np.arange(m)[:, None]
    joint = np.zeros((T, m + 3, m))
    joint[-1, :m] = np.einsum("i,nij,vj->nv", before, moves, value)
    return joint
