r"""
LSTM against GRU
================

How long do gradients last in the two, as they are drawn, and in an Elman network beside them? All
read the same inputs; curves are medians over four networks of each kind.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

from rnn_jax import cells, gradients

T, H = 80, 32
xs = jax.random.normal(jax.random.key(1), (T, 8))
kinds = {"LSTM": cells.lstm(H), "GRU": cells.gru(H), "Elman": cells.elman(H)}


def medians_by_lag(cell):
    """Return the median of ln ‖∂s_t/∂s_k‖ over networks and pairs, by lag."""
    keys = jax.random.split(jax.random.key(0), 4)
    tables = [gradients.jacobian_log_norms(cell, cell.init(key, 8), xs) for key in keys]
    return np.median([gradients.by_lag(table) for table in tables], 0)


curves = {name: medians_by_lag(cell) for name, cell in kinds.items()}

# %%
# Both gated cells keep a part of their state as it is. At the start the LSTM keeps
# :math:`\sigma(1) = 0.73` of it in a step, as its forget bias is 1, and the GRU about a half: the
# ratio of their rates is close to that of the logarithms.
rates = {name: (curve[-1] - curve[T // 2]) / (T - T // 2) for name, curve in curves.items()}
for name, curve in curves.items():
    horizon = float(gradients.effective_horizon(curve, factor=10.0))
    print(f"{name}: {rates[name]:.3f} nats per step; a tenth is left after {horizon:.1f} steps")
assert rates["GRU"] < rates["LSTM"] < 0

figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
for name, curve in curves.items():
    ax.plot(curve / np.log(10), label=name)
ax.set(xlabel="lag t − k", ylabel=r"$\log_{10} \|\partial s_t / \partial s_k\|$")
ax.legend(frameon=False)
plt.show()
