"""Bottleneck networks trained on real data: settings, loss curves, the command for records."""
