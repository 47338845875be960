"""Stacks, skip connections, normalization and dropout."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients
from tests.conftest import INPUT_SIZE, normal

T, B = 6, 3


def test_a_stack_is_one_layer_after_the_other():
    lower, upper = cells.lstm(4, dtype=jnp.float64), cells.gru(5, dtype=jnp.float64)
    both = cells.stack(lower, upper)
    params = both.init(jax.random.key(0), INPUT_SIZE)
    assert params[1].U.shape == (15, 4)
    xs = normal(1, T, B, INPUT_SIZE)
    final, ys = rnn_jax.unroll(both, params, xs)
    lower_final, hidden = rnn_jax.unroll(lower, params[0], xs)
    upper_final, expected = rnn_jax.unroll(upper, params[1], hidden)
    chex.assert_trees_all_close((final, ys), ((lower_final, upper_final), expected), rtol=1e-12)


def test_each_layer_of_a_stack_runs_by_the_strategy_asked_for():
    linear = cells.stack(cells.lru(4, dtype=jnp.float64), cells.min_gru(4, dtype=jnp.float64))
    params = linear.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, B, INPUT_SIZE)
    ys = {
        strategy: rnn_jax.unroll(linear, params, xs, strategy=strategy)[1]
        for strategy in ("scan", "fused", "parallel", "checkpointed")
    }
    for strategy in ys:
        np.testing.assert_allclose(ys[strategy], ys["scan"], rtol=1e-11, atol=1e-13)
    text = jax.jit(lambda x: rnn_jax.unroll(linear, params, x, strategy="parallel")).lower(xs)
    assert "while" not in text.as_text()  # no loop over time is left
    mixed = cells.stack(cells.lru(4), cells.elman(4))
    with pytest.raises(ValueError, match="strategy: got parallel, for a cell that is not linear"):
        rnn_jax.unroll(
            mixed,
            mixed.init(jax.random.key(0), 3),
            jnp.ones((T, 3), jnp.float32),
            strategy="parallel",
        )


def test_residual_and_layer_norm_are_their_equations():
    inner = cells.elman(INPUT_SIZE, dtype=jnp.float64)
    cell = cells.residual(cells.layer_norm(inner))
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    params = params.replace(scale=normal(3, INPUT_SIZE), shift=normal(4, INPUT_SIZE))
    xs = normal(1, T, B, INPUT_SIZE)
    x = np.asarray(xs)
    standard = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    read = np.asarray(params.scale) * standard + np.asarray(params.shift)
    expected = x + rnn_jax.unroll(inner, params.cell, jnp.asarray(read))[1]
    np.testing.assert_allclose(rnn_jax.unroll(cell, params, xs)[1], expected, rtol=1e-10)
    # The state's own recurrence is untouched, and so is the theorem about it.
    chex.assert_trees_all_equal(
        gradients.norm_bound(cell, params), gradients.norm_bound(inner, params.cell)
    )


@pytest.mark.parametrize("name", ["elman", "lstm", "gru_reset_before", "cornn"])
def test_dropout_holds_its_masks_over_time(name):
    cell = cells.CELLS[name](4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, B, INPUT_SIZE)
    masks = cells.draw_masks(
        jax.random.key(2),
        cell,
        params,
        INPUT_SIZE,
        (B,),
        input_rate=0.3,
        recurrent_rate=0.4,
        output_rate=0.5,
    )
    assert masks.input.shape == (B, INPUT_SIZE)
    assert set(np.unique(masks.output)) <= {0, 2}
    dropped = cells.dropout(cell, masks)
    got = {s: rnn_jax.unroll(dropped, params, xs, strategy=s)[1] for s in ("scan", "auto")}
    np.testing.assert_allclose(got["scan"], got["auto"], rtol=1e-12)

    # A mask on what is fed back is a mask on the columns of its matrix, example by example.
    for i in range(B):
        masked = params.replace(W=params.W * masks.recurrent[0][i])
        if name == "gru_reset_before":
            masked = masked.replace(W_n=params.W_n * masks.recurrent[1][i])
        expected = rnn_jax.unroll(cell, masked, xs[:, i] * masks.input[i])[1] * masks.output[i]
        np.testing.assert_allclose(got["auto"][:, i], expected, rtol=1e-12)


def test_masks_are_drawn_at_their_rates():
    cell = cells.elman(400)
    params = cell.init(jax.random.key(0), 300)
    draw = lambda key: cells.draw_masks(key, cell, params, 300, (20,), recurrent_rate=0.25)
    masks = draw(jax.random.key(1))
    assert masks.input is None
    assert masks.output is None
    (mask,) = masks.recurrent
    assert float((mask == 0).mean()) == pytest.approx(0.25, abs=0.02)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.03)
    assert not jnp.array_equal(mask, draw(jax.random.key(2)).recurrent[0])


def test_dropout_trains_in_an_ensemble():
    """Masks that are drawn inside jit and vmap, differentiated: each member as if alone."""
    cell = cells.readout(cells.lstm(4, dtype=jnp.float64), 2)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs = normal(1, T, B, INPUT_SIZE)

    def loss(params, key):
        rates = {"input_rate": 0.2, "recurrent_rate": 0.5}
        masks = cells.draw_masks(key, cell, params, INPUT_SIZE, (B,), **rates)
        return jnp.square(rnn_jax.unroll(cells.dropout(cell, masks), params, xs)[1]).sum()

    keys = jax.random.split(jax.random.key(3), 4)
    together = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(params, keys)
    for i, key in enumerate(keys):
        alone = jax.jit(jax.grad(loss))(params, key)
        chex.assert_trees_all_close(
            jax.tree.map(lambda leaf, i=i: leaf[i], together), alone, rtol=1e-10, atol=1e-13
        )


def test_wrappers_refuse_what_they_cannot_do():
    with pytest.raises(ValueError, match=r"layers: got none; expected .+\. [A-Z]"):
        cells.stack()
    cell = cells.residual(cells.elman(4, dtype=jnp.float64))
    with pytest.raises(ValueError, match=r"residual: got x .*\[3\] and y .*\[4\]; expected"):
        rnn_jax.unroll(cell, cell.init(jax.random.key(0), 3), normal(0, T, 3))
    linear = cells.diagonal(4)
    params = linear.init(jax.random.key(0), 3)
    with pytest.raises(ValueError, match="recurrent masks: got a cell without recurrent products"):
        cells.draw_masks(jax.random.key(0), linear, params, 3, recurrent_rate=0.5)
    with pytest.raises(ValueError, match=r"input_rate: got float 1.0; expected in \[0, 1\)"):
        cells.draw_masks(jax.random.key(0), linear, params, 3, input_rate=1.0)
