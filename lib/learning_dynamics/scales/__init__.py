"""Scales: multipliers and initial scales for networks of unequal widths (Utsunomiya's thesis)."""
