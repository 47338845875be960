"""A gradient, term by term."""
