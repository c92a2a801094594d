"""What the Snakefile imports: the grid, its jobs and what they need, progress, partial results."""
