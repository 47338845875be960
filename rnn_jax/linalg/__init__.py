"""Linear algebra for matrices of any scale, rank and condition."""

from rnn_jax.linalg._spectral_radius import spectral_radius
from rnn_jax.linalg.exponents import log_power_of_two, split_exponent
from rnn_jax.linalg.matrix_exponential import exponential
from rnn_jax.linalg.norms import log_norm, log_spectral_norm, spectral_norm
from rnn_jax.linalg.products import matvec, row_major_transpose, times

__all__ = [
    "exponential",
    "log_norm",
    "log_power_of_two",
    "log_spectral_norm",
    "matvec",
    "row_major_transpose",
    "spectral_norm",
    "spectral_radius",
    "split_exponent",
    "times",
]
