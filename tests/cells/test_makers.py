"""What makers of cells refuse, and how a Cell prints."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnn_jax
from rnn_jax import cells, gradients
from rnn_jax.cells import initializers
from tests.helpers import normal

KEY = jax.random.key(0)
FORM = r"(?s)^{}: got .+; expected .+\. [A-Z].+"
BAD = {
    "int": (0, -1, 2.5, True, "4", None, np.float64(3), jnp.ones(2)),
    "float": (jnp.nan, jnp.inf, "1", True, jnp.ones(2), [1.0], 1j),
    "DTypeLike": (int, None, "complex64", "float33", jnp.int8),
    "Initializer": (0.1, "gaussian", jnp.eye(3)),
    "ActivationLike": ("gelu", 3, jax.nn.softmax, lambda a: a.sum(), lambda a: a[:1], np.sort),
    "Cell": (None, cells.lstm, "lstm", {}),
}
DOMAINS = [
    ("leaky", "leak", (0.0, 1.5, -0.1)),
    ("continuous_time", "dt", (0.0, 2.0)),
    ("continuous_time", "tau", (0.0, -1.0)),
    ("antisymmetric", "gamma", (-0.1,)),
    ("antisymmetric_gated", "gamma", (-0.1,)),
    ("cornn", "epsilon", (0.0,)),
    ("lem", "dt", (0,)),
    ("lipschitz", "gamma", (-1.0,)),
    ("lipschitz", "beta", (0.4, 1.1)),
    ("lru", "max_phase", (0.0, -1.0)),
    ("rg_lru", "sharpness", (0.0, -8.0)),
    ("selective", "dt_min", (0.0, 0.2)),
]


@pytest.mark.parametrize("name", cells.CELLS)
def test_every_argument_of_every_maker_is_checked(name):
    make = cells.CELLS[name]
    for argument, parameter in inspect.signature(make).parameters.items():
        for value in BAD[parameter.annotation.removesuffix(" | None")]:
            if value is None and parameter.annotation.endswith("None"):
                continue
            if argument == "hidden_size":
                call = lambda value=value: make(value)
            else:
                call = lambda argument=argument, value=value: make(3, **{argument: value})
            with pytest.raises(ValueError, match=FORM.format(argument)):
                call()


def test_arguments_have_domains():
    for name, argument, values in DOMAINS:
        for value in values:
            with pytest.raises(ValueError, match=FORM.format(argument)):
                cells.CELLS[name](3, **{argument: value})
    lstm = cells.lstm(3)
    for call, argument in (
        (lambda: cells.layer_norm(lstm, epsilon=-1.0), "epsilon"),
        (lambda: cells.layer_norm(lstm, epsilon=0.0), "epsilon"),
        (lambda: cells.readout(cells.lstm, 3), "cell"),
        (lambda: cells.readout(lstm, 2.5), "output_size"),
        (lambda: cells.stack(lstm, cells.gru), r"layers\[1\]"),
        (lambda: cells.residual("lstm"), "cell"),
        (lambda: cells.dropout(lstm, None), "masks"),
        (lambda: cells.dropout(lstm, cells.Masks(recurrent=())), "masks.recurrent"),
        (lambda: cells.learned_initial_state(cells.lstm), "cell"),
        (lambda: cells.elman(3, cells.Activation(jnp.tanh, -1.0)), "activation.sup_derivative"),
        (lambda: cells.gated(3, 1.5, lambda h, a: (a, a)), "blocks"),
        (lambda: initializers.gaussian(-1.0), "std"),
        (lambda: initializers.uniform(1.0, 0.0), "high"),
        (lambda: initializers.orthogonal(jnp.nan), "gain"),
        (lambda: initializers.identity("1"), "scale"),
        (lambda: initializers.sparse_spectral_radius(-1.0), "radius"),
        (lambda: initializers.sparse_spectral_radius(0.9, 0), "connections"),
    ):
        with pytest.raises(ValueError, match=FORM.format(argument)):
            call()


def test_keys_sizes_batches_and_parameters_of_other_cells_are_refused():
    lstm = cells.lstm(3)
    params = lstm.init(KEY, 2)
    xs = jnp.ones((4, 2), jnp.float32)
    for key in (0, None, jax.random.split(KEY), "key"):
        with pytest.raises(ValueError, match=FORM.format("key")):
            lstm.init(key, 2)
    lstm.init(jax.random.PRNGKey(0), np.int64(2))
    for size in (-1, 2.0, None):
        with pytest.raises(ValueError, match=FORM.format("input_size")):
            lstm.init(KEY, size)
    with pytest.raises(ValueError, match=FORM.format("batch")):
        lstm.initial_state(params, 3)
    made = [cell.init(KEY, 2) for cell in (cells.lstm(4), cells.gru(3), cells.readout(lstm, 3))]
    for other in (None, {}, params.W, vars(params), *made):
        for use in (
            lambda p: rnn_jax.unroll(lstm, p, xs),
            lambda p: lstm.initial_state(p, (3,)),
            lambda p: lstm.step(p, lstm.initial_state(params), xs[0]),
            lambda p: gradients.jacobian_log_norms(lstm, p, xs),
        ):
            with pytest.raises(ValueError, match=FORM.format("params")):
                use(other)
    with pytest.raises(
        ValueError, match=r"params: got .*expected those of readout\(lstm\(3\), 2\)"
    ):
        rnn_jax.unroll(cells.readout(lstm, 2), params, xs)
    # One unit of the linear cells would be broadcast to any number of them.
    with pytest.raises(ValueError, match=FORM.format("params")):
        rnn_jax.unroll(cells.diagonal(4), cells.diagonal(1).init(KEY, 2), xs)
    wrong = cells.elman(3, recurrent_init=lambda key, shape, dtype: jnp.zeros(3, dtype))
    with pytest.raises(ValueError, match=FORM.format("recurrent_init")):
        wrong.init(KEY, 2)
    step = lambda p, h, x: (h, (h, h))
    pair = cells.readout(cells.from_function(step, jnp.zeros(3), lambda key, size: {}), 2)
    with pytest.raises(ValueError, match=FORM.format("cell")):
        pair.init(KEY, 2)


def test_integers_of_numpy_and_jax_are_sizes():
    for size in (np.int64(3), np.uint8(3), jnp.asarray(3)):
        for cell in (cells.lstm(size), cells.gated(size, size, lambda h, a: (h, h))):
            assert cell.init(KEY, size).U.shape[1] == 3
        assert cells.readout(cells.gru(3), size).init(KEY, 2).V.shape == (3, 3)
        assert cells.selective(3, state_size=size).init(KEY, 2).A.shape == (3, 3)
    assert repr(cells.lstm(np.int64(3))) == "lstm(3)"


ACTIVE = ("elman", "elman_preactivation", "jordan", "leaky", "indrnn", "continuous_time")


@pytest.mark.parametrize(("name", "phi"), [("elman", jax.nn.gelu), *((n, jnp.sin) for n in ACTIVE)])
def test_any_elementwise_function_is_an_activation(name, phi):
    cell = cells.CELLS[name](4, activation=phi, dtype=jnp.float64)
    p, xs = cell.init(KEY, 3), normal(1, 5, 3)
    ys = rnn_jax.unroll(cell, p, xs)[1]
    np.testing.assert_allclose(ys, rnn_jax.unroll(cell, p, xs, strategy="scan")[1], rtol=1e-12)
    if name == "elman":
        h = np.zeros(4)
        for x, y in zip(xs, ys, strict=True):
            h = np.asarray(phi(p.b + p.W @ h + p.U @ x))
            np.testing.assert_allclose(y, h, rtol=1e-12)
    J = gradients.step_jacobians(cell, p, xs)
    last = rnn_jax.trajectory(cell, p, xs)[-2]
    exact = jax.jacfwd(lambda h: cell.step(p, h, xs[-1])[0])(last)
    np.testing.assert_allclose(J[-1], exact, rtol=1e-11, atol=1e-13)
    assert cell.structure.unitwise
    assert cell.norm_bound_terms is None  # sup |φ'| is not known


def test_an_activation_with_its_supremum_has_a_norm_bound():
    phi = cells.Activation(jnp.sin, 1.0)
    for make in (cells.elman, cells.elman_preactivation, cells.orthogonal_rnn, cells.indrnn):
        cell = make(4, phi, dtype=jnp.float64)
        _, lambda_phi = gradients.norm_bound(cell, cell.init(KEY, 3))
        assert lambda_phi == 1.0

    def learned(slope):
        prelu = lambda a: jnp.where(a > 0, a, slope * a)
        cell = cells.elman(4, prelu, dtype=jnp.float64)
        params = jax.tree.map(jax.lax.stop_gradient, cell.init(KEY, 3))
        return rnn_jax.unroll(cell, params, normal(1, 5, 3), strategy="scan")[1].sum()

    slope, step = 0.25, 1e-6
    numerical = (learned(slope + step) - learned(slope - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(learned)(slope), numerical, rtol=1e-7)


def my_step(p, h, x):
    return h, h


def test_a_cell_prints_as_the_call_that_made_it():
    lstm = cells.lstm(32)
    for cell, text in (
        (cells.elman(64), "elman(64)"),
        (cells.elman(64, "relu"), "elman(64, activation='relu')"),
        (cells.elman(64, "tanh", dtype=jnp.float32), "elman(64)"),
        (cells.leaky(3, 0.5, jax.nn.gelu), "leaky(3, leak=0.5, activation=gelu)"),
        (cells.gru(4, dtype=jnp.bfloat16), "gru(4, dtype=bfloat16)"),
        (
            cells.gru(4, recurrent_init=initializers.gaussian(2.0)),
            "gru(4, recurrent_init=gaussian(...))",
        ),
        (cells.jordan(4, 2), "jordan(4, output_size=2)"),
        (cells.readout(lstm, 5), "readout(lstm(32), 5)"),
        (cells.stack(lstm, cells.residual(cells.gru(32))), "stack(lstm(32), residual(gru(32)))"),
        (cells.learned_initial_state(lstm), "learned_initial_state(lstm(32))"),
        (cells.dropout(lstm, cells.Masks()), "dropout(lstm(32), Masks(...))"),
        (cells.from_function(my_step, jnp.zeros(3)), "from_function(my_step, float64[3])"),
        (cells.gated(8, 1, my_step), "gated(8, 1, my_step)"),
    ):
        assert repr(cell) == text
    anonymous = cells.Cell(lstm.init, lstm.initial_state, my_step)
    assert repr(anonymous) == "Cell(step=my_step)"


def test_a_name_is_no_part_of_equality():
    cell = cells.lstm(3)
    parts = (cell.init, cell.initial_state, cell.step, cell.norm_bound_terms, cell.structure)
    assert cells.Cell(*parts) == cell
    assert hash(cells.Cell(*parts)) == hash(cell)
    assert cells.lstm(3) != cell
