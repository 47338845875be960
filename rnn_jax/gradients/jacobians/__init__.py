"""Products of step Jacobians: norms and singular values."""
