"""Counting languages: aⁿbⁿ and aⁿbⁿcⁿ."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.losses import softmax_cross_entropy
from rnn_jax.tasks.examples import batch_of, check_common, integers, of_any_length, steps_of
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import class_answer
from rnn_jax.types import Array, Key


@of_any_length
def a_n_b_n(*, T: int = 10, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return the language aⁿbⁿ: say the next symbol where the string determines it.

    Inputs, one-hot: S aⁿ bⁿ, n uniform from 1 to T, and zeros behind it, 2 T + 1 steps. Targets:
    the next of the symbols a, b and E, the end. After S and after an a it is not determined; from
    the first b on it is, b until there are n and then E. These n steps count.

    Chance: p(next | t, x_t) of a uniform n: after a b at step t, n may be anything from t/2 to t −
    1 and at most T, and the string ends if t = 2 n. The loss is the conditional entropy, a finite
    sum.

    Args:
      T: greatest n.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: sizes that are no positive integers; a dtype that is none of floats.

    Reference: Gers and Schmidhuber 2001, who train with n from 1 to 10.

    Departure: they ask for the set of possible symbols at every step; the sets of more than one,
    after S and a, are always the same and do not count here.
    """
    return _counting("ab", T, batch_size, dtype, "a_n_b_n")


@of_any_length
def a_n_b_n_c_n(*, T: int = 10, batch_size: int = 32, dtype: DTypeLike = jnp.float32) -> Task:
    """Return the language aⁿbⁿcⁿ, which no context-free grammar has; else as `a_n_b_n`.

    The steps of the 2 n symbols b and c count, of 3 T + 1.

    Chance: as for `a_n_b_n`. A b at step t leaves n from t/2 to t − 1, and c is next if t = 2 n; a
    c leaves n from t/3 to (t − 1)/2, and the end is next if t = 3 n.

    Args:
      T: greatest n.
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ValueError: what `a_n_b_n` raises.

    Reference: Gers and Schmidhuber 2001.
    """
    return _counting("abc", T, batch_size, dtype, "a_n_b_n_c_n")


def _counting(letters: str, T: int, batch_size: int, dtype: DTypeLike, name: str) -> Task:
    T, batch_size, dtype = check_common(T, batch_size, dtype, remedy="Pass the greatest n.")
    k, steps = len(letters), len(letters) * T + 1

    def draw(key: Key):
        n, t = integers(key, (), 1, T + 1), steps_of(steps)
        shown = 1 + (t - 1) // n  # 0 is S, at t = 0; what exceeds k is no symbol, and zeros
        return jax.nn.one_hot(shown, k + 1, dtype=dtype), jnp.minimum(t // n, k)

    joint = np.zeros((steps, k + 1, k + 1))
    for n in range(1, T + 1):
        t = np.arange(n + 1, k * n + 1)
        joint[t, 1 + (t - 1) // n, t // n] += 1 / T
    chance, chance_loss = class_answer(joint)
    return Task(
        input_size=k + 1,
        output_size=k + 1,
        loss=softmax_cross_entropy,
        batch=batch_of(draw, batch_size),
        mask=_from_b_on,
        chance=chance,
        chance_loss=chance_loss,
        name=name,
        inputs=("S", *letters),
        outputs=(*letters, "E"),
    )


def _from_b_on(xs: Array, targets: Array) -> Array:
    del targets
    return (xs[..., 2:] > 0).any(-1)
