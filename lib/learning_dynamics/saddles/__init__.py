"""Saddles: gradient descent from small initialisation, plateau by plateau (Arata's thesis)."""
