"""Part II, chapter by chapter."""
