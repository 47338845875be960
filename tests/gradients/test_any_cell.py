"""A user's function, a Flax cell and an Equinox cell in every tool of the laboratory. In float64.

Three LSTMs are held against ours with the same weights: the tools see their step alone, where ours
shows its structure, and must say the same.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

import rnn_jax
from rnn_jax import cells, gradients, interop, losses, training
from rnn_jax.cells._structured import AffineParams
from tests.helpers import normal

T, B, I, H = 4, 2, 3, 4
DOUBLE = {"dtype": jnp.float64}
GATES = "ifog"


def user_step(p, state, x):
    """An LSTM as somebody would write it: a dict for each gate, the input from the left."""
    i, f, o, g = (x @ p[k]["U"] + p[k]["W"] @ state["h"] + p[k]["b"] for k in GATES)
    c = jax.nn.sigmoid(f) * state["c"] + jax.nn.sigmoid(i) * jnp.tanh(g)
    h = jax.nn.sigmoid(o) * jnp.tanh(c)
    return {"c": c, "h": h}, h


def user_init(key, input_size):
    shapes = {"U": (input_size, H), "W": (H, H), "b": (H,)}
    draw = lambda shape, key: jax.random.normal(key, shape, jnp.float64)
    keys = jax.random.split(key, (len(GATES), len(shapes)))
    return {
        gate: dict(zip(shapes, map(draw, shapes.values(), keys[n]), strict=True))
        for n, gate in enumerate(GATES)
    }


def user_params_as_ours(p):
    stacked = lambda name: jnp.concatenate([p[gate][name] for gate in GATES])
    U = jnp.concatenate([p[gate]["U"].T for gate in GATES])
    return AffineParams(W=stacked("W"), U=U, b=stacked("b"))


def equinox_step(module, state, x):
    """Their state is (h, c), in the order of ours."""
    h, c = module(x, state[::-1])
    return (c, h), h


class Guest(NamedTuple):
    """A cell from elsewhere.

    Attributes:
      cell: the guest.
      convert: its params, or a gradient like them, as ours.
      inputs: what it reads in place of `xs [T, *batch, I]`.
    """

    cell: rnn_jax.Cell
    convert: Callable[[Any], Any]
    inputs: Callable[[Any], Any] = lambda xs: xs


GUESTS = {
    "user's function": Guest(
        cells.from_function(user_step, {"c": jnp.zeros(H), "h": jnp.zeros(H)}, user_init),
        user_params_as_ours,
    ),
    "user's function of two inputs": Guest(
        cells.from_function(
            lambda p, state, x: user_step(p, state, jnp.concatenate([x["first"], x["rest"]])),
            {"c": jnp.zeros(H), "h": jnp.zeros(H)},
            user_init,
        ),
        user_params_as_ours,
        lambda xs: {"first": xs[..., :1], "rest": xs[..., 1:]},
    ),
    "linen LSTMCell": Guest(
        interop.from_linen(nn.LSTMCell(H, param_dtype=jnp.float64)),
        functools.partial(interop.import_weights, "linen", "lstm"),
    ),
    "equinox LSTMCell": Guest(
        interop.from_equinox(
            lambda n, key: eqx.nn.LSTMCell(n, H, **DOUBLE, key=key),
            (jnp.zeros(H), jnp.zeros(H)),
            equinox_step,
        ),
        functools.partial(interop.import_weights, "equinox", "lstm"),
    ),
}
OURS = cells.lstm(H, **DOUBLE)


class Network(NamedTuple):
    """What a tool is given; `like_params` and `norms` put what is like its params in our layout."""

    cell: rnn_jax.Cell
    params: Any
    like_params: Callable[[Any], Any] = lambda tree: tree
    norms: Callable[[Any], Any] = lambda tree: tree
    inputs: Callable[[Any], Any] = lambda xs: xs

    @property
    def run(self):
        return self.cell, self.params, self.inputs(normal(1, T, B, I))

    @property
    def task(self):
        return *self.run, normal(2, T, B, H), losses.squared_error


def norms_of_blocks(convert, params):
    """ln of norms for each of our leaves, from those of the leaves that it is made of."""
    leaves, tree = jax.tree.flatten(params)
    numbered = [jnp.full_like(leaf, n) for n, leaf in enumerate(leaves)]
    parts = jax.tree.map(
        lambda leaf: np.unique(leaf).astype(int), convert(tree.unflatten(numbered))
    )
    assert sorted(np.concatenate(jax.tree.leaves(parts))) == list(range(len(leaves)))

    def norms(logs):
        logs = jnp.stack(jax.tree.leaves(logs))
        return jax.tree.map(lambda part: jax.nn.logsumexp(2 * logs[part], axis=0) / 2, parts)

    return norms


def states_and_jacobians(net):
    return jax.tree.leaves(rnn_jax.trajectory(*net.run)), gradients.step_jacobians(*net.run)


def log_norms(net):
    """The table, the bound that serves every cell, and what is read off the table."""
    J = gradients.step_jacobians(*net.run)
    table = gradients.jacobian_log_norms(*net.run)
    check = gradients.check_bound(table, gradients.product_bound(J), state_size=J.shape[-1])
    horizon = gradients.effective_horizon(gradients.by_lag(table), factor=2)
    return table, check.slack, check.violations, gradients.decay_rate(table), horizon


def log_norms_of_a_block(net):
    """∂c_t/∂c_k: c is the first leaf of all, and named "c", or "0" in a tuple."""
    first, *_ = gradients.state_blocks(*net.run[:2])
    return gradients.jacobian_log_norms(*net.run, block=(first, first), norm="frobenius")


def log_norms_by_lag(net, times=None):
    return gradients.jacobian_log_norms_by_lag(*net.run, lags=(1, 3), times=times).value


def singular_spectra(net):
    return gradients.singular_spectra(*net.run, lags=(1, T)).log_values


def decomposition(net):
    parts = gradients.decompose(*net.task)
    return parts.state_log_norms, net.norms(parts.param_log_norms)


def decomposition_terms(net):
    terms = gradients.decompose_terms(*net.task)
    return jax.vmap(jax.vmap(net.like_params))(terms)


def decomposition_windows(net):
    parts = gradients.decompose_windows(*net.task, max_lag=2)
    return parts.state_log_norms, net.norms(parts.param_log_norms)


def truncation(net):
    E, gradient, final = gradients.truncated_gradient(*net.task, k1=1, k2=2)
    return E, net.like_params(gradient), jax.tree.leaves(final)


def truncation_error(net):
    error = gradients.truncation_error(*net.task, k1=2, k2s=(3,))
    return error.cosine, error.relative_error


def lyapunov(net):
    return gradients.lyapunov_spectrum(*net.run, num_exponents=3, interval=2, blocks=3)


def covariant(net):
    return gradients.covariant_vectors(*net.run, num_exponents=3, warmup=1, cooldown=1)


def flossing(net):
    floss = lambda p: gradients.flossing(net.cell, p, *net.run[2:], num_exponents=3)
    value, gradient = jax.value_and_grad(floss)(net.params)
    return value, net.like_params(gradient)


def omega(net):
    cell, params, xs, targets, loss = net.task
    E = lambda ys: losses.per_step(loss, ys, targets)
    penalty = lambda p: gradients.omega(cell, p, xs, E)
    value, gradient = jax.value_and_grad(penalty)(params)
    return value, net.like_params(gradient)


def nudged(net):
    cell, params, xs, targets, loss = net.task
    E = lambda n: losses.per_step(
        loss, gradients.unroll_nudged(cell, params, xs, n)[1], targets
    ).sum()
    return jax.tree.leaves(jax.grad(E)(gradients.zero_nudges(cell, params, xs)))


def monitored_training(net):
    """One step with every measurement, and penalties on the recurrent matrices of the gates."""
    cell, params, xs, targets, loss = net.task
    blocks = lambda p: net.like_params(p).W.reshape(-1, H, H)

    def penalty(p):
        spectral = gradients.spectral_norm_penalty(blocks(p), iterations=300)
        return spectral + gradients.orthogonality_penalty(blocks(p))

    def mean_loss(p, batch, unroll=rnn_jax.unroll):
        return losses.per_step(loss, unroll(cell, p, batch[0])[1], batch[1]).mean()

    optimizer = optax.chain(gradients.add_penalty(penalty, 0.1), optax.sgd(0.1))
    telemetry = training.Telemetry(cell, matrices=lambda p: {"W": blocks(p)})
    step = training.make_monitored_train_step(mean_loss, optimizer, telemetry, clip_norm=0.01)
    state = training.create_monitored_train_state(params, optimizer, telemetry)
    state, metrics = step(state, (xs, targets))
    return net.like_params(state.params), metrics


TOOLS = {
    "step_jacobians": states_and_jacobians,
    "jacobian_log_norms": log_norms,
    "named block": log_norms_of_a_block,
    "by lag": log_norms_by_lag,
    "by lag, matrix-free": functools.partial(log_norms_by_lag, times=(T,)),
    "singular_spectra": singular_spectra,
    "decompose": decomposition,
    "decompose_terms": decomposition_terms,
    "decompose_windows": decomposition_windows,
    "truncated_gradient": truncation,
    "truncation_error": truncation_error,
    "lyapunov_spectrum": lyapunov,
    "covariant_vectors": covariant,
    "flossing": flossing,
    "omega": omega,
    "unroll_nudged": nudged,
    "monitored training": monitored_training,
}
"""Each `Network -> pytree of arrays`, the same for the same network however it is written."""


@functools.cache
def params_of(guest):
    """Random leaves: no bias that is zero."""
    leaves, tree = jax.tree.flatten(GUESTS[guest].cell.init(jax.random.key(0), I))
    return tree.unflatten(
        [normal(3 + n, *leaf.shape, dtype=leaf.dtype) / 2 for n, leaf in enumerate(leaves)]
    )


@functools.cache
def on_ours(tool):
    """One program for all guests."""
    return jax.jit(lambda params: TOOLS[tool](Network(OURS, params)))


def pairs():
    """All guests with all tools; on every run each tool meets one guest, each guest some tools."""
    for n, tool in enumerate(TOOLS):
        often = list(GUESTS)[n % len(GUESTS)]
        for guest in GUESTS:
            yield pytest.param(guest, tool, marks=() if guest == often else pytest.mark.all_cells)


@pytest.mark.parametrize(("guest", "tool"), list(pairs()))
@pytest.mark.usefixtures("optax_promotes")
def test_every_tool_says_of_a_guest_what_it_says_of_ours(guest, tool):
    cell, convert, inputs = GUESTS[guest]
    assert cell.structure is None
    params = params_of(guest)
    norms = norms_of_blocks(convert, params)
    got = jax.jit(lambda p: TOOLS[tool](Network(cell, p, convert, norms, inputs)))(params)
    expected = on_ours(tool)(convert(params))
    chex.assert_trees_all_close(got, expected, rtol=1e-10, atol=1e-10)
    numbers = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(got)])
    assert np.isfinite(numbers).mean() > 0.3


@pytest.mark.parametrize("guest", GUESTS)
def test_every_bound_holds_for_a_guest(guest):
    """Out of jit, for its singular values; ours is asked for those of the blocks as well."""
    cell, convert, inputs = GUESTS[guest]
    params, xs = params_of(guest), normal(1, T, I)
    checks = gradients.check_bounds(cell, params, inputs(xs))
    assert checks.keys() == {"product", "comparison"}
    for check in checks.values():
        assert check.violations == 0
        assert check.worst_excess < 0.1
    exact = gradients.comparison_matrices(OURS, convert(params), xs, exact=True)
    np.testing.assert_allclose(
        gradients.comparison_matrices(cell, params, inputs(xs), exact=True), exact, rtol=1e-10
    )
