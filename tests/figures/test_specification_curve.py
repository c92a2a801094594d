"""What the specification curve shows, read back from the artists that it draws."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest
from matplotlib.figure import Figure

from nsbench.analysis.specification_curves import specification_shares, specifications
from nsbench.figures import specification_curve
from nsbench.figures.specification_curve import LOOKS, PAPER, choice_text, level_text
from nsbench.storage.parquet import RecordError
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_specifications import CHOICES, effect_row, make_curve_cells, make_effects

FEW = {name: CHOICES[name] for name in ("model.norm", "model.mask", "data.n_train")}


def draw(
    cells: list[dict[str, Any]], effects: pd.DataFrame | None = None, scale: str = "paper"
) -> tuple[Figure, pd.DataFrame]:
    """The figure of a grid, and the table of specifications that it shows."""
    table = specifications(make_effects(cells) if effects is None else effects, cells)
    return specification_curve.draw(table, specification_shares(table), cells, scale), table


def column_of(mark: Any) -> float:
    return float(mark.get_xdata()[0])


def heights(figure: Figure, gid: str) -> list[float]:
    """The ratios that are marked so, from left to right."""
    return [float(mark.get_ydata()[0]) for mark in sorted(with_gid(figure, gid), key=column_of)]


def dots_of(place: Any) -> list[tuple[float, float, str]]:
    """Column, row and colour of each dot of a matrix."""
    lines = with_gid(place, "has")
    return [(*at, line.get_color()) for line in lines for at in line.get_xydata().tolist()]


def test_every_specification_of_the_grid_stands_where_its_effect_puts_it() -> None:
    cells = make_curve_cells(40)
    figure, table = draw(cells)
    counted = table[table["counts"]]
    for effect in ("helps", "hurts", "open"):
        assert len(counted[counted["effect"] == effect]) > 2
        assert heights(figure, effect) == sorted(counted.loc[counted["effect"] == effect, "steps_ratio"])
    marks = [mark for effect in ("helps", "hurts", "open") for mark in with_gid(figure, effect)]
    ratios = [float(mark.get_ydata()[0]) for mark in sorted(marks, key=column_of)]
    assert ratios == sorted(counted["steps_ratio"])
    aside = table[~table["counts"]]
    assert heights(figure, "not counted") == sorted(aside["steps_ratio"].dropna())
    assert min(map(column_of, with_gid(figure, "not counted"))) > max(map(column_of, marks)) + 1
    assert f"{len(aside)} not\ncounted" in texts(figure)
    assert len(with_gid(figure, "interval")) == table["steps_ratio_low"].notna().sum()


def test_the_matrix_has_a_dot_for_each_choice_of_each_specification() -> None:
    cells = make_curve_cells(12)
    figure, table = draw(cells)
    (upper, lower) = shown(figure)
    dots = dots_of(lower)
    assert len(dots) == 12 * len(CHOICES)
    labels = [label.get_text() for label in lower.get_yticklabels()]
    assert labels[3:6] == ["2,000", "3,830", "6,385"]
    names = [label.get_text() for label in lower.child_axes[0].get_yticklabels()]
    assert names == [choice_text(choice) for choice in CHOICES]
    (base,) = with_gid(upper, "base")
    of_base = sorted((row, colour) for at, row, colour in dots if at == column_of(base))
    expected = [level_text(level) for level in cells[0]["choices"].values()]
    assert [labels[int(row)] for row, _ in of_base] == expected
    (row,) = table[table["base"]].to_dict("records")
    assert base.get_ydata()[0] == row["steps_ratio"]
    assert {colour for _, colour in of_base} == {LOOKS[row["effect"]]["color"]}


def test_specifications_of_which_no_run_reached_have_dots_alone() -> None:
    cells = make_curve_cells(3, choices=FEW)
    arms = [cell for cell in cells if cell["arm"] != "baseline"]
    lost = {"ratio": math.nan, "n_baseline_reached": 0, "n_arm_reached": 0}
    given = [{"ratio": 0.8, "low": 0.7, "high": 0.9}, lost, {**lost, "ratio": 0.6, "n_arm_reached": 6}]
    figure, _ = draw(cells, pd.DataFrame([effect_row(cell, **row) for cell, row in zip(arms, given, strict=True)]))
    assert heights(figure, "not counted") == [0.6]
    assert len({at for at, _, _ in dots_of(figure)}) == 3
    assert "1 of 3 specifications count: 1 help, 0 hurt, 0 open" in texts(figure)
    assert "in 2 the baseline does not reach the target (the arm does in 1)" in texts(figure)


def test_lines_mark_no_effect_and_the_paper_s_number() -> None:
    figure, _ = draw(make_curve_cells(4, choices=FEW))
    assert [line.get_ydata()[0] for line in with_gid(figure, "none")] == [1]
    assert [line.get_ydata()[0] for line in with_gid(figure, "paper")] == [pytest.approx(0.733, abs=5e-4)]
    assert (PAPER["sparse_parity"], PAPER["next_token"]) == (pytest.approx(0.741, abs=5e-4), 0.25)
    low, high = shown(figure)[0].get_ylim()
    assert low < 0.733 < 1 < high
    assert 1 in shown(figure)[0].get_yticks()


def test_arms_and_curves_have_panels_of_their_own_and_leaks_are_told() -> None:
    arms = ("noise_stability", "every_10th")
    cells = make_curve_cells(4, choices=FEW, arms=arms, leaks=("windows overlap",))
    cells += make_curve_cells(
        3, choices={"model.norm": ["pre", "post"], "model.qkv_init": ["normal", "xavier"]}, curve="b"
    )
    cells[-1]["leaks"] = ["a rare leak"]
    figure, _ = draw(cells)
    assert len(shown(figure)) == 2 * 3
    told = texts(figure)
    for title in ("calibrated: noise_stability", "calibrated: every_10th", "b: noise_stability"):
        assert title in told
    assert told.count("windows overlap (4 of 4)") == 2
    assert "a rare leak (1 of 3)" in told.replace("\n", " ")
    assert len(shown(figure)[5].get_yticks()) == 4


def test_what_a_step_costs_and_too_few_pairs_are_told() -> None:
    few, _ = draw(make_curve_cells(3, choices=FEW, seeds=(0, 1)), scale="demo")
    told = " ".join(texts(few).split())
    assert "noise_stability 2, so it saves work below a ratio of 0.50" in told
    assert "So none is settled: only 2 pairs" in told
    assert "DEMO SCALE" in told
    many = " ".join(texts(draw(make_curve_cells(3, choices=FEW))[0]).split())
    assert "So none is settled" not in many
    assert "SCALE" not in many


def test_a_specification_without_a_row_is_named() -> None:
    cells = make_curve_cells(3, choices=FEW)
    table = specifications(make_effects(cells), cells)
    with pytest.raises(
        RecordError, match="calibrated-002 / noise_stability: this specification of the grid has no row"
    ):
        specification_curve.draw(table.iloc[:2], specification_shares(table), cells, "paper")


def test_nothing_overlaps() -> None:
    figure, _ = draw(make_curve_cells(40, leaks=("training and validation windows overlap",)), scale="demo")
    check_layout(figure, shown(figure))


def test_choices_and_levels_have_plain_names() -> None:
    assert [choice_text(name) for name in ("model.norm", "noise.same_symbol", "target.metric", "decay")] == [
        "norm",
        "noise same symbol",
        "target metric",
        "decay",
    ]
    assert [level_text(level) for level in (None, True, False, 2000, 0.1, "a_b")] == [
        "default",
        "yes",
        "no",
        "2,000",
        "0.1",
        "a_b",
    ]
