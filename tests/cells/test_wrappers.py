"""Stacks, skip connections, normalization and dropout."""

import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients
from tests.helpers import drawn, normal
from tests.lawful_cells import INPUT_SIZE, LAWFUL

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
    program = lambda strategy: jax.jit(
        lambda x: rnn_jax.unroll(linear, params, x, strategy=strategy)
    ).lower(xs)
    # No loop over time is left, but inside a condition: the way out where something overflowed.
    loop = re.compile(r"^ {4}\S.*stablehlo\.while", re.MULTILINE)
    assert loop.search(program("scan").as_text())
    assert not loop.search(program("parallel").as_text())
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


@pytest.mark.parametrize(("name", "batch"), [("lstm", (2, 3)), ("cornn", (3, 1))])
def test_masks_of_examples_go_with_any_batch_axes_layout_and_strategy(name, batch):
    """Each example is alone with its masks, past resets, padding and in reverse."""
    cell = cells.CELLS[name](4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    xs, rates = normal(1, T, *batch, INPUT_SIZE), {"input_rate": 0.3, "recurrent_rate": 0.4}
    masks = cells.draw_masks(jax.random.key(2), cell, params, INPUT_SIZE, batch, **rates)
    lengths = (2 + jnp.arange(np.prod(batch)) % (T - 1)).reshape(batch)
    resets = jax.random.bernoulli(jax.random.key(3), 0.3, (T, *batch))
    how = {"lengths": lengths, "resets": resets, "reverse": True}
    weights = normal(4, T, *batch, 4)

    def run(params, xs, strategy, **how):
        dropped = cells.dropout(cell, masks)
        return (weights * rnn_jax.unroll(dropped, params, xs, strategy=strategy, **how)[1]).sum()

    strategies = ("scan", "auto", "checkpointed")
    got = jax.jit(
        lambda params, xs: [jax.value_and_grad(run)(params, xs, s, **how) for s in strategies]
    )(params, xs)
    for one in got[1:]:
        chex.assert_trees_all_close(one, got[0], rtol=1e-11, atol=1e-13)

    # An example alone, whose masks are constants of the step.
    at = (1, *(0 for _ in batch[1:]))
    alone = cells.dropout(cell, jax.tree.map(lambda mask: mask[at], masks))
    each = (slice(None), *at)
    one = rnn_jax.unroll(alone, params, xs[each], resets=resets[each])[1]
    every = rnn_jax.unroll(cells.dropout(cell, masks), params, xs, resets=resets)[1]
    np.testing.assert_allclose(every[each], one, rtol=1e-11, atol=1e-14)


def test_dropout_of_a_wide_network_is_what_its_docstring_shows():
    cell = cells.lstm(512)
    params = jax.eval_shape(lambda key: cell.init(key, 16), jax.random.key(0))

    def run(params, key, xs):
        masks = cells.draw_masks(key, cell, params, 16, (32,), input_rate=0.2, recurrent_rate=0.2)
        return rnn_jax.unroll(cells.dropout(cell, masks), params, xs)[1]

    xs = jax.ShapeDtypeStruct((5, 32, 16), jnp.float32)
    assert jax.eval_shape(run, params, jax.random.key(1), xs).shape == (5, 32, 512)


def test_a_rate_of_dropout_may_be_traced():
    cell = cells.elman(8, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    draw = lambda rate: cells.draw_masks(
        jax.random.key(2), cell, params, INPUT_SIZE, (B,), recurrent_rate=rate, input_rate=0.5
    )
    chex.assert_trees_all_close(jax.jit(draw)(0.25), draw(0.25), rtol=1e-15)
    chex.assert_trees_all_equal(jax.jit(draw)(jnp.asarray(0.0)).recurrent[0], jnp.ones((B, 8)))
    for rate in (-0.1, 1.0, jnp.nan, "0.5", None):
        with pytest.raises(ValueError, match=r"recurrent_rate: got .+; expected .+\. [A-Z]"):
            draw(rate)


def test_masks_of_another_batch_are_refused():
    cell = cells.elman(4, dtype=jnp.float64)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    for kind in ("input", "recurrent", "output"):
        masks = cells.draw_masks(
            jax.random.key(2), cell, params, INPUT_SIZE, (B,), **{f"{kind}_rate": 0.5}
        )
        dropped = cells.dropout(cell, masks)
        for batch in ((), (B + 1,), (B, 2), (2, B)):
            xs = normal(1, T, *batch, INPUT_SIZE)
            if kind != "recurrent" and batch == (2, B):
                continue
            with pytest.raises(ValueError, match=rf"masks.{kind}: got .+; expected .+\. [A-Z]"):
                rnn_jax.unroll(dropped, params, xs)
        with pytest.raises(ValueError, match=rf"masks.{kind}: got .+; expected .+batch=\(\)"):
            gradients.jacobian_log_norms(dropped, params, normal(1, T, B, INPUT_SIZE))


LEARNED = {
    "lstm": lambda: cells.lstm(4, dtype=jnp.float64),
    "lru": lambda: cells.lru(4, dtype=jnp.float64),
    "stack of all": lambda: LAWFUL["stack"](jnp.float64),
}


@pytest.mark.parametrize("name", LEARNED)
def test_a_learned_initial_state_is_the_state_passed_in_and_is_come_back_to(name):
    """Whatever strategy, lengths and resets; its gradient is that of the state passed in."""
    inner = LEARNED[name]()
    cell = cells.learned_initial_state(inner)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    own = inner.initial_state(params.cell)
    chex.assert_trees_all_equal(params.start, own)
    params = params.replace(start=drawn(own))
    xs, y = normal(1, T, B, INPUT_SIZE), normal(2, T, B, 1)
    resets = jnp.zeros((T, B), bool).at[2, 0].set(True).at[4, 2].set(True)
    lengths = jnp.array([T, 1, T - 1])

    def loss(params, strategy, xs=xs, y=y, **how):
        return (y * rnn_jax.unroll(cell, params, xs, strategy=strategy, **how)[1]).sum()

    def pieces(params):
        """Every sequence by itself, from the state passed in."""
        total = 0.0
        for b, first, last in ((0, 0, 2), (0, 2, T), (1, 0, 1), (2, 0, 4), (2, 4, T - 1)):
            at = (slice(first, last), b)
            ys = rnn_jax.unroll(inner, params.cell, xs[at], params.start, strategy="scan")[1]
            total += (y[at] * ys).sum()
        return total

    strategies = ["scan", "auto", "checkpointed"] + ["parallel"] * (name == "lru")
    how = {"resets": resets, "lengths": lengths}
    got, expected = jax.jit(
        lambda params: (
            [jax.value_and_grad(loss)(params, s, **how) for s in strategies],
            jax.value_and_grad(pieces)(params),
        )
    )(params)
    for one in got:
        chex.assert_trees_all_close(one, expected, rtol=1e-9, atol=1e-11)
    assert any(jnp.abs(leaf).max() > 0 for leaf in jax.tree.leaves(expected[1].start))


def test_a_learned_initial_state_keeps_what_the_cell_is():
    inner = cells.elman(4, dtype=jnp.float64)
    cell = cells.learned_initial_state(inner)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    assert cell.structure is not None
    chex.assert_trees_all_equal(
        gradients.norm_bound(cell, params), gradients.norm_bound(inner, params.cell)
    )
    # Counters and keys are not learned; they start as the cell has them.
    counting = cells.learned_initial_state(counting_cell())
    params = counting.init(jax.random.key(0), 4)
    assert [leaf.dtype for leaf in jax.tree.leaves(params.start)] == [jnp.float64]
    state = counting.initial_state(params.replace(start=(None, jnp.ones(4))), (B,))
    chex.assert_trees_all_equal(state, (jnp.zeros((B, 4), jnp.int32), jnp.ones((B, 4))))
    # Both together: masks of each example, and a start that all of them share.
    net = cells.readout(cells.learned_initial_state(cells.gru(4, dtype=jnp.float64)), 2)
    params = net.init(jax.random.key(0), INPUT_SIZE)
    masks = cells.draw_masks(jax.random.key(1), net, params, 3, (B,), recurrent_rate=0.5)
    dropped = cells.learned_initial_state(cells.dropout(net, masks))
    params = dropped.init(jax.random.key(0), INPUT_SIZE).replace(start=normal(5, 4))
    xs, resets = normal(1, T, B, INPUT_SIZE), jnp.zeros((T, B), bool).at[3].set(True)
    ys = [
        rnn_jax.unroll(dropped, params, xs, resets=resets, strategy=strategy)[1]
        for strategy in ("scan", "auto", "fused")
    ]
    for one in ys[1:]:
        np.testing.assert_allclose(one, ys[0], rtol=1e-12)


def counting_cell():
    """A counter first in its state, as `gated` makes it."""

    def pointwise(s, a):
        h = jnp.tanh(a)
        return (s[0] + 1, h), h

    return cells.gated(
        4,
        1,
        pointwise,
        fed_back=lambda s: s[1],
        initial_state=lambda zeros: (jnp.zeros(zeros.shape, jnp.int32), zeros),
        dtype=jnp.float64,
    )


def keyed_cell():
    """A key first in its state."""

    def step(p, s, x):
        h = jnp.tanh(p @ s["state"] + x)
        return {"key": s["key"], "state": h}, h

    state = {"key": jax.random.key(0), "state": jnp.zeros(4)}
    return cells.from_function(step, state, lambda key, size: jnp.eye(4))


def embedding_cell():
    """Its inputs are symbols."""
    step = lambda p, h, x: (jnp.tanh(h + p[x[0]]),) * 2
    return cells.from_function(step, jnp.zeros(4), lambda key, size: jnp.ones((5, 4)))


@pytest.mark.parametrize("make", [counting_cell, keyed_cell, embedding_cell])
def test_the_first_leaf_of_a_state_may_be_of_any_kind(make):
    """readout, stack, layer_norm and draw_masks ask for the numbers that the cell reads."""
    cell = make()
    symbols = make is embedding_cell
    xs = jnp.arange(T * B).reshape(T, B, 1) % 5 if symbols else normal(1, T, B, 4)
    net = cells.stack(cells.readout(cell, 2), cells.gru(3, dtype=jnp.float64))
    params = net.init(jax.random.key(0), xs.shape[-1])
    inner = rnn_jax.unroll(cell, params[0].cell, xs)[1]
    read = inner @ params[0].V.T + params[0].c
    expected = rnn_jax.unroll(cells.gru(3, dtype=jnp.float64), params[1], read)[1]
    np.testing.assert_allclose(rnn_jax.unroll(net, params, xs)[1], expected, rtol=1e-12)
    masks = cells.draw_masks(
        jax.random.key(0), cell, params[0].cell, xs.shape[-1], (B,), output_rate=0.5
    )
    assert masks.output.dtype == jnp.float64
    if not symbols:
        normed = cells.layer_norm(cell)
        params = normed.init(jax.random.key(0), 4)
        assert params.scale.dtype == jnp.float64
        assert rnn_jax.unroll(normed, params, xs)[1].shape == (T, B, 4)


def test_layer_norm_does_not_overflow():
    for dtype, size in ((jnp.float16, 3e4), (jnp.float32, 1e30), (jnp.float64, 1e300)):
        cell = cells.layer_norm(cells.elman(3, "identity", dtype=dtype))
        params = cell.init(jax.random.key(0), 3)
        params = params.replace(cell=params.cell.replace(U=jnp.eye(3, dtype=dtype)))
        x = np.array([0.5, -1, 0.25])
        run = lambda x, cell=cell, p=params: cell.step(p, jnp.zeros(3, x.dtype), x)[1]
        y, J = jax.jit(lambda x, run=run: (run(x), jax.jacrev(run)(x)))(
            size * jnp.asarray(x, dtype)
        )
        expected = (x - x.mean()) / x.std()
        np.testing.assert_allclose(y.astype(float), expected, rtol=8 * float(jnp.finfo(dtype).eps))
        assert jnp.isfinite(J).all()


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
    with pytest.raises(ValueError, match=r"input_rate: got float 1\.0; expected a number"):
        cells.draw_masks(jax.random.key(0), linear, params, 3, input_rate=1.0)
