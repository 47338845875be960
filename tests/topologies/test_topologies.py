"""Both ways, fed back, taught, generated, encoded and decoded."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import rnn_jax
from rnn_jax import cells, losses, topologies
from rnn_jax.topologies import feed_output, sample_one_hot
from tests.helpers import normal
from tests.lawful_cells import INPUT_SIZE

T, B, H = 6, 4, 5
LENGTHS = jnp.array([T, 4, 1, 3])


def test_bidirectional_reads_each_example_from_both_of_its_ends():
    """Packed sequences, as torch calls them: against each example alone, and its reversal."""
    pair = cells.lstm(H, dtype=jnp.float64), cells.gru(3, dtype=jnp.float64)
    params = tuple(cell.init(jax.random.key(i), INPUT_SIZE) for i, cell in enumerate(pair))
    xs = normal(1, T, B, INPUT_SIZE)
    past = ~rnn_jax.length_mask(LENGTHS, T)
    xs = jnp.where(past[..., None], jnp.nan, xs)
    (forward, backward), ys = topologies.bidirectional(pair, params, xs, lengths=LENGTHS)
    assert ys.shape == (T, B, H + 3)
    assert (ys[past] == 0).all()
    for i, n in enumerate(LENGTHS):
        x = xs[:n, i]
        f, f_ys = rnn_jax.unroll(pair[0], params[0], x)
        b, b_ys = rnn_jax.unroll(pair[1], params[1], x[::-1])
        at_i = lambda leaf, i=i: leaf[i]
        chex.assert_trees_all_close(jax.tree.map(at_i, (forward, backward)), (f, b), rtol=1e-12)
        np.testing.assert_allclose(ys[:n, i, :H], f_ys, rtol=1e-12)
        np.testing.assert_allclose(ys[:n, i, H:], b_ys[::-1], rtol=1e-12)


def test_bidirectional_layers_stack():
    """Two layers on resets: the sequences on either side of a reset do not see each other."""
    layers = [(cells.elman(H, dtype=jnp.float64), cells.elman(H, dtype=jnp.float64))] * 2
    sizes = INPUT_SIZE, 2 * H
    params = [
        tuple(cell.init(jax.random.key(2 * n + i), size) for i, cell in enumerate(pair))
        for n, (pair, size) in enumerate(zip(layers, sizes, strict=True))
    ]

    def deep(xs, resets):
        for pair, p in zip(layers, params, strict=True):
            _, xs = topologies.bidirectional(pair, p, xs, resets=resets)
        return xs

    xs = normal(1, T, INPUT_SIZE)
    resets = jnp.zeros(T, bool).at[4].set(True)
    dependence = jax.jacrev(lambda x: deep(x, resets))(xs)
    reads = np.abs(dependence).sum((1, 3)) > 0
    expected = np.zeros((T, T), bool)
    expected[:4, :4] = expected[4:, 4:] = True
    np.testing.assert_array_equal(reads, expected)


def autonomous(dtype=jnp.float64):
    cell = cells.readout(cells.gru(H, dtype=dtype), INPUT_SIZE)
    return cell, cell.init(jax.random.key(0), INPUT_SIZE)


def test_feedback_is_a_loop():
    cell, params = autonomous()
    x = normal(1, B, INPUT_SIZE)
    final, ys = topologies.unroll_feedback(cell, params, x, T)
    state = cell.initial_state(params, (B,))
    for t in range(T):
        state, x = cell.step(params, state, x)
        np.testing.assert_allclose(ys[t], x, rtol=1e-12)
    chex.assert_trees_all_close(final, state, rtol=1e-12)
    # One to many, and the gradient of the last output reaches the first input.
    gradient = jax.grad(lambda x: topologies.unroll_feedback(cell, params, x, T)[1][-1].sum())(x)
    assert (jnp.abs(gradient) > 0).all()


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_teacher_forcing_at_either_end(ratio):
    cell, params = autonomous()
    xs, key = normal(1, T, B, INPUT_SIZE), jax.random.key(1)
    got = topologies.teacher_forcing(cell, params, xs, ratio, key, feed=feed_output)
    if ratio == 1:
        expected = rnn_jax.unroll(cell, params, xs)
    else:
        expected = topologies.unroll_feedback(cell, params, xs[0], T)
    chex.assert_trees_all_close(got, expected, rtol=1e-12)


def test_scheduled_sampling_throws_a_coin_a_step_and_example():
    """An integrator of its inputs tells which were fed: true ones are 1, its own are −1000."""
    cell = cells.from_function(lambda p, h, x: (h + x, -1000 + 0 * x), jnp.zeros(1))
    steps, batch = 200, 100
    xs = jnp.ones((steps, batch, 1))

    @jax.jit
    def run(count):
        ratio = optax.linear_schedule(1.0, 0.0, 100)(count)
        return topologies.teacher_forcing(cell, {}, xs, ratio, jax.random.key(0), feed=feed_output)[
            0
        ]

    for count, ratio in ((0, 1.0), (25, 0.75), (100, 0.0)):
        own = (steps - run(jnp.asarray(count))) / 1001
        assert float(own.mean()) / (steps - 1) == pytest.approx(1 - ratio, abs=0.01)
        if 0 < ratio < 1:  # binomial, apart for each example
            spread = np.sqrt((steps - 1) * ratio * (1 - ratio))
            assert float(own.std()) == pytest.approx(spread, rel=0.25)


def test_generation_goes_on_where_the_prompt_ends():
    """Greedy: each fed symbol is the likeliest, for prompts of their own lengths."""
    cell, params = autonomous()
    prompt = jax.nn.one_hot(jax.random.randint(jax.random.key(1), (T, B), 0, 3), 3, dtype=float)
    generated = topologies.generate(
        cell, params, prompt, 5, jax.random.key(2), feed=sample_one_hot(0), lengths=LENGTHS
    )
    assert generated.xs.shape == (5, B, 3)
    for i, n in enumerate(LENGTHS):
        state, ys = rnn_jax.unroll(cell, params, prompt[:n, i])
        y = ys[-1]
        for t in range(5):
            x = jax.nn.one_hot(y.argmax(), 3, dtype=float)
            np.testing.assert_array_equal(generated.xs[t, i], x)
            state, y = cell.step(params, state, x)
            np.testing.assert_allclose(generated.ys[t, i], y, rtol=1e-12)
        np.testing.assert_allclose(generated.state[i], state, rtol=1e-12)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_samples_follow_the_softmax_at_their_temperature(temperature):
    logits = jnp.array([1.0, 0.0, -1.0, 2.0])
    draws = sample_one_hot(temperature)(jax.random.key(0), jnp.broadcast_to(logits, (40_000, 4)))
    np.testing.assert_array_equal(draws.sum(-1), 1)
    expected = jax.nn.softmax(logits / temperature)
    np.testing.assert_allclose(draws.mean(0), expected, atol=4 * 0.5 / np.sqrt(40_000))


def test_an_encoder_and_a_decoder_learn_to_reverse():
    """Sequence to sequence, trained for a few steps: the loss falls, through the bridge too."""
    encoder = cells.lstm(16, dtype=jnp.float64)
    decoder = cells.readout(cells.gru(16, dtype=jnp.float64), 4)
    params = encoder.init(jax.random.key(0), 4), decoder.init(jax.random.key(1), 4)
    symbols = jax.random.randint(jax.random.key(2), (3, 32), 0, 4)
    xs = jax.nn.one_hot(symbols, 4, dtype=float)
    targets = symbols[::-1]
    late = jnp.concatenate([jnp.zeros_like(xs[:1]), xs[::-1][:-1]])

    def run(params, decode):
        return topologies.encode_decode(
            encoder, params[0], xs, functools.partial(decode, params[1]), bridge=lambda s: s.h
        )

    def taught(p, state):
        return topologies.teacher_forcing(decoder, p, late, 0.8, jax.random.key(3), state)[1]

    def loss(params):
        ys = run(params, taught)
        return losses.per_step(losses.softmax_cross_entropy, ys, targets).mean()

    before, gradient = jax.value_and_grad(loss)(params)
    assert all((jnp.abs(leaf) > 0).any() for leaf in jax.tree.leaves(gradient[0]))

    @jax.jit
    def descend(params, _):
        return jax.tree.map(lambda p, g: p - 1.0 * g, params, jax.grad(loss)(params)), None

    trained, _ = jax.lax.scan(descend, params, length=150)
    assert loss(trained) < 0.3 * before

    def free(p, state):
        return topologies.unroll_feedback(decoder, p, late[0], 3, state, feed=sample_one_hot(0))[1]

    accuracy = (run(trained, free).argmax(-1) == targets).mean()
    assert accuracy > 0.7  # chance is a quarter


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_symbols_are_drawn_from_the_softmax(dtype):
    draw = lambda y, T: topologies.sample_one_hot(T)(jax.random.key(0), jnp.asarray(y, dtype))
    symbols = draw(jnp.zeros((5000, 1000)), 1.0).argmax(-1)
    assert abs(symbols.mean() - 499.5) < 5 * 289 / np.sqrt(5000)
    large = float(jnp.finfo(dtype).max)
    for logits, T in (((0.4, 0.9), 1e-8), ((1.0, 2.0), 1e-37), ((0.7, 0.8), 0.1 / large)):
        y = large * jnp.array(logits) if T > 1e-30 else jnp.array(logits)
        np.testing.assert_array_equal(draw(y, T), [0, 1])
    assert topologies.sample_one_hot(0.5) == topologies.sample_one_hot(0.5)


def test_what_cannot_be_fed_is_refused():
    cell = cells.readout(cells.elman(H, dtype=jnp.float64), 2)
    params = cell.init(jax.random.key(0), INPUT_SIZE)
    x, key = normal(0, INPUT_SIZE), jax.random.key(0)
    with pytest.raises(
        ValueError, match=r"feed: got float64\[2\] from y .*expected .*\[3\].*readout"
    ):
        topologies.unroll_feedback(cell, params, x, 3)
    with pytest.raises(ValueError, match=r"steps: got int 0; expected .+\. [A-Z]"):
        topologies.unroll_feedback(cell, params, x, 0)
    with pytest.raises(ValueError, match=r"ratio: got float 1.5; expected .* at most 1"):
        topologies.teacher_forcing(cell, params, x[None], 1.5, key)
    with pytest.raises(ValueError, match=r"temperature: got float -1\.0"):
        sample_one_hot(-1.0)
    with pytest.raises(ValueError, match=r"resets: got .*; expected bool\[1\]\. Pass True"):
        rnn_jax.unroll(cell, params, x[None], resets=jnp.zeros(2, bool))
