"""Scales: multipliers and initial scales for networks of unequal widths (thesis 002)."""
