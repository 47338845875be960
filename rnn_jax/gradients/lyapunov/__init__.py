"""Lyapunov exponents and vectors."""
