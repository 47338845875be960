r"""
Gradient flossing
=================

Lyapunov exponents are differentiable. Descent on :math:`\sum_{i \le K} \lambda_i^2` moves K of
them to zero, so that tangent vectors, and with them gradients, keep their length in K directions.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from rnn_jax import cells, gradients, training
from rnn_jax.cells import initializers

N, K, T = 24, 12, 40
cell = cells.elman(N, input_init=initializers.gaussian(0.35))
adam = optax.adam(1e-2)
start = training.create_train_state(cell.init(jax.random.key(0), 2), adam)


def loss(params, xs):
    """Return the mean of λ_i² over the K largest, of the trajectory that xs drive."""
    return gradients.flossing(cell, params, xs, num_exponents=K, interval=2, warmup=5) / K


step = jax.jit(training.make_train_step(loss, adam, clip_norm=1.0))
drawn = lambda i: jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (T, 2))
state, record = training.fit(step, start, drawn, 200, progress=False)

# %%
# On a long sequence that it has not seen, before and after:
xs = jax.random.normal(jax.random.key(2), (400, 2))
spectra = {
    name: np.asarray(gradients.lyapunov_spectrum(cell, params, xs, warmup=50).exponents)
    for name, params in (("before", start.params), ("after", state.params))
}
for name, exponents in spectra.items():
    kept = np.exp(50 * exponents).clip(max=1e3)
    print(f"{name}: λ_1 {exponents[0]:+.3f}, λ_{K} {exponents[K - 1]:+.3f};", end=" ")
    print(f"a hundredth is left after 50 steps in {(kept > 0.01).sum()} of {N} directions")
assert record["loss"][-1] < 0.1 * record["loss"][0]
assert abs(spectra["after"][K - 1]) < 0.5 * abs(spectra["before"][K - 1])

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, exponents in spectra.items():
    ax.plot(range(1, N + 1), exponents, "o-", ms=3, label=name)
ax.axvspan(0.5, K + 0.5, color="0.93", zorder=0)
ax.set(xlabel="i, shaded: flossed", ylabel=r"$\lambda_i$ (nats per step)")
ax.legend(frameon=False)
plt.show()
