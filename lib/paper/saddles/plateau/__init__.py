"""Plateaus align the units: the law, its controls, other starts and losses."""
