"""Numbers of the course of training, from the records of all runs: stability kept, its change, how loss fluctuates.

All are of whole runs: where `training.stop` ended a run early, or one diverged, there is no number
(`variants.BY_OUTCOME`). Runs without what a number is of are left out; the note says so.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import Field

from nsbench.analysis.lead_lag import onset
from nsbench.analysis.statistics.intervals import stopped_runs, typical, unmeasured_runs
from nsbench.claims.evidence import MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import OfArm, OfOneArm, OfTask, Variant, each, joined

Reduction = Literal["decision", "probability_dot", "probability_cosine"]
STABILITIES = ("decision_agreement", "stability_cosine")
"""Columns of the history: ways to compare outputs that do not rise with their confidence."""
LAST = 3
"""Evaluations whose mean is the end of a run."""


class Change(OfTask):
    """Stability at the checkpoints of baseline runs."""

    reductions: list[Reduction] = Field(default_factory=lambda: ["decision", "probability_cosine"])
    """How two outputs are compared: a setting each, where it was evaluated. Not Definition 6.1's dot product, which
    rises as outputs grow confident, whatever they are."""
    correlations: list[float] = Field(default_factory=lambda: [0.75])
    """The correlations that the noise keeps, (1 + rho)/2 of Definition 6.1's rho: a setting each."""


@claim_quantity("stability_kept")
def _stability_kept(evidence: Evidence, of: OfOneArm) -> list[Finding]:
    """Stability at the end of a run over the highest that it had, typical run; a setting for each way to compare."""

    return each(evidence, of, lambda variant: kept_stability(evidence, variant, str(variant.arm(of))))


def kept_stability(evidence: Evidence, variant: Variant, arm: str) -> list[Finding]:
    """Stability at the end of an arm's typical run over the highest that it had, for each of STABILITIES."""
    found = []
    runs, histories = _rows(evidence, "runs", variant, arm), _histories(evidence, variant, arm)
    for series in STABILITIES:
        curves = [rows[series].to_numpy(float) for rows in histories.values()]
        values = np.array([curve[-LAST:].mean() / curve.max() for curve in curves])
        lost = int((~np.isfinite(values)).sum())
        left_out = f"{lost} of {len(values)} runs have no stability in their history" if lost else ""
        values = values[np.isfinite(values)]
        found.append(_typical(evidence, variant, f"{arm}, {series}", values, "runs", runs, left_out))
    return found


@claim_quantity("fluctuation")
def _fluctuation(evidence: Evidence, of: OfArm) -> list[Finding]:
    """How much less, in per cent, validation loss goes up and down with the arm than with the baseline.

    A run's fluctuation is the mean size of the second difference of its validation loss over its evaluations.
    """

    def rough(loss: np.ndarray, _: int) -> float:
        return max(float(np.abs(np.diff(loss, 2)).mean()), 1e-300)

    return _less(evidence, of, rough)


@claim_quantity("loss_area")
def _loss_area(evidence: Evidence, of: OfArm) -> list[Finding]:
    """How much less, in per cent, the area under the validation loss is with the arm than with the baseline.

    Up to where the baseline of the pair has its lowest loss: less where the loss falls earlier or faster, whatever
    happens afterwards.
    """
    return _less(evidence, of, lambda loss, end: float(loss[: end + 1].mean()))


def _less(evidence: Evidence, of: OfArm, number: Callable[[np.ndarray, int], float]) -> list[Finding]:
    """100 (1 - ratio), ratio the typical one over pairs, arm / baseline, of a number of a run's validation losses.

    number: takes the losses and the evaluation at which the pair's baseline has its lowest one.
    """

    def less(variant: Variant) -> list[Finding]:
        arms = (variant.arm(), variant.arm(of))
        before, after = (
            {seed: rows["val_loss"].to_numpy(float) for seed, rows in _histories(evidence, variant, arm).items()}
            for arm in arms
        )
        ends = {seed: int(losses.argmin()) for seed, losses in before.items()}
        pairs = [seed for seed in before if seed in after]
        logs = [math.log(number(after[seed], ends[seed]) / number(before[seed], ends[seed])) for seed in pairs]
        values = np.array([log for log in logs if math.isfinite(log)])
        runs = _rows(evidence, "runs", variant, *arms)
        runs = runs[runs["seed"].duplicated(keep=False)]  # those of a pair
        one = _typical(evidence, variant, arms[1], values, "pairs", runs)
        value, low, high = (100 * (1 - math.exp(end)) for end in (one.value, one.high, one.low))
        return [replace(one, value=value, low=low, high=high)]

    return each(evidence, of, less)


class Oriented(OfArm):
    """The arm of the paper or its reverse."""

    orientation: Literal[0, 1]
    """Its S: 1 rewards stability, 0 punishes it."""


@claim_quantity("stability_effect")
def _stability_effect(evidence: Evidence, of: Oriented) -> list[Finding]:
    """Definition 6.1's stability at the end of a run, arm less baseline, typical pair."""

    def effect(variant: Variant) -> list[Finding]:
        wanted = {"kind": "noise_stability", "rho": of.rho, "gamma": of.gamma, "orientation": of.orientation}
        arms = [cell["arm"] for cell in variant.cells if wanted.items() <= cell["arm_settings"].items()]
        if not arms:
            return [variant.finding(status=MISSING, why=f"no arm with S = {of.orientation} is in the grid")]
        before, after = (
            {seed: rows["stability"].to_numpy(float)[-LAST:].mean() for seed, rows in histories.items()}
            for histories in (_histories(evidence, variant, arm) for arm in (variant.arm(), arms[0]))
        )
        values = np.array([after[seed] - before[seed] for seed in before if seed in after])
        runs = _rows(evidence, "runs", variant, variant.arm(), arms[0])
        return [_typical(evidence, variant, arms[0], values[np.isfinite(values)], "pairs", runs)]

    return each(evidence, OfTask(task=of.task, variants=of.variants), effect)


@claim_quantity("emergence")
def _emergence(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps that validation loss takes from 10% to 90% of its fall over those before it has made 10%, typical run.

    Of baseline runs; below 1 where the drop is shorter than the stagnation before it.
    """

    def sudden(variant: Variant) -> list[Finding]:
        arm, values = variant.arm(), []
        for rows in _histories(evidence, variant, arm).values():
            steps, loss = rows["step"].to_numpy(float), rows["val_loss"].to_numpy(float)
            ends = [onset(steps, loss, share, "down") for share in (0.1, 0.9)]
            values.append((ends[1] - ends[0]) / ends[0] if ends[0] > 0 else math.nan)
        found = np.array(values)
        lost = int((~np.isfinite(found)).sum())
        left_out = f"{lost} of {len(found)} runs whose loss does not fall" if lost else ""
        runs = _rows(evidence, "runs", variant, arm)
        return [_typical(evidence, variant, arm, found[np.isfinite(found)], "runs", runs, left_out)]

    return each(evidence, of, sudden)


@claim_quantity("stability_change", "target", "start")
def _stability_change(evidence: Evidence, of: Change) -> list[Finding]:
    """Noise stability at the last checkpoint less that at the first, typical baseline run."""
    return _at_checkpoints(evidence, of, lambda values: values.iloc[-1] - values.iloc[0])


@claim_quantity("final_stability", "target", "start")
def _final_stability(evidence: Evidence, of: Change) -> list[Finding]:
    """Noise stability at the last checkpoint, typical baseline run.

    `target` is what a model that is the target function has at this correlation, correlation^k for a parity's
    decisions; `start` what the runs had at the first checkpoint, which a model that learns nothing keeps.
    """
    return _at_checkpoints(evidence, of, lambda values: values.iloc[-1])


def _at_checkpoints(evidence: Evidence, of: Change, number: Callable[[pd.Series], float]) -> list[Finding]:
    """For each reduction and correlation, over a variant's baseline runs the typical number of stabilities by step."""

    def find(variant: Variant) -> list[Finding]:
        arm = variant.arm(of)
        runs, rows = (_rows(evidence, name, variant, arm) for name in ("runs", "evaluation"))
        rows = rows[(rows["measure"] == "noise_stability") & rows["seed"].isin(_whole(runs))].sort_values("step")
        found = []
        for correlation, reduction in itertools.product(of.correlations, of.reductions):
            here = rows[np.isclose(rows["correlation"].astype(float), correlation) & (rows["reduction"] == reduction)]
            if here.empty:
                continue
            by_run = [run for _, run in here.groupby("seed")["value"]]
            values = np.array([number(run) for run in by_run], dtype=float)
            what = f"{reduction} at {correlation:g}"
            one = _typical(evidence, variant, what, values, "runs", runs, unmeasured_runs(runs))
            start = float(np.median([run.iloc[0] for run in by_run]))
            target = float(here["target_value"].astype(float).mean())
            note = joined(f"the target itself: {target:.4g}; at the start: {start:.4g}", one.note)
            found.append(replace(one, extras=one.extras | {"target": target, "start": start}, note=note))
        return found or [variant.finding(status=MISSING, why=_why_unmeasured(variant, runs, of.correlations))]

    return each(evidence, of, find)


def _why_unmeasured(variant: Variant, runs: pd.DataFrame, correlations: list[float]) -> str:
    """Why the runs of a variant's baseline have no noise stability at these correlations."""
    if twin := next(cell for cell in variant.cells if cell["arm"] == variant.arm()).get("shares"):
        return f"its baseline's runs are those of {twin}, whose noise is another: their stability is not of this noise"
    if reasons := sorted(set(runs["no_evaluation"]) - {""}):
        return f"{unmeasured_runs(runs)}: {'; '.join(reasons)}"
    rho = ", ".join(f"{2 * correlation - 1:g}" for correlation in correlations)
    return f"stability was not evaluated at rho = {rho} (evaluation.rho)"


class Tails(OfTask):
    """Fourier weight of trained models."""

    correlation: float = 0.75
    """Of the noise whose stability bounds the tail."""


@claim_quantity("tail_bounds")
def _tail_bounds(evidence: Evidence, of: Tails) -> list[Finding]:
    """Share of degrees at which the bound on the Fourier tail from stability is smaller than that from influence.

    Of each arm's models at the end of training (medians over runs), where either bound says anything, as it is below 1.
    """

    def smaller(variant: Variant) -> list[Finding]:
        table, found = evidence.table("measure"), []
        here = (table["task"] == of.task) & (table["variant"] == variant.name) & (table["measure"] == "fourier_weight")
        at = np.isclose(table["correlation"].astype(float), of.correlation)
        for arm, rows in table[here].groupby("arm", sort=False):
            of_degree = [
                rows[rows["reduction"].str.startswith(f"{bound}_bound_") & (at[rows.index] | (bound == "influence"))]
                for bound in ("stability", "influence")
            ]
            bounds = np.stack([some["value"].to_numpy(float) for some in of_degree])
            bounds = bounds[:, (bounds < 1).any(axis=0)]
            share = float((bounds[0] < bounds[1]).mean()) if bounds.size else math.nan
            note = "" if bounds.size else "neither bound is below 1 at any degree"
            one = variant.finding(str(arm), [share], n=bounds.shape[1], n_unit="degrees", note=note)
            found.append(replace(one, text=str(rows["text"].iloc[0])))
        why = "Fourier weight was not evaluated (evaluation.measures)"
        return found or [variant.finding(status=MISSING, why=why)]

    return each(evidence, of, smaller)


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


def _typical(
    evidence: Evidence,
    variant: Variant,
    what: str,
    values: np.ndarray,
    unit: str,
    runs: pd.DataFrame,
    left_out: str = "",
) -> Finding:
    """The typical one of the values of `runs`, which has none where a run diverged or was stopped; `left_out`: which
    whole runs have no value."""
    interval = typical(values, unit, evidence.confidence)
    n_diverged = int((runs["status"] == "diverged").sum())
    lost = joined(stopped_runs(runs), f"{n_diverged} of {len(runs)} runs diverged" if n_diverged else "")
    every = evidence.records("runs")
    here = every[(every["task"] == variant.cells[0]["task"]) & (every["variant"] == variant.name)]
    return variant.finding(
        what,
        (interval.value, interval.low, interval.high),
        lost,
        n=len(values),
        n_unit=unit,
        text="; ".join(sorted(set(here["text"]) - {""})),
        note=joined(*interval.notes, *(f"{some}: left out" for some in (lost, left_out) if some)),
    )
