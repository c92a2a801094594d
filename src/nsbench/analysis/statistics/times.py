"""Time to target and its censoring: pure functions of DataFrames.

The grid is handed in as `cells`, a list of plain dicts with `task`, `variant`, `arm`,
`arm_settings`, `seeds`, `target` and `budget_steps`: denominators come from it, never from the
files found. A run that does not hold the target within its budget, or that diverges, is censored
at the budget: medians count it as later than every reached time, means count it at the budget.

The target is known to have been crossed between two evaluations, and a time that waits for the second shrinks effects.
So a time is the middle of the two, whatever the curve between them (docs/scoring.md shows by simulation what is left).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.config.cells import by_variant
from nsbench.config.target import first_held, reaches
from nsbench.schemas.metrics import METRICS
from nsbench.schemas.statistics import CELL_SUMMARY, COPIED
from nsbench.schemas.training import TIME_TO_TARGET
from nsbench.storage.parquet import RecordError

CELL_KEYS = ["task", "variant", "arm"]
RUN_KEYS = [*CELL_KEYS, "seed"]
COSTS = ["step", "flops", "seconds"]
"""What is spent on the way to a target."""
RunKey = tuple[str, str, str, int]
"""(task, variant, arm, seed)."""


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


def crossing(costs: np.ndarray, found: int) -> np.ndarray:
    """What has been spent half way from the evaluation before a target was first met, to the one that met it.

    costs: (evaluations, kinds of cost); found: the evaluation that met it. It is the cost of that evaluation where
    there is none before it.
    """
    return (costs[max(found - 1, 0)] + costs[found]) / 2


def trails(history: pd.DataFrame, runs: pd.DataFrame, cells: list[dict[str, Any]]) -> dict[RunKey, Trail]:
    """Every run of the grid, in grid order; evaluations past the budget are left out.

    Raises RecordError naming a run of the grid that has no history or no single row in `runs`, an evaluation twice, a
    history that ends before a completed run does, or evaluations at other steps than the other runs of its variant.
    """
    histories, status, found = dict(iter(history.groupby(RUN_KEYS, sort=False))), of_runs(runs, "status", cells), {}
    for group in by_variant(cells).values():
        of_variant = {}
        for cell in group:
            for key in grid_runs([cell]):
                if key not in histories:
                    raise RecordError(
                        f"{run_name(*key)}: this run of the grid has no history; train and collect it again"
                    )
                rows = histories[key].sort_values("step")
                of_variant[key] = Trail(status[key], rows[rows["step"] <= cell["budget_steps"]])
                _check_end(run_name(*key), of_variant[key], cell["budget_steps"])
        _check_grid({key: trail.rows["step"].to_numpy() for key, trail in of_variant.items()})
        found |= of_variant
    return {key: found[key] for key in grid_runs(cells)}


def _check_end(name: str, trail: Trail, budget: int) -> None:
    """Refuse an evaluation that is there twice, and a completed run whose history ends before the budget."""
    steps = trail.rows["step"].to_numpy()
    between = np.diff(steps)
    if len(steps) == 0 or (between == 0).any():
        which = f"step {steps[1:][between == 0][0]:,} more than once" if len(steps) else "no step up to the budget"
        raise RecordError(f"{name}: its history has {which}; one row an evaluation is allowed")
    if trail.status == "completed" and budget - steps[-1] >= between.max(initial=1):
        raise RecordError(
            f"{name}: it is `completed`, but its history ends at step {steps[-1]:,} of {budget:,}; a history up to the "
            "budget, or a run that is `diverged`, is allowed"
        )


def _check_grid(steps: dict[RunKey, np.ndarray]) -> None:
    """Refuse runs of one variant that were evaluated at different steps: rarer evaluations make an arm late."""
    longest = max(steps, key=lambda key: len(steps[key]))
    for key, own in steps.items():
        if len(differ := np.flatnonzero(own != steps[longest][: len(own)])):
            raise RecordError(
                f"{run_name(*key)}: it was evaluated at step {own[differ[0]]:,} where {run_name(*longest)} was at "
                f"{steps[longest][differ[0]]:,}; the same steps are allowed in all arms of a variant"
            )


def arm_columns(cell: dict[str, Any]) -> dict[str, float]:
    """rho, gamma and orientation of a cell's arm; NaN where it has none."""
    found = {name: cell["arm_settings"].get(name) for name in ("rho", "gamma", "orientation")}
    return {name: np.nan if value is None else float(value) for name, value in found.items()}


def time_to_target(history: pd.DataFrame, runs: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """Steps, FLOPs and seconds to where the target is crossed and then held, for every run of the grid.

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
            cost, lost = np.full(len(COSTS), np.nan), 0
            if found is not None:
                cost = crossing(trail[COSTS].to_numpy(float), found)
                lost = int((~reaches(trail[target["metric"]].to_numpy(float)[found:], target)).sum())
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
                    **dict(zip(COSTS, cost, strict=True)),
                    "train_step": _train_step(trail, target),
                    "n_lost": lost,
                    "text": texts[key],
                }
            )
    return pd.DataFrame(rows, columns=TIME_TO_TARGET.names)


def _train_step(rows: pd.DataFrame, target: dict[str, Any]) -> float:
    """The step at which the training metric first crosses the target's threshold; NaN if it never does."""
    metric = f"train_{METRICS[target['metric']].quantity}"
    if metric not in rows:
        return np.nan
    values = rows[metric].to_numpy(float)
    held = np.flatnonzero(reaches(values, target))
    steps = rows["step"].to_numpy(float)[:, None]
    return float(crossing(steps, held[0])[0]) if len(held) else np.nan


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
                "n_lost": int((group["n_lost"] > 0).sum()),
                "most_lost": int(group["n_lost"].max()),
                "reached_share_low": float(share.low),
                "reached_share_high": float(share.high),
                "confidence": confidence,
                "median_step": quantile(group["step"], 0.5),
                "q25_step": quantile(group["step"], 0.25),
                "q75_step": quantile(group["step"], 0.75),
                "restricted_mean_steps": float(group["step"].fillna(group["budget_steps"]).mean()),
                "min_step": group["step"].min(),
                "max_step": group["step"].max(),
                "median_gap_steps": quantile(group["step"] - group["train_step"], 0.5),
                "median_flops": quantile(group["flops"], 0.5),
                "median_seconds": quantile(group["seconds"], 0.5),
            }
        )
    return pd.DataFrame(rows, columns=CELL_SUMMARY.names)
