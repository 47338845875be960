"""The gradient laboratory: what backpropagation through time does, to the last (t, k) term."""

from rnn_jax.gradients.blocks import state_blocks
from rnn_jax.gradients.bound_checks import check_bounds
from rnn_jax.gradients.bounds import (
    BoundCheck,
    check_bound,
    norm_bound,
    power_bound,
    product_bound,
)
from rnn_jax.gradients.comparison import (
    block_norms,
    comparison_blocks,
    comparison_bound,
    comparison_matrices,
    comparison_matrix,
)
from rnn_jax.gradients.covariant import CovariantVectors, covariant_vectors
from rnn_jax.gradients.decomposition import Decomposition, decompose, decompose_terms
from rnn_jax.gradients.flossing import flossing
from rnn_jax.gradients.gated_bounds import gated_bound, gru_matrix, lstm_matrix
from rnn_jax.gradients.horizon import by_lag, effective_horizon
from rnn_jax.gradients.jacobians import (
    certified_log_norms,
    decay_rate,
    jacobian_log_norms,
    product_log_norms,
    step_jacobians,
)
from rnn_jax.gradients.lags import jacobian_log_norms_by_lag
from rnn_jax.gradients.lyapunov import lyapunov_spectrum
from rnn_jax.gradients.lyapunov_statistics import LyapunovSpectrum
from rnn_jax.gradients.nudges import Nudges, unroll_nudged, zero_nudges
from rnn_jax.gradients.power_iteration import SingularValue, largest_singular_value
from rnn_jax.gradients.regularizers import (
    add_penalty,
    omega,
    orthogonality_penalty,
    recurrent_matrices,
    spectral_norm_penalty,
)
from rnn_jax.gradients.singular_spectra import SingularSpectra, singular_spectra
from rnn_jax.gradients.spectral import LogNorm
from rnn_jax.gradients.step_jacobian import StepJacobian, step_jacobian
from rnn_jax.gradients.truncation import TruncationError, truncated_gradient, truncation_error
from rnn_jax.gradients.windows import WindowedDecomposition, decompose_windows

__all__ = [
    "BoundCheck",
    "CovariantVectors",
    "Decomposition",
    "LogNorm",
    "LyapunovSpectrum",
    "Nudges",
    "SingularSpectra",
    "SingularValue",
    "StepJacobian",
    "TruncationError",
    "WindowedDecomposition",
    "add_penalty",
    "block_norms",
    "by_lag",
    "certified_log_norms",
    "check_bound",
    "check_bounds",
    "comparison_blocks",
    "comparison_bound",
    "comparison_matrices",
    "comparison_matrix",
    "covariant_vectors",
    "decay_rate",
    "decompose",
    "decompose_terms",
    "decompose_windows",
    "effective_horizon",
    "flossing",
    "gated_bound",
    "gru_matrix",
    "jacobian_log_norms",
    "jacobian_log_norms_by_lag",
    "largest_singular_value",
    "lstm_matrix",
    "lyapunov_spectrum",
    "norm_bound",
    "omega",
    "orthogonality_penalty",
    "power_bound",
    "product_bound",
    "product_log_norms",
    "recurrent_matrices",
    "singular_spectra",
    "spectral_norm_penalty",
    "state_blocks",
    "step_jacobian",
    "step_jacobians",
    "truncated_gradient",
    "truncation_error",
    "unroll_nudged",
    "zero_nudges",
]
