"""The gradient laboratory: what backpropagation through time does, to the last (t, k) term."""

from rnn_jax.gradients.bounds import (
    BoundCheck,
    check_bound,
    norm_bound,
    power_bound,
    product_bound,
)
from rnn_jax.gradients.decomposition import Decomposition, decompose, decompose_terms
from rnn_jax.gradients.jacobians import (
    decay_rate,
    jacobian_log_norms,
    product_log_norms,
    step_jacobians,
)
from rnn_jax.gradients.step_jacobian import StepJacobian, step_jacobian
from rnn_jax.gradients.truncation import TruncationError, truncated_gradient, truncation_error

__all__ = [
    "BoundCheck",
    "Decomposition",
    "StepJacobian",
    "TruncationError",
    "check_bound",
    "decay_rate",
    "decompose",
    "decompose_terms",
    "jacobian_log_norms",
    "norm_bound",
    "power_bound",
    "product_bound",
    "product_log_norms",
    "step_jacobian",
    "step_jacobians",
    "truncated_gradient",
    "truncation_error",
]
