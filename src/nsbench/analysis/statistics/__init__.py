"""Time to target, its censoring, and effects paired by seed: how a method is scored (docs/scoring.md).

Pure functions of DataFrames. The grid is handed in as `cells`, a list of plain dicts (see `times`). `paired` has the
effects, `pvalues` their tests, `survival` the curves of censored times, `power` the seeds that an effect takes,
`intervals` what is between an estimate and its interval. scipy.stats is imported where it is used: it takes a second.
"""

from nsbench.analysis.statistics.paired import paired_effects
from nsbench.analysis.statistics.times import summarise_cells, time_to_target

__all__ = ["paired_effects", "summarise_cells", "time_to_target"]
