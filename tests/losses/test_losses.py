"""Losses against longer arithmetic, at the edges of every dtype, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from rnn_jax import gradients, losses
from tests.helpers import normal

DTYPES = [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64]


def wide(x):
    return np.asarray(x.astype(jnp.float64)).astype(np.longdouble)


@pytest.mark.parametrize("dtype", DTYPES)
def test_softmax_at_the_edge_of_a_dtype(dtype):
    """Logits up to ±0.9 of the largest number: E and its gradient in NumPy's longest floats."""
    info = jnp.finfo(dtype)
    most = 0.9 * float(info.max)
    draw = np.random.default_rng(0)
    logits = [[most, -most, 0], [-most] * 3, [most] * 3, [100, -100, 0], [-np.inf, 1, 2]]
    logits += list(draw.choice([-1, 0, 1e-3, 0.4, 1], (20, 3)) * most)
    targets = [[1, 0, 0], [0.5, 0.25, 0.25], [0, 0, 1], [0, 1, 0], [0, 0.5, 0.5]]
    targets += list(draw.dirichlet(np.ones(3), 20))
    z, p = jnp.asarray(np.array(logits), dtype), jnp.asarray(np.array(targets), dtype)
    E = losses.softmax_cross_entropy(z, p)
    gradient = jax.grad(lambda z: losses.softmax_cross_entropy(z, p).astype(jnp.float64).sum())(z)

    z_, p_ = wide(z), wide(p)
    with np.errstate(invalid="ignore"):
        shifted = z_ - z_.max(-1, keepdims=True)
        by_term = np.where(p_ == 0, 0, p_ * shifted)
    softmax = np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)
    expected = p_.sum(-1) * np.log(np.exp(shifted).sum(-1)) - by_term.sum(-1)
    tolerance = 20 * float(info.eps)
    assert E.dtype == dtype
    np.testing.assert_allclose(
        wide(E), np.where(expected > float(info.max), np.inf, expected), rtol=tolerance, atol=1e-30
    )
    np.testing.assert_allclose(
        wide(gradient), p_.sum(-1, keepdims=True) * softmax - p_, atol=tolerance
    )
    # Classes are distributions with all on one.
    classes = jnp.array([0, 1, 2, 1, 2, *[0] * 20])
    one_hot = jax.nn.one_hot(classes, 3, dtype=dtype)
    np.testing.assert_allclose(
        losses.softmax_cross_entropy(z, classes).astype(jnp.float64),
        losses.softmax_cross_entropy(z, one_hot).astype(jnp.float64),
        rtol=tolerance,
        atol=1e-30,
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_other_losses_at_the_edge(dtype):
    """½ d² that a dtype holds though d² is beyond it; Bernoulli at ±0.9 of the largest logit."""
    info = jnp.finfo(dtype)
    d = jnp.asarray([1.2 * float(info.max) ** 0.5], dtype)
    expected = 0.5 * wide(d)[0] ** 2
    np.testing.assert_allclose(
        wide(losses.squared_error(d, jnp.zeros(1, dtype))), expected, rtol=4 * float(info.eps)
    )
    most = 0.9 * float(info.max)
    z, t = jnp.asarray([[most], [-most], [most], [0]], dtype), jnp.asarray([[1], [0], [0.5], [1]])
    E = losses.bernoulli_cross_entropy(z, t.astype(dtype)).astype(jnp.float64)
    np.testing.assert_allclose(E, [0, 0, most / 2, np.log(2)], rtol=0.01)


def test_the_mean_squared_error_is_a_mean_over_outputs():
    y, target = normal(0, 4, 5), normal(1, 4, 5)
    E = losses.mean_squared_error(y, target)
    np.testing.assert_allclose(E, (np.asarray(y - target) ** 2).mean(-1), rtol=1e-12)
    np.testing.assert_allclose(E, 2 / 5 * losses.squared_error(y, target), rtol=1e-12)


def test_dtypes_and_integers():
    """Nothing is promoted by surprise: the wider float, integers as numbers."""
    y = normal(0, 4, 3)
    E = losses.squared_error(y, jnp.ones((4, 3), jnp.int32))
    np.testing.assert_allclose(E, 0.5 * ((np.asarray(y) - 1) ** 2).sum(-1))
    for a, b, c in (
        (jnp.float16, jnp.bfloat16, jnp.float32),
        (jnp.bfloat16, jnp.float32, jnp.float32),
        (jnp.float64, jnp.float32, jnp.float64),
    ):
        p = jax.nn.softmax(y)
        for loss in (losses.squared_error, losses.bernoulli_cross_entropy):
            assert loss(y.astype(a), p.astype(b)).dtype == c
        assert losses.softmax_cross_entropy(y.astype(a), p.astype(b)).dtype == c
    for classes in (jnp.int8, jnp.uint8, jnp.int64):  # 300 classes do not fit in int8
        z = normal(1, 2, 300)
        E = losses.softmax_cross_entropy(z, jnp.array([3, 100], classes))
        np.testing.assert_allclose(
            E, special.logsumexp(z, -1) - np.asarray(z)[[0, 1], [3, 100]], rtol=1e-12
        )


REFUSED = [
    (losses.softmax_cross_entropy, normal(0, 2, 3), jnp.array([0, -1]), "target"),
    (losses.softmax_cross_entropy, normal(0, 2, 3), jnp.array([0, 3]), "target"),
    (losses.softmax_cross_entropy, normal(0, 2, 3), jnp.full((2, 3), -0.5), "target"),
    (losses.bernoulli_cross_entropy, normal(0, 2, 3), jnp.full((2, 3), 5.0), "target"),
    (losses.bernoulli_cross_entropy, normal(0, 2, 3), jnp.full((2, 3), -1, jnp.int32), "target"),
    (losses.at_last_step, normal(0, 4, 2, 3), jnp.array([0, 4]), "lengths"),
    (losses.at_last_step, normal(0, 4, 2, 3), jnp.array([-1, 4]), "lengths"),
    (losses.at_last_step, normal(0, 4, 2, 3), jnp.array([5, 4], jnp.int8), "lengths"),
]


@pytest.mark.parametrize(("function", "y", "other", "argument"), REFUSED)
def test_out_of_range(function, y, other, argument):
    """An error outside `jit`; inside NaN, in value and gradient, of that example alone."""
    with pytest.raises(ValueError, match=rf"(?s)^{argument}: got .+; expected .+\. [A-Z].+"):
        function(y, other)
    with pytest.raises(ValueError, match=f"^{argument}: got"):
        jax.grad(lambda y: function(y, other).sum())(y)
    values = jax.jit(function)(y, other)
    gradient = jax.jit(jax.grad(lambda y, other: function(y, other).sum()))(y, other)
    wrong = np.isnan(np.asarray(values)).reshape(2, -1).any(-1)
    assert wrong.any()
    by_example = np.isnan(np.asarray(gradient)).reshape(-1, 2, 3).any((0, 2))
    np.testing.assert_array_equal(by_example, wrong)
    if not jnp.issubdtype(other.dtype, jnp.floating) and other.shape == (2,):
        assert wrong.sum() == 1


def test_lengths_of_every_kind():
    ys, target = normal(0, 4, 2, 3), normal(1, 2, 3)
    expected = losses.squared_error(jnp.stack([ys[1, 0], ys[3, 1]]), target)
    for lengths in (
        [2, 4],
        (2, 4),
        np.array([2, 4]),
        jnp.array([2, 4], jnp.int8),
        np.array([2, 4], np.uint64),
    ):
        got = losses.last_step(losses.squared_error, ys, target, lengths)
        np.testing.assert_allclose(got, expected, rtol=1e-15)
    traced = jax.jit(lambda n: losses.last_step(losses.squared_error, ys, target, n))
    np.testing.assert_allclose(traced(jnp.array([2, 4])), expected, rtol=1e-15)
    np.testing.assert_array_equal(losses.at_last_step(ys[:, 0], 2), ys[1, 0])
    for lengths in ([2], [2.0, 4.0], ["a", "b"], [[2], [4, 1]], None, "no", [True, False], {}):
        if lengths is not None:
            with pytest.raises(ValueError, match=r"^lengths: got .+; expected .+\. [A-Z].+"):
                losses.at_last_step(ys, lengths)
    with pytest.raises(ValueError, match="ys: got"):
        losses.at_last_step(ys[:0])


def test_a_loss_is_one_number_for_each_example():
    """Not an array where a number is promised, nor one number for the whole batch."""
    ys, targets = normal(0, 4, 2, 3), normal(1, 4, 2, 3)
    for loss in (
        lambda y, t: jnp.square(y - t),
        lambda y, t: jnp.square(y - t).sum(),
        lambda y, t: (y > t).any(-1),
        lambda y, t: None,
        "squared",
    ):
        for run in (losses.per_step, jax.jit(losses.per_step, static_argnums=0)):
            with pytest.raises((ValueError, TypeError), match=r"loss: got|static argument"):
                run(loss, ys, targets)
        with pytest.raises(ValueError, match=r"^loss: got .+; expected .+\. [A-Z].+"):
            losses.last_step(loss, ys, targets[0])


def test_tables_of_logarithms():
    """Integers are numbers or refused, and what is no table is named."""
    for table in (jnp.zeros((3, 4)), jnp.zeros((0, 0)), jnp.zeros((3, 3), jnp.int32), [[0.0]]):
        with pytest.raises(ValueError, match=r"^log_norms: got .+; expected .+\. [A-Z].+"):
            gradients.by_lag(table)
    profile = [0, -1, -2, -3]
    for given in (profile, np.array(profile), jnp.array(profile, jnp.float16)):
        np.testing.assert_allclose(gradients.effective_horizon(given, factor=np.exp(2)), 2)
    for bad in ([], 1.0, "no", [[1], [2, 3]], jnp.zeros((0, 2)), jnp.zeros(3, complex), None):
        with pytest.raises(ValueError, match=r"^log_left: got .+; expected .+\. [A-Z].+"):
            gradients.effective_horizon(bad)
    for factor in (1, np.nan, "2", np.inf, True):
        with pytest.raises(ValueError, match=r"^factor: got .+; expected .+\. [A-Z].+"):
            gradients.effective_horizon(jnp.zeros(3), factor=factor)
    # Lags beyond 2048 are counted in float32 where the logarithms are in half precision.
    g = jnp.where(jnp.arange(4001) < 3999, 0.0, -2).astype(jnp.float16)
    np.testing.assert_allclose(gradients.effective_horizon(g), 3998.5)
