r"""
A network trained in PyTorch
============================

Weights of ``torch.nn.LSTM`` become parameters here: same outputs, and then the laboratory says
where its gradients go. The other way is ``interop.export_weights``.
"""

import importlib
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np

import rnn_jax
from rnn_jax import cells, gradients, interop

torch = importlib.import_module("torch") if importlib.util.find_spec("torch") else None
ours = cells.stack(cells.lstm(32), cells.lstm(32))
xs = np.random.default_rng(0).normal(size=(50, 4, 8)).astype(np.float32)  # time first, in both


# %%
# Both layers, and the outputs of both libraries.
def imported():
    """Return the weights of a torch.nn.LSTM as our parameters; assert that outputs agree."""
    torch.manual_seed(0)
    theirs = torch.nn.LSTM(8, 32, num_layers=2)
    params = tuple(interop.import_weights("torch", "lstm", theirs, at=f"_l{n}") for n in range(2))
    with torch.no_grad():
        their_ys = theirs(torch.from_numpy(xs))[0].numpy()
    our_ys = rnn_jax.unroll(ours, params, jnp.asarray(xs))[1]
    print("largest difference of the outputs:", np.abs(our_ys - their_ys).max())
    np.testing.assert_allclose(our_ys, their_ys, atol=1e-5)
    return params


# %%
# What torch does not say: how gradients decay along the memory cell of each layer. And back
# again, exactly.
if torch is None:
    print("PyTorch is not installed: there is nothing to import weights from.")
else:
    params = imported()
    for n in range(2):
        block = (f"{n}.c", f"{n}.c")
        norms = gradients.jacobian_log_norms(ours, params, jnp.asarray(xs[:, 0]), block=block)
        print(f"layer {n}: {float(gradients.decay_rate(norms)):+.3f} nats per step")
    back = interop.export_weights("torch", "lstm", params[0], at="_l0")
    again = interop.import_weights("torch", "lstm", back, at="_l0")
    assert all(map(np.array_equal, jax.tree.leaves(params[0]), jax.tree.leaves(again)))
