"""Spectral's start-up plateau predicted, and two ways past it."""
