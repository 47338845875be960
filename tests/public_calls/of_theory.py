"""Calls of theories."""

import functools

import jax.numpy as jnp

from rnn_jax import (
    theory,
)
from tests.public_calls.call import Call

MACHINE = theory.StackMachine((theory.Rule("A", "a", ("*",), "A", ("1",)),), "A")


def theory_calls():
    numbers = lambda *names: dict.fromkeys(names, "numbers")
    stds = numbers("weight_std", "bias_std", "input_std", "q", "c", "mean", "factor")
    stds |= numbers("bias", "variance", "s", "p", "v", "std", "kappa", "input_correlation")
    stds |= numbers("update_bias", "reset_bias")
    of = {"weight_std": 0.9, "bias_std": 0.1, "input_std": 0.2}
    call = functools.partial(Call, kinds=stds)
    slow = functools.partial(call, cheap=False)
    t = theory
    return {
        "correlation": slow(t.correlation, of | {"activation": "tanh", "input_correlation": 0.5}),
        "critical_gain": slow(
            t.critical_gain, {"bias_std": 0.1, "input_std": 0.2, "activation": "tanh"}
        ),
        "critical_line": call(t.critical_line, {"q": 0.5, "activation": "tanh"}),
        "forget_rate": call(t.forget_rate, {"bias": 1.0, "variance": 0.5}),
        "fraction_of_exponents_below": call(
            t.fraction_of_exponents_below,
            {"s": -1.0, "weight_std": 0.9},
            never={"weight_std": [1.5, -0.5]},
        ),
        "gaussian_mean": call(t.gaussian_mean, {"f": jnp.tanh, "q": 0.5, "mean": 0.1}),
        "gaussian_pair_mean": slow(
            t.gaussian_pair_mean, {"f": jnp.tanh, "q": 0.5, "c": 0.1}, never={"c": [0.6, -0.6]}
        ),
        "gaussian_product_exponents": call(
            t.gaussian_product_exponents, {"size": 3, "std": 1.5}, never={"std": [-1.0]}
        ),
        "gru_mean_field": slow(
            t.gru_mean_field,
            {"weight_std": 0.9, "input_std": 0.2, "update_bias": 0.5, "reset_bias": 0.5},
        ),
        "linear_sensitivity_power": call(
            t.linear_sensitivity_power, {"factor": 0.5}, never={"factor": [2.0, -1.0]}
        ),
        "linear_state_power": call(
            t.linear_state_power, {"factor": 0.5}, never={"factor": [2.0, -1.0]}
        ),
        "mean_field": slow(t.mean_field, of | {"activation": "tanh"}, never={"weight_std": [-1.5]}),
        "normalized_sensitivity_power": call(
            t.normalized_sensitivity_power, {"factor": 0.5}, never={"factor": [2.0, -1.0]}
        ),
        "encode_stack": call(t.encode_stack, {"bits": "01"}, kinds=stds | {"bits": "skip"}),
        "run_stack_machine": call(
            t.run_stack_machine,
            {"machine": MACHINE, "symbols": ["a"]},
            kinds=stds | dict.fromkeys(("machine", "symbols"), "skip"),
        ),
        "stack_machine_network": call(
            t.stack_machine_network, {"machine": MACHINE}, kinds=stds | {"machine": "skip"}
        ),
        "turing_machine": call(
            t.turing_machine,
            {"table": {("A", 0): (1, "R", "A")}, "start": "A"},
            kinds=stds | dict.fromkeys(("table", "start"), "skip"),
        ),
        "tied_growth": call(t.tied_growth, {"p": 0.1, "q": 0.2, "v": 0.5, "kappa": 0.1}),
    }
