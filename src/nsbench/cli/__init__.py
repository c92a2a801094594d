"""The command line: `nsbench <stage> ...`, one module per group of commands."""
