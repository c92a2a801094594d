"""Numbers of the course of training, from the records of all runs: stability kept, its change, how loss fluctuates.

All are of whole runs: runs that diverged are left out, and so are runs without what a number is of; the note says so.
Where `training.stop` ended a run early there is no number (`variants.BY_OUTCOME`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from nsbench.analysis.statistics.intervals import mean_interval, stopped_runs, unmeasured_runs
from nsbench.claims.evidence import MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import OfArm, OfOneArm, OfTask, Variant, each, enough, joined

Reduction = Literal["decision", "probability_dot", "probability_cosine"]
ENTROPY = 0
"""Seeds the bootstrap of every interval here, so that equal values have equal intervals."""
LAST = 3
"""Evaluations whose mean is the end of a run."""


class Change(OfTask):
    """Stability at the checkpoints of baseline runs."""

    reductions: list[Reduction] = Field(default_factory=lambda: ["decision", "probability_dot", "probability_cosine"])
    """How two outputs are compared: a setting each, where it was evaluated."""
    rho: float
    """Definition 6.1's rho."""


@claim_quantity("stability_kept", "coverage", "confidence")
def _stability_kept(evidence: Evidence, of: OfOneArm) -> list[Finding]:
    """Stability at the end of a run over the highest that it had, mean over runs."""

    def kept(variant: Variant) -> list[Finding]:
        arm = variant.arm(of)
        curves = [rows["stability"].to_numpy(float) for rows in _histories(evidence, variant, arm).values()]
        values = np.array([curve[-LAST:].mean() / curve.max() for curve in curves])
        lost = int((~np.isfinite(values)).sum())
        left_out = f"{lost} of {len(values)} runs have no stability in their history" if lost else ""
        runs = _rows(evidence, "runs", variant, arm)
        return [_mean(evidence, variant, arm, values[np.isfinite(values)], "runs", runs, left_out)]

    return each(evidence, of, kept)


@claim_quantity("fluctuation", "coverage", "confidence")
def _fluctuation(evidence: Evidence, of: OfArm) -> list[Finding]:
    """How much less, in per cent, validation loss goes up and down with the arm than with the baseline.

    A run's fluctuation is the mean size of the second difference of its validation loss over its evaluations; the
    number is 100 (1 - ratio), ratio the geometric mean over pairs.
    """

    def rough(rows: pd.DataFrame) -> float:
        return max(float(np.abs(np.diff(rows["val_loss"].to_numpy(float), 2)).mean()), 1e-300)

    def fluctuation(variant: Variant) -> list[Finding]:
        arms = (variant.arm(), variant.arm(of))
        before, after = (_histories(evidence, variant, arm) for arm in arms)
        logs = [math.log(rough(after[seed]) / rough(before[seed])) for seed in before if seed in after]
        values = np.array([log for log in logs if math.isfinite(log)])
        runs = _rows(evidence, "runs", variant, *arms)
        runs = runs[runs["seed"].duplicated(keep=False)]  # those of a pair
        one = _mean(evidence, variant, arms[1], values, "pairs", runs)
        value, low, high = (100 * (1 - math.exp(end)) for end in (one.value, one.high, one.low))
        return [replace(one, value=value, low=low, high=high)]

    return each(evidence, of, fluctuation)


@claim_quantity("stability_change", "coverage", "confidence")
def _stability_change(evidence: Evidence, of: Change) -> list[Finding]:
    """Noise stability at the last checkpoint less that at the first, mean over baseline runs."""
    return _by_reduction(evidence, of, lambda values: values.iloc[-1] - values.iloc[0])


@claim_quantity("final_stability", "coverage", "confidence", "printed", "target")
def _final_stability(evidence: Evidence, of: Change) -> list[Finding]:
    """Noise stability at the last checkpoint, mean over baseline runs.

    `printed` is rho^k, of the paper; `target` what a model that is the target function has of this reduction, with the
    correlation kappa = (1 + rho)/2 that the noise really keeps (errata, entry 24).
    """

    def with_target(variant: Variant, rows: pd.DataFrame, one: Finding) -> Finding:
        k = variant.cells[0]["settings"]["data"].get("k")
        printed = math.nan if k is None else of.rho**k
        target = float(rows["target_value"].astype(float).mean())
        note = f"printed: {printed:.4g}; of the target with this noise: {target:.4g}"
        return replace(one, extras=one.extras | {"printed": printed, "target": target}, note=joined(note, one.note))

    return _by_reduction(evidence, of, lambda values: values.iloc[-1], with_target)


def _by_reduction(
    evidence: Evidence,
    of: Change,
    number: Callable[[pd.Series], float],
    more: Callable[[Variant, pd.DataFrame, Finding], Finding] = lambda variant, rows, one: one,
) -> list[Finding]:
    """For each reduction, the mean over a variant's baseline runs of a number of their stabilities by step.

    more: (variant, rows of the reduction, finding) -> the finding with what else there is to say.
    """

    def find(variant: Variant) -> list[Finding]:
        arm = variant.arm(of)
        runs, rows = (_rows(evidence, name, variant, arm) for name in ("runs", "evaluation"))
        rows = rows[(rows["measure"] == "noise_stability") & (rows["rho"] == of.rho)].sort_values("step")
        found = []
        for reduction in of.reductions:
            here = rows[rows["reduction"] == reduction]
            if here.empty:
                continue
            by_run = here[here["seed"].isin(_whole(runs))].groupby("seed")["value"]
            values = np.array([number(run) for _, run in by_run], dtype=float)
            one = _mean(evidence, variant, reduction, values, "runs", runs, unmeasured_runs(runs))
            found.append(more(variant, here, one))
        return found or [variant.finding(status=MISSING, why=_why_unmeasured(variant, runs, of.rho))]

    return each(evidence, of, find)


def _why_unmeasured(variant: Variant, runs: pd.DataFrame, rho: float) -> str:
    """Why the runs of a variant's baseline have no noise stability at rho."""
    if twin := next(cell for cell in variant.cells if cell["arm"] == variant.arm()).get("shares"):
        return f"its baseline's runs are those of {twin}, whose noise is another: their stability is not of this noise"
    if reasons := sorted(set(runs["no_evaluation"]) - {""}):
        return f"{unmeasured_runs(runs)}: {'; '.join(reasons)}"
    return f"stability was not evaluated at rho = {rho:g} (evaluation.rho)"


def _rows(evidence: Evidence, name: str, variant: Variant, *arms: str) -> pd.DataFrame:
    """The records (runs, history or evaluation) of these arms' cells, of the grid's seeds."""
    table, found = evidence.records(name), []
    for arm in arms:
        cell = next(cell for cell in variant.cells if cell["arm"] == arm)
        here = (table["task"] == cell["task"]) & (table["variant"] == variant.name) & (table["arm"] == arm)
        found.append(table[here & table["seed"].isin(cell["seeds"])])
    return pd.concat(found)


def _whole(runs: pd.DataFrame) -> list[int]:
    """Seeds of the runs that went to their budget."""
    return runs.loc[runs["status"] == "completed", "seed"].tolist()


def _histories(evidence: Evidence, variant: Variant, arm: str) -> dict[int, pd.DataFrame]:
    """History by seed of the runs of a cell that went to their budget."""
    rows = _rows(evidence, "history", variant, arm).sort_values("step")
    rows = rows[rows["seed"].isin(_whole(_rows(evidence, "runs", variant, arm)))]
    return {int(seed): history for seed, history in rows.groupby("seed")}


def _mean(
    evidence: Evidence,
    variant: Variant,
    what: str,
    values: np.ndarray,
    unit: str,
    runs: pd.DataFrame,
    left_out: str = "",
) -> Finding:
    """The mean of values of `runs` with its bootstrap interval; `left_out`: which whole runs have no value."""
    interval = mean_interval(values, unit, evidence.confidence, evidence.n_resamples, ENTROPY)
    n_diverged, stopped = int((runs["status"] == "diverged").sum()), stopped_runs(runs)
    diverged = f"{n_diverged} runs diverged and are left out" if n_diverged else ""
    every = evidence.records("runs")
    here = every[(every["task"] == variant.cells[0]["task"]) & (every["variant"] == variant.name)]
    return variant.finding(
        what,
        (interval.value, interval.low, interval.high),
        stopped,
        n=len(values),
        n_unit=unit,
        extras=enough(len(values), evidence.confidence),
        text="; ".join(sorted(set(here["text"]) - {""})),
        note=joined(*interval.notes, diverged, *(f"{some}: left out" for some in (stopped, left_out) if some)),
    )
