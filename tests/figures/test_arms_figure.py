"""The figure of the arms beside the paper's, and that the paper's figures leave those arms out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nsbench.analysis import statistics
from nsbench.config.sections import Analysis
from nsbench.figures import FIGURES, arms, comparison, figure_05, style
from nsbench.figures.drawing import shown as shown_cells
from nsbench.schemas.analysis import SELECTION
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_records import ARMS, OTHER_ARMS, make_cells, make_records, swept

SEEDS = tuple(range(8))
NO_CHOICE = pd.DataFrame(columns=SELECTION.names)
NAMES = ("entropy", "baseline", "every_10th", "gentle", "grokfast", "reversed")
IN_ORDER = ["gentle", "reversed", "every_10th", "entropy", "grokfast"]


def tables(cells: list[dict[str, Any]], **options: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Paired effects and times of made-up records."""
    made = make_records(cells, **options)
    times = statistics.time_to_target(made["history"], made["runs"], cells)
    return statistics.paired_effects(times, made["runs"], Analysis(), cells), times


def drawn(cells: list[dict[str, Any]], scale: str = "demo", **options: Any) -> tuple[Figure, pd.DataFrame]:
    effects, times = tables(cells, **options)
    return arms.draw(effects, times, shown_cells(FIGURES["arms"], cells), scale), effects.set_index(["variant", "arm"])


def arm_rows(axes: Any) -> dict[str, float]:
    """Arm -> its height, from the labels of the rows."""
    labels = [label for label in axes.get_yticklabels() if label.get_weight() != "bold"]
    return {label.get_text().splitlines()[0]: label.get_position()[1] for label in labels}


def marks(axes: Any, kind: str) -> list[Any]:
    """The marks of ratios or bounds, settled and open, in the order of the rows."""
    return axes.findobj(lambda artist: (artist.get_gid() or "").split(" ")[0] == kind)


def counts(axes: Any) -> list[str]:
    """The counts on the right."""
    (beside,) = axes.child_axes
    return [label.get_text() for label in beside.get_yticklabels() if "of" in label.get_text()]


def test_every_arm_has_a_row_in_its_group_with_its_ratios() -> None:
    figure, effects = drawn(make_cells(arms=NAMES, seeds=SEEDS))
    left, right = shown(figure)
    assert list(arm_rows(left)) == IN_ORDER
    headings = [label.get_text() for label in left.get_yticklabels() if label.get_weight() == "bold"]
    assert headings == ["the paper's", "cheaper", "controls"]
    for axes, column in ((left, "steps_ratio"), (right, "flops_ratio")):
        rows = effects.loc["calibrated"].loc[IN_ORDER]
        found, bars = marks(axes, "ratio"), with_gid(axes, "interval")
        assert [mark.get_xdata()[0] for mark in found] == rows[column].tolist()
        assert [mark.get_ydata()[0] for mark in found] == list(arm_rows(left).values())
        assert [list(bar.get_xdata()) for bar in bars] == rows[[f"{column}_low", f"{column}_high"]].to_numpy().tolist()
        colours = [style.arm_colour({**ARMS, **OTHER_ARMS}[name]) for name in IN_ORDER]
        assert [mark.get_markeredgecolor() for mark in found] == [bar.get_color() for bar in bars] == colours
        low, high = axes.get_xlim()
        assert all(low < value < high for bar in bars for value in bar.get_xdata())
        assert axes.yaxis_inverted()


def test_counts_and_settings_stand_beside_the_rows() -> None:
    figure, _ = drawn(make_cells(arms=NAMES, seeds=SEEDS), rises={("baseline", 0): 1e9, ("entropy", 1): 1e9})
    found = dict(zip(IN_ORDER, counts(shown(figure)[1]), strict=True))
    assert found == {**dict.fromkeys(IN_ORDER, "7 → 8 of 8"), "entropy": "7 → 7 of 8"}
    for words in ("every 10th step", "entropy punished", "α = 0.98, λ = 2", "98.2% interval", "DEMO SCALE"):
        assert words in texts(figure)


def test_filled_means_settled_in_both_panels() -> None:
    """Intervals that leave 1 out are not enough: what the correction for many comparisons rejects is open."""
    many = tuple(range(12))
    for seeds in (many, SEEDS[:3]):
        cells = make_cells(arms=NAMES, seeds=seeds)
        effects, times = tables(cells)
        rows = effects.set_index("arm").loc[IN_ORDER]
        assert set(rows["outcome"]) | set(rows["flops_outcome"]) > ({"open"} if seeds == many else set())
        assert filled(arms.draw(effects, times, cells, "demo")) == [
            (rows[column] != "open").tolist() for column in ("outcome", "flops_outcome")
        ]
    given = {"outcome": "open", "flops_outcome": "no effect larger than 10%"}
    assert filled(arms.draw(effects.assign(**given), times, cells, "demo")) == [[False] * 5, [True] * 5]


def filled(figure: Figure) -> list[list[bool]]:
    """Which marks of either panel are filled."""
    return [[mark.get_markerfacecolor() != "white" for mark in marks(axes, "ratio")] for axes in shown(figure)]


def test_an_arm_beyond_the_budget_is_a_bound() -> None:
    """It is no dot: a triangle at the known end, and a line with a tip to where it goes on."""
    never = {("entropy", seed): 1e9 for seed in SEEDS}
    for lost, end, marker, side in (("entropy", "low", ">", "right"), ("baseline", "high", "<", "left")):
        rises = never if lost == "entropy" else {(lost, seed): 1e9 for seed in SEEDS}
        figure, effects = drawn(make_cells(arms=("baseline", "gentle", "entropy"), seeds=SEEDS), rises=rises)
        row = effects.loc["calibrated"].loc["entropy"]
        for axes, column in zip(shown(figure), arms.RATIOS, strict=True):
            assert np.isnan(row[column])
            bound = marks(axes, "bound")[-1]
            y = arm_rows(axes if axes.get_yticklabels() else shown(figure)[0])["entropy"]
            assert (bound.get_marker(), bound.get_xdata()[0], bound.get_ydata()[0]) == (
                marker,
                row[f"{column}_{end}"],
                y,
            )
            assert bound.get_markerfacecolor() != "white"
            (tip,) = [tip for tip in with_gid(axes, f"tip {side}") if tip.get_ydata()[0] == y]
            assert tip.get_xdata()[0] == axes.get_xlim()[side == "right"]
            assert not [mark for mark in marks(axes, "ratio") if mark.get_ydata()[0] == y]


def test_no_effect_has_a_band() -> None:
    figure, _ = drawn(make_cells(arms=NAMES, seeds=SEEDS))
    for axes in shown(figure):
        (band,) = with_gid(axes, "margin")
        assert np.allclose([band.get_x(), band.get_x() + band.get_width()], [1 / 1.1, 1.1])
    assert "no effect larger than 10% (the grey band)" in texts(figure).replace("\n", " ")


def test_what_has_no_ratio_says_why() -> None:
    cells = make_cells(arms=NAMES, seeds=SEEDS)
    effects, times = tables(cells)
    ratios = [f"{name}_ratio{end}" for name in ("steps", "flops") for end in ("", "_low", "_high")]
    effects.loc[effects["arm"].isin(["entropy", "gentle"]), ratios] = np.nan
    effects.loc[effects["arm"] == "entropy", ["n_baseline_reached", "n_arm_reached"]] = 0
    figure = arms.draw(effects[effects["arm"] != "grokfast"], times, cells, "demo")
    for axes in shown(figure):
        told = ["beyond the budget, no bound yet", "no run reached the target", "not analysed"]
        assert [text.get_text() for text in with_gid(axes, "none")] == told
        assert len(marks(axes, "ratio")) == 2
    assert len(counts(shown(figure)[1])) == 4


def test_only_variants_with_other_arms_are_drawn() -> None:
    mixed = make_cells(variants=("a", "b"), arms=NAMES, seeds=SEEDS)
    plain = [cell for cell in mixed if cell["variant"] == "a" or cell["arm_settings"]["kind"] == "baseline"]
    curve_only = [{**cell, "curve_only": cell["variant"] == "b"} for cell in mixed]
    for cells, variants in ((mixed, {"a", "b"}), (plain, {"a"}), (curve_only, {"a"})):
        assert {cell["variant"] for cell in shown_cells(FIGURES["arms"], cells)} == variants


def test_of_a_sweep_the_cheaper_arms_values_are_shown() -> None:
    some = ("baseline", "reversed", *swept((0.05, 0.25), (0.05, 0.75)))
    same = "noise_stability-rho0.25-gamma0.75"
    figure, _ = drawn(make_cells(arms=(*some, "every_10th"), seeds=SEEDS))
    assert list(arm_rows(shown(figure)[0])) == ["reversed", same, "every_10th"]
    assert "Of a sweep" in texts(figure)
    figure, _ = drawn(make_cells(arms=(*some, "entropy"), seeds=SEEDS))
    assert list(arm_rows(shown(figure)[0])) == ["noise_stability-rho0.05-gamma0.05", "entropy"]
    assert "Of a sweep" not in texts(drawn(make_cells(arms=NAMES, seeds=SEEDS))[0])


def test_texts_do_not_overlap_and_the_text_is_named() -> None:
    leaks = {"windows_overlapping": ["training and validation windows share text"]}
    names_of = ("windows_causal", "windows_overlapping")
    cells = make_cells("next_token", variants=names_of, arms=NAMES, seeds=SEEDS, threshold=0.25, leaks=leaks)
    effects, times = tables(cells, text="made-up text")
    figure = arms.draw(effects, times.assign(text="made-up text"), cells, "demo")
    check_layout(figure, shown(figure))
    assert "Data: made-up text." in texts(figure)
    assert len(with_gid(figure, "leak")) == 1
    extents = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    for place, one in enumerate(extents):
        assert one.x0 >= 0
        assert not any(one.overlaps(other) for other in extents[place + 1 :])


def test_the_paper_s_figures_leave_other_arms_and_curves_out() -> None:
    cells = make_cells(arms=NAMES, seeds=SEEDS[:3])
    kept = ["baseline", "gentle", "reversed"]
    assert [cell["arm"] for cell in comparison.of_paper(cells)] == kept
    assert [cell["arm"] for cell in comparison.shown(cells, NO_CHOICE)] == kept
    assert [cell["arm"] for cell in comparison.compared(cells, NO_CHOICE)] == kept
    controls = [cell for cell in cells if cell["arm"] in OTHER_ARMS]
    assert comparison.of_paper(controls) == comparison.compared(controls, NO_CHOICE) == controls
    made = make_records(cells)
    times = statistics.time_to_target(made["history"], made["runs"], cells)
    figure = figure_05.draw(made["history"], times, NO_CHOICE, cells, "demo")
    assert len(with_gid(shown(figure)[0], "median")) == 3
    assert "every_10th" not in texts(figure)
