"""Learning rates: transfer over widths, and the plateau before learning starts."""
