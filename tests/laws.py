"""What files of laws share: data, a loss over a sequence, and programs of Jacobians alone."""

import jax

import rnn_jax
from rnn_jax import gradients, losses
from tests.helpers import normal, random_state
from tests.lawful_cells import INPUT_SIZE

T = 7

# Of Jacobians alone, so that cells whose states are of one size share a program.
product_log_norms = jax.jit(gradients.product_log_norms)
product_bound = jax.jit(gradients.product_bound)


def sequence_loss(cell, params, xs, targets, initial_state=None):
    ys = rnn_jax.unroll(cell, params, xs, initial_state)[1]
    return losses.per_step(losses.squared_error, ys, targets).sum()


def data(cell, params, batch, steps=T):
    xs = normal(1, steps, *batch, INPUT_SIZE)
    state = random_state(cell, params, batch)
    y = jax.eval_shape(cell.step, params, state, xs[0])[1]
    return xs, normal(2, steps, *y.shape), state
