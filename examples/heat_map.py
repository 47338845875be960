r"""
Where a loss sends its gradient
===============================

:math:`\| \partial E_t / \partial h_k \|` for every loss :math:`t` and every state :math:`k`,
before any training: an Elman network beside an LSTM that starts with open forget gates.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

from rnn_jax import cells, gradients, losses, plotting

T, SEEDS = 50, 3
xs = jax.random.normal(jax.random.key(1), (T, 8))
targets = jax.random.normal(jax.random.key(2), (T, 4))


def median_over_seeds(cell):
    """Return ln ‖∂E_t/∂h_k‖, [T, T + 1], the median over networks."""
    keys = jax.random.split(jax.random.key(0), SEEDS)
    tables = [
        gradients.decompose(cell, cell.init(key, 8), xs, targets, losses.squared_error)
        for key in keys
    ]
    return np.median([table.state_log_norms for table in tables], 0)


elman = median_over_seeds(cells.readout(cells.elman(32), 4))
lstm = median_over_seeds(cells.readout(cells.lstm(32, forget_bias=3.0), 4))

# %%
# Rows are losses: along a row, to the left, lies what is left of one loss at earlier and earlier
# states. State 0 is the initial one.
left = lambda table: table[-1, 1] - table[-1, -1]  # of E_T, at state 1, against state T
print(f"of E_T at state 1: Elman e^{left(elman):.1f}, LSTM e^{left(lstm):.1f}")
assert left(lstm) > left(elman)
assert np.isneginf(elman[0, 2:]).all()  # no loss depends on a later state

figure = plotting.heatmaps({"Elman": {"": elman}, "LSTM, forget bias 3": {"": lstm}})
plt.figure(figure)
plt.show()
