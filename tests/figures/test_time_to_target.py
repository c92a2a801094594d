"""What the figure of times to target shows, read back from the artists that it draws."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nsbench.analysis import statistics
from nsbench.analysis.statistics.survival import kaplan_meier
from nsbench.config.sections import Analysis
from nsbench.figures import style, time_to_target
from nsbench.schemas.analysis import SELECTION
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_records import ARMS, make_cells, make_records

Tables = dict[str, pd.DataFrame]
SEEDS = (0, 1, 2, 3)
NEVER = {("baseline", 0): 1e9, ("gentle", 1): 1e9, ("gentle", 2): 1e9}


def drawn(cells: list[dict[str, Any]], **options: Any) -> tuple[Figure, Tables]:
    """The figure of a grid and the tables that it is drawn from."""
    records = make_records(cells, **options)
    times = statistics.time_to_target(records["history"], records["runs"], cells)
    tables = {
        "times": times,
        "kaplan_meier": kaplan_meier(times, 0.9),
        "effects": statistics.paired_effects(times, records["runs"], Analysis(), cells),
    }
    chosen = {"selections": pd.DataFrame(columns=SELECTION.names)}
    return time_to_target.draw(**tables, **chosen, cells=cells, scale="demo"), tables


def test_each_arm_has_the_curve_of_its_cell_with_its_interval() -> None:
    figure, tables = drawn(make_cells(variants=("a", "b"), seeds=SEEDS), rises=NEVER)
    assert len(shown(figure)) == 2
    for axes, variant in zip(shown(figure), ("a", "b"), strict=True):
        lines, bands = with_gid(axes, "curve"), with_gid(axes, "band")
        assert [line.get_color() for line in lines] == [style.arm_colour(ARMS[arm]) for arm in ("baseline", "gentle")]
        assert all(line.get_drawstyle() == "steps-post" for line in lines)
        for arm, line, band in zip(("baseline", "gentle"), lines, bands, strict=True):
            table = tables["kaplan_meier"]
            curve = table[(table["variant"] == variant) & (table["arm"] == arm)]
            np.testing.assert_array_equal(line.get_xdata(), curve["step"])
            np.testing.assert_allclose(line.get_ydata(), 1 - curve["not_reached"])
            (path,) = band.get_paths()
            for step in curve["step"]:  # of the row that holds from there, up to the budget
                heights = path.vertices[path.vertices[:, 0] == step, 1]
                row = curve[curve["step"] == step].iloc[0]
                assert {1 - row["high"], 1 - row["low"]} <= set(heights)
            assert path.vertices[:, 0].max() == 3000
    assert "90% interval at each step" in texts(figure)


def test_one_run_has_no_band_and_the_key_promises_none() -> None:
    figure, _ = drawn(make_cells(seeds=(0,)))
    assert len(with_gid(figure, "curve")) == 2
    assert not with_gid(figure, "band")
    assert "interval" not in texts(figure)


def test_censored_arms_have_a_tick_at_the_budget_and_a_count() -> None:
    figure, _ = drawn(make_cells(seeds=SEEDS), rises=NEVER)
    ticks = with_gid(figure, "censored")
    assert [(float(tick.get_xdata()[0]), float(tick.get_ydata()[0])) for tick in ticks] == [(3000, 0.75), (3000, 0.5)]
    assert "baseline: reached 3/4" in texts(figure)
    assert "gentle: reached 2/4" in texts(figure)
    assert not with_gid(drawn(make_cells(seeds=SEEDS))[0], "censored")


def test_what_the_pairs_settle_stands_in_the_panel() -> None:
    seeds = tuple(range(8))
    rises = {("baseline", seed): 2500.0 + 10 * seed for seed in seeds}
    rises |= {("gentle", seed): 500.0 + 10 * seed for seed in seeds}
    told = texts(drawn(make_cells(seeds=seeds), rises=rises)[0])
    assert "gentle: reached 8/8, fewer steps" in told
    assert "baseline: reached 8/8\n" in told
    assert "gentle: reached 3/3, open" in texts(drawn(make_cells(seeds=(0, 1, 2)), rises=rises)[0])


def test_all_tasks_are_drawn() -> None:
    cells = [*make_cells(seeds=(0, 1)), *make_cells("sparse_parity", variants=("n10-k2", "n20-k3"), seeds=(0, 1))]
    figure, _ = drawn(cells)
    assert len(shown(figure)) == 3
    assert [axes.get_legend().get_title().get_text() for axes in shown(figure)] == [
        "modular_addition /\ncalibrated",
        "sparse_parity /\nn10-k2",
        "sparse_parity /\nn20-k3",
    ]


def test_diverged_runs_leaks_and_the_text_are_told() -> None:
    leaks = {"shared": ["windows overlap"]}
    cells = make_cells("next_token", variants=("shared",), seeds=SEEDS, leaks=leaks, threshold=0.3)
    figure, _ = drawn(cells, diverged=(("gentle", 0),), text="a book")
    assert ", 1 diverged" in texts(figure)
    assert "LEAK: windows overlap" in texts(figure)
    assert "Data: a book." in texts(figure)
    assert "DEMO SCALE" in texts(figure)


def test_nothing_overlaps() -> None:
    arms = ("baseline", "gentle", "reversed")
    one = make_cells(variants=("as_published",), arms=arms, seeds=SEEDS)
    leaks = {"windows_overlapping": ["validation windows share tokens with training windows"]}
    many = make_cells("next_token", ("windows_pooled", "windows_overlapping", "c"), arms, SEEDS, leaks=leaks)
    figure, _ = drawn([*one, *many], diverged=(("gentle", 0),), rises={("baseline", 0): 1e9})
    check_layout(figure, shown(figure))
