"""What the figures of the theory show, read back from the artists that they draw."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nsbench.config.canonical import canonical_json
from nsbench.config.theory import ExperimentSpec, Theory
from nsbench.figures import FIGURES, drawing, figure_02, figure_04b, of_kind, theory_panels
from nsbench.schemas import theory_labels as labels
from nsbench.schemas.theory import CURVES, SIMULATION
from nsbench.storage.parquet import RecordError, write_table
from tests.figures.artists import check_layout, overlaps, shown, texts, with_gid
from tests.synthetic_theory import Tables, make

STATUS = {"published": "exact", "linear": "approximation", "cosine": "limit", "pearson": "limit"}
"""Of the series of Figure 4b, by the kind of recurrence."""
OWN_TESTS = ("intervals", "kernels")
"""Experiments whose figures have tests of their own."""
MODULES = {FIGURES[name].experiment: name for name in of_kind("theory") if FIGURES[name].experiment not in OWN_TESTS}
"""Experiment -> its figure."""


def settings_of(experiment: str, **changes: Any) -> Any:
    """An experiment's settings, small and with some changed."""
    section = getattr(Theory(), experiment)
    return type(section)(**section.model_dump() | changes)


def figure_of(experiment: str, tables: Tables | None = None, scale: str = "demo", **changes: Any) -> Figure:
    settings = settings_of(experiment, **changes)
    given = dict(zip(("curves", "points", "examples"), tables or make(experiment, settings), strict=True))
    draw = FIGURES[MODULES[experiment]]
    return draw(**{name: given[name] for name in draw.tables}, settings=settings, scale=scale)


@pytest.fixture(scope="module")
def drawn() -> dict[str, tuple[Tables, Figure]]:
    """Each experiment's tables and figure, with its own settings."""
    made = {name: make(name, settings_of(name)) for name in MODULES}
    return {name: (tables, figure_of(name, tables)) for name, tables in made.items()}


def panel(figure: Figure, title: str) -> Axes:
    """The panel with this title in its head."""
    (found,) = [a for a in shown(figure) if a.get_legend() and a.get_legend().get_title().get_text() == title]
    return found


def of_series(axes: Axes, gid: str, series: str) -> list[Any]:
    """Artists with this mark that belong to a series."""
    return [artist for artist in with_gid(axes, gid) if series in artist.get_label().split(" | ")]


def check_points(axes: Axes, points: pd.DataFrame) -> None:
    """Every point is where the table has it, with a bar of 2 standard errors to each side."""
    assert len(points)
    for name, rows in points.groupby("series"):
        (dots,) = of_series(axes, "points", name)
        np.testing.assert_allclose(dots.get_xydata(), rows[["x", "value"]])
        (bars,) = of_series(axes, "bars", name)
        ends = np.array(bars.get_segments())[:, :, 1]
        np.testing.assert_allclose(ends[:, 0], rows["value"] - 2 * rows["standard_error"])
        np.testing.assert_allclose(ends[:, 1], rows["value"] + 2 * rows["standard_error"])


def check_curves(axes: Axes, curves: pd.DataFrame) -> None:
    """Every positive value of every formula is on a line that carries its series, dashed by its status."""
    assert len(curves)
    for (name, status, _), rows in curves.groupby(["series", "status", "formula"]):
        (line,) = of_series(axes, f"curve {status}", name)
        np.testing.assert_allclose(line.get_xdata(), rows["x"])
        seen = np.isfinite(line.get_ydata())
        np.testing.assert_allclose(line.get_ydata()[seen], rows["value"].to_numpy()[seen])
        assert (rows["value"].to_numpy()[~seen] <= 0).all()
        assert (line.get_linestyle() == "-") == (status in ("exact", "limit"))


def check_series(axes: Axes, names: Iterable[str]) -> None:
    """A series' points have its line's colour, where the line is its own."""
    for name in names:
        colours = {line.get_color() for line in axes.lines if line.get_label() == name}
        assert len(colours) == 1


@pytest.mark.parametrize("experiment", ["feed_forward", "transformer", "recurrence"])
def test_a_panel_for_each_reading_shows_its_formulas_and_points(
    drawn: dict[str, tuple[Tables, Figure]], experiment: str
) -> None:
    (curves, points, _), figure = drawn[experiment]
    for reading in curves["reading"].unique():
        axes = panel(figure, f"start: {reading}" if experiment == "recurrence" else reading)
        check_curves(axes, curves[curves["reading"] == reading])
        here = points[points["reading"] == reading]
        check_points(axes, here[here["value"] > 1e-9] if experiment != "recurrence" else here)
        check_series(axes, here["series"].unique())


def test_figure_2_shows_structured_weights_above_unstructured_ones(drawn: dict[str, tuple[Tables, Figure]]) -> None:
    (curves, points, _), figure = drawn["attention"]
    for reading in labels.ATTENTION_SCALINGS:
        for kind, unstructured in zip(figure_02.KINDS, (False, True), strict=True):
            axes = panel(figure, f"{reading}: {kind}")
            for table, check in ((curves, check_curves), (points, check_points)):
                here = table["series"].isin(figure_02.UNSTRUCTURED) == unstructured
                check(axes, table[here & (table["reading"] == reading)])
            assert len(with_gid(axes, "reference")) == unstructured
    # All ranks have the published line in common; that of W = I is its own.
    axes = panel(figure, f"logits / √d: {figure_02.KINDS[0]}")
    (shared,), (own,) = with_gid(axes, "curve published"), with_gid(axes, "curve limit")
    assert (shared.get_color(), own.get_color()) == (theory_panels.INK, figure_02.COLOURS[0])
    assert shared.get_label().count(" | ") == 3


def test_figure_3_shows_both_matrices_and_marks_rows_that_agree(drawn: dict[str, tuple[Tables, Figure]]) -> None:
    (_, _, examples), figure = drawn["patterns"]
    titles = [text.get_text() for text in with_gid(figure, "pair title")]
    for place, n in enumerate((8, 16, 32)):
        rows = examples[examples["series"] == labels.n_tokens(n)]
        matrices = []
        for name in ("A_X", "A_Y"):
            weights = rows[rows["matrix"] == name].sort_values(["row", "column"])["value"].to_numpy().reshape(n, n)
            image = with_gid(figure, name)[place]
            np.testing.assert_array_equal(image.get_array(), weights)
            assert image.get_clim() == (0.0, 1.0)
            matrices.append(weights)
        same = np.flatnonzero(matrices[0].argmax(1) == matrices[1].argmax(1))
        marks = with_gid(image.axes, "same row")
        assert [list(mark.get_ydata()) for mark in marks] == ([list(same)] if len(same) else [])
        corners = {(cell.get_x() + 0.5, cell.get_y() + 0.5) for cell in with_gid(image.axes, "same token")}
        assert corners == {(matrices[1][row].argmax(), row) for row in same}
        assert titles[place] == f"n = {n}, ρ = 0.01: {len(same)} of {n} rows agree, 1.0 expected"
    assert any(with_gid(figure, "same row"))


def test_figure_3_shows_the_share_above_its_error(drawn: dict[str, tuple[Tables, Figure]]) -> None:
    (curves, points, _), figure = drawn["patterns"]
    axes = panel(figure, labels.PATTERNS_READING)
    check_curves(axes, curves)
    check_points(axes, points)
    (below,) = [other for other in shown(figure) if with_gid(other, "zero")]
    (dots,) = of_series(below, "points", "n = 16")
    simulated = points.loc[points["series"] == "n = 16", "value"].to_numpy(float)
    errors = dots.get_xydata()[:, 1]
    np.testing.assert_allclose(errors[[0, -1]], simulated[[0, -1]] - [1 / 16, 1], atol=1e-7)  # s(rho) at 0 and 1


def test_figure_4a_has_the_paper_s_limit_in_each_panel(drawn: dict[str, tuple[Tables, Figure]]) -> None:
    _, figure = drawn["feed_forward"]
    lines = with_gid(figure, "reference")
    assert [line.get_ydata()[0] for line in lines] == pytest.approx([0.2122066] * 4)
    assert {axes.get_yscale() for axes in shown(figure)} == {"log"}


def test_figure_4b_tells_the_fixed_points_apart(drawn: dict[str, tuple[Tables, Figure]]) -> None:
    (_, points, _), figure = drawn["recurrence"]
    values = {text.get_text(): text.get_color() for text in with_gid(figure, "value")}
    assert list(values) == ["1", "0", "0.2172", "0.2122"]
    upper, lower = shown(figure)[0], shown(figure)[3]
    for kind, value in {"published": 0.2172336, "linear": 0.2122066, "cosine": 1.0, "pearson": 0.0}.items():
        (line,) = with_gid(upper, f"fixed point {kind}")
        assert line.get_ydata()[0] == pytest.approx(value, abs=1e-7)
        (curve,) = of_series(upper, f"curve {STATUS[kind]}", labels.RECURRENCE_KINDS[kind])
        assert line.get_color() == curve.get_color() == values[f"{value:.4g}"]
        assert len(with_gid(lower, f"fixed point {kind}")) == (kind in figure_04b.CLOSE)
    enlarged = {line.get_label() for line in lower.lines if (line.get_gid() or "").startswith("curve")}
    assert enlarged == {labels.RECURRENCE_KINDS[kind] for kind in figure_04b.CLOSE}
    low, high = lower.get_ylim()
    assert 0.2 < low < 0.2122 < 0.2172 < high < 0.23
    # The linear form is not simulated: its entry has a line alone.
    entries = {line.get_label(): line.get_marker() for line in figure.legends[0].legend_handles}
    assert [marker for label, marker in entries.items() if "linear" in label] == ["None"]
    assert "linear" not in " ".join(points["series"])


def test_figure_9_shows_errors_below(drawn: dict[str, tuple[Tables, Figure]]) -> None:
    (curves, points, _), figure = drawn["relu"]
    for title, names in {"mean 0": ["mean 0"], "other means": ["mean 0.5", "mean -0.5"]}.items():
        axes = panel(figure, title)
        check_curves(axes, curves[curves["series"].isin(names)])
        check_points(axes, points[points["series"].isin(names)])
    (error,) = with_gid(figure, "approximation error")
    assert error.get_xdata()[[0, -1]] == pytest.approx([-1, 1])
    worst = 1 / 4 - 3 / (4 * math.pi)
    assert [mark.get_xydata()[0].tolist() for mark in with_gid(figure, "largest error")] == [
        pytest.approx([end, -worst]) for end in (-1, 1)
    ]
    assert texts(figure).count("−0.0113") == 2
    at = points[(points["series"] == "mean 0") & (points["x"] == 0.0)].iloc[0]
    (axes,) = [other for other in shown(figure) if other.get_title(loc="left") == "simulation − exact, mean 0"]
    assert with_gid(axes, "points")[0].get_ydata()[10] == pytest.approx(at["value"] - 1 / (2 * math.pi), abs=1e-15)


def test_figure_10_has_a_mark_on_the_edge_where_a_logarithm_has_no_place() -> None:
    settings = settings_of("transformer", value_norms=[0.0, 1.0])
    curves, points, examples = make("transformer", settings)
    zero = (points["series"] == "γ = 0") & (points["x"] > 0)
    points.loc[zero, ["value", "standard_error"]] = 0.0
    noisy = (points["series"] == "γ = 1") & (points["x"] == 8)
    points.loc[noisy, "standard_error"] = 3 * points.loc[noisy, "value"]
    figure = figure_of("transformer", (curves, points, examples), value_norms=[0.0, 1.0])
    for axes in shown(figure):
        (marks,) = with_gid(axes, "below")
        assert (list(marks.get_xdata()), set(marks.get_ydata())) == (list(range(1, 9)), {0.0})
        low, high = axes.get_ylim()
        assert 0 < low < high
        (dots,) = of_series(axes, "points", "γ = 1")
        assert len(dots.get_xdata()) == 9
    assert "not above 0" in texts(figure)
    check_layout(figure, shown(figure))


def test_an_axis_is_not_stretched_to_what_noise_gives() -> None:
    settings = settings_of("feed_forward", rho=[0.5])
    curves, points, examples = make("feed_forward", settings)
    points.loc[0, ["value", "standard_error"]] = [1e-9, 1e-3]
    figure = figure_of("feed_forward", (curves, points, examples), rho=[0.5])
    assert shown(figure)[0].get_ylim()[0] > 1e-4
    assert list(with_gid(figure, "below")[0].get_xdata()) == [0.0]


# --- all figures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("experiment", MODULES)
def test_every_series_and_formula_is_in_a_legend(drawn: dict[str, tuple[Tables, Figure]], experiment: str) -> None:
    (curves, points, _), figure = drawn[experiment]
    legends = [*figure.legends, *(axes.get_legend() for axes in shown(figure) if axes.get_legend())]
    entries = "\n".join(text.get_text() for legend in legends for text in legend.get_texts())
    for name in {*curves["series"], *points["series"], *curves["formula"]}:
        assert name in entries
    assert ("as published" in entries) == (curves["status"] == "published").any()


@pytest.mark.parametrize("experiment", MODULES)
def test_nothing_overlaps_or_is_clipped(drawn: dict[str, tuple[Tables, Figure]], experiment: str) -> None:
    figure = drawn[experiment][1]
    check_layout(figure, shown(figure))
    for extent in (axes.get_tightbbox() for axes in shown(figure)):
        assert min(extent.x0, extent.y0) >= 0
        assert (extent.x1, extent.y1) <= (figure.bbox.x1, figure.bbox.y1)
        assert extent.y1 <= figure.bbox.y1
    for title in with_gid(figure, "pair title"):
        assert title.get_window_extent().y1 <= figure.bbox.y1
        ticks = [label for axes in shown(figure) for label in axes.get_xticklabels() if label.get_visible()]
        assert not any(overlaps(title, other) for other in (*shown(figure), *ticks))


def test_the_footer_tells_sizes_scale_and_bars(drawn: dict[str, tuple[Tables, Figure]]) -> None:
    tables, demo = drawn["transformer"]
    paper = figure_of("transformer", tables, "paper", n_draws=7, n_pairs=1100)
    footers = [" ".join(figure.texts[0].get_text().split()) for figure in (demo, paper)]
    assert all("2 standard errors" in footer for footer in footers)
    assert ["DEMO SCALE, not the paper's setting: " in footer for footer in footers] == [True, False]
    sizes = "n = 16 tokens, d = 128, depth 8, inputs with ρ = 0.5, 7 draws of the weights × 1,100 pairs"
    assert f"Sizes: {sizes}" in footers[1]


@pytest.mark.parametrize("experiment", MODULES)
def test_a_figure_stands_with_one_reading_one_x_and_a_series_without_points(
    drawn: dict[str, tuple[Tables, Figure]], experiment: str
) -> None:
    (curves, points, examples), _ = drawn[experiment]
    reading, first = curves["reading"].iloc[0], curves["series"].iloc[0]
    curves = curves[curves["reading"] == reading]
    one_x = points["x"] == points["x"].iloc[1]
    points = points[(points["reading"] == reading) & one_x & (points["series"] != first)]
    figure = figure_of(experiment, (curves, points, examples))
    assert not [artist for artist in with_gid(figure, "points") if artist.get_label() == first]
    assert with_gid(figure, "points")
    check_layout(figure, shown(figure))


def test_tables_of_other_settings_are_told(tmp_path: Path) -> None:
    experiment = ExperimentSpec(experiment="relu", seed=0, settings=Theory().relu.model_dump())
    for part, schema in (("curves", CURVES), ("points", SIMULATION)):
        stamp = {"spec": canonical_json(experiment)} if part == "curves" else {"spec": "{}"}
        write_table(tmp_path / "theory" / f"relu.{part}.parquet", [], schema, stamp)
    spec = drawing.TheoryFigureSpec(scale="demo", experiment=experiment)
    with pytest.raises(RecordError, match=r"relu\.points\.parquet: was made under other settings"):
        drawing.render("figure_09", tmp_path, spec, tmp_path / "a.png", tmp_path / "a.pdf")
