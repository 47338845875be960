r"""
A Lyapunov spectrum against mean-field theory
=============================================

The network :math:`h \leftarrow W \tanh(h)` with :math:`W_{ij} \sim N(0, g^2 / N)` is chaotic for
:math:`g > 1`. For :math:`N \to \infty` mean-field theory knows its largest exponent, ½ ln χ, and
the mean of all: how fast a gradient grows in its best direction, and in a typical one.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from rnn_jax import cells, gradients, theory

N, T, WARMUP = 96, 700, 100
field = {}
figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
cell = cells.elman_preactivation(N)
start = jax.random.normal(jax.random.key(1), (N,))
G = jax.random.normal(jax.random.key(2), (N, N)) / jnp.sqrt(N)
for g, color in ((0.9, "C0"), (1.5, "C1"), (2.5, "C2")):
    params = cell.init(jax.random.key(0), 0).replace(W=g * G)
    spectrum = gradients.lyapunov_spectrum(cell, params, jnp.zeros((T, 0)), start, warmup=WARMUP)
    largest = 0.5 * float(jnp.log(theory.mean_field(g, 0.0, 0.0).chi))
    print(
        f"g = {g}: λ_1 {spectrum.exponents[0]:+.3f} ± {spectrum.standard_errors[0]:.3f},", end=" "
    )
    print(f"theory {largest:+.3f}; dimension {float(spectrum.kaplan_yorke):.1f} of {N}")
    assert (spectrum.exponents[0] > 0) == (g > 1)
    assert abs(spectrum.exponents[0] - largest) < 0.1
    ax.plot(np.arange(1, N + 1) / N, spectrum.exponents, color=color, label=f"g = {g}")
    ax.plot(0, largest, "v", color=color, clip_on=False)

# %%
# Triangles: theory for the largest exponent, of an endless network. Where it is above 0 gradients
# explode in some directions, and vanish in most others at the same time.
ax.axhline(0, color="0.6", lw=0.8)
ax.set(xlabel="i / N", ylabel=r"$\lambda_i$ (nats per step)", ylim=(-3, 0.5))
ax.legend(frameon=False)
plt.show()
