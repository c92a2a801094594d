"""Data sets: text, vocabulary, n-gram baselines; one module per task in `tasks`."""
