"""Calls of tasks: their makers, data, and what changes a task."""

import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import (
    tasks,
)
from tests.public_calls.call import (
    KEY,
    B,
    Call,
    H,
    T,
    draw,
)

FOLDERS = tempfile.TemporaryDirectory()


@functools.cache
def text():
    return tasks.load_text()


SMALL = {
    "adding": {"T": 3},
    "multiplication": {"T": 12},
    "copying": {"T": 2, "length": 2, "num_symbols": 2},
    "noiseless_memorization": {"T": 5, "length": 2, "num_symbols": 2},
    "temporal_order": {"T": 10, "num_relevant": 2},
    "random_permutation": {"T": 3, "num_symbols": 4},
    "delay": {"T": 2, "steps": 3},
    "delayed_xor": {"T": 2, "steps": 3},
    "flip_flop": {"T": 3, "num_bits": 2, "pulse_probability": 0.5},
    "associative_recall": {"T": 2},
    "parity": {"T": 3, "running": False},
    "modular_arithmetic": {"T": 3, "modulus": 5},
    "s3": {"T": 2},
    "s5": {"T": 2},
    "a_n_b_n": {"T": 2},
    "a_n_b_n_c_n": {"T": 2},
    "dyck": {"T": 4, "num_types": 2, "max_depth": 2},
    "embedded_reber": {"T": 8},
    "mackey_glass": {"T": 3, "tau": 17, "horizon": 1, "washout": 1},
    "lorenz": {"T": 3, "horizon": 1, "washout": 1},
}
"""Arguments of each maker of tasks."""
LESS = {
    "adding": 2,
    "multiplication": 11,
    "noiseless_memorization": 4,
    "temporal_order": 9,
    "modular_arithmetic": 4,
    "dyck": 3,
    "embedded_reber": 7,
    "associative_recall": 27,
}
"""A T that the task has none of."""


def shapes(task):
    drawn = jax.eval_shape(task.batch, KEY, 0)
    return [np.zeros(x.shape, x.dtype) for x in drawn], np.float64(task.chance_loss)


@functools.cache
def rolls():
    """A cache of two chorales."""
    path = pathlib.Path(tempfile.mkdtemp(dir=FOLDERS.name)) / "rolls.npz"
    draws = np.random.default_rng(0).integers(0, 2, (12, 88)).astype(np.uint8)
    np.savez(path, format=1, sizes=np.array([5, 1, 2, 1, 3]), rolls=draws)
    return path


def data_calls():
    """Calls of tasks of data, and of what changes a task."""
    batch = {"batch_size": 2, "dtype": jnp.float32}
    task = tasks.parity(batch_size=2)
    return {
        "from_arrays": Call(
            tasks.from_arrays,
            {
                "xs": draw(1, T, 4, H),
                "targets": np.array([0, 1, 1, 0]),
                "lengths": np.array([3, 1, 2, 3]),
                "batch_size": 2,
                "output_size": 2,
            },
            then=shapes,
            never={"lengths": [np.array([0, 1, 2, 3]), np.array([1, 2, 3, 4])], "batch_size": [5]},
        ),
        "sequential_digits": Call(
            tasks.sequential_digits,
            {"T": 8, "order": "rows", "split": "train", "path": None, **batch},
            then=shapes,
            kinds={"path": "path"},
            never={"T": [7], "order": ["columns"], "split": ["held out"]},
        ),
        "japanese_vowels": Call(
            tasks.japanese_vowels,
            {"T": 29, "split": "train", **batch},
            then=shapes,
            never={"T": [28], "split": ["TRAIN"], "batch_size": [271]},
        ),
        "bach_chorales": Call(
            tasks.bach_chorales,
            {"T": 4, "split": "train", "cache": rolls(), **batch},
            then=shapes,
            kinds={"cache": "path"},
        ),
        "padded": Call(tasks.padded, {"task": task, "T": 50}, then=shapes, never={"T": [39]}),
        "curriculum": Call(
            tasks.curriculum,
            {"task": task, "lengths": (3, 5), "starts": (0, 2)},
            then=shapes,
            never={"starts": [(0, 0), (1, 2), (0,)]},
        ),
        "random_lengths": Call(
            tasks.random_lengths, {"task": task, "lengths": (3, 5)}, then=shapes
        ),
    }


def maker_calls():
    """Calls of the makers of tasks. Of what they draw the shapes are looked at, which is cheap."""
    common = {"batch_size": 2, "dtype": jnp.float32}

    return {
        name: Call(
            tasks.TASKS[name],
            {**arguments, **common},
            then=shapes,
            never={"T": [LESS[name]]} if name in LESS else {},
        )
        for name, arguments in SMALL.items()
    }


def task_calls():
    return {
        **maker_calls(),
        **data_calls(),
        "load_text": Call(tasks.load_text, {"path": None, "held_out_fraction": 0.1}),
        "next_character": Call(
            tasks.next_character,
            {"text": text(), "T": T, "batch_size": B},
            then=lambda task: task.batch(KEY, 0),
        ),
        "consecutive_characters": Call(
            tasks.consecutive_characters,
            {"text": text(), "T": T, "batch_size": B},
            then=lambda task: task.batch(KEY, 0),
        ),
        "one_hot": Call(
            tasks.one_hot,
            {"text": text(), "symbols": jnp.array([0, 1]), "dtype": jnp.float32},
            never={"symbols": [jnp.array([-1]), jnp.array([10_000])]},
        ),
        "streams": Call(tasks.streams, {"symbols": np.arange(9), "count": 2}),
        "unigram_entropy": Call(
            tasks.unigram_entropy,
            {"symbols": np.arange(9)},
            never={"symbols": [np.arange(-3, 3), np.zeros(0, int)]},
        ),
        "year_sentences": Call(
            tasks.year_sentences, {"years": range(1990, 2000), "max_length": 20}, cheap=False
        ),
    }
