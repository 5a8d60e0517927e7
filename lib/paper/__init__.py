"""What the chapters measure and draw: one file or one folder a chapter."""
