"""Given times to target in the shape of the tables, a baseline's beside an arm's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics import paired_effects
from nsbench.schemas.statistics import PAIRED_EFFECT
from tests.synthetic_records import ARMS, FLOPS_PER_STEP, make_cells

Times = tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]]]


def times_of(
    baseline: list[float],
    arm: list[float],
    budget: int = 10_000,
    variant: str = "calibrated",
    task: str = "modular_addition",
) -> Times:
    """Times to target (NaN: censored), one per seed, as `time_to_target` gives them; runs; and the grid."""
    cells = make_cells(task, variants=(variant,), seeds=tuple(range(len(baseline))), budget=budget)
    rows, runs = [], []
    for cell, times in zip(cells, (baseline, arm), strict=True):
        kind = cell["arm_settings"]["kind"]
        for seed, step in zip(cell["seeds"], times, strict=True):
            name = {key: cell[key] for key in ("task", "variant", "arm")} | {"seed": seed}
            settings = {key: float(ARMS[cell["arm"]].get(key, math.nan)) for key in ("rho", "gamma", "orientation")}
            rows.append(
                {
                    **name,
                    **settings,
                    **cell["target"],
                    "arm_kind": kind,
                    "budget_steps": budget,
                    "status": "completed",
                    "reached": not math.isnan(step),
                    "step": step,
                    "flops": step * FLOPS_PER_STEP[kind],
                    "seconds": step * 0.01,
                    "text": "",
                }
            )
            runs.append({**name, "steps": budget, "flops": budget * FLOPS_PER_STEP[kind], "seconds": budget * 0.01})
    return pd.DataFrame(rows), pd.DataFrame(runs), cells


def joined(*several: Times) -> Times:
    """Several grids' times, runs and cells as one."""
    tables = [pd.concat([made[place] for made in several], ignore_index=True) for place in (0, 1)]
    return tables[0], tables[1], [cell for made in several for cell in made[2]]


def without_measures(
    made: dict[str, pd.DataFrame], *names: tuple[str, int], why: str = "other settings"
) -> dict[str, pd.DataFrame]:
    """Records with these runs (arm, seed) not measured, for a reason."""

    def chosen(table: pd.DataFrame) -> np.ndarray:
        return np.array([name in names for name in zip(table["arm"], table["seed"], strict=True)])

    runs, rows = made["runs"].copy(), made["evaluation"]
    runs.loc[chosen(runs), "no_evaluation"] = why
    return made | {"runs": runs, "evaluation": rows[~chosen(rows)]}


def effects_of(
    baseline: list[float],
    arm: list[float],
    confidence: float = 0.95,
    budget: int = 10_000,
    n_resamples: int = 999,
    tested: bool = False,
) -> dict[str, Any]:
    """The effect for given times to target (NaN: censored), one per seed; with its tests if asked for."""
    times, runs, cells = times_of(baseline, arm, budget)
    generator = np.random.default_rng(3)
    found = paired_effects(times, runs, confidence, n_resamples, generator, cells if tested else None)
    assert list(found) == PAIRED_EFFECT.names
    assert len(found) == 1
    return found.iloc[0].to_dict()
