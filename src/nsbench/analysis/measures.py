"""What each measure says at the end of training, by cell: a pure function of DataFrames."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nsbench.analysis.statistics.times import CELL_KEYS, by_variant
from nsbench.schemas.analysis import MEASURE

KEYS = ["measure", "reduction", "rho"]


def measures(evaluation: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """A row per cell, in grid order, and number of a measure: columns of MEASURE, `text` empty.

    Takes `schemas.training.EVALUATION`. Values are of checkpoints at the budget, so that runs which
    diverged or were stopped early have none. Every cell of a variant has the numbers that one of its cells has.
    """
    budget = {tuple(cell[name] for name in CELL_KEYS): cell["budget_steps"] for cell in cells}
    at_end = evaluation["step"] == [
        budget.get(key) for key in zip(*(evaluation[name] for name in CELL_KEYS), strict=True)
    ]
    found = evaluation[at_end].groupby([*CELL_KEYS, *KEYS], sort=False, dropna=False, as_index=False)
    found = found.agg(
        n_measured=("seed", "nunique"),
        value=("value", "median"),
        value_min=("value", "min"),
        value_max=("value", "max"),
        correlation=("correlation", "first"),
        target_value=("target_value", "median"),
    )
    of_cell = dict(iter(found.groupby(CELL_KEYS, sort=False)))
    rows = []
    for group in by_variant(cells).values():
        parts = [of_cell.get(tuple(cell[name] for name in CELL_KEYS), found.iloc[:0]) for cell in group]
        names = pd.concat(parts)[KEYS].drop_duplicates()
        for cell, part in zip(group, parts, strict=True):
            row = {**{key: cell[key] for key in CELL_KEYS}, "n_seeds": len(cell["seeds"])}
            rows.append(names.merge(part, on=KEYS, how="left").assign(**row))
    made = pd.concat(rows, ignore_index=True).reindex(columns=MEASURE.names)
    return made.assign(n_measured=made["n_measured"].fillna(0).astype(int))
