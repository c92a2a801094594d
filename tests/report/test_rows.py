"""Rows of tables as texts, and which of them stand open."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.report import rows
from nsbench.report.pictures import Pictures
from nsbench.report.split import Split
from nsbench.schemas.analysis import SELECTION
from tests.report_pages import IMAGE
from tests.synthetic_records import make_cells, swept

NO_CHOICE = SELECTION.empty_table().to_pandas()


@pytest.mark.parametrize(
    ("value", "text"), [(0.25, "0.250"), (0.001, "0.001"), (0.00099, "< 0.001"), (0.0, "< 0.001"), (1.0, "1.000")]
)
def test_p_values_as_texts(value: float, text: str) -> None:
    assert rows.probability(value) == text


def test_what_is_not_there_is_a_dash() -> None:
    assert {rows.number(None), rows.number(math.nan), rows.probability(None), rows.probability(math.nan)} == {"–"}


def test_a_number_has_a_minus_and_no_hyphen() -> None:
    assert rows.number(-1234.4) == "−1,234"


def test_an_estimate_of_what_stopped_runs_left_is_open() -> None:
    row = {"n_pairs": 8, "confidence": 0.95, "mean_low": 0.1, "mean_high": 0.2}
    assert rows.direction(row, "mean") == rows.direction(row | {"n_stopped": 0}, "mean") == "more"
    assert rows.direction(row | {"n_stopped": 1}, "mean") == "open"


def test_a_cell_is_told_with_its_arm_s_settings() -> None:
    cell = make_cells(arms=("gentle",))[0]
    cell["arm_settings"] = cell["arm_settings"] | {"kind": "cheap_noise_stability", "every": 10, "share": 1.0}
    assert rows.grid_row(cell)["settings"] == "ρ = 0.25, γ = 0.75, S = 1, every 10th step"
    assert rows.grid_row(make_cells(arms=("baseline",))[0])["settings"] == "–"


@pytest.mark.parametrize(
    ("evaluations", "steps", "every", "text"),
    [
        (3, 0, 100, "held for 3 evaluations in a row (200 steps)"),
        (3, 1000, 100, "held for 11 evaluations in a row (1,000 steps)"),
        (2, 250, 100, "held for 4 evaluations in a row (300 steps)"),  # known to the spacing of evaluations
        (1, 0, 100, "at one evaluation"),
    ],
)
def test_a_hold_is_told_in_evaluations_and_in_steps(evaluations: int, steps: int, every: int, text: str) -> None:
    asked = {"metric": "val_accuracy", "threshold": 0.9, "hold_evaluations": evaluations, "hold_steps": steps}
    assert rows.hold(asked, every) == text


def split_arms(cells: list[dict[str, Any]], folded: bool = False) -> list[str]:
    """variant / arm of the rows of a table with a row a cell that stand open, or are folded."""
    table = pd.DataFrame([{name: cell[name] for name in ("task", "variant", "arm")} | {"text": ""} for cell in cells])
    found = Split(cells, NO_CHOICE)(table, dict)
    return [f"{row['variant']} / {row['arm']}" for row in found["folded" if folded else "shown"]]


def test_a_sweep_and_a_curve_are_folded_each_for_its_reason() -> None:
    sweep = make_cells(variants=("swept",), arms=("baseline", *swept((0.05, 0.5), (0.05, 0.75))))
    curve = [cell | {"curve": "swept", "curve_only": True} for cell in make_cells(variants=("other",))]
    cells = [*sweep, *curve]
    assert split_arms(cells) == ["swept / baseline", f"swept / {sweep[1]['arm']}"]
    assert len(split_arms(cells, folded=True)) == 3 + 2


def test_a_curve_s_base_that_is_an_ordinary_variant_too_stays_open() -> None:
    cells = [cell | {"curve": "calibrated", "choices": {}, "curve_only": False} for cell in make_cells()]
    assert split_arms(cells) == ["calibrated / baseline", "calibrated / gentle"]


def test_a_picture_is_handed_out_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("figure_09", "figure_98")]
    for path in paths:
        path.write_bytes(IMAGE)
    pictures = Pictures(paths)
    assert [picture["name"] for picture in pictures.take("figure_09", "unknown")] == ["figure_09"]
    assert pictures.take("figure_09") == []
    assert [picture["name"] for picture in pictures.elsewhere("figure_09", "figure_98")] == ["figure_09"]
    assert [picture["name"] for picture in pictures.rest()] == ["figure_98"]
    assert pictures.rest() == []
    assert [picture["name"] for picture in pictures.index()] == ["figure_09", "figure_98"]
