"""Tasks: sequences with targets, drawn by key and step, behind one interface, `Task`."""

from collections.abc import Callable

from rnn_jax.tasks._a_n_b_n import a_n_b_n, a_n_b_n_c_n
from rnn_jax.tasks._adding import adding
from rnn_jax.tasks._associative_recall import associative_recall
from rnn_jax.tasks._chorales import bach_chorales
from rnn_jax.tasks._copying import copying
from rnn_jax.tasks._curriculum import curriculum, padded, random_lengths
from rnn_jax.tasks._delay import delay, delayed_xor
from rnn_jax.tasks._digits import sequential_digits
from rnn_jax.tasks._dyck import dyck
from rnn_jax.tasks._embedded_reber import embedded_reber
from rnn_jax.tasks._flip_flop import flip_flop
from rnn_jax.tasks._japanese_vowels import japanese_vowels
from rnn_jax.tasks._lorenz import lorenz
from rnn_jax.tasks._mackey_glass import mackey_glass
from rnn_jax.tasks._modular_arithmetic import modular_arithmetic
from rnn_jax.tasks._multiplication import multiplication
from rnn_jax.tasks._noiseless_memorization import noiseless_memorization
from rnn_jax.tasks._parity import parity
from rnn_jax.tasks._random_permutation import random_permutation
from rnn_jax.tasks._temporal_order import temporal_order
from rnn_jax.tasks.arrays import from_arrays
from rnn_jax.tasks.characters import (
    StreamTask,
    consecutive_characters,
    next_character,
    one_hot,
    streams,
)
from rnn_jax.tasks.sentences import Sentence, Templates, year_sentences
from rnn_jax.tasks.task import Task
from rnn_jax.tasks.text import Text, load_text, unigram_entropy
from rnn_jax.tasks.word_problems import s3, s5

TASKS: dict[str, Callable[..., Task]] = {
    "adding": adding,
    "multiplication": multiplication,
    "copying": copying,
    "noiseless_memorization": noiseless_memorization,
    "temporal_order": temporal_order,
    "random_permutation": random_permutation,
    "delay": delay,
    "delayed_xor": delayed_xor,
    "flip_flop": flip_flop,
    "associative_recall": associative_recall,
    "parity": parity,
    "modular_arithmetic": modular_arithmetic,
    "s3": s3,
    "s5": s5,
    "a_n_b_n": a_n_b_n,
    "a_n_b_n_c_n": a_n_b_n_c_n,
    "dyck": dyck,
    "embedded_reber": embedded_reber,
    "mackey_glass": mackey_glass,
    "lorenz": lorenz,
}
"""Makers of tasks. Every argument has a default; T is the length parameter of the task's paper."""

DATA_SETS: dict[str, Callable[..., Task]] = {
    "sequential_digits": sequential_digits,
    "japanese_vowels": japanese_vowels,
    "bach_chorales": bach_chorales,
}
"""Makers of tasks of real data, from packages of the extra [data]; arguments as for `TASKS`."""

__all__ = [
    "DATA_SETS",
    "TASKS",
    "Sentence",
    "StreamTask",
    "Task",
    "Templates",
    "Text",
    "a_n_b_n",
    "a_n_b_n_c_n",
    "adding",
    "associative_recall",
    "bach_chorales",
    "consecutive_characters",
    "copying",
    "curriculum",
    "delay",
    "delayed_xor",
    "dyck",
    "embedded_reber",
    "flip_flop",
    "from_arrays",
    "japanese_vowels",
    "load_text",
    "lorenz",
    "mackey_glass",
    "modular_arithmetic",
    "multiplication",
    "next_character",
    "noiseless_memorization",
    "one_hot",
    "padded",
    "parity",
    "random_lengths",
    "random_permutation",
    "s3",
    "s5",
    "sequential_digits",
    "streams",
    "temporal_order",
    "unigram_entropy",
    "year_sentences",
]
