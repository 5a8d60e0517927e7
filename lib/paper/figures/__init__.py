"""Results in, matplotlib Axes out; one style."""
