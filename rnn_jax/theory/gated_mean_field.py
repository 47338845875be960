r"""Mean-field theory of a wide gated recurrent unit, driven by inputs: lengths and gradients.

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

**One approximation.** A unit's A, B, C, D are taken as independent from step to step. Inputs are,
the part W h of a gate is not, so that this is exact as σ_w² ⟨h²⟩ / σ_u² → 0. Then, with untied
weights, another W at each step, ⟨d²⟩ grows by the mean square

.. math:: \chi' = p + q + v, \quad p = \langle A \rangle^2, \; q = \sigma_w^2 \langle B \rangle^2,
    \; v = \mathrm{Var} A + \sigma_w^2 (\mathrm{Var} B + \langle C^2 \rangle + \langle D^2 \rangle)

**Tied weights**, one W at every step, add up where units remember. What one step's fluctuations v
leave in d is carried on by M = ⟨A⟩ + ⟨B⟩ W_n, and k steps of one M are not k random ones:

.. math:: G_k = \tfrac1N \langle \mathrm{tr} (M^k)^\top M^k \rangle
    = \sum_j \binom{k}{j}^2 p^{k-j} q^j, \qquad
    \sum_k G_k x^k = \left[ (1 - x (p + q))^2 - 4 x^2 p q \right]^{-1/2}

With growth by χ per step all past fluctuations add up to the present square, Σ_k v G_k χ^(−k−1) =
1, and so χ = p + q + √(v² + 4 p q), when A and B are uncorrelated. Without memory, p = 0, this is
χ'; without fluctuations it is (⟨A⟩ + σ_w ⟨B⟩)², the spectral radius of M squared. A and B
both depend on z: with κ = ⟨A B⟩ / (⟨A⟩ ⟨B⟩) − 1, w = χ − p − q solves

.. math:: (1 + \kappa) \sqrt{w^2 - 4 p q} = v + \kappa w

References, for χ' of cells like these: Chen, Pennington and Schoenholz, Dynamical isometry and a
mean field theory of RNNs (2018), arXiv 1806.05394; Gilboa et al., Dynamical isometry and a mean
field theory of LSTMs and GRUs (2019), arXiv 1901.08987. The result for tied weights is ours.
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
    """The fixed point of ⟨h²⟩, and the growth of gradients there; every field `[...]`.

    Attributes:
      power: mean square of the state over units and time, ⟨h²⟩.
      chi: factor χ per step of the squared norm of a small difference, and of a gradient.
      chi_untied: χ for untied weights, another W at every step.
      largest_exponent: largest Lyapunov exponent, λ₁ = ½ ln χ, nats per step.
      time_scale: steps in which the squared norm falls by e, −1 / ln χ; negative where it grows.
      recurrence: a gate's variance from the network over that from its input, σ_w² ⟨h²⟩ / σ_u²; NaN
        where both are 0. The theory is exact as it goes to 0. Measured at 512 units, λ₁ is within
        0.02 and ⟨h²⟩ within 15 % up to a recurrence of 1; beyond, λ₁ has been overestimated by up
        to 0.1.
      converged: whether ⟨h²⟩ and χ solve the theory's equations to 1e-6 in float64, 1e-3 in
        float32: ⟨h²⟩ is stable and isolated, and a second quadrature agrees. False where χ
        underflows, and for weights some hundred times the input or more: the gate r then opens
        where its pre-activation is far from zero, unseen by the quadrature. The error of the theory
        itself is judged by `recurrence`.
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
    """Return the stationary state of a wide `cells.gru`, or of `cells.ugrnn`, whose r is 1.

    Args:
      weight_std: gain of each gate's W, σ_w: √N times the standard deviation of an entry.
      input_std: standard deviation of each gate's entries of U x_t, σ_u; independent at each step.
      update_bias: bias of z, the gate that keeps.
      reset_bias: bias of r; inf for `cells.ugrnn`. The other biases are zero.

    Raises:
      ValueError: no number; a standard deviation that is negative or infinite, or an infinite
        update_bias, outside `jit` (inside, every field is NaN and `converged` False).
    """
    sigma_w, sigma_u, b_z, b_r = numbers(
        weight_std=weight_std, input_std=input_std, update_bias=update_bias, reset_bias=reset_bias
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
    """Return χ of d ← A ⊙ d + B ⊙ W d + .. with tied weights, one W for all steps: `[...]`.

    Args:
      p, q: squared means, ⟨A⟩² and σ_w² ⟨B⟩².
      v: the variance that one step adds to a d of variance 1, terms of mean zero included. It is at
        least Var A + σ_w² Var B, and so at least 2 |κ| √(p q).
      kappa: correlation of A and B, κ = ⟨A B⟩ / (⟨A⟩ ⟨B⟩) − 1.

    Raises:
      ValueError: no number; a negative p, q or v, or a v that no A and B of this κ have, outside
        `jit` (inside, χ is NaN).
    """
    p, q, v, kappa = numbers(p=p, q=q, v=v, kappa=kappa)
    p, q, v = (within(name, x, least=0) for name, x in (("p", p), ("q", q), ("v", v)))
    kappa = within("kappa", kappa)
    least = 2 * jnp.abs(kappa) * jnp.sqrt(p) * jnp.sqrt(q)
    known = ~(v < (1 - 64 * jnp.finfo(v.dtype).eps) * least)
    return _tied_growth(p, q, where_known("v", v, known, "at least 2 |kappa| √(p q)"), kappa)


def _tied_growth(p: Any, q: Array, v: Array, k: Any):
    # The equation for w, squared: (1 + 2κ) w² − 2 κ v w − (v² + 4 p q (1 + κ)²) = 0. The root that
    # solves it before squaring is taken as c / (root − κ v), finite also at 1 + 2κ = 0. Its square
    # root is real, since v ≥ 2 |κ| √(p q). χ is homogeneous: a unit is taken out of p, q and v,
    # whose squares would overflow.
    unit = _power_of_two(jnp.maximum(jnp.maximum(p, q), v))
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
    """Return χ for tied and for untied weights."""
    p, q = m["A"] ** 2, sigma_w**2 * m["B"] ** 2
    squares = m["renewed"] * (m["BB"] + m["DD"]) + m["slope"] * (power + m["candidate"])
    v = m["kept"] - p + sigma_w**2 * squares - q
    # With a gate that is shut to rounding A or B is zero, p q too, and κ has no effect.
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

    # Given r, a = U_n x + r u is Gaussian of variance s, and u = (r recurrent / s) a + the rest,
    # independent of a: ⟨u² tanh'(a)²⟩ is so a mean over a alone, inside one over r.
    z, weight = nodes(rule, drive, b_r)
    r = jax.nn.sigmoid(z)
    recurrent = recurrent[..., None]
    s = sigma_u[..., None] ** 2 + r**2 * recurrent
    of_candidate = lambda f: mean_over(rule, f, s, None)
    u_by_a = r * recurrent / jnp.where(s > 0, s, 1)
    squared_slope = of_candidate(square(slope))
    steep = of_candidate(lambda a: jnp.square(a * slope(a)))
    # The variance of the rest of u, recurrent − u_by_a² s, in a form without cancellation.
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
