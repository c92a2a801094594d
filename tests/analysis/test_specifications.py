"""Specifications: which count and what they settle; curves pooled over them, and by choice, on planted effects."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nsbench.analysis.specification_curves import specification_choices, specification_curves, specifications
from nsbench.analysis.statistics import paired_effects
from nsbench.analysis.statistics.pooled import pool
from nsbench.config.sections import Analysis
from nsbench.schemas.analysis import SPECIFICATION_CHOICE, SPECIFICATION_CURVE
from nsbench.storage.parquet import RecordError
from tests.synthetic_specifications import effect_row, make_curve_cells, make_effects, make_times

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


# --- curves pooled -----------------------------------------------------------------------------------------

Effect = Callable[[dict[str, Any], int], float]


def pooled(effect: Effect, n: int = 8, **grid: Any) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """The specifications of a curve whose log ratios are `effect` of choices and seed; the curve; its choices."""
    cells = make_curve_cells(n, choices=CHOICES, **grid)
    times, runs = make_times(cells, effect)
    table = specifications(paired_effects(times, runs, Analysis(), cells), cells)
    curves, choices = specification_curves(table, times, 0.95), specification_choices(table, times, 0.95)
    assert list(curves) == SPECIFICATION_CURVE.names
    assert list(choices) == SPECIFICATION_CHOICE.names
    return table, curves, choices


def of_mask(choices: dict[str, Any], seed: int) -> float:
    """The arm helps without a mask and hurts with one; seeds, and what else is chosen, matter a little."""
    return (-0.3 if choices["model.mask"] == "none" else 0.2) + 0.02 * seed + 0.03 * (choices["model.norm"] == "pre")


def test_a_curve_is_pooled_over_what_counts() -> None:
    def effect(choices: dict[str, Any], seed: int) -> float:
        return math.inf if choices["model.dropout"] == 0.0 else of_mask(choices, seed)

    table, curves, _ = pooled(effect, seeds=tuple(range(8)))
    (curve,) = curves.to_dict("records")
    counted = table[table["counts"]]
    logs = np.array([[of_mask(json.loads(row), seed) for seed in range(8)] for row in counted["choices"]])
    assert (len(table), len(counted)) == (8, 4)
    assert [curve[f"n_{name}"] for name in ("specifications", "counted", "seeds")] == [8, 4, 8]
    assert [curve[f"n_{name}"] for name in ("helps", "hurts", "open")] == [2, 2, 0]
    found = pool(logs, 0.95)
    for name, value in (
        ("steps_ratio", found.mean),
        ("steps_ratio_low", found.low),
        ("steps_ratio_high", found.high),
        ("new_steps_ratio_low", found.new_low),
        ("new_steps_ratio_high", found.new_high),
        ("min_steps_ratio", -0.3 + 0.07),
        ("max_steps_ratio", 0.2 + 0.07 + 0.03),
    ):
        assert math.log(curve[name]) == pytest.approx(value)
    assert (curve["sd_settings"], curve["sd_seeds"]) == pytest.approx((found.sd_settings, found.sd_seeds))
    assert curve["sd_seeds"] == pytest.approx(0.02 * np.std(range(8), ddof=1))
    assert curve["note"] == (
        "4 of 8 specifications not counted: their baseline does not reach the target; in 0 of them the arm does"
    )


def test_the_choice_that_turns_the_sign_is_found() -> None:
    _, _, choices = pooled(of_mask)
    rows = choices.set_index(["choice", "level"])
    assert rows.index.get_level_values("choice").unique().tolist() == ["model.dropout", "model.mask", "model.norm"]
    assert rows["n_specifications"].eq(4).all()
    for level, sign in (('"none"', -0.3), ('"causal"', 0.2)):
        row = rows.loc["model.mask", level]
        assert math.log(row["steps_ratio"]) == pytest.approx(sign + 0.05 + 0.015)
        assert (row["steps_ratio_low"] > 1, row["steps_ratio_high"] < 1) == (sign > 0, sign < 0)
    p = rows["p_value"].groupby(level=0).first()
    assert p["model.mask"] < 1e-6 < 0.5 < p["model.dropout"]
    q = rows["q_value"].groupby(level=0).first()
    np.testing.assert_allclose(q[p.index], stats.false_discovery_control(p))
    assert q["model.mask"] < 0.05 < q["model.norm"]


def test_a_curve_of_few_specifications_has_a_mean_without_interval() -> None:
    _, curves, choices = pooled(of_mask, n=2)
    (curve,) = curves.to_dict("records")
    assert math.isfinite(curve["steps_ratio"])
    assert math.isnan(curve["steps_ratio_low"])
    assert curve["note"] == "an interval takes three specifications and two seeds"
    assert choices["p_value"].isna().all()


def test_a_curve_none_of_which_counts_has_no_numbers() -> None:
    _, curves, choices = pooled(lambda *_: math.inf)
    (curve,) = curves.to_dict("records")
    assert (curve["n_specifications"], curve["n_counted"], curve["n_seeds"]) == (8, 0, 0)
    assert all(math.isnan(curve[name]) for name in SPECIFICATION_CURVE.names if "ratio" in name or "sd_" in name)
    assert choices.empty


def test_seeds_that_not_all_specifications_have_are_left_out() -> None:
    cells = make_curve_cells(4, choices=CHOICES)
    cells[2]["seeds"] = cells[3]["seeds"] = [4, 1, 9]
    times, runs = make_times(cells, of_mask)
    table = specifications(paired_effects(times, runs, Analysis(), cells), cells)
    (curve,) = specification_curves(table, times, 0.95).to_dict("records")
    logs = [[of_mask(json.loads(row), seed) for seed in (1, 4)] for row in table["choices"]]
    assert (curve["n_counted"], curve["n_seeds"]) == (4, 2)
    assert math.log(curve["steps_ratio"]) == pytest.approx(np.mean(logs))
    cells[4]["seeds"] = cells[5]["seeds"] = [7, 8]
    times, runs = make_times(cells, of_mask)
    table = specifications(paired_effects(times, runs, Analysis(), cells), cells)
    (curve,) = specification_curves(table, times, 0.95).to_dict("records")
    assert curve["n_seeds"] == 0
    assert math.isnan(curve["steps_ratio"])
    assert specification_choices(table, times, 0.95)["steps_ratio"].isna().all()


def test_arms_and_curves_are_kept_apart() -> None:
    arms = ("noise_stability", "every_10th")
    cells = [
        *make_curve_cells(3, choices=CHOICES, arms=arms),
        *make_curve_cells(2, choices=CHOICES, curve="other", leaks=("a leak",)),
        *make_curve_cells(2, choices=CHOICES, task="sparse_parity"),
    ]
    curves = specification_curves(specifications(make_effects(cells), cells), make_times(cells, of_mask)[0], 0.95)
    assert list(zip(curves["task"], curves["curve"], curves["arm"], curves["n_specifications"], strict=True)) == [
        ("modular_addition", "calibrated", "noise_stability", 3),
        ("modular_addition", "calibrated", "every_10th", 3),
        ("modular_addition", "other", "noise_stability", 2),
        ("sparse_parity", "calibrated", "noise_stability", 2),
    ]
    assert curves["leaks"].tolist() == ["", "", "a leak", ""]
