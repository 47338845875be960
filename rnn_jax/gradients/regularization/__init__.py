"""Penalties on what gradients do."""
