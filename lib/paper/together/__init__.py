"""Part III, chapter by chapter."""
