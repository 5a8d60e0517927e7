"""Real and published problems; nothing is downloaded."""
