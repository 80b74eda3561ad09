"""Pure loss functions: tensors in by role, a scalar out."""
