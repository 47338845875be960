"""The gradient laboratory: what backpropagation through time does, to the last (t, k) term."""

from rnn_jax.gradients.bounds import (
    BoundCheck,
    check_bound,
    norm_bound,
    power_bound,
    product_bound,
)
from rnn_jax.gradients.covariant import CovariantVectors, covariant_vectors
from rnn_jax.gradients.decomposition import Decomposition, decompose, decompose_terms
from rnn_jax.gradients.flossing import flossing
from rnn_jax.gradients.jacobians import (
    decay_rate,
    jacobian_log_norms,
    product_log_norms,
    step_jacobians,
)
from rnn_jax.gradients.lyapunov import LyapunovSpectrum, lyapunov_spectrum
from rnn_jax.gradients.nudges import Nudges, unroll_nudged, zero_nudges
from rnn_jax.gradients.power_iteration import SingularValue, largest_singular_value
from rnn_jax.gradients.regularizers import (
    add_penalty,
    omega,
    orthogonality_penalty,
    recurrent_matrices,
    spectral_norm_penalty,
)
from rnn_jax.gradients.step_jacobian import StepJacobian, step_jacobian
from rnn_jax.gradients.truncation import TruncationError, truncated_gradient, truncation_error
from rnn_jax.gradients.windows import WindowedDecomposition, decompose_windows

__all__ = [
    "BoundCheck",
    "CovariantVectors",
    "Decomposition",
    "LyapunovSpectrum",
    "Nudges",
    "SingularValue",
    "StepJacobian",
    "TruncationError",
    "WindowedDecomposition",
    "add_penalty",
    "check_bound",
    "covariant_vectors",
    "decay_rate",
    "decompose",
    "decompose_terms",
    "decompose_windows",
    "flossing",
    "jacobian_log_norms",
    "largest_singular_value",
    "lyapunov_spectrum",
    "norm_bound",
    "omega",
    "orthogonality_penalty",
    "power_bound",
    "product_bound",
    "product_log_norms",
    "recurrent_matrices",
    "spectral_norm_penalty",
    "step_jacobian",
    "step_jacobians",
    "truncated_gradient",
    "truncation_error",
    "unroll_nudged",
    "zero_nudges",
]
