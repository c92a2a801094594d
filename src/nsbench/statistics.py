"""Time to target, its censoring, and effects paired by seed: what is scored, in one place.

Pure functions of DataFrames. The grid is handed in as `cells`, a list of plain dicts (see
`nsbench.times`). How a method is scored by them is written down in docs/scoring.md; curves of
censored times are in `nsbench.survival`, the number of seeds that an effect needs in `nsbench.power`.
"""

from nsbench.bootstrap import coverage_of_range
from nsbench.paired import COSTS, PAIRED_EFFECT, paired_effects, with_families
from nsbench.times import (
    CELL_KEYS,
    CELL_SUMMARY,
    RUN_KEYS,
    first_held,
    grid_runs,
    quantile,
    run_name,
    summarise_cells,
    time_to_target,
)

__all__ = [
    "CELL_KEYS",
    "CELL_SUMMARY",
    "COSTS",
    "PAIRED_EFFECT",
    "RUN_KEYS",
    "coverage_of_range",
    "first_held",
    "grid_runs",
    "paired_effects",
    "quantile",
    "run_name",
    "summarise_cells",
    "time_to_target",
    "with_families",
]
