"""What the specification curve shows, read back from the artists that it draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from nsbench.config.canonical import canonical_json
from nsbench.figures import specification_curve
from nsbench.figures.specification_curve import PAPER
from nsbench.figures.specification_panels import LOOKS, choice_text, level_text
from nsbench.storage.parquet import RecordError
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_specifications import CHOICES, effect_row, make_curve_cells, make_curves

FEW = {name: CHOICES[name] for name in ("model.norm", "model.mask", "data.n_train")}
NORM = {"model.norm": ["pre", "post"], "model.mask": ["none", "causal"], "data.n_train": [2000, 3830]}


def draw(
    cells: list[dict[str, Any]], effects: pd.DataFrame | None = None, scale: str = "paper"
) -> tuple[Figure, pd.DataFrame]:
    """The figure of a grid, and the table of specifications that it shows."""
    table, pooled, choices = make_curves(cells, effects)
    return specification_curve.draw(table, pooled, choices, cells, scale), table


def by_norm(cells: list[dict[str, Any]], pre: float, post: float) -> pd.DataFrame:
    """Effects that the norm decides."""
    arms = [cell for cell in cells if cell["arm"] != "baseline"]
    ratios = [{"pre": pre, "post": post}[cell["choices"]["model.norm"]] for cell in arms]
    rows = zip(arms, ratios, strict=True)
    return pd.DataFrame([effect_row(cell, ratio, ratio / 1.05, ratio * 1.05) for cell, ratio in rows])


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
    assert len(with_gid(shown(figure)[0], "interval")) == table["steps_ratio_low"].notna().sum()


def test_bands_are_the_pooled_ratio_and_that_of_a_new_setting() -> None:
    cells = make_curve_cells(24)
    table, pooled, choices = make_curves(cells)
    figure = specification_curve.draw(table, pooled, choices, cells, "paper")
    upper, _, forest = shown(figure)
    (whole,) = pooled.to_dict("records")
    for name, new in (("pooled", ""), ("new", "new_")):
        (band,) = with_gid(upper, f"band {name}")
        corners = band.get_paths()[0].get_extents()
        ends = [whole[f"{new}steps_ratio_{end}"] for end in ("low", "high")]
        assert [corners.y0, corners.y1] == pytest.approx(ends)
        marks = [mark for effect in ("helps", "hurts", "open") for mark in with_gid(upper, effect)]
        assert corners.x0 < min(map(column_of, marks))
        assert max(map(column_of, marks)) < corners.x1 < min(map(column_of, with_gid(upper, "not counted")))
    (line,) = with_gid(upper, "pooled")
    assert set(line.get_ydata()) == {whole["steps_ratio"]}
    (band,) = with_gid(forest, "band pooled")
    assert [band.get_x(), band.get_x() + band.get_width()] == pytest.approx(ends_of(whole))
    told = texts(figure)
    low, high = ends_of(whole)
    assert f"pooled ratio {whole['steps_ratio']:.2f} ({low:.2f} to {high:.2f}); of a new setting" in told
    for words in ("pooled ratio", "its 95% interval", "that of a new setting"):
        assert words in told


def ends_of(row: dict[str, Any]) -> list[float]:
    return [row["steps_ratio_low"], row["steps_ratio_high"]]


def test_each_level_s_pooled_ratio_stands_in_its_row() -> None:
    cells = make_curve_cells(24)
    table, pooled, choices = make_curves(cells)
    figure = specification_curve.draw(table, pooled, choices, cells, "paper")
    _, lower, forest = shown(figure)
    assert lower.get_ylim() == forest.get_ylim()
    rows = choices.set_index(["choice", "level"])
    levels = {name: sorted(found) if name == "data.n_train" else found for name, found in _levels(cells).items()}
    expected = [rows.loc[choice, canonical_json(level)] for choice, found in levels.items() for level in found]
    assert [label.get_text() for label in lower.get_yticklabels()] == [
        level_text(level) for found in levels.values() for level in found
    ]
    for y, (mark, row) in enumerate(zip(with_gid(forest, "level"), expected, strict=True)):
        assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (row["steps_ratio"], y)
    bars = with_gid(forest, "interval")
    low, high = forest.get_xlim()
    for bar, row in zip(bars, expected, strict=True):
        assert list(bar.get_xdata()) == pytest.approx(np.clip(ends_of(row), low, high))


def _levels(cells: list[dict[str, Any]]) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for cell in cells:
        for choice, level in cell["choices"].items():
            found.setdefault(choice, [])
            found[choice] += [level] * (level not in found[choice])
    return found


@pytest.mark.parametrize(
    ("post", "told"), [(1.4, "choices that matter: norm (turns the sign)"), (0.92, "choices that matter: norm\n")]
)
def test_a_choice_that_decides_is_filled_and_named(post: float, told: str) -> None:
    cells = make_curve_cells(8, choices=NORM)
    figure, _ = draw(cells, by_norm(cells, 0.8, post))
    forest = shown(figure)[2]
    filled = {tuple(mark.get_ydata()): mark.get_markerfacecolor() != "white" for mark in with_gid(forest, "level")}
    labels = [label.get_text() for label in shown(figure)[1].get_yticklabels()]
    assert {labels[int(y)] for (y,), is_filled in filled.items() if is_filled} == {"pre", "post"}
    bold = [label.get_text() for label in forest.child_axes[0].get_yticklabels() if label.get_weight() == "bold"]
    assert bold == ["norm\nq < 0.001"]
    assert told in texts(figure) + "\n"


def test_no_choice_is_named_where_none_decides() -> None:
    cells = make_curve_cells(8, choices=NORM)
    effects = by_norm(cells, 0.8, 0.8)
    figure, _ = draw(cells, effects)
    assert "choices that matter: none is settled" in texts(figure)
    assert {mark.get_markerfacecolor() for mark in with_gid(figure, "level")} == {"white"}


def test_a_censored_specification_is_a_bound_with_a_tip() -> None:
    cells = make_curve_cells(4, choices=NORM)
    arms = [cell for cell in cells if cell["arm"] != "baseline"]
    given = [{"ratio": math.nan, "low": 1.4, "high": math.inf}, {"ratio": 0.7, "low": 0.0, "high": 0.9}]
    given += [{"ratio": 1.6, "low": 1.5, "high": 1.8}, {"ratio": 1.1, "low": 1.05, "high": 1.2}]
    figure, _ = draw(cells, pd.DataFrame([effect_row(cell, **row) for cell, row in zip(arms, given, strict=True)]))
    upper = shown(figure)[0]
    assert heights(figure, "hurts") == [1.1, 1.4, 1.6]  # sorted by its bound
    assert heights(figure, "helps") == [0.7]
    assert [column_of(tip) for tip in with_gid(upper, "tip up")] == [2]
    assert [column_of(tip) for tip in with_gid(upper, "tip down")] == [0]
    low, high = upper.get_ylim()
    for line in with_gid(upper, "interval"):
        assert low <= min(line.get_ydata()) < max(line.get_ydata()) < high


def test_few_settings_do_not_stretch_the_axis() -> None:
    cells = make_curve_cells(3, choices=NORM)
    figure, _ = draw(cells, by_norm(cells, 0.8, 1.2))
    low, high = shown(figure)[0].get_ylim()
    assert 0.2 < low < high < 5


def test_the_matrix_has_a_dot_for_each_choice_of_each_specification() -> None:
    cells = make_curve_cells(12)
    figure, table = draw(cells)
    upper, lower, forest = shown(figure)
    dots = dots_of(lower)
    assert len(dots) == 12 * len(CHOICES)
    labels = [label.get_text() for label in lower.get_yticklabels()]
    assert labels[3:6] == ["2,000", "3,830", "6,385"]
    names = [label.get_text().partition("\n")[0] for label in forest.child_axes[0].get_yticklabels()]
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
    assert "1 of 3 specifications count: by their own pairs fewer steps in 1, more in 0" in texts(figure)
    assert "pooled ratio 0.80" in texts(figure)
    assert not with_gid(figure, "band pooled")  # one setting has no interval
    assert "in 2 the baseline does not reach the target (the arm does in 1)" in texts(figure)


def test_lines_mark_no_effect_and_the_paper_s_number() -> None:
    figure, _ = draw(make_curve_cells(4, choices=FEW))
    upper, _, forest = shown(figure)
    for gid, ratio in (("none", 1), ("paper", 0.7333)):
        assert [line.get_ydata()[0] for line in with_gid(upper, gid)] == [pytest.approx(ratio, abs=5e-4)]
        assert [line.get_xdata()[0] for line in with_gid(forest, gid)] == [pytest.approx(ratio, abs=5e-4)]
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
    assert len(shown(figure)) == 3 * 3
    told = texts(figure)
    for title in ("calibrated: noise_stability", "calibrated: every_10th", "b: noise_stability"):
        assert title in told
    assert told.count("windows overlap (4 of 4)") == 2
    assert "a rare leak (1 of 3)" in told.replace("\n", " ")
    assert len(shown(figure)[7].get_yticks()) == 4


def test_what_a_step_costs_and_the_scale_are_told() -> None:
    told = " ".join(texts(draw(make_curve_cells(3, choices=FEW), scale="demo")[0]).split())
    assert "noise_stability 2, so it saves work below a ratio of 0.50" in told
    assert "DEMO SCALE" in told
    assert "SCALE" not in texts(draw(make_curve_cells(3, choices=FEW))[0])


def test_a_specification_without_a_row_is_named() -> None:
    cells = make_curve_cells(3, choices=FEW)
    table, *pooled = make_curves(cells)
    with pytest.raises(
        RecordError, match="calibrated-002 / noise_stability: this specification of the grid has no row"
    ):
        specification_curve.draw(table.iloc[:2], *pooled, cells, "paper")


@pytest.mark.parametrize("n", [40, 270])
def test_nothing_overlaps_and_a_page_holds_it(n: int) -> None:
    figure, _ = draw(make_curve_cells(n, leaks=("training and validation windows overlap",)), scale="demo")
    check_layout(figure, shown(figure))
    assert figure.get_figwidth() < 14


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
