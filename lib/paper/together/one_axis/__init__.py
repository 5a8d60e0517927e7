"""The dial from lazy to rich to saddle-to-saddle, and DP(r) placed on it."""
