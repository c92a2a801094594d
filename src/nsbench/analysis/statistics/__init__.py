"""Time to target, its censoring, and effects paired by seed: how a method is scored (docs/scoring.md).

Pure functions of DataFrames. The grid is handed in as `cells`, a list of plain dicts (see `times`). `paired` has the
effects, `signed_rank` their intervals and tests, `pooled` those of many settings, `power` what the looks can settle,
`survival` the curves of censored times, `intervals` what lies between an estimate and a table. scipy.stats is imported
where it is used: it takes a second.
"""

from nsbench.analysis.statistics.paired import paired_effects
from nsbench.analysis.statistics.times import summarise_cells, time_to_target

__all__ = ["paired_effects", "summarise_cells", "time_to_target"]
