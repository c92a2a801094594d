"""Specifications: which count, what their intervals settle, and the shares, by hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from nsbench.analysis.specification_curves import specification_shares, specifications
from nsbench.schemas.analysis import SPECIFICATION_SHARE
from nsbench.storage.parquet import RecordError
from tests.synthetic_specifications import effect_row, make_curve_cells, make_effects

NAN = math.nan
CHOICES = {"model.norm": ["pre", "post"], "model.mask": ["none", "causal"], "model.dropout": [0.1, 0.0]}


def made(
    *given: dict[str, Any], seeds: tuple[int, ...] = (0, 1, 2, 3, 4, 5), **grid: Any
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The specifications of a curve whose effects differ from a plain one as `given`, and its cells."""
    cells = make_curve_cells(len(given), choices=CHOICES, seeds=seeds, **grid)
    arms = [cell for cell in cells if cell["arm"] != "baseline"]
    rows = [effect_row(cell, **{"ratio": 1.0, **row}) for cell, row in zip(arms, given, strict=True)]
    return specifications(pd.DataFrame(rows), cells), cells


def interval(low: float, high: float, **given: Any) -> dict[str, Any]:
    return {"ratio": (low + high) / 2, "low": low, "high": high, **given}


@pytest.mark.parametrize(("reached", "counts"), [(0, False), (3, False), (4, True)])
def test_a_specification_counts_where_more_than_half_of_the_baselines_reach(reached: int, counts: bool) -> None:
    table, _ = made(interval(0.7, 0.9, n_baseline_reached=reached, note="censored"))
    (row,) = table.to_dict("records")
    assert row["counts"] == counts
    assert row["effect"] == ("helps" if counts else "not counted")
    told = f"not counted: the baseline reached the target in {reached} of 6 pairs; censored"
    assert row["note"] == ("censored" if counts else told)
    (share,) = specification_shares(table).to_dict("records")
    assert (share["n_counted"], share["n_helps"]) == (counts, counts)
    numbers = [name for name in SPECIFICATION_SHARE.names if "share_" in name or "steps_ratio" in name]
    assert len(numbers) == 8
    assert all(math.isnan(share[name]) != counts for name in numbers)


def test_rows_follow_the_grid_and_say_what_was_chosen() -> None:
    table, cells = made({}, {}, {}, leaks=("a leak", "another"))
    arms = [cell for cell in cells if cell["arm"] != "baseline"]
    assert table["variant"].tolist() == [cell["variant"] for cell in arms]
    assert [json.loads(text) for text in table["choices"]] == [cell["choices"] for cell in arms]
    assert table["choices"].iloc[0] == '{"model.dropout":0.1,"model.mask":"none","model.norm":"pre"}'
    assert table["base"].tolist() == [True, False, False]
    assert set(table["leaks"]) == {"a leak; another"}
    assert set(table["curve"]) == {"calibrated"}
    assert table["flops_ratio"].tolist() == [2.0] * 3


def test_a_specification_without_an_effect_is_named() -> None:
    cells = make_curve_cells(2, choices=CHOICES)
    with pytest.raises(RecordError, match=r"modular_addition / calibrated-001 / noise_stability: this specification"):
        specifications(make_effects(cells).iloc[:1], cells)


def test_shares_are_of_those_that_count() -> None:
    lost = {"n_baseline_reached": 1, "ratio": 0.5}
    table, _ = made(
        interval(0.6, 0.8),
        interval(0.8, 0.9),
        interval(1.1, 1.3),
        interval(0.9, 1.1),
        lost,
        {**lost, "n_arm_reached": 3},
    )
    (share,) = specification_shares(table).to_dict("records")
    assert [share[f"n_{name}"] for name in ("specifications", "counted", "helps", "hurts", "open")] == [6, 4, 2, 1, 1]
    assert [share[f"share_{name}"] for name in ("helps", "hurts", "open")] == [0.5, 0.25, 0.25]
    # Wilson's score interval for 2 of 4, z = 1.96: (p + z^2/2n -+ z sqrt(p q/n + z^2/4n^2)) / (1 + z^2/n).
    z = stats.norm.ppf(0.975)
    centre, spread = 0.5 + z**2 / 8, z * math.sqrt(0.25 / 4 + z**2 / 64)
    assert share["share_helps_low"] == pytest.approx((centre - spread) / (1 + z**2 / 4))
    assert share["share_helps_high"] == pytest.approx((centre + spread) / (1 + z**2 / 4))
    assert share["min_steps_ratio"] == pytest.approx(0.7)
    assert share["max_steps_ratio"] == pytest.approx(1.2)
    assert share["median_steps_ratio"] == pytest.approx((0.85 + 1.0) / 2)
    assert share["note"] == (
        "2 of 6 specifications not counted: their baseline does not reach the target; in 1 of them the arm does"
    )


def test_arms_and_curves_are_kept_apart() -> None:
    arms = ("noise_stability", "every_10th")
    cells = [
        *make_curve_cells(3, choices=CHOICES, arms=arms),
        *make_curve_cells(2, choices=CHOICES, curve="other", leaks=("a leak",)),
        *make_curve_cells(2, choices=CHOICES, task="sparse_parity"),
    ]
    shares = specification_shares(specifications(make_effects(cells), cells))
    assert list(zip(shares["task"], shares["curve"], shares["arm"], shares["n_specifications"], strict=True)) == [
        ("modular_addition", "calibrated", "noise_stability", 3),
        ("modular_addition", "calibrated", "every_10th", 3),
        ("modular_addition", "other", "noise_stability", 2),
        ("sparse_parity", "calibrated", "noise_stability", 2),
    ]
    assert shares["leaks"].tolist() == ["", "", "a leak", ""]
