"""What theories refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import theory
from rnn_jax.theory import correlation, critical_gain, critical_line, mean_field

OUTSIDE = [
    (mean_field, (-1.5,), "weight_std"),
    (mean_field, (1.5, np.inf), "bias_std"),
    (correlation, (1.5, 0.0, -1.0), "input_std"),
    (lambda rho: correlation(1.5, input_correlation=rho), (2.0,), "input_correlation"),
    (critical_gain, (-1.0,), "bias_std"),
    (critical_line, (-1.0,), "q"),
    (theory.linear_state_power, (2.0,), "factor"),
    (theory.linear_sensitivity_power, (-1.0,), "factor"),
    (theory.normalized_sensitivity_power, (-0.5,), "factor"),
    (theory.forget_rate, (0.0, -1.0), "variance"),
    (theory.gru_mean_field, (-1.0, 1.0), "weight_std"),
    (theory.tied_growth, (0.1, -0.1, 0.1), "q"),
    (theory.tied_growth, (1.0, 1.0, 1.0, -3.0), "v"),
    (theory.fraction_of_exponents_below, (-0.1, 1.5), "weight_std"),
    (lambda std: theory.gaussian_product_exponents(3, std), (-1.0,), "std"),
    (lambda q: theory.gaussian_mean(jnp.tanh, q), (-1.0,), "q"),
    (lambda q, c: theory.gaussian_pair_mean(jnp.tanh, q, c), (1.0, 1.1), "c"),
]


@pytest.mark.parametrize(("function", "at", "argument"), OUTSIDE)
def test_what_has_no_answer_is_refused(function, at, argument):
    """Outside `jit` by an error, inside by NaN."""
    with pytest.raises(ValueError, match=rf"(?s)^{argument}: got .+; expected .+\. [A-Z].+"):
        function(*at)
    traced = jax.jit(function)(*at)
    floats = [x for x in jax.tree.leaves(traced) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert all(jnp.isnan(x).all() for x in floats)
    assert not getattr(traced, "converged", jnp.array(False)).any()


def test_activations_that_are_none():
    for activation in ("tanhh", None, 3, np.tanh, jnp.sum, lambda x: x > 0, lambda x: x[0]):
        with pytest.raises(ValueError, match=r"^activation: got .+; expected .+\. [A-Z].+"):
            mean_field(1.5, activation=activation)
    # A kink elsewhere than at zero is not resolved, which is said.
    assert not mean_field(1.5, 0.5, activation=jax.nn.hard_tanh).converged
