r"""
Three bounds and their slack
============================

No measured norm may lie above a bound. How far below it lies is the slack: what the bound does
not know. ``check_bounds`` takes every bound that is a theorem about the cell, at every :math:`(t,
k)`.
"""

import jax
import matplotlib.pyplot as plt
import numpy as np

from rnn_jax import cells, gradients
from rnn_jax.cells import initializers

T = 50
xs = jax.random.normal(jax.random.key(1), (T, 4))
start = initializers.orthogonal(1.2)
networks = {
    "Elman, $\\lambda_W = 1.2$": cells.elman(24, recurrent_init=start),
    "LSTM": cells.lstm(24),
}
found = {
    name: gradients.check_bounds(cell, cell.init(jax.random.key(0), 4), xs)
    for name, cell in networks.items()
}

# %%
# The power bound :math:`(\lambda_W \lambda_\varphi)^{t-k}` needs parameters alone, and is a
# theorem about Elman networks. The other two follow the trajectory: the product of the steps'
# norms, and a product of small matrices of the norms of their blocks, which keep an LSTM's c and
# h apart.
for name, checks in found.items():
    for bound, check in checks.items():
        print(f"{name}, {bound}: {int(check.violations)} violations,", end=" ")
        print(f"slack at lag {T}: {float(check.slack[T, 0]):.1f} nats")
        assert check.violations == 0
elman = found["Elman, $\\lambda_W = 1.2$"]
assert elman["product"].slack[T, 0] <= elman["power"].slack[T, 0]  # the tighter of the two

# %%
# At 1.2 the power bound explodes, while the network's gradient vanishes.
figure, axes = plt.subplots(1, 2, figsize=(8, 3.2), layout="constrained")
for ax, (name, checks) in zip(axes, found.items(), strict=True):
    for (bound, check), style in zip(checks.items(), (":", "-.", "--"), strict=False):
        ax.plot(gradients.by_lag(check.bound) / np.log(10), style, label=bound)
    ax.plot(gradients.by_lag(check.measured) / np.log(10), "k", label="measured")
    ax.set(title=name, xlabel="lag t − k")
    ax.legend(frameon=False)
axes[0].set_ylabel(r"$\log_{10} \|\partial s_t / \partial s_k\|$")
plt.show()
