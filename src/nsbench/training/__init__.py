"""Training runs: models, steps, the loop, validation."""
