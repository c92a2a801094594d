"""Kaplan-Meier curves of time to target: pure functions of DataFrames.

Every run is watched until it has held its target or its budget ends, so all censoring is at the
budget: a run that `training.stop` ended early has reached its target and is never censored. A
diverged run counts as censored at the budget too, not where it diverged: it can never reach the
target, while censoring at its last step would have the curve take it for as likely to reach later
as the runs still in training.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.times import CELL_KEYS
from nsbench.schemas.statistics import KAPLAN_MEIER


def kaplan_meier(times: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Kaplan-Meier curves of time to target, a curve per cell in the order of `times`: columns of KAPLAN_MEIER.

    Takes `schemas.training.TIME_TO_TARGET`. A curve has a row at step 0, at every step at which a run reached
    the target, and at the budget; between rows the share stays. A run that reaches the target at the
    budget counts as reached.

    No run is censored before the budget, so at each step the share is a plain proportion of all runs, and its interval
    is Wilson's (1927, JASA 22), as of the share that reaches in `summarise_cells`: unlike Greenwood's it is defined
    at 0 and 1 too. Brown, Cai and DasGupta (2001, Statistical Science 16) recommend it for few runs. It is pointwise;
    one run has none (NaN).
    """
    rows = []
    for key, group in times.groupby(CELL_KEYS, sort=False):
        names = {**dict(zip(CELL_KEYS, key, strict=True)), "text": group["text"].iloc[0]}
        note = _note(group)
        for row in _curve(group["step"], float(group["budget_steps"].iloc[0]), confidence):
            rows.append({**names, **row, "confidence": confidence, "note": note})
    return pd.DataFrame(rows, columns=KAPLAN_MEIER.names)


def _curve(steps: pd.Series, budget: float, confidence: float) -> list[dict[str, Any]]:
    """The rows of one curve, without what they share."""
    from scipy import stats

    never, n_runs, rows = steps.isna(), len(steps), []
    for step in sorted({0.0, *steps.dropna(), budget}):
        n_left = int((never | (steps > step)).sum())
        ends = stats.binomtest(n_left, n_runs).proportion_ci(confidence, method="wilson")
        rows.append(
            {
                "step": step,
                "not_reached": n_left / n_runs,
                "low": float(ends.low) if n_runs > 1 else np.nan,
                "high": float(ends.high) if n_runs > 1 else np.nan,
                "at_risk": int((never | (steps >= step)).sum()),
                "events": int((steps == step).sum()),
                "censored": int(never.sum()) if step == budget else 0,
            }
        )
    return rows


def _note(group: pd.DataFrame) -> str:
    notes = []
    n_diverged = int((group["status"] == "diverged").sum())
    if n_diverged:
        who, they = (
            ("a diverged run counts", "it") if n_diverged == 1 else (f"{n_diverged} diverged runs count", "they")
        )
        notes.append(f"{who} as censored at the budget: {they} can never reach")
    if len(group) == 1:
        notes.append("one run: no interval")
    return "; ".join(notes)
