"""Part I, chapter by chapter."""
