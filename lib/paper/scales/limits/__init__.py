"""Limits: what the bottlenecks represent, and fluctuations at finite width."""
