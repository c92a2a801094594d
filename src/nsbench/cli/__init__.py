"""The command line: `nsbench <command> ...`, one module per group of commands."""
