"""Calls of linear algebra and losses."""

import jax.numpy as jnp

from rnn_jax import (
    linalg,
    losses,
)
from tests.public_calls.call import (
    COMPLEX,
    LOSS,
    NO_LOSS,
    PROBABILITIES,
    XS,
    YS,
    B,
    Call,
    H,
    J,
    T,
    draw,
)


def linalg_calls():
    return {
        "exponential": Call(
            linalg.exponential,
            {"A": J[0], "squarings": 12},
            cheap=False,
            never={"A": [J[0, 0], draw(1, 2, 3)]},
        ),
        "spectral_radius": Call(
            linalg.spectral_radius,
            {"W": J[0], "squarings": 30},
            never={"W": [J[0, 0], draw(1, 2, 3)]},
            cheap=False,
        ),
        "spectral_norm": Call(
            linalg.spectral_norm, {"W": J[0]}, never={"W": [J[0, 0]]}, cheap=False
        ),
        "log_spectral_norm": Call(
            linalg.log_spectral_norm, {"A": J[0]}, never={"A": [J[0, 0]]}, cheap=False
        ),
        "matvec": Call(linalg.matvec, {"W": J[0], "x": XS[0]}, kinds=COMPLEX),
        "times": Call(linalg.times, {"transposed": J[0], "x": XS}, kinds=COMPLEX),
        "row_major_transpose": Call(linalg.row_major_transpose, {"W": J[0]}, kinds=COMPLEX),
        "split_exponent": Call(linalg.split_exponent, {"x": J, "axes": (-2, -1)}),
        "log_norm": Call(linalg.log_norm, {"x": J, "axes": (-2, -1)}),
        "log_power_of_two": Call(
            linalg.log_power_of_two, {"e": jnp.array([3]), "dtype": jnp.float64}
        ),
    }


def loss_calls():
    return {
        "squared_error": Call(losses.squared_error, {"y": YS[0], "target": YS[1]}),
        "mean_squared_error": Call(losses.mean_squared_error, {"y": YS[0], "target": YS[1]}),
        "bernoulli_cross_entropy": Call(
            losses.bernoulli_cross_entropy,
            {"logits": YS[0], "target": PROBABILITIES},
            never={"target": [5 + PROBABILITIES, -PROBABILITIES]},
        ),
        "softmax_cross_entropy": Call(
            losses.softmax_cross_entropy,
            {"logits": YS[0], "target": PROBABILITIES},
            never={"target": [jnp.array([-1]), jnp.array([H])]},
            kinds={"target": "floats, no integers"},
        ),
        "per_step": Call(
            losses.per_step,
            {"loss": LOSS, "ys": YS, "targets": draw(6, T, B, H), "mask": YS[..., 0] > 0},
            never={"loss": [NO_LOSS]},
        ),
        "last_step": Call(
            losses.last_step,
            {"loss": LOSS, "ys": YS, "target": YS[0], "lengths": jnp.array([2])},
            never={
                "loss": [NO_LOSS],
                "lengths": [jnp.array([n]) for n in (0, -1, T + 1)],
            },
        ),
        "at_last_step": Call(
            losses.at_last_step,
            {"ys": YS, "lengths": jnp.array([2])},
            never={"lengths": [jnp.array([n]) for n in (0, -1, T + 1)]},
        ),
    }
