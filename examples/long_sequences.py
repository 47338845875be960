r"""
Long sequences
==============

A gradient needs the states of all steps, and a plain scan keeps every value of every step
besides. How the steps are taken is one argument of ``unroll``; the gradient is the same, the
memory is not.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import rnn_jax
from rnn_jax import Checkpointed, Fused, cells, gradients, losses

T, B, H = 4096, 4, 64
cell = cells.readout(cells.lstm(H), 1)
params = cell.init(jax.random.key(0), 2)
xs = jax.random.normal(jax.random.key(1), (T, B, 2))
targets = jnp.cumsum(xs[..., :1], 0) / 30
strategies = {
    "scan": "scan",
    "fused": "fused",  # the default here: chunks of steps, weight gradients as large products
    "fused, gates kept": Fused(recompute=False),
    "checkpointed": Checkpointed(),
    "checkpointed, 3 levels": Checkpointed(levels=3),
}
found, memory = {}, {}
for name, strategy in strategies.items():

    def mean_loss(params, strategy=strategy):
        """Return the mean of E_t."""
        ys = rnn_jax.unroll(cell, params, xs, strategy=strategy)[1]
        return losses.per_step(losses.squared_error, ys, targets).mean()

    program = jax.jit(jax.grad(mean_loss)).lower(params).compile()
    found[name] = program(params)
    memory[name] = program.memory_analysis().temp_size_in_bytes / 2**20
    print(f"{name}: {memory[name]:.1f} MiB beside inputs and outputs")

# %%
# The same gradient, to rounding, from all of them.
for gradient in found.values():
    for one, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(found["scan"]), strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=1e-5)
assert memory["checkpointed"] < memory["fused"] < memory["scan"]

figure, ax = plt.subplots(figsize=(5.4, 2.6), layout="constrained")
ax.barh(list(memory), list(memory.values()))
ax.set(xlabel=f"MiB for the gradient, T = {T:,}", xscale="log")
ax.invert_yaxis()
plt.show()

# %%
# The laboratory goes as far: norms at chosen lags need no table of all (t, k).
lags = (1, 10, 100, 1000, T)
norms = gradients.jacobian_log_norms_by_lag(cell, params, xs[:, 0], lags=lags, times=[T])
for lag, value in zip(lags, norms.value[0], strict=True):
    print(f"‖∂s_T/∂s_(T−{lag})‖ = e^{float(value):.1f}")
