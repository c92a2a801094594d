"""Numbers as texts, rows of columns, and which rows stand open."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.report.origin import GRID, hold
from nsbench.report.pictures import Pictures
from nsbench.report.tables import Cell, Column, Split, number, probability, row_of, settled
from nsbench.schemas.analysis import SELECTION
from tests.report.pages import IMAGE
from tests.synthetic_records import make_cells, swept

NO_CHOICE = SELECTION.empty_table().to_pandas()


def test_numbers_as_texts() -> None:
    assert [probability(p) for p in (0.25, 0.001, 0.00099, 1.0)] == ["0.250", "0.001", "< 0.001", "1.000"]
    assert {number(None), number(math.nan), probability(None), probability(math.nan)} == {"–"}
    assert (number(-1234.4), number(-math.inf, ".3g")) == ("−1,234", "−∞")


@pytest.mark.parametrize(
    ("form", "cell"),
    [
        ("{low:.1f} of {name}|p {p:p}", Cell("0.1 of x", ("p < 0.001",))),
        ("{mean:+.1f}% ±", Cell("+0.2%", ("+0.1% to +0.3%",))),
        # A small line with a number that is not there is left out.
        ("{none:.2f} ±", Cell("–")),
        (lambda row: (row["name"], ""), Cell("x", ("",))),
    ],
)
def test_a_column_makes_a_row_s_field(form: Any, cell: Cell) -> None:
    row = {"name": "x", "mean": 0.2, "low": 0.1, "p": 1e-5, "mean_low": 0.1, "mean_high": 0.3}
    row |= dict.fromkeys(("none", "none_low", "none_high"), math.nan)
    assert Column("head|under", form).cell(row) == cell


def test_an_estimate_of_what_stopped_runs_left_is_open() -> None:
    row = {"n_pairs": 8, "confidence": 0.95, "mean_low": 0.1, "mean_high": 0.2}
    assert settled(row, "mean") == settled(row | {"n_stopped": 0}, "mean") == 1
    assert settled(row | {"n_stopped": 1}, "mean") == 0


def test_a_cell_is_told_with_its_arm_s_settings() -> None:
    cells = make_cells(arms=("gentle", "baseline"))
    cells[0]["arm_settings"] = cells[0]["arm_settings"] | {"kind": "cheap_noise_stability", "every": 10, "share": 1.0}
    told = [row_of(GRID, cell | {"data": {}}).cells[1].text for cell in cells]
    assert told == ["ρ = 0.25, γ = 0.75, S = 1, every 10th step", "–"]


def test_a_hold_is_told_in_evaluations_and_in_steps() -> None:
    asked = {"metric": "val_accuracy", "threshold": 0.9}
    # Known to the spacing of evaluations, here 100 steps.
    for evaluations, steps, text in (
        (3, 0, "held for 3 evaluations in a row (200 steps)"),
        (2, 250, "held for 4 evaluations in a row (300 steps)"),
        (1, 0, "at one evaluation"),
    ):
        assert hold(asked | {"hold_evaluations": evaluations, "hold_steps": steps}, 100) == text


def test_a_sweep_and_a_curve_are_folded_each_for_its_reason() -> None:
    sweep = make_cells(variants=("swept",), arms=("baseline", *swept((0.05, 0.5), (0.05, 0.75))))
    curve = [cell | {"curve": "swept", "curve_only": True} for cell in make_cells(variants=("other",))]
    # A curve's base that is an ordinary variant too stays open.
    base = [cell | {"curve": "calibrated", "choices": {}, "curve_only": False} for cell in make_cells()]
    cells = [*sweep, *curve, *base]
    results = pd.DataFrame([{name: cell[name] for name in ("task", "variant", "arm")} for cell in cells])
    made = Split(cells, NO_CHOICE)(results.assign(text=""), [Column("", "{variant} / {arm}")])
    shown = [row.cells[0].text for row in made.rows]
    assert shown == ["swept / baseline", f"swept / {sweep[1]['arm']}", "calibrated / baseline", "calibrated / gentle"]
    assert len(made.folded) == 3 + 2
    assert made.of == "further arms, and variants of the specification curves"


def test_a_picture_is_handed_out_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("figure_09", "figure_98")]
    for path in paths:
        path.write_bytes(IMAGE)
    pictures = Pictures(paths)
    assert [picture["name"] for picture in pictures.take("figure_09", "unknown")] == ["figure_09"]
    assert pictures.take("figure_09") == []
    assert [picture["name"] for picture in pictures.elsewhere("figure_09", "figure_98")] == ["figure_09"]
    assert [picture["name"] for picture in pictures.rest()] == ["figure_98"]
    assert [picture["name"] for picture in pictures.index()] == ["figure_09", "figure_98"]
