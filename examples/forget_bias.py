r"""
The forget bias sets the horizon
================================

Along the memory cell of an LSTM, :math:`\partial c_t / \partial c_k = \prod f_i`. With gates that
stand still at :math:`\sigma(b)` the horizon, after which a factor e is lost, is :math:`-1 / \ln
\sigma(b)`. In a network that reads, the gates move, and feed what they have read back.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from rnn_jax import cells, gradients

T, H = 120, 16
cell = cells.lstm(H, forget_bias=0.0)
params = cell.init(jax.random.key(0), 4)
xs = jax.random.normal(jax.random.key(1), (T, 4))
biases = np.linspace(0, 2.5, 6)


def horizon(params, bias):
    """Return the lag at which ‖∂c_t/∂c_k‖ has fallen by e, for one forget bias."""
    params = params.replace(b=params.b.at[H : 2 * H].set(bias))  # gates stand in the order i f o g
    norms = gradients.jacobian_log_norms(cell, params, xs, block=("c", "c"))
    return float(gradients.effective_horizon(gradients.by_lag(norms)))


# %%
# Without U and W the gates stand still, and theory is exact.
theory = -1 / np.log(jax.nn.sigmoid(biases))
still = params.replace(U=jnp.zeros_like(params.U), W=jnp.zeros_like(params.W))
measured = np.array([horizon(still, bias) for bias in biases])
np.testing.assert_allclose(measured, theory, rtol=0.01)

# %%
# In a network that reads it is longer: the norm follows the direction that lasts longest, that of
# the units whose gates happen to be open, and what is read back keeps them so.
reading = np.array([horizon(params, bias) for bias in biases])
for row in zip(biases, theory, measured, reading, strict=True):
    print(
        "bias {:.1f}: theory {:5.1f}, gates that stand still {:5.1f}, network {:5.1f}".format(*row)
    )
assert (np.diff(reading) > 0).all()
assert (reading > theory).all()

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
ax.semilogy(biases, theory, label=r"$-1 / \ln \sigma(b)$")
ax.semilogy(biases, measured, "o", label="gates that stand still")
ax.semilogy(biases, reading, "s--", label="a network that reads")
ax.set(xlabel="forget bias", ylabel="horizon (steps)")
ax.set_yticks([2, 5, 10, 20, 50], [2, 5, 10, 20, 50])
ax.minorticks_off()
ax.legend(frameon=False)
plt.show()
