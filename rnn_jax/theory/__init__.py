"""Theory of gradients in recurrent networks, to compare with measurements."""

from rnn_jax.theory._correlation import Correlation, correlation
from rnn_jax.theory._mean_field import MeanField, mean_field
from rnn_jax.theory.critical_gain_and_line import CriticalPoint, critical_gain, critical_line
from rnn_jax.theory.gated_mean_field import GatedMeanField, gru_mean_field, tied_growth
from rnn_jax.theory.gaussian import gaussian_mean, gaussian_pair_mean
from rnn_jax.theory.linear_memory import (
    forget_rate,
    linear_sensitivity_power,
    linear_state_power,
    normalized_sensitivity_power,
)
from rnn_jax.theory.random_matrix_exponents import (
    fraction_of_exponents_below,
    gaussian_product_exponents,
)
from rnn_jax.theory.stack_machines import (
    Configuration,
    Rule,
    StackMachine,
    encode_stack,
    run_stack_machine,
    turing_machine,
)
from rnn_jax.theory.stack_networks import StackNetwork, stack_machine_network

__all__ = [
    "Configuration",
    "Correlation",
    "CriticalPoint",
    "GatedMeanField",
    "MeanField",
    "Rule",
    "StackMachine",
    "StackNetwork",
    "correlation",
    "critical_gain",
    "critical_line",
    "encode_stack",
    "forget_rate",
    "fraction_of_exponents_below",
    "gaussian_mean",
    "gaussian_pair_mean",
    "gaussian_product_exponents",
    "gru_mean_field",
    "linear_sensitivity_power",
    "linear_state_power",
    "mean_field",
    "normalized_sensitivity_power",
    "run_stack_machine",
    "stack_machine_network",
    "tied_growth",
    "turing_machine",
]
