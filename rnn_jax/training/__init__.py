"""optax in; a pure train_step and the loop around it out."""

from rnn_jax.training.ensemble import over_ensemble
from rnn_jax.training.fit import fit
from rnn_jax.training.train_step import TrainState, batch_mesh, create_train_state, make_train_step

__all__ = [
    "TrainState",
    "batch_mesh",
    "create_train_state",
    "fit",
    "make_train_step",
    "over_ensemble",
]
