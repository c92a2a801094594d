"""Records: the part of finished runs that travels.

A record has a run's settings, history, summary, evaluation and provenance, and no checkpoints: some kilobytes. Records
of many runs lie in one Parquet file. `records:` in config.yaml takes those that fit a cell of the grid as finished
runs, so that tables and figures can be made again without training, and seeds of one's own added.

`files` is the format, `matching` says which records a grid takes; `nsbench.exchange` has the commands.
"""
