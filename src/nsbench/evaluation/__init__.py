"""Measures on the checkpoints of finished runs."""
