"""Time to target and its censoring: pure functions of DataFrames.

The grid is handed in as `cells`, a list of plain dicts with `task`, `variant`, `arm`,
`arm_settings`, `seeds`, `target` and `budget_steps`: denominators come from it, never from the
files found. A run that does not hold the target within its budget, or that diverges, is censored
at the budget: medians count it as later than every reached time, means count it at the budget.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.config.target import first_held
from nsbench.schemas.statistics import CELL_SUMMARY, COPIED
from nsbench.schemas.training import TIME_TO_TARGET
from nsbench.storage.parquet import RecordError

CELL_KEYS = ["task", "variant", "arm"]
RUN_KEYS = [*CELL_KEYS, "seed"]
RunKey = tuple[str, str, str, int]
"""(task, variant, arm, seed)."""


def by_variant(cells: list[dict[str, Any]]) -> dict[tuple[str, str], list[dict[str, Any]]]:
    """The cells of every (task, variant), in grid order."""
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell["variant"]), []).append(cell)
    return groups


def run_name(task: str, variant: str, arm: str, seed: int) -> str:
    """How a run is called in messages."""
    return f"{task} / {variant} / {arm} / seed {seed}"


def grid_runs(cells: list[dict[str, Any]]) -> Iterator[RunKey]:
    """Every run, in grid order."""
    for cell in cells:
        for seed in cell["seeds"]:
            yield cell["task"], cell["variant"], cell["arm"], seed


class Trail(NamedTuple):
    """A run of the grid: `completed`, `stopped` or `diverged`, and its rows of `schemas.training.HISTORY` up to the
    budget."""

    status: str
    rows: pd.DataFrame


def of_runs(runs: pd.DataFrame, column: str, cells: list[dict[str, Any]]) -> dict[RunKey, Any]:
    """A column of `runs` by run, which every run of the grid must have once; RecordError names one that has not."""
    counts = runs.groupby(RUN_KEYS, sort=False).size().to_dict()
    for key in grid_runs(cells):
        if (count := counts.get(key, 0)) != 1:
            raise RecordError(
                f"{run_name(*key)}: this run of the grid has no single row in runs ({count} found); "
                "train and collect it again"
            )
    return runs.set_index(RUN_KEYS)[column].to_dict()


def trails(history: pd.DataFrame, runs: pd.DataFrame, cells: list[dict[str, Any]]) -> dict[RunKey, Trail]:
    """Every run of the grid, in grid order; evaluations past the budget are left out.

    Raises RecordError naming a run of the grid that has no history or no single row in `runs`.
    """
    histories, status, found = dict(iter(history.groupby(RUN_KEYS, sort=False))), of_runs(runs, "status", cells), {}
    for cell in cells:
        for key in grid_runs([cell]):
            if key not in histories:
                raise RecordError(f"{run_name(*key)}: this run of the grid has no history; train and collect it again")
            rows = histories[key].sort_values("step")
            found[key] = Trail(status[key], rows[rows["step"] <= cell["budget_steps"]])
    return found


def arm_columns(cell: dict[str, Any]) -> dict[str, float]:
    """rho, gamma and orientation of a cell's arm; NaN for the baseline."""
    return {name: float(cell["arm_settings"].get(name, np.nan)) for name in ("rho", "gamma", "orientation")}


def time_to_target(history: pd.DataFrame, runs: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """First evaluated step that reaches and holds the target, for every run of the grid.

    Takes `schemas.training.HISTORY` and `schemas.training.RUNS` and returns the columns of
    `schemas.training.TIME_TO_TARGET` in grid order; rows of runs outside the grid, and evaluations past the budget, are
    ignored. Raises RecordError naming a run of the grid that has no history or no single row in `runs`, or that was
    stopped early, by `training.stop`, by another target than this.
    """
    every, texts, rows = trails(history, runs, cells), of_runs(runs, "text", cells), []
    for cell in cells:
        target = cell["target"]
        for key in grid_runs([cell]):
            status, trail = every[key]
            found = None
            if status != "diverged":
                found = first_held(trail[target["metric"]].to_numpy(), trail["step"].tolist(), target)
            if status == "stopped" and found is None:
                raise RecordError(
                    f"{run_name(*key)}: this run was stopped early but has not held this target; train it again"
                )
            cost = dict.fromkeys(("step", "flops", "seconds"), np.nan)
            if found is not None:
                cost = trail.iloc[found][list(cost)].astype(float).to_dict()
            rows.append(
                {
                    **dict(zip(RUN_KEYS, key, strict=True)),
                    "arm_kind": cell["arm_settings"]["kind"],
                    **arm_columns(cell),
                    **target,
                    "threshold": float(target["threshold"]),
                    "budget_steps": cell["budget_steps"],
                    "status": status,
                    "reached": found is not None,
                    **cost,
                    "text": texts[key],
                }
            )
    return pd.DataFrame(rows, columns=TIME_TO_TARGET.names)


def quantile(times: pd.Series, q: float) -> float:
    """The q-quantile of times with NaN counted as +inf; NaN where it is not finite, and of no times.

    An even number of times has a median only if both middle ones were reached.
    """
    values = times.fillna(np.inf).to_numpy(dtype=float)
    if not len(values) or np.isinf(np.quantile(values, q, method="higher")):
        return np.nan
    return float(np.quantile(np.minimum(values, values[np.isfinite(values)].max()), q))


def summarise_cells(times: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """One row per cell, in the order of `times` (`schemas.training.TIME_TO_TARGET`): columns of CELL_SUMMARY.

    Medians and quartiles are over all seeds, censored ones counting as later than any reached
    time; restricted means count them at the budget (optimiser steps, FLOP, seconds).
    """
    from scipy import stats

    rows = []
    for key, group in times.groupby(CELL_KEYS, sort=False):
        n_reached = int(group["reached"].sum())
        share = stats.binomtest(n_reached, len(group)).proportion_ci(confidence, method="wilson")
        rows.append(
            {
                **dict(zip(CELL_KEYS, key, strict=True)),
                **group.iloc[0][COPIED].to_dict(),
                "n_seeds": len(group),
                "n_reached": n_reached,
                "n_diverged": int((group["status"] == "diverged").sum()),
                "reached_share_low": float(share.low),
                "reached_share_high": float(share.high),
                "confidence": confidence,
                "median_step": quantile(group["step"], 0.5),
                "q25_step": quantile(group["step"], 0.25),
                "q75_step": quantile(group["step"], 0.75),
                "restricted_mean_steps": float(group["step"].fillna(group["budget_steps"]).mean()),
                "min_step": group["step"].min(),
                "max_step": group["step"].max(),
                "median_flops": quantile(group["flops"], 0.5),
                "median_seconds": quantile(group["seconds"], 0.5),
            }
        )
    return pd.DataFrame(rows, columns=CELL_SUMMARY.names)
