"""Saddles: gradient descent from small initialisation, plateau by plateau (thesis 000)."""
