r"""What a wide gated recurrent unit does to lengths and gradients, driven by inputs.

.. math::
    h_t = z \odot h_{t-1} + (1 - z) \odot \tanh(a), \qquad a = U_n x_t + r \odot u,
    \quad u = W_n h_{t-1}, \qquad z, r = \sigma(b + U x_t + W h_{t-1})

with :math:`W_{ij} \sim N(0, \sigma_w^2 / N)` and :math:`(U x_t)_i \sim N(0, \sigma_u^2)`, new and
independent at every step and for every gate. A small difference d, and a gradient on its way back,
obeys

.. math::
    d_t = A \odot d_{t-1} + B \odot W_n d_{t-1} + C \odot W_z d_{t-1} + D \odot W_r d_{t-1}, \\
    A = z, \quad B = (1 - z) r \tanh'(a), \quad C = z' (h_{t-1} - \tanh a), \quad
    D = (1 - z) r' u \tanh'(a)

**One approximation.** A unit's A, B, C, D are taken as independent from step to step. Inputs are;
what W h adds to a gate is not, so that this is exact as σ_w² ⟨h²⟩ / σ_u² → 0. Then, with weights
drawn anew at each step, ⟨d²⟩ grows by the mean square

.. math:: \chi' = p + q + v, \quad p = \langle A \rangle^2, \; q = \sigma_w^2 \langle B \rangle^2,
    \; v = \mathrm{Var} A + \sigma_w^2 (\mathrm{Var} B + \langle C^2 \rangle + \langle D^2 \rangle)

**Weights that stay the same** add up where units remember. What one step's fluctuations v leave in
d is carried on by M = ⟨A⟩ + ⟨B⟩ W_n, and k steps of one M are not k random ones:

.. math:: G_k = \tfrac1N \langle \mathrm{tr} (M^k)^\top M^k \rangle
    = \sum_j \binom{k}{j}^2 p^{k-j} q^j, \qquad
    \sum_k G_k x^k = \left[ (1 - x (p + q))^2 - 4 x^2 p q \right]^{-1/2}

Growth by χ a step means that all fluctuations since add up to what there is, Σ_k v G_k χ^(−k−1) =
1, and so χ = p + q + √(v² + 4 p q), when A and B are uncorrelated. Without memory, p = 0, this is
χ'; without fluctuations it is (⟨A⟩ + σ_w ⟨B⟩)², the spectral radius of M squared. A and B
both depend on z: with κ = ⟨A B⟩ / (⟨A⟩ ⟨B⟩) − 1, w = χ − p − q solves

.. math:: (1 + \kappa)^2 (w^2 - 4 p q) = (v + \kappa w)^2

References, for χ' of cells like these: Chen, Pennington and Schoenholz, Dynamical isometry and a
mean field theory of RNNs (2018), arXiv 1806.05394; Gilboa et al., Dynamical isometry and a mean
field theory of LSTMs and GRUs (2019), arXiv 1901.08987. What is said of weights that stay the same
is worked out here.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.theory.gaussian import NODES_OF_A_PAIR, derivative, gaussian_mean, nodes
from rnn_jax.theory.mean_field import fixed_point, same_dtype
from rnn_jax.types import Array


@flax.struct.dataclass
class GatedMeanField:
    """The fixed point of ⟨h²⟩, and what follows for gradients; every field `[...]`.

    Attributes:
      power: ⟨h²⟩ over units and time.
      chi: the factor a step of the squared norm of a small difference, and of a gradient.
      chi_drawn_anew: the same if W were another at every step.
      largest_exponent: λ₁ = ½ ln χ, nats per step.
      time_scale: −1 / ln χ, steps in which the squared norm falls by e; negative where it grows.
      recurrence: σ_w² ⟨h²⟩ / σ_u², what the network gives its gates over what its input does. The
        theory is exact as it goes to 0. Measured at 512 units, λ₁ is within 0.02 and ⟨h²⟩ within
        15 % up to a recurrence of 1; beyond, λ₁ has been overestimated by up to 0.1.
      converged: whether ⟨h²⟩ solves its equation to rounding and is stable and isolated.
    """

    power: Array
    chi: Array
    chi_drawn_anew: Array
    largest_exponent: Array
    time_scale: Array
    recurrence: Array
    converged: Array


def gru_mean_field(
    weight_std: ArrayLike,
    input_std: ArrayLike,
    update_bias: ArrayLike = 0.0,
    reset_bias: ArrayLike = 0.0,
) -> GatedMeanField:
    """The wide `cells.gru` at its fixed point; and `cells.ugrnn`, whose reset gate is always open.

    Args:
      weight_std: σ_w, √N times the standard deviation of an entry of each block of W.
      input_std: σ_u, of an entry of each block of U x_t; at each step new and independent.
      update_bias: b of z, the gate that keeps.
      reset_bias: b of r; inf for `cells.ugrnn`. The other biases are zero.
    """
    sigma_w, sigma_u, b_z, b_r = same_dtype(weight_std, input_std, update_bias, reset_bias)
    moments = lambda power: _moments(power, sigma_w, sigma_u, b_z, b_r)

    def next_power(power):
        m = moments(power)
        return m["kept"] * power + m["renewed"] * m["candidate"]

    zero = jnp.zeros_like(sigma_w)
    power, converged = fixed_point(next_power, zero + 1, zero + 1, zero)
    m = moments(power)
    p, q = m["A"] ** 2, sigma_w**2 * m["B"] ** 2
    squares = m["renewed"] * (m["BB"] + m["DD"]) + m["slope"] * (power + m["candidate"])
    v = m["kept"] - p + sigma_w**2 * squares - q
    chi = tied_growth(p, q, v, m["AB"] / (m["A"] * m["B"]) - 1)
    return GatedMeanField(
        power=power,
        chi=chi,
        chi_drawn_anew=p + q + v,
        largest_exponent=0.5 * jnp.log(chi),
        time_scale=-1 / jnp.log(chi),
        recurrence=sigma_w**2 * power / sigma_u**2,
        converged=converged,
    )


def tied_growth(p: ArrayLike, q: ArrayLike, v: ArrayLike, kappa: ArrayLike = 0.0) -> Array:
    """χ of d ← A ⊙ d + B ⊙ W d + .. with one W for all steps: the module's equation, `[...]`.

    Args:
      p, q: ⟨A⟩² and σ_w² ⟨B⟩².
      v: the variance that one step adds to a d of variance 1, ways of mean zero included.
      kappa: ⟨A B⟩ / (⟨A⟩ ⟨B⟩) − 1.
    """
    p, q, v, k = same_dtype(p, q, v, kappa)
    # (1 + 2κ) w² − 2 κ v w − (v² + 4 p q (1 + κ)²) = 0
    c = v**2 + 4 * p * q * (1 + k) ** 2
    return p + q + c / (jnp.sqrt((k * v) ** 2 + (1 + 2 * k) * c) - k * v)


def _moments(power, sigma_w, sigma_u, b_z, b_r) -> dict[str, Array]:
    """Means over one unit's gates, at a given ⟨h²⟩."""
    square = lambda f: lambda x: jnp.square(f(x))
    slope = derivative(jnp.tanh)
    recurrent = sigma_w**2 * power
    drive = recurrent + sigma_u**2
    A = gaussian_mean(jax.nn.sigmoid, drive, b_z)
    kept = gaussian_mean(square(jax.nn.sigmoid), drive, b_z)

    # Given r, a has variance s, and u = (r recurrent / s) a + the rest.
    z, weight = nodes(NODES_OF_A_PAIR, drive.dtype)
    r = jax.nn.sigmoid(b_r[..., None] + jnp.sqrt(drive)[..., None] * z)
    recurrent = recurrent[..., None]
    s = sigma_u[..., None] ** 2 + r**2 * recurrent
    u_by_a = r * recurrent / s
    squared_slope = gaussian_mean(square(slope), s)
    steep = gaussian_mean(lambda a: jnp.square(a * slope(a)), s)
    squared_u_slope = u_by_a**2 * steep + (recurrent - u_by_a**2 * s) * squared_slope
    mean = lambda values: jnp.sum(weight * values, -1)
    through = mean(r * gaussian_mean(slope, s))
    return {
        "A": A,
        "kept": kept,
        "renewed": 1 - 2 * A + kept,
        "slope": gaussian_mean(square(derivative(jax.nn.sigmoid)), drive, b_z),
        "candidate": mean(gaussian_mean(square(jnp.tanh), s)),
        "B": (1 - A) * through,
        "AB": (A - kept) * through,
        "BB": mean(r**2 * squared_slope),
        "DD": mean((r * (1 - r)) ** 2 * squared_u_slope),
    }
