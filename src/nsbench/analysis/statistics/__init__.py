"""Time to target, its censoring, and effects paired by seed: how a method is scored (docs/scoring.md).

Pure functions of DataFrames. The grid is handed in as `cells`, a list of plain dicts (see `times`). `paired` has the
effects, `pvalues` their tests, `survival` the curves of censored times, `power` the seeds that an effect takes,
`bootstrap` and `intervals` what is between an estimate and its interval.
"""

from nsbench.analysis.statistics.paired import COSTS, paired_effects, with_families
from nsbench.analysis.statistics.times import (
    CELL_KEYS,
    RUN_KEYS,
    grid_runs,
    quantile,
    run_name,
    summarise_cells,
    time_to_target,
)
from nsbench.config.settled import coverage_of_range
from nsbench.schemas.statistics import CELL_SUMMARY, PAIRED_EFFECT

__all__ = [
    "CELL_KEYS",
    "CELL_SUMMARY",
    "COSTS",
    "PAIRED_EFFECT",
    "RUN_KEYS",
    "coverage_of_range",
    "grid_runs",
    "paired_effects",
    "quantile",
    "run_name",
    "summarise_cells",
    "time_to_target",
    "with_families",
]
