"""Japanese vowels: which of nine speakers it was, from 12 channels and 7 to 29 steps."""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnn_jax.errors import check_dtype, check_integer, choose, optional
from rnn_jax.tasks.arrays import from_arrays
from rnn_jax.tasks.examples import of_any_length
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.without_memory import constant

INSTALL = "pip install aeon, or the extra [data]"
LONGEST, CHANNELS, SPEAKERS = 29, 12, 9


@of_any_length
def japanese_vowels(
    *,
    T: int = LONGEST,
    split: str = "train",
    batch_size: int = 32,
    dtype: DTypeLike = jnp.float32,
) -> Task:
    """Return the task of naming the speaker of two vowels, uttered in 7 to 29 steps.

    Inputs are 12 coefficients of the cepstrum at each step, as they were published; targets one of
    9 speakers. The last step of each utterance counts. 270 sequences train, 370 test.

    Chance, of an answer that reads nothing: the speakers alike, ln 9. The training part has 30
    utterances of each.

    Args:
      T: number of steps, 29 or more; what stands past an utterance is padding.
      split: "train" or "test".
      batch_size: number of sequences, B.
      dtype: dtype of the inputs.

    Raises:
      ImportError: no aeon, whose wheel has the data.
      ValueError: a split of another name; less than 29 steps; a batch of more sequences than there
        are; a dtype that is none of floats.

    Reference: Kudo, Toyama and Shimbo 1999.
    """
    T = check_integer("T", T, LONGEST, None, f"The longest utterance has {LONGEST} steps.")
    choose("split", split, {"train": None, "test": None})
    load = optional("aeon.datasets", INSTALL).load_japanese_vowels
    sequences, speakers = load(split=split)
    lengths = np.array([sequence.shape[1] for sequence in sequences])
    xs = np.zeros((T, len(sequences), CHANNELS), np.float32)
    for n, sequence in enumerate(sequences):
        xs[: lengths[n], n] = sequence.T
    task = from_arrays(
        jnp.asarray(xs, check_dtype("dtype", dtype)),
        np.array([int(speaker) - 1 for speaker in speakers], np.int32),
        lengths=lengths,
        batch_size=batch_size,
        output_size=SPEAKERS,
        name="japanese_vowels",
    )
    return task._replace(chance=constant([0.0] * SPEAKERS), chance_loss=math.log(SPEAKERS))
