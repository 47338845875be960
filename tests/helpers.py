"""What tests share: numbers, and states that are not zero anywhere."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from tests.lawful_cells import INPUT_SIZE


def normal(seed, *shape, dtype=jnp.float64):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def drawn(tree, seed=3):
    """Random leaves: no bias and no state that is zero."""
    leaves, structure = jax.tree.flatten(tree)
    return structure.unflatten(
        [normal(seed + n, *leaf.shape, dtype=leaf.dtype) / 2 for n, leaf in enumerate(leaves)]
    )


@functools.cache
def _reached(cell):
    """Three steps of `cell`: one program for all batches that are cut from its examples."""
    return jax.jit(lambda params, xs: rnn_jax.unroll(cell, params, xs, strategy="scan")[0])


def random_state(cell, params, batch, seed=7):
    """A state that the cell reaches, nudged so that it is not zero anywhere."""
    dtype = jax.tree.leaves(jax.eval_shape(cell.initial_state, params))[0].dtype
    examples = math.prod(batch)
    xs = normal(seed, 3, max(examples, 6), INPUT_SIZE).astype(dtype)
    leaves, tree = jax.tree.flatten(_reached(cell)(params, xs))
    leaves = [leaf[:examples].reshape(*batch, *leaf.shape[1:]) for leaf in leaves]
    nudged = [
        leaf + jnp.asarray(0.1, dtype) * normal(seed + i, *leaf.shape, dtype=dtype)
        for i, leaf in enumerate(leaves)
    ]
    return jax.tree.unflatten(tree, nudged)


def positive_qr(M):
    """NumPy's QR, its signs turned so that the diagonal of R is positive."""
    Q, R = np.linalg.qr(M)
    signs = np.where(np.diagonal(R) < 0, -1, 1)
    return Q * signs, signs[:, None] * R
