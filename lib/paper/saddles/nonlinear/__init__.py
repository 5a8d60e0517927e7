"""Nonlinear activations: published runs, anisotropic stages, digits, the diagonal net."""
