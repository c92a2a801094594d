"""Kaplan-Meier curves of time to target and the logrank test: pure functions of DataFrames.

Every run is watched until it has held its target or its budget ends, so all censoring is at the
budget: a run that `training.stop` ended early has reached its target and is never censored. A
diverged run counts as censored at the budget too, not where it diverged: it can never reach the
target, while censoring at its last step would have the curve take it for as likely to reach later
as the runs still in training.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.times import CELL_KEYS
from nsbench.schemas.statistics import KAPLAN_MEIER

if TYPE_CHECKING:
    from scipy.stats import CensoredData


def kaplan_meier(times: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Kaplan-Meier curves of time to target, a curve per cell in the order of `times`: columns of KAPLAN_MEIER.

    Takes `schemas.training.TIME_TO_TARGET`. A curve has a row at step 0, at every step at which a run reached
    the target, and at the budget; between rows the share stays. A run that reaches the target at the
    budget counts as reached. Intervals are scipy's exponential Greenwood ones (`scipy.stats.ecdf`),
    which are NaN where the share is 0 or 1.
    """
    rows = []
    for key, group in times.groupby(CELL_KEYS, sort=False):
        names = {**dict(zip(CELL_KEYS, key, strict=True)), "text": group["text"].iloc[0]}
        note = _note(group)
        for row in _curve(group["step"], float(group["budget_steps"].iloc[0]), confidence):
            rows.append({**names, **row, "confidence": confidence, "note": note})
    return pd.DataFrame(rows, columns=KAPLAN_MEIER.names)


def logrank_p(baseline: pd.Series, arm: pd.Series, budget: float) -> float:
    """Two-sided p-value of the logrank test (`scipy.stats.logrank`) of times to target, NaN where censored at `budget`.

    It leaves the pairs out of account and its p-value is of many runs: with few it is a rough one.
    NaN where no run reached, where an arm has no run, and where all runs reached at one step.
    """
    from scipy import stats

    if not len(baseline) or not len(arm):
        return float("nan")
    with np.errstate(all="ignore"):
        return float(stats.logrank(_censored(baseline, budget), _censored(arm, budget)).pvalue)


def _censored(steps: pd.Series, budget: float) -> CensoredData:
    """Times to target (NaN where there is none) as scipy takes them."""
    from scipy import stats

    reached = steps.dropna().to_numpy(float)
    return stats.CensoredData(uncensored=reached, right=np.full(len(steps) - len(reached), float(budget)))


def _curve(steps: pd.Series, budget: float, confidence: float) -> list[dict[str, Any]]:
    """The rows of one curve, without what they share."""
    from scipy import stats

    survival = stats.ecdf(_censored(steps, budget)).sf
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The confidence interval is undefined", RuntimeWarning)
        ends = survival.confidence_interval(confidence, method="log-log")
    n_censored = int(steps.isna().sum())
    found = {
        step: {"not_reached": share, "low": low, "high": high, "events": int((steps == step).sum())}
        for step, share, low, high in zip(
            survival.quantiles, survival.probabilities, ends.low.probabilities, ends.high.probabilities, strict=True
        )
    }
    found.setdefault(0.0, {"not_reached": 1.0, "low": np.nan, "high": np.nan, "events": 0})
    last = max(found)
    found.setdefault(budget, {**found[last], "events": 0})
    return [
        {
            "step": step,
            **{name: float(found[step][name]) for name in ("not_reached", "low", "high")},
            "at_risk": int((steps.isna() | (steps >= step)).sum()),
            "events": found[step]["events"],
            "censored": n_censored if step == budget else 0,
        }
        for step in sorted(found)
    ]


def _note(group: pd.DataFrame) -> str:
    notes = []
    n_diverged, n_reached = int((group["status"] == "diverged").sum()), int(group["reached"].sum())
    if n_diverged:
        who, they = (
            ("a diverged run counts", "it") if n_diverged == 1 else (f"{n_diverged} diverged runs count", "they")
        )
        notes.append(f"{who} as censored at the budget: {they} can never reach")
    if n_reached == 0:
        notes.append("no run reached the target: no interval")
    elif len(group) == 1:
        notes.append("one run: no interval")
    return "; ".join(notes)
