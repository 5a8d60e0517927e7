"""Descents: the window of Lemma 2, the constrained phases, the times of all drops."""
