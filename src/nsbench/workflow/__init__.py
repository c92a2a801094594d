"""What the Snakefile imports: the grid, its jobs and their resources, progress, partial results."""
