"""The gradient laboratory: what backpropagation through time does, to the last (t, k) term."""

from rnn_jax.gradients.bounds.check_bounds import check_bounds
from rnn_jax.gradients.bounds.comparison_matrices import (
    block_norms,
    comparison_blocks,
    comparison_bound,
    comparison_matrices,
    comparison_matrix,
)
from rnn_jax.gradients.bounds.gated_matrices import gated_bound, gru_matrix, lstm_matrix
from rnn_jax.gradients.bounds.norm_bounds import (
    BoundCheck,
    check_bound,
    norm_bound,
    power_bound,
    product_bound,
)
from rnn_jax.gradients.decomposition.decomposition import Decomposition, decompose, decompose_terms
from rnn_jax.gradients.decomposition.truncation import (
    TruncationError,
    truncated_gradient,
    truncation_error,
)
from rnn_jax.gradients.decomposition.windowed_decomposition import (
    WindowedDecomposition,
    decompose_windows,
)
from rnn_jax.gradients.jacobians.decay_rate import decay_rate
from rnn_jax.gradients.jacobians.horizon_by_lag import by_lag, effective_horizon
from rnn_jax.gradients.jacobians.input_norms import input_log_norms
from rnn_jax.gradients.jacobians.log_norms import (
    certified_log_norms,
    jacobian_log_norms,
    product_log_norms,
)
from rnn_jax.gradients.jacobians.norms_by_lag import jacobian_log_norms_by_lag
from rnn_jax.gradients.jacobians.singular_spectra import SingularSpectra, singular_spectra
from rnn_jax.gradients.jacobians.state_blocks import state_blocks
from rnn_jax.gradients.jacobians.step_jacobians import step_jacobians
from rnn_jax.gradients.lyapunov.covariant_vectors import CovariantVectors, covariant_vectors
from rnn_jax.gradients.lyapunov.lyapunov_spectrum import lyapunov_spectrum
from rnn_jax.gradients.lyapunov.spectrum_statistics import LyapunovSpectrum
from rnn_jax.gradients.regularization.flossing import flossing
from rnn_jax.gradients.regularization.omega import omega
from rnn_jax.gradients.regularization.penalties import (
    add_penalty,
    orthogonality_penalty,
    spectral_norm_penalty,
)
from rnn_jax.gradients.regularization.recurrent_matrices import recurrent_matrices
from rnn_jax.gradients.step.perturbations import Nudges, unroll_nudged, zero_nudges
from rnn_jax.gradients.step.step_jacobian import StepJacobian, step_jacobian
from rnn_jax.linalg.largest_singular_value import SingularValue, largest_singular_value
from rnn_jax.linalg.norms import LogNorm

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
    "input_log_norms",
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
