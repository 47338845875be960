"""Penalties that keep gradients from vanishing or exploding."""
