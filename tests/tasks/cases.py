"""Every task at a small size, and what is drawn of it once for all tests."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import losses
from rnn_jax.tasks import TASKS

B, BATCHES = 200, 50
KEY = jax.random.key(0)
CASES = {
    "adding": ("adding", {"T": 12}),
    "multiplication": ("multiplication", {"T": 24}),
    "copying": ("copying", {"T": 5, "length": 3, "num_symbols": 4}),
    "5 bits": ("noiseless_memorization", {"T": 13}),
    "20 bits": ("noiseless_memorization", {"T": 22, "length": 10, "num_symbols": 5}),
    "temporal order of 2": ("temporal_order", {"T": 20}),
    "temporal order of 3": ("temporal_order", {"T": 30, "num_relevant": 3}),
    "random_permutation": ("random_permutation", {"T": 6, "num_symbols": 8}),
    "delay": ("delay", {"T": 3}),
    "delayed_xor": ("delayed_xor", {"T": 5, "steps": 9}),
    "flip_flop": ("flip_flop", {"T": 8, "num_bits": 2, "pulse_probability": 0.3}),
    "associative_recall": ("associative_recall", {"T": 4}),
    "parity": ("parity", {"T": 5}),
    "running parity": ("parity", {"T": 5, "running": True}),
    "modular_arithmetic": ("modular_arithmetic", {"T": 7}),
    "s3": ("s3", {"T": 5}),
    "s5": ("s5", {"T": 3}),
    "a_n_b_n": ("a_n_b_n", {"T": 4}),
    "a_n_b_n_c_n": ("a_n_b_n_c_n", {"T": 4}),
    "dyck": ("dyck", {"T": 10, "max_depth": 3}),
    "embedded_reber": ("embedded_reber", {"T": 20}),
    "mackey_glass": ("mackey_glass", {"T": 30, "washout": 10, "horizon": 6}),
    "lorenz": ("lorenz", {"T": 30, "washout": 10, "horizon": 2}),
}
CHAOTIC = ("mackey_glass", "lorenz")
EXACT = [case for case in CASES if case not in CHAOTIC]
"""Those whose answer without memory is known."""


@functools.cache
def task_of(case, dtype=jnp.float32, batch_size=B):
    name, arguments = CASES[case]
    return TASKS[name](batch_size=batch_size, dtype=dtype, **arguments)


@functools.cache
def program_of(case):
    return jax.jit(task_of(case).batch)


@functools.cache
def drawn(case):
    """One batch: xs and targets."""
    return program_of(case)(KEY, 0)


@functools.cache
def judge_of(case):
    """`(ys, xs, targets) -> mean loss, its gradient, which are solved`, one program."""
    task = task_of(case)

    def judge(ys, xs, targets):
        loss, gradient = jax.value_and_grad(task.mean_loss)(ys, xs, targets)
        return loss, gradient, task.solved(ys, xs, targets)

    return jax.jit(judge)


@functools.cache
def many(case):
    """Xs, targets and mask of 10,000 sequences, as NumPy's."""
    batches = [program_of(case)(KEY, step) for step in range(BATCHES)]
    xs, targets = (np.concatenate(arrays, 1) for arrays in zip(*batches, strict=True))
    return xs, targets, np.asarray(task_of(case).mask(jnp.asarray(xs), jnp.asarray(targets)))


def right_answer(task, targets):
    """Outputs that say the targets, as surely as is asked."""
    targets = jnp.asarray(targets)
    if task.loss is losses.softmax_cross_entropy:
        return 100 * jax.nn.one_hot(targets, task.output_size, dtype=jnp.float32)
    if task.loss is losses.bernoulli_cross_entropy:
        return 100 * (2 * targets - 1)
    return targets
