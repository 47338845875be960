r"""
A cell of Flax
==============

A cell that is written in Flax becomes a cell here in one line: one of its own, whose weights can
be imported too, or one of yours. Where both libraries have the cell, they agree.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

import rnn_jax
from rnn_jax import cells, gradients, interop

xs = jax.random.normal(jax.random.key(1), (40, 8))
theirs = interop.from_linen(nn.GRUCell(16))  # also from_nnx, from_equinox, from_haiku
variables = theirs.init(jax.random.key(0), 8)  # variables["params"], as Flax has them
ours, params = cells.gru(16), interop.import_weights("linen", "gru", variables)
difference = rnn_jax.unroll(theirs, variables, xs)[1] - rnn_jax.unroll(ours, params, xs)[1]
print("GRU of Flax against ours, largest difference:", float(jnp.abs(difference).max()))
assert jnp.abs(difference).max() < 1e-5


# %%
# A cell of one's own, with a normalization layer inside. The laboratory asks for nothing but its
# step.
class Normalized(nn.RNNCellBase):
    """h = tanh(LayerNorm(W h + U x))."""

    features: int

    @nn.compact
    def __call__(self, h, x):
        """Take one step."""
        a = nn.Dense(self.features, name="W")(h) + nn.Dense(self.features, False, name="U")(x)
        h = jnp.tanh(nn.LayerNorm()(a))
        return h, h

    @nn.nowrap
    def initialize_carry(self, rng, input_shape):
        """Return h_0."""
        return jnp.zeros((*input_shape[:-1], self.features))

    @property
    def num_feature_axes(self):
        """Return 1."""
        return 1


own = interop.from_linen(Normalized(16))
own_params = own.init(jax.random.key(0), 8)
print({"/".join(p.key for p in path): v.shape for path, v in jax.tree.leaves_with_path(own_params)})
norms = gradients.jacobian_log_norms(own, own_params, xs)
rate = float(gradients.decay_rate(norms))
print(f"gradients of the normalized cell: {rate:+.3f} nats per step")

# %%
# And the other way round, a cell of ours in a Flax model; Flax puts time last.
layer = nn.RNN(interop.LinenCell(cells.lstm(16)))
x = jnp.swapaxes(xs[:, None], 0, 1)  # [batch, T, I]
variables = layer.init(jax.random.key(0), x)
print("ours in nn.RNN:", layer.apply(variables, x).shape)
assert layer.apply(variables, x).shape == (1, 40, 16)
