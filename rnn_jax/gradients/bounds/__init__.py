"""Bounds of the norms of Jacobian products."""
