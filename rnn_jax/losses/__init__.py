"""Losses of one step, and their sums over the steps of a sequence."""

from rnn_jax.losses._squared_error import mean_squared_error, squared_error
from rnn_jax.losses.cross_entropy import bernoulli_cross_entropy, softmax_cross_entropy
from rnn_jax.losses.steps import at_last_step, last_step, per_step

__all__ = [
    "at_last_step",
    "bernoulli_cross_entropy",
    "last_step",
    "mean_squared_error",
    "per_step",
    "softmax_cross_entropy",
    "squared_error",
]
