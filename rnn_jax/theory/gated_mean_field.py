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

.. math:: (1 + \kappa) \sqrt{w^2 - 4 p q} = v + \kappa w

References, for χ' of cells like these: Chen, Pennington and Schoenholz, Dynamical isometry and a
mean field theory of RNNs (2018), arXiv 1806.05394; Gilboa et al., Dynamical isometry and a mean
field theory of LSTMs and GRUs (2019), arXiv 1901.08987. What is said of weights that stay the same
is worked out here.
"""

from __future__ import annotations

import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rnn_jax.theory.arguments import numbers, where_known, within
from rnn_jax.theory.fixed_points import fixed_point, resolved
from rnn_jax.theory.gaussian import derivative, mean_over
from rnn_jax.theory.quadrature import OTHER_PAIR, PAIR, Rule, nodes, weighted
from rnn_jax.types import Array


@flax.struct.dataclass
class GatedMeanField:
    """The fixed point of ⟨h²⟩, and what follows for gradients; every field `[...]`.

    Attributes:
      power: ⟨h²⟩ over units and time.
      chi: the factor a step of the squared norm of a small difference, and of a gradient.
      chi_untied: the same for untied weights, another W at every step.
      largest_exponent: λ₁ = ½ ln χ, nats per step.
      time_scale: −1 / ln χ, steps in which the squared norm falls by e; negative where it grows.
      recurrence: σ_w² ⟨h²⟩ / σ_u², what the network gives its gates over what its input does; NaN
        where there is neither. The theory is exact as it goes to 0. Measured at 512 units, λ₁ is
        within 0.02 and ⟨h²⟩ within 15 % up to a recurrence of 1; beyond, λ₁ has been overestimated
        by up to 0.1.
      converged: whether the theory's equations are solved, ⟨h²⟩ and χ to one part in a million in
        float64, in a thousand in float32: ⟨h²⟩ solves its equation, is stable and isolated, and a
        second quadrature agrees. False where χ underflows, and for weights some hundred times the
        input or more: the gate r then opens where z is far from zero, unseen by the quadrature.
        What the theory leaves out is said by `recurrence`.
    """

    power: Array
    chi: Array
    chi_untied: Array
    largest_exponent: Array
    time_scale: Array
    recurrence: Array
    converged: Array

    @property
    def chi_drawn_anew(self) -> Array:
        """Return `chi_untied` by its former name."""
        return self.chi_untied


def gru_mean_field(
    weight_std: ArrayLike,
    input_std: ArrayLike,
    update_bias: ArrayLike = 0.0,
    reset_bias: ArrayLike = 0.0,
) -> GatedMeanField:
    """Return what a wide `cells.gru` comes to; and `cells.ugrnn`, whose reset gate is always open.

    Args:
      weight_std: σ_w, √N times the standard deviation of an entry of each block of W.
      input_std: σ_u, of an entry of each block of U x_t; at each step new and independent.
      update_bias: b of z, the gate that keeps.
      reset_bias: b of r; inf for `cells.ugrnn`. The other biases are zero.

    Raises:
      ValueError: a standard deviation that is negative or infinite, an infinite update_bias,
        outside `jit` (inside, every field is NaN and `converged` False); what is no number.
    """
    sigma_w, sigma_u, b_z, b_r = numbers(
        weight_std=weight_std,
        input_std=input_std,
        update_bias=update_bias,
        reset_bias=reset_bias,
    )
    return _gru_mean_field(
        within("weight_std", sigma_w, least=0),
        within("input_std", sigma_u, least=0),
        within("update_bias", b_z),
        within("reset_bias", b_r, infinite=True),
    )


@jax.jit
def _gru_mean_field(sigma_w: Array, sigma_u: Array, b_z: Any, b_r: Any):
    moments = functools.partial(_moments, sigma_w=sigma_w, sigma_u=sigma_u, b_z=b_z, b_r=b_r)

    def next_power(power: Any, rule: Any = PAIR):
        m = moments(power, rule)
        return m["kept"] * power + m["renewed"] * m["candidate"]

    zero = jnp.zeros_like(sigma_w)
    power, converged = fixed_point(
        next_power,
        functools.partial(next_power, rule=OTHER_PAIR),
        start=zero + 1,
        limits=(zero, zero + 1),
        scale=zero,
    )
    chi, untied = _growth(power, moments(power, PAIR), sigma_w)
    again, _ = _growth(power, moments(power, OTHER_PAIR), sigma_w)
    right = resolved(chi, again, chi, zero=jnp.zeros_like(chi, bool))
    return GatedMeanField(
        power=power,
        chi=chi,
        chi_untied=untied,
        largest_exponent=0.5 * jnp.log(chi),
        time_scale=-1 / jnp.log(chi),
        recurrence=sigma_w**2 * power / sigma_u**2,
        converged=converged & right,
    )


def tied_growth(p: ArrayLike, q: ArrayLike, v: ArrayLike, kappa: ArrayLike = 0.0) -> Array:
    """Return χ of d ← A ⊙ d + B ⊙ W d + .. with one W for all steps, the module's, `[...]`.

    Args:
      p, q: ⟨A⟩² and σ_w² ⟨B⟩².
      v: the variance that one step adds to a d of variance 1, ways of mean zero included. It is at
        least Var A + σ_w² Var B, and so at least 2 |κ| √(p q).
      kappa: κ = ⟨A B⟩ / (⟨A⟩ ⟨B⟩) − 1.

    Raises:
      ValueError: outside `jit` (inside, χ is NaN), a negative p, q or v, a v that no A and B of
        this κ have; what is no number.
    """
    p, q, v, kappa = numbers(p=p, q=q, v=v, kappa=kappa)
    p, q, v = (within(name, x, least=0) for name, x in (("p", p), ("q", q), ("v", v)))
    kappa = within("kappa", kappa)
    least = 2 * jnp.abs(kappa) * jnp.sqrt(p) * jnp.sqrt(q)
    known = ~(v < (1 - 64 * jnp.finfo(v.dtype).eps) * least)
    return _tied_growth(p, q, where_known("v", v, known, "at least 2 |kappa| √(p q)"), kappa)


def _tied_growth(p: Any, q: Array, v: Array, k: Any):
    # (1 + 2κ) w² − 2 κ v w − (v² + 4 p q (1 + κ)²) = 0, and of its two roots that of the equation
    # before it was squared. v ≥ 2 |κ| √(p q) keeps what stands under the root from being negative.
    unit = _power_of_two(jnp.maximum(jnp.maximum(p, q), v))  # χ is homogeneous, squares overflow
    p, q, v = p / unit, q / unit, v / unit
    c = v**2 + 4 * p * q * (1 + k) ** 2
    root = (1 + k) * jnp.sqrt(jnp.maximum(v**2 + 4 * p * q * (1 + 2 * k), 0))
    below = root - k * v
    still = (v == 0) & (below == 0)  # nothing fluctuates, and one of A and B is zero
    return unit * (p + q + jnp.where(still, 0, c / jnp.where(still, 1, below)))


def _power_of_two(x: Array):
    """Return the largest power of two up to x; 1 for zero."""
    x = jax.lax.stop_gradient(x)
    return jnp.where(x == 0, 1, x / (2 * jnp.frexp(x)[0]))


def _growth(power: Any, m: Any, sigma_w: Array):
    """Return (χ, χ if W were drawn anew at each step)."""
    p, q = m["A"] ** 2, sigma_w**2 * m["B"] ** 2
    squares = m["renewed"] * (m["BB"] + m["DD"]) + m["slope"] * (power + m["candidate"])
    v = m["kept"] - p + sigma_w**2 * squares - q
    # A gate that is shut to rounding takes its part away, whatever κ is.
    both = m["A"] * m["B"]
    kappa = jnp.where(both > 0, m["AB"] / jnp.where(both > 0, both, 1) - 1, 0)
    return _tied_growth(p, q, jnp.maximum(v, 0), kappa), p + q + v


def _moments(
    power: Any, rule: Rule, *, sigma_w: Array, sigma_u: Array, b_z: Any, b_r: Any
) -> dict[str, Array]:
    """Return means over one unit's gates, at a given ⟨h²⟩."""
    square = lambda f: lambda x: jnp.square(f(x))
    slope = derivative(jnp.tanh)
    recurrent = sigma_w**2 * power
    drive = recurrent + sigma_u**2
    of_update = lambda f: mean_over(rule, f, drive, b_z)
    A, kept = of_update(jax.nn.sigmoid), of_update(square(jax.nn.sigmoid))

    # Given r, a has variance s, and u = (r recurrent / s) a + the rest.
    z, weight = nodes(rule, drive, b_r)
    r = jax.nn.sigmoid(z)
    recurrent = recurrent[..., None]
    s = sigma_u[..., None] ** 2 + r**2 * recurrent
    of_candidate = lambda f: mean_over(rule, f, s, None)
    u_by_a = r * recurrent / jnp.where(s > 0, s, 1)
    squared_slope = of_candidate(square(slope))
    steep = of_candidate(lambda a: jnp.square(a * slope(a)))
    # What is left of the variance of u: recurrent − u_by_a² s, without what cancels.
    u_left = recurrent * jnp.where(s > 0, sigma_u[..., None] ** 2 / jnp.where(s > 0, s, 1), 1)
    squared_u_slope = u_by_a**2 * steep + u_left * squared_slope
    mean = lambda values: weighted(weight, values)
    through = mean(r * of_candidate(slope))
    return {
        "A": A,
        "kept": kept,
        "renewed": of_update(lambda x: jnp.square(jax.nn.sigmoid(-x))),
        "slope": of_update(square(derivative(jax.nn.sigmoid))),
        "candidate": mean(of_candidate(square(jnp.tanh))),
        "B": of_update(lambda x: jax.nn.sigmoid(-x)) * through,
        "AB": of_update(derivative(jax.nn.sigmoid)) * through,
        "BB": mean(r**2 * squared_slope),
        "DD": mean((r * (1 - r)) ** 2 * squared_u_slope),
    }
