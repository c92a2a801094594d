"""Given times to target in the shape of the tables, a baseline's beside an arm's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import strategies as st

from nsbench.analysis.statistics import paired_effects
from nsbench.config.sections import Analysis
from nsbench.schemas.statistics import PAIRED_EFFECT
from tests.synthetic_records import ARMS, FLOPS_PER_STEP, make_cells

NAN = math.nan
BUDGET = 8
"""Of drawn pairs."""
TIMES = st.one_of(st.integers(1, BUDGET).map(float), st.just(NAN))
"""Few values, so that pairs tie; NaN is censored."""
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
                    "train_step": math.nan,
                    "n_lost": 0,
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
    baseline: list[float], arm: list[float], budget: int = 10_000, judged: bool = True, **settings: Any
) -> dict[str, Any]:
    """The effect for given times to target (NaN: censored), one per seed; judged at the looks, or with all pairs.

    settings: of `config.sections.Analysis`.
    """
    times, runs, cells = times_of(baseline, arm, budget)
    found = paired_effects(times, runs, Analysis(**settings), cells if judged else None)
    assert list(found) == PAIRED_EFFECT.names
    assert len(found) == 1
    return found.iloc[0].to_dict()


def _more_extreme(draw: st.DrawFn, pairs: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """The pairs with arms as they were or sooner, baselines as they were or later."""

    def moved(time: float, low: float, high: float) -> float:
        value = draw(st.floats(low, high)) if draw(st.booleans()) else time
        return NAN if value >= BUDGET + 1 else min(value, BUDGET)

    return [
        (
            NAN if math.isnan(baseline) else moved(baseline, baseline, BUDGET + 2.0),
            moved(arm, 0.0, BUDGET if math.isnan(arm) else arm),
        )
        for baseline, arm in pairs
    ]


@st.composite
def two_strengths(draw: st.DrawFn, n: int | None = None) -> tuple[list[tuple[float, float]], ...]:
    """Pairs of times (baseline, arm), 6 to 10 or `n`, and others that are more extreme towards fewer steps."""
    pairs = draw(st.lists(st.tuples(TIMES, TIMES), min_size=n or 6, max_size=n or 10))
    return pairs, _more_extreme(draw, pairs)
