"""Initializers of weights: `(key, shape [out, in], dtype) -> array`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.errors import check_function, check_number, check_size, invalid
from rnn_jax.linalg import spectral_radius
from rnn_jax.types import Array, Initializer, Key, wide_dtype


def gaussian(std: float | None = None) -> Initializer:
    """Draw independent N(0, std²); std defaults to 1/√in, which keeps the variance of W x at x's.

    Raises:
      ValueError: a std that is not a number of at least 0.
    """
    if std is not None:
        check_number("std", std, least=0)

    def init(key: Key, shape: Any, dtype: Any = jnp.float32):
        scale = max(shape[-1], 1) ** -0.5 if std is None else std
        wide = wide_dtype(dtype)
        return (jnp.asarray(scale, wide) * jax.random.normal(key, shape, wide)).astype(dtype)

    return init


def uniform(low: float, high: float) -> Initializer:
    """Draw independent uniform numbers from [low, high).

    Raises:
      ValueError: limits that are not numbers, or a low above high.
    """
    check_number("low", low)
    check_number("high", high, least=float(low), remedy="Pass limits in their order.")

    def init(key: Key, shape: Any, dtype: Any = jnp.float32):
        wide = wide_dtype(dtype)
        drawn = jax.random.uniform(key, shape, wide, low, high).astype(dtype)
        # Rounding to a narrow dtype may reach `high`, or pass it, where `high` is not a number of
        # that dtype: bfloat16 rounds 0.999 to 1, a factor that never forgets.
        nearest = np.asarray(high, dtype)
        if wide == dtype or float(nearest) < high or low == high:
            return drawn
        return jnp.minimum(drawn, np.nextafter(nearest, np.asarray(low, dtype)))

    return init


def orthogonal(gain: float = 1.0) -> Initializer:
    """Draw gain · Q, Q uniform over orthogonal matrices: every singular value equals `gain`.

    A shape that is not square has orthonormal rows or columns, whichever are fewer.

    Raises:
      ValueError: a gain that is not a number of at least 0.
    """
    check_number("gain", gain, least=0)
    draw = jax.nn.initializers.orthogonal()

    def init(key: Key, shape: Any, dtype: Any = jnp.float32):
        wide = wide_dtype(dtype)
        return (jnp.asarray(gain, wide) * draw(key, shape, wide)).astype(dtype)

    return init


def identity(scale: float = 1.0) -> Initializer:
    """Return scale · I, the start of Le, Jaitly and Hinton (2015, arXiv 1504.00941).

    Raises:
      ValueError: a scale that is not a finite number.
    """
    check_number("scale", scale)

    def init(key: Key, shape: Any, dtype: Any = jnp.float32):
        del key
        return jnp.asarray(scale, dtype) * jnp.eye(shape[0], shape[1], dtype=dtype)

    return init


def rotations() -> Initializer:
    """Draw W whose W − Wᵀ rotates pairs of units by angles uniform on [−π, π).

    The eigenvalues of exp(W − Wᵀ) are e^{±iθ}. Henaff, Szlam and LeCun (2016, arXiv 1602.06662).
    """

    def init(key: Key, shape: Any, dtype: Any = jnp.float32):
        wide = wide_dtype(dtype)
        angles = jax.random.uniform(key, (shape[0] // 2,), wide, -jnp.pi, jnp.pi)
        first = 2 * jnp.arange(shape[0] // 2)
        return jnp.zeros(shape, dtype).at[first, first + 1].set(angles.astype(dtype))

    return init


def sparse_spectral_radius(radius: float = 0.95, connections: int = 15) -> Initializer:
    """Draw N(0, 1) on `connections` inputs of each unit, scaled to the spectral radius `radius`.

    For square shapes. A unit of a matrix with fewer than `connections` columns is connected to all.
    The "smart tanh" of Pascanu, Mikolov and Bengio (2013, arXiv 1211.5063), after Sutskever et al.
    (2011).

    Raises:
      ValueError: a radius that is not a number of at least 0; fewer than one connection; a shape
        that is not square.
    """
    check_number("radius", radius, least=0)
    check_size("connections", connections)

    def init(key: Key, shape: Any, dtype: Any = jnp.float32):
        rows, columns = shape
        if rows != columns:
            raise invalid(
                "shape", str(shape), "a square matrix", "A spectral radius needs one; use gaussian."
            )
        weight_key, place_key = jax.random.split(key)
        rank = jnp.argsort(jax.random.uniform(place_key, shape), axis=1)
        wide = wide_dtype(dtype)
        W = jnp.where(rank < connections, jax.random.normal(weight_key, shape, wide), 0)
        return (W * (jnp.asarray(radius, wide) / spectral_radius(W))).astype(dtype)

    return init


def stacked(init: Initializer, blocks: int) -> Initializer:
    """Draw `blocks` gates independently by `init`, stacked on the first axis.

    Raises:
      ValueError: no function; a number of gates that is not a positive integer; when it draws, a
        first axis that this number does not divide.
    """
    check_function("init", init, "(key, shape, dtype) -> array")
    blocks = check_size("blocks", blocks)
    if blocks == 1:
        return init

    def stacked_init(key: Key, shape: Any, dtype: Any = jnp.float32) -> Array:
        if shape[0] % blocks:
            remedy = "Draw a shape of that many gates."
            raise invalid("shape", shape, f"a first axis that {blocks} divides", remedy)
        # Gate by gate, for the scale of an initializer may depend on the shape: an orthogonal
        # [4H, H] matrix has singular values of 1 as a whole, and those of its gates are smaller.
        gate = (shape[0] // blocks, *shape[1:])
        draws = jax.vmap(lambda k: init(k, gate, dtype))(jax.random.split(key, blocks))
        return draws.reshape(shape)

    return stacked_init
