"""Networks that run machines."""

import itertools

import jax.numpy as jnp
import numpy as np

import rnn_jax
from experiments.turing import A_N_B_N
from rnn_jax import theory
from tests.validation.oracle import oracle


@oracle(
    "a^n b^n in saturated-linear units, rational weights, n = 10 in float32, 24 in float64",
    "the two-stack machine, step by step",
    "wrong steps",
    0,
)
def counting():
    wrong = 0
    for dtype, n in ((jnp.float32, 10), (jnp.float64, 24)):
        word = [*("a" * n), *("b" * n)]
        network = theory.stack_machine_network(A_N_B_N, dtype)
        ys = rnn_jax.unroll(network.cell, network.params, network.inputs(word))[1]
        pairs = itertools.zip_longest(
            network.configurations(ys)[: len(word)], theory.run_stack_machine(A_N_B_N, word)
        )
        wrong += sum(found != wanted for found, wanted in pairs)
    return wrong


@oracle(
    "depth of a stack that a dtype still holds: bfloat16, float32 and float64",
    "half of the bits of its significand: q = Σ (2 b_i + 1) / 4^i needs two a bit",
    "bits",
    0,
)
def depth():
    off = []
    for dtype, digits in ((jnp.bfloat16, 8), (jnp.float32, 24), (jnp.float64, 53)):
        exact = lambda n, dtype=dtype: (
            float(np.asarray(jnp.array(float(theory.encode_stack("1" * n)), dtype), float))
            == float(theory.encode_stack("1" * n))
        )
        deepest = max(n for n in range(1, 27) if exact(n))
        off.append(abs(deepest - digits // 2))
    return max(off)
