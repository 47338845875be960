"""A monitored step and a plain one, on the same loss."""

import jax
import jax.numpy as jnp
import optax

import rnn_jax
from rnn_jax import cells, losses
from rnn_jax.training import (
    Telemetry,
    create_monitored_train_state,
    create_train_state,
    make_monitored_train_step,
    make_train_step,
)
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

T, B = 6, 4
OPTIMIZER = optax.adam(1e-2)
ELMAN = cells.readout(cells.elman(5, dtype=jnp.float64), 2)


def batch_at(step, outputs=2):
    return normal(2 * step, T, B, INPUT_SIZE), 3 * normal(2 * step + 1, T, B, outputs)


def loss_of(cell, **options):
    def loss(params, batch, unroll=rnn_jax.unroll):
        ys = unroll(cell, params, batch[0], **options)[1]
        return losses.per_step(losses.squared_error, ys, batch[1]).mean()

    return loss


def programs(cell, options=None, *, clip_norm=1.0, optimizer=OPTIMIZER, **of_telemetry):
    """A monitored step and its state; a plain one and its."""
    loss, telemetry = loss_of(cell, **options or {}), Telemetry(cell, **of_telemetry)
    params = jax.tree.map(lambda p: 1.5 * p, cell.init(jax.random.key(0), INPUT_SIZE))
    monitored = jax.jit(make_monitored_train_step(loss, optimizer, telemetry, clip_norm=clip_norm))
    plain = jax.jit(make_train_step(loss, optimizer, clip_norm=clip_norm))
    start = create_monitored_train_state(params, optimizer, telemetry)
    return monitored, start, plain, create_train_state(params, optimizer)
