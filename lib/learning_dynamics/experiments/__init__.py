"""Frozen configurations in, labelled results out."""
