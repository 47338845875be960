"""Bad input: argument, got, expected, remedy."""

import jax
import jax.numpy as jnp
import pytest

import rnn_jax
from experiments.gradient_decay import Config, main
from rnn_jax import cells, gradients, losses, tasks, training
from tests.helpers import normal

H, I, T, B = 4, 3, 5, 2
CELL = cells.lstm(H, dtype=jnp.float64)
XS = normal(1, T, B, I)
START = cells.LSTMState(c=jnp.zeros((B, H)), h=jnp.zeros((B, H)))


@pytest.fixture(scope="module")
def params():
    return CELL.init(jax.random.key(0), I)


def message(argument, *words):
    """got ... expected ..., a remedy after it, and these words in this order."""
    return (
        rf"(?s)^{argument}: got .+; expected .+\. [A-Z].+"
        if not words
        else (rf"(?s)^{argument}: got .*" + ".*".join(words))
    )


@pytest.mark.parametrize(
    ("xs", "words"),
    [
        (XS[:0], ["0, 2, 3", "at least 1"]),
        (XS[:, :, 0][:, 0], [r"float64\[5\]", r"\[T, \*batch, I\]"]),
        (normal(1, T, B, I + 1), [r"2, 4", r"\[\*batch, 3\]", "cell.init"]),
        (XS.astype(jnp.float32), ["float32", "float64", "astype"]),
        (jnp.ones((T, B, I), jnp.int32), ["int32", "float64", "one_hot"]),
        ([[1.0]], ["float", r"\[T, \*batch, I\]"]),
    ],
)
def test_sequences(params, xs, words):
    loss = losses.squared_error
    for run in (
        lambda: rnn_jax.unroll(CELL, params, xs),
        lambda: rnn_jax.trajectory(CELL, params, xs),
        lambda: gradients.step_jacobians(CELL, params, xs),
        lambda: gradients.jacobian_log_norms(CELL, params, xs),
        lambda: gradients.decompose(CELL, params, xs, jnp.zeros((T, B, H)), loss),
        lambda: gradients.decompose_terms(CELL, params, xs, jnp.zeros((T, B, H)), loss),
        lambda: gradients.truncated_gradient(
            CELL, params, xs, jnp.zeros((T, B, H)), loss, k1=1, k2=2
        ),
    ):
        with pytest.raises(ValueError, match=message("xs", *words)):
            run()


@pytest.mark.parametrize(
    "start",
    [
        cells.LSTMState(c=jnp.zeros((B, H + 1)), h=jnp.zeros((B, H))),
        cells.LSTMState(c=jnp.zeros(H), h=jnp.zeros(H)),
        jax.tree.map(lambda leaf: leaf.astype(jnp.float32), START),
        jnp.zeros((B, H)),
    ],
)
def test_initial_states(params, start):
    with pytest.raises(ValueError, match=message("initial_state")):
        rnn_jax.unroll(CELL, params, XS, start)


@pytest.mark.parametrize(
    "lengths",
    [[T + 1, 1], [-1, 1], [1, 2, 3], [1.0, 2.0]],
    ids=["long", "negative", "shape", "float"],
)
def test_lengths(params, lengths):
    with pytest.raises(ValueError, match=message("lengths")):
        rnn_jax.unroll(CELL, params, XS, lengths=jnp.array(lengths))


def test_a_step_that_changes_its_state():
    cell = cells.from_function(lambda p, h, x: (h.astype(jnp.float32), x), jnp.zeros(H))
    with pytest.raises(ValueError, match=message("cell.step", "float32", "float64")):
        rnn_jax.unroll(cell, {}, XS)


def test_cells():
    for make in cells.CELLS.values():
        for size in (0, -1, 2.5, True):
            with pytest.raises(ValueError, match=message("hidden_size")):
                make(size)
        with pytest.raises(ValueError, match=message("input_size")):
            make(3).init(jax.random.key(0), -1)
    for make in (cells.elman, cells.jordan, cells.leaky, cells.indrnn, cells.orthogonal_rnn):
        with pytest.raises(ValueError, match=message("activation", "tanh")):
            make(3, activation="gelu")
    for make, argument, value in (
        (cells.leaky, "leak", 0.0),
        (cells.continuous_time, "dt", 2.0),
        (cells.continuous_time, "tau", -1.0),
        (cells.antisymmetric, "dt", 0),
        (cells.antisymmetric_gated, "dt", "fast"),
        (cells.cornn, "epsilon", -1.0),
        (cells.lipschitz, "beta", 0.2),
        (cells.lru, "r_min", 1.0),
        (cells.rg_lru, "a_min", 0.0),
        (cells.selective, "state_size", 0),
        (cells.jordan, "output_size", 0),
    ):
        with pytest.raises(ValueError, match=message(argument)):
            make(3, **{argument: value})
    with pytest.raises(ValueError, match=message("output_size")):
        cells.readout(CELL, 0)
    with pytest.raises(ValueError, match=message("init")):
        cells.from_function(lambda p, h, x: (h, h), jnp.zeros(2)).init(jax.random.key(0), 1)
    with pytest.raises(ValueError, match=message("shape")):
        cells.initializers.sparse_spectral_radius()(jax.random.key(0), (3, 4))


def test_targets():
    ys = normal(1, T, B, H)
    for loss in (
        losses.squared_error,
        losses.bernoulli_cross_entropy,
        losses.softmax_cross_entropy,
    ):
        with pytest.raises(ValueError, match=message("target")):
            losses.per_step(loss, ys, normal(1, T, B, 1))
        with pytest.raises(ValueError, match=message("targets")):
            losses.per_step(loss, ys, normal(1, T - 1, B, H))
    with pytest.raises(ValueError, match=message("target")):
        losses.softmax_cross_entropy(ys, jnp.zeros((T, B, H), jnp.int32))
    with pytest.raises(ValueError, match=message("mask")):
        losses.per_step(losses.squared_error, ys, ys, jnp.ones((T, B)))


def test_laboratory(params):
    with pytest.raises(ValueError, match=message("norm", "spectral, frobenius")):
        gradients.jacobian_log_norms(CELL, params, XS, norm="nuclear")
    with pytest.raises(ValueError, match=message("log_bound")):
        gradients.check_bound(jnp.zeros((4, 4)), jnp.zeros((5, 5)), state_size=2)


def test_decomposition_targets(params):
    for targets in (jnp.zeros((T - 1, B, H)), jnp.zeros((T, B + 1, H)), None):
        for tool in (gradients.decompose, gradients.decompose_terms):
            with pytest.raises(ValueError, match=message("targets", r"\[5, 2, \.\.\.\]")):
                tool(CELL, params, XS, targets, losses.squared_error)
        with pytest.raises(ValueError, match=message("targets", r"\[5, 2, \.\.\.\]")):
            gradients.truncated_gradient(
                CELL, params, XS, targets, losses.squared_error, k1=1, k2=2
            )


def test_truncation(params):
    targets = jnp.zeros((T, B, H))
    run = lambda k1, k2s: gradients.truncation_error(
        CELL, params, XS, targets, losses.squared_error, k1=k1, k2s=k2s
    )
    for k1 in (0, 1.5, True, None):
        with pytest.raises(ValueError, match=message("k1", "at least 1")):
            run(k1, [3])
    for k2 in (1, 2.0, None):
        with pytest.raises(ValueError, match=message("k2s", "at least 2", "k1")):
            run(2, [3, k2])
    with pytest.raises(ValueError, match=message("k2s", "at least one")):
        run(1, [])


def test_training():
    import optax

    with pytest.raises(ValueError, match=message("clip_norm")):
        training.make_train_step(lambda p, b: p, optax.sgd(1.0), clip_norm=0.0)
    state = training.create_train_state(jnp.zeros(()), optax.sgd(1.0))
    step = training.make_train_step(lambda p, b: p, optax.sgd(1.0))
    with pytest.raises(ValueError, match=message("steps")):
        training.fit(step, state, lambda i: None, 0)
    with pytest.raises(ValueError, match=message("members")):
        training.over_ensemble(lambda x: x, 0)


def test_stateful_training(params):
    import optax

    optimizer, loss = optax.sgd(1.0), losses.squared_error
    for size in (0, 2.0):
        with pytest.raises(ValueError, match=message("batch_size")):
            training.create_stateful_train_state(CELL, params, optimizer, size)
    for wrong in ({"k1": 1}, {"k2": 1}):
        with pytest.raises(ValueError, match=message("k2", "both or none")):
            training.make_stateful_train_step(CELL, loss, optimizer, **wrong)
    with pytest.raises(ValueError, match=message("clip_norm")):
        training.make_stateful_train_step(CELL, loss, optimizer, clip_norm=-1.0)
    step = training.make_stateful_train_step(CELL, loss, optimizer)
    state = training.create_stateful_train_state(CELL, params, optimizer, B)
    targets = jnp.zeros((T, B, H))
    with pytest.raises(ValueError, match=message("xs", "B = 2 streams", "create_stateful")):
        step(state, (XS[:, :1], targets[:, :1]))
    for starts in (jnp.ones(B), jnp.ones((T, B), bool)):
        with pytest.raises(ValueError, match=message("starts", r"bool\[2\]")):
            step(state, (XS, targets, starts))


def test_text_files(tmp_path):
    empty, latin, short = (tmp_path / name for name in ("empty.txt", "latin.txt", "short.txt"))
    empty.touch()
    latin.write_bytes("caf\u00e9 au lait".encode("latin-1"))
    short.write_text("a")
    with pytest.raises(ValueError, match=message("text", "empty.txt")):
        tasks.load_text(empty)
    with pytest.raises(ValueError, match=message("text", "0xe9 at offset 3", "UTF-8", "iconv")):
        tasks.load_text(latin)
    with pytest.raises(ValueError, match=message("text", "1 characters")):
        tasks.load_text(short)
    with pytest.raises(FileNotFoundError, match=r"missing\.txt"):
        tasks.load_text(tmp_path / "missing.txt")
    with pytest.raises(ValueError, match=message("held_out_fraction")):
        tasks.load_text(held_out_fraction=1.0)
    text = tasks.load_text()
    for T in (0, len(text)):
        with pytest.raises(ValueError, match=message("T")):
            tasks.next_character(text, T=T, batch_size=1)
    for T in (0, 2.0, len(text.train) // 3 + 1):
        with pytest.raises(ValueError, match=message("T", "each of 3 streams")):
            tasks.consecutive_characters(text, T=T, batch_size=3)
    with pytest.raises(ValueError, match=message("batch_size")):
        tasks.consecutive_characters(text, T=5, batch_size=0)
    with pytest.raises(ValueError, match=message("symbols")):
        tasks.streams(text.held_out[:4], count=4)


def test_run_folders(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(OSError, match=message("out")):
        main(Config(out=tmp_path / "file" / "run"))
    with pytest.raises(OSError, match=message("out")):
        main(Config(out="/proc/run"))
