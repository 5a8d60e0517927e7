"""Predicted exponents against measured ones, and the contributions of layers."""
