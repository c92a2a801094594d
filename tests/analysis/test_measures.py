"""The table of measures at the end of training."""

from __future__ import annotations

import math

import pandas as pd

from nsbench.analysis.measures import measures

CELLS = [
    {"task": "t", "variant": "v", "arm": arm, "seeds": seeds, "budget_steps": 20}
    for arm, seeds in (("baseline", [0, 1, 2]), ("gentle", [0, 1]))
]


def test_measures_are_medians_over_the_runs_that_went_to_their_budget() -> None:
    """Of the baseline a run has no last checkpoint, of the other arm no run has any."""
    rows = []
    for seed, steps, value in ((0, (0, 20), 1.0), (1, (0, 20), 4.0), (2, (0, 10), 9.0)):
        for step in steps:
            for rho, more in ((math.nan, 0.0), (0.5, 100.0)):
                found = {
                    "measure": "own",
                    "reduction": "mean",
                    "rho": rho,
                    "value": value + more,
                    "target_value": 2 * rho,
                }
                rows.append({"task": "t", "variant": "v", "arm": "baseline", "seed": seed, "step": step, **found})
    table = measures(pd.DataFrame(rows).assign(correlation=math.nan), CELLS)
    assert table["arm"].tolist() == ["baseline", "baseline", "gentle", "gentle"]
    assert table["n_seeds"].tolist() == [3, 3, 2, 2]
    assert table["n_measured"].tolist() == [2, 2, 0, 0]
    assert table["rho"].fillna(-1).tolist() == [-1, 0.5, -1, 0.5]
    columns = ["value", "value_min", "value_max"]
    assert table[columns].iloc[:2].to_numpy().tolist() == [[2.5, 1.0, 4.0], [102.5, 101.0, 104.0]]
    assert table[columns].iloc[2:].isna().all(axis=None)
    assert table["target_value"].iloc[1] == 1.0
