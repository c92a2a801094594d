"""What lies between an estimate over seeds or pairs and a table: its interval, notes, and runs left out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.signed_rank import typical_value
from nsbench.config.settled import few

MOST_NAMED = 4
"""Arms that a note names each by itself."""
STOPPED, UNMEASURED = "a run stopped at its target", "a run has no measures"
"""Why a pair is left out: of `training.stop`, and of records without measures that fit
(`schemas.training.COLLECTED_RUNS`)."""


class Interval(NamedTuple):
    """An estimate, the ends of its interval (NaN if there is none), what to know about them, and N_STOPPED."""

    value: float
    low: float
    high: float
    notes: list[str]
    n_stopped: int = 0

    def columns(self, name: str) -> dict[str, float]:
        """The columns that `estimate_fields(name, ...)` describes."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}


def shared_notes(found: dict[str, Interval]) -> list[str]:
    """The notes of several estimates, each once; one that not all have names those that have it."""
    notes: dict[str, list[str]] = {}
    for name, interval in found.items():
        for note in interval.notes:
            notes.setdefault(note, []).append(name)
    return [note if len(names) == len(found) else f"{', '.join(names)}: {note}" for note, names in notes.items()]


def stopped_runs(runs: pd.DataFrame) -> str:
    """How many of some runs (columns `arm` and `status`) `training.stop` ended early, and of which arms.

    Empty where there are none.
    """
    return _counted(runs, runs["status"] == "stopped", "stopped at their target")


def unmeasured_runs(runs: pd.DataFrame) -> str:
    """How many of some runs (`schemas.training.COLLECTED_RUNS`) have no measures, and of which arms; empty: all have.

    A diverged run needs none.
    """
    return _counted(runs, (runs["no_evaluation"] != "") & (runs["status"] != "diverged"), "without measures")


def _counted(runs: pd.DataFrame, chosen: pd.Series, what: str) -> str:
    counts = runs.loc[chosen, "arm"].value_counts(sort=False)
    if counts.empty:
        return ""
    arms = ", ".join(f"{arm} {count}" for arm, count in counts.items())
    arms = arms if len(counts) <= MOST_NAMED else f"of {len(counts)} arms"
    return f"{counts.sum()} of {len(runs)} runs {what} ({arms})"


def left_out_pairs(baseline: np.ndarray, arm: np.ndarray, why: str) -> list[str]:
    """A note on the pairs left out because of a run (True) of the baseline, the arm or both; `why`: STOPPED or
    UNMEASURED."""
    count = int((baseline | arm).sum())
    who = f"baseline {int(baseline.sum())}, arm {int(arm.sum())}"
    return [f"{count} of {len(arm)} pairs left out: {why} ({who})"] if count else []


def typical_difference(
    baseline: pd.Series, arm: pd.Series, confidence: float, unmeasured: Sequence[np.ndarray] | None = None
) -> Interval:
    """Typical difference, arm minus baseline, over pairs given in the same order (`typical`).

    A pair is left out, and the notes say so, where a score is infinite (the run diverged) or NaN (it was stopped at
    its target, or has no measures). unmeasured: which runs of the baseline and of the arm have none.
    """
    before, after = baseline.to_numpy(float), arm.to_numpy(float)
    diverged = np.isinf(before) | np.isinf(after)
    undefined = [np.isnan(scores) & ~diverged for scores in (before, after)]
    without = [lost & lacks for lost, lacks in zip(undefined, unmeasured or (False, False), strict=True)]
    stopped = [lost & ~lacks for lost, lacks in zip(undefined, without, strict=True)]
    defined = ~(diverged | undefined[0] | undefined[1])
    interval = typical(after[defined] - before[defined], "pairs", confidence)
    notes = [f"{int(diverged.sum())} of {len(defined)} pairs left out: a run diverged"] if diverged.any() else []
    notes += [*left_out_pairs(*stopped, STOPPED), *left_out_pairs(*without, UNMEASURED)]
    return interval._replace(notes=[*notes, *interval.notes], n_stopped=int((stopped[0] | stopped[1]).sum()))


def typical(values: np.ndarray, what: str, confidence: float) -> Interval:
    """The typical one of finite `values` (n,), as `signed_rank.typical_value`; `what` they are, for notes."""
    if len(values) == 0:
        return Interval(math.nan, math.nan, math.nan, [f"no {what} to compare"])
    one = typical_value(values, confidence)
    return Interval(one.value, one.low, one.high, few(len(values), what, confidence))


def expanded(confidence: float, n: int) -> float:
    """The level at which a percentile interval of `n` >= 2 values covers `confidence` about.

    Resampling n values knows neither that their spread is estimated nor that the sample's variance
    is (n - 1)/n of the population's: plain percentile intervals are too short, by the factor
    sqrt((n - 1)/n) z / t. The level is that of a normal interval longer by this factor, 2 Phi(t
    sqrt(n/(n - 1))) - 1 with Student's t of n - 1 degrees of freedom (Hesterberg 2015, The American
    Statistician 69, section 4.4: the expanded percentile interval).
    """
    from scipy import stats

    longer = stats.t.ppf((1 + confidence) / 2, n - 1) * math.sqrt(n / (n - 1))
    return float(2 * stats.norm.cdf(longer) - 1)
