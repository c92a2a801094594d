"""The figure of the arms beside the paper's, and that the paper's figures leave those arms out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nsbench.analysis import statistics
from nsbench.config.settled import settles, settles_steps
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
    return statistics.paired_effects(times, made["runs"], 0.95, 199, np.random.default_rng(0)), times


def drawn(cells: list[dict[str, Any]], scale: str = "demo", **options: Any) -> tuple[Figure, pd.DataFrame]:
    effects, times = tables(cells, **options)
    return arms.draw(effects, times, shown_cells(FIGURES["arms"], cells), scale), effects.set_index(["variant", "arm"])


def arm_rows(axes: Any) -> dict[str, float]:
    """Arm -> its height, from the labels of the rows."""
    labels = [label for label in axes.get_yticklabels() if label.get_weight() != "bold"]
    return {label.get_text().splitlines()[0]: label.get_position()[1] for label in labels}


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
        marks, bars = with_gid(axes, "ratio"), with_gid(axes, "interval")
        assert [mark.get_xdata()[0] for mark in marks] == rows[column].tolist()
        assert [mark.get_ydata()[0] for mark in marks] == list(arm_rows(left).values())
        assert [list(bar.get_xdata()) for bar in bars] == rows[[f"{column}_low", f"{column}_high"]].to_numpy().tolist()
        colours = [style.arm_colour({**ARMS, **OTHER_ARMS}[name]) for name in IN_ORDER]
        assert [mark.get_markeredgecolor() for mark in marks] == [bar.get_color() for bar in bars] == colours
        low, high = axes.get_xlim()
        assert all(low < value < high for bar in bars for value in bar.get_xdata())
        assert axes.yaxis_inverted()


def test_counts_and_settings_stand_beside_the_rows() -> None:
    figure, _ = drawn(make_cells(arms=NAMES, seeds=SEEDS), rises={("baseline", 0): 1e9, ("entropy", 1): 1e9})
    found = dict(zip(IN_ORDER, counts(shown(figure)[1]), strict=True))
    assert found == {**dict.fromkeys(IN_ORDER, "7 → 8 of 8"), "entropy": "7 → 7 of 8"}
    for words in ("every 10th step", "entropy punished", "α = 0.98, λ = 2", "95% interval", "DEMO SCALE"):
        assert words in texts(figure)


def test_a_mark_is_filled_where_the_interval_settles_it() -> None:
    for seeds in (SEEDS, SEEDS[:3]):
        figure, effects = drawn(make_cells(arms=NAMES, seeds=seeds))
        filled = []
        for axes, column in zip(shown(figure), ("steps_ratio", "flops_ratio"), strict=True):
            found = [mark.get_markerfacecolor() != "white" for mark in with_gid(axes, "ratio")]
            rows = effects.loc["calibrated"].loc[IN_ORDER]
            expected = [
                settles_steps(row) != 0
                if column == "steps_ratio"
                else settles(row[f"{column}_low"], row[f"{column}_high"], row["n_pairs"], row["confidence"], 1.0) != 0
                for _, row in rows.iterrows()
            ]
            assert found == expected
            filled += found
        assert any(filled) == (seeds == SEEDS)  # three pairs settle nothing


def test_what_has_no_ratio_says_why() -> None:
    cells = make_cells(arms=NAMES, seeds=SEEDS)
    effects, times = tables(cells)
    ratios = [f"{name}_ratio{end}" for name in ("steps", "flops") for end in ("", "_low", "_high")]
    effects.loc[effects["arm"] == "entropy", ratios] = np.nan
    figure = arms.draw(effects[effects["arm"] != "grokfast"], times, cells, "demo")
    for axes in shown(figure):
        assert [text.get_text() for text in with_gid(axes, "none")] == ["no run reached the target", "not analysed"]
        assert len(with_gid(axes, "ratio")) == 3
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
    assert "Text: made-up text." in texts(figure)
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
