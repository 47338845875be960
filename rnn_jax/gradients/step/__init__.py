"""One step: its Jacobian, J v and uᵀ J, and perturbations of its state."""
