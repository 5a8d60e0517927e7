"""Bottleneck networks trained on real data: settings, loss curves, and how the records are computed."""
