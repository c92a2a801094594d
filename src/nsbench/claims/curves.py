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
from nsbench.claims.evidence import MISSING, Evidence, Finding, Quantity
from nsbench.claims.variants import OfTask, Variant, enough, paper_arm, variants

Reduction = Literal["decision", "probability_dot", "probability_cosine"]
ENTROPY = 0
"""Seeds the bootstrap of every interval here, so that equal values have equal intervals."""
LAST = 3
"""Evaluations whose mean is the end of a run."""


class Course(OfTask):
    """The runs of one arm."""

    arm: Literal["baseline", "regularised"] = "baseline"
    """Which runs."""
    rho: float = math.nan
    """Of the regularised arm."""
    gamma: float = math.nan
    """Of the regularised arm."""


class Change(OfTask):
    """Stability at the checkpoints of baseline runs."""

    reductions: list[Reduction] = Field(default_factory=lambda: ["decision", "probability_dot", "probability_cosine"])
    """How two outputs are compared: a setting each, where it was evaluated."""
    rho: float
    """Definition 6.1's rho."""


class Pair(OfTask):
    """A baseline and the paper's arm."""

    rho: float
    """Of the arm."""
    gamma: float
    """Of the arm."""


def _stability_kept(evidence: Evidence, of: Course) -> list[Finding]:
    """Stability at the end of a run over the highest that it had, mean over runs."""

    def kept(rows: pd.DataFrame) -> float:
        stability = rows["stability"].to_numpy(float)
        return float(stability[-LAST:].mean() / stability.max())

    return [_mean(evidence, of, variant, of.arm, kept) for variant in variants(evidence, of)]


def _mean(evidence: Evidence, of: Course, variant: Variant, arm: str, number: object) -> Finding:
    """The mean over an arm's runs of a number of their history."""
    if variant.status == MISSING:
        return variant.finding()
    name = _arm(variant, arm, of.rho, of.gamma)
    if name is None:
        return variant.finding(status=MISSING, why="the arm is not in the grid")
    runs, trails = _runs(evidence, variant, name), _trails(evidence, variant, name)
    values = np.array([number(rows) for rows in trails.values()], dtype=float)  # type: ignore[operator]
    lost = int((~np.isfinite(values)).sum())
    left_out = f"{lost} of {len(values)} runs have no stability in their history" if lost else ""
    return _interval(evidence, variant, f"{variant.name} / {name}", values[np.isfinite(values)], "runs", runs, left_out)


def _fluctuation(evidence: Evidence, of: Pair) -> list[Finding]:
    """How much less, in per cent, validation loss goes up and down with the arm than with the baseline.

    A run's fluctuation is the mean size of the second difference of its validation loss over its evaluations; the
    number is 100 (1 - ratio), ratio the geometric mean over pairs.
    """
    found = []
    for variant in variants(evidence, of):
        if variant.status == MISSING:
            found.append(variant.finding())
            continue
        arm = paper_arm(variant, of.rho, of.gamma)
        if arm is None:
            found.append(variant.finding(status=MISSING, why="the arm is not in the grid"))
            continue
        arms = (str(variant.baseline["arm"]), arm)
        before, after = (_trails(evidence, variant, name) for name in arms)
        logs = [math.log(_rough(after[seed]) / _rough(before[seed])) for seed in before if seed in after]
        values = np.array([log for log in logs if math.isfinite(log)])
        runs = _runs(evidence, variant, *arms)
        runs = runs[runs["seed"].duplicated(keep=False)]  # those of a pair
        one = _interval(evidence, variant, f"{variant.name} / {arm}", values, "pairs", runs)
        ends = {"value": one.value, "low": one.high, "high": one.low}
        found.append(Finding(**vars(one) | {name: 100 * (1 - math.exp(end)) for name, end in ends.items()}))
    return found


def _rough(rows: pd.DataFrame) -> float:
    return max(float(np.abs(np.diff(rows["val_loss"].to_numpy(float), 2)).mean()), 1e-300)


def _stability_change(evidence: Evidence, of: Change) -> list[Finding]:
    """Noise stability at the last checkpoint less that at the first, mean over baseline runs."""
    return _by_reduction(evidence, of, lambda rows: float(rows["value"].iloc[-1] - rows["value"].iloc[0]))


def _final_stability(evidence: Evidence, of: Change) -> list[Finding]:
    """Noise stability at the last checkpoint, mean over baseline runs.

    `printed` is rho^k, of the paper; `target` what a model that is the target function has of this reduction, with the
    correlation kappa = (1 + rho)/2 that the noise really keeps (errata, entry 24).
    """
    return _by_reduction(evidence, of, lambda rows: float(rows["value"].iloc[-1]), with_target=True)


def _by_reduction(
    evidence: Evidence, of: Change, number: Callable[[pd.DataFrame], float], with_target: bool = False
) -> list[Finding]:
    """The mean over a variant's baseline runs of a number of their checkpoints, for each reduction."""
    found = []
    for variant in variants(evidence, of):
        if variant.status == MISSING:
            found.append(variant.finding())
            continue
        rows = _checkpoints(evidence, of, variant)
        runs = _runs(evidence, variant, str(variant.baseline["arm"]))
        whole = rows[rows["seed"].isin(_whole(runs))]
        reductions = [name for name in of.reductions if (rows["reduction"] == name).any()]
        if not reductions:
            found.append(variant.finding(status=MISSING, why=_why_unmeasured(variant, runs, of.rho)))
        without = unmeasured_runs(runs)
        for reduction in reductions:
            here = whole[whole["reduction"] == reduction]
            values = np.array([number(run) for _, run in here.groupby("seed")], dtype=float)
            one = _interval(evidence, variant, f"{variant.name} / {reduction}", values, "runs", runs, without)
            if with_target:
                k = variant.cells[0]["settings"]["data"].get("k")
                printed = math.nan if k is None else of.rho**k
                target = float(rows.loc[rows["reduction"] == reduction, "target_value"].astype(float).mean())
                said = f"printed: {printed:.4g}; of the target with this noise: {target:.4g}"
                notes = "; ".join(note for note in (said, one.note) if note)
                extras = {**one.extras, "printed": printed, "target": target}
                one = replace(one, extras=extras, note=notes)
            found.append(one)
    return found


def _why_unmeasured(variant: Variant, runs: pd.DataFrame, rho: float) -> str:
    """Why the runs of a variant's baseline have no noise stability at rho."""
    if twin := variant.baseline.get("shares"):
        return f"its baseline's runs are those of {twin}, whose noise is another: their stability is not of this noise"
    if reasons := sorted(set(runs["no_evaluation"]) - {""}):
        return f"{unmeasured_runs(runs)}: {'; '.join(reasons)}"
    return f"stability was not evaluated at rho = {rho:g} (evaluation.rho)"


def _checkpoints(evidence: Evidence, of: Change, variant: Variant) -> pd.DataFrame:
    """Noise stability at the checkpoints of a variant's baseline runs, by step."""
    rows = _of_cell(evidence.records("evaluation"), variant, str(variant.baseline["arm"]))
    return rows[(rows["measure"] == "noise_stability") & (rows["rho"] == of.rho)].sort_values("step")


def _arm(variant: Variant, arm: str, rho: float, gamma: float) -> str | None:
    return str(variant.baseline["arm"]) if arm == "baseline" else paper_arm(variant, rho, gamma)


def _trails(evidence: Evidence, variant: Variant, arm: str) -> dict[int, pd.DataFrame]:
    """History by seed of the runs of a cell that went to their budget."""
    rows = _of_cell(evidence.records("history"), variant, arm)
    rows = rows[rows["seed"].isin(_whole(_runs(evidence, variant, arm)))]
    return {int(seed): trail.sort_values("step") for seed, trail in rows.groupby("seed")}


def _of_cell(table: pd.DataFrame, variant: Variant, arm: str) -> pd.DataFrame:
    """The rows of a cell's grid seeds."""
    cell = next(cell for cell in variant.cells if cell["arm"] == arm)
    here = (table["task"] == cell["task"]) & (table["variant"] == variant.name) & (table["arm"] == arm)
    return table[here & table["seed"].isin(cell["seeds"])]


def _runs(evidence: Evidence, variant: Variant, *arms: str) -> pd.DataFrame:
    """The rows of `schemas.training.COLLECTED_RUNS` of these arms."""
    return pd.concat([_of_cell(evidence.records("runs"), variant, arm) for arm in arms])


def _whole(runs: pd.DataFrame) -> list[int]:
    """Seeds of the runs that went to their budget."""
    return runs.loc[runs["status"] == "completed", "seed"].tolist()


def _interval(
    evidence: Evidence,
    variant: Variant,
    setting: str,
    values: np.ndarray,
    unit: str,
    runs: pd.DataFrame,
    left_out: str = "",
) -> Finding:
    """The mean of values of `runs` with its bootstrap interval; `left_out`: which whole runs have no value."""
    interval = mean_interval(values, unit, evidence.confidence, evidence.n_resamples, ENTROPY)
    n_diverged, stopped = int((runs["status"] == "diverged").sum()), stopped_runs(runs)
    diverged = f"{n_diverged} runs diverged and are left out" if n_diverged else ""
    notes = [*interval.notes, diverged, *(f"{some}: left out" for some in (stopped, left_out) if some)]
    every = evidence.records("runs")
    here = every[(every["task"] == variant.cells[0]["task"]) & (every["variant"] == variant.name)]
    return variant.finding(
        stopped=stopped,
        setting=setting,
        value=interval.value,
        low=interval.low,
        high=interval.high,
        n=len(values),
        n_unit=unit,
        extras=enough(len(values), evidence.confidence),
        text="; ".join(sorted(set(here["text"]) - {""})),
        note="; ".join(note for note in notes if note),
    )


_EXTRAS = ("coverage", "confidence")
QUANTITIES = {
    "stability_kept": Quantity(_stability_kept, Course, _EXTRAS),
    "fluctuation": Quantity(_fluctuation, Pair, _EXTRAS),
    "stability_change": Quantity(_stability_change, Change, _EXTRAS),
    "final_stability": Quantity(_final_stability, Change, (*_EXTRAS, "printed", "target")),
}
