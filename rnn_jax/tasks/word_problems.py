"""Word problems of permutation groups: the product of all elements so far."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import first_step_only
from rnn_jax.types import Key


@of_any_length
def s3(*, T: int = 20, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return the word problem of S₃, the 6 permutations of three things: y_t = x_0 x_1 ··· x_t.

    Inputs, one-hot: random permutations, in lexicographic order; (p q)(i) = p(q(i)). Targets: the
    running product, one of as many classes. Every step counts.

    S₃ is solvable. The word problem of S₅, `s5`, is complete for NC¹: linear recurrences with
    diagonal matrices, which are in TC⁰, do not solve it at every T unless TC⁰ = NC¹.

    Chance: x_0 at t = 0, and every element alike after it, since a product with a uniform element
    is uniform: (T − 1)/T · ln 6.

    Args:
      T: number of steps, at least 2.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no such integers; a dtype that is none of floats.

    Reference: Merrill, Petty and Sabharwal 2024, who use S₅ in proofs and A₅ in experiments.
    """
    return _word_problem(3, T, batch_size, dtype)


@of_any_length
def s5(*, T: int = 20, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return the word problem of S₅, the 120 permutations of five things; else as `s3`.

    Chance: (T − 1)/T · ln 120.

    Args:
      T: number of steps, at least 2.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: what `s3` raises.

    Reference: Merrill, Petty and Sabharwal 2024.
    """
    return _word_problem(5, T, batch_size, dtype)


def _word_problem(n: int, T: int, batch_size: int, dtype: DTypeLike) -> Task:
    T, batch_size, dtype = check_common(T, batch_size, dtype, least=2)
    elements = list(itertools.permutations(range(n)))
    products, order = multiplication_table(elements), len(elements)

    def draw(key: Key):
        factors = integers(key, (T,), 0, order)
        times = lambda p, q: (jnp.asarray(products)[p, q],) * 2
        _, rest = jax.lax.scan(times, factors[0], factors[1:])
        return jax.nn.one_hot(factors, order, dtype=dtype), jnp.append(factors[0], rest)

    names = tuple("".join(str(i + 1) for i in p) for p in elements)
    return Task(
        input_size=order,
        output_size=order,
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        chance=first_step_only,
        chance_loss=(T - 1) / T * math.log(order),
        name=f"s{n}",
        inputs=names,
        outputs=names,
    )


def multiplication_table(elements: list[tuple[int, ...]]) -> np.ndarray:
    """Return the index of the product p q, (p q)(i) = p(q(i)), at [p, q]; int32."""
    index = {p: i for i, p in enumerate(elements)}
    rows = [[index[tuple(p[i] for i in q)] for q in elements] for p in elements]
    return np.array(rows, np.int32)
