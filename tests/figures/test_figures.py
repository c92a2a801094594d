"""What the figures show, read back from the artists that they draw."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from nsbench.analysis import statistics
from nsbench.analysis.lead_lag import onsets
from nsbench.analysis.statistics.times import trails
from nsbench.arms.colours import FAMILY_COLOURS
from nsbench.config.base import ConfigError
from nsbench.figures import FIGURES, caption, comparison, drawing, figure_05, figure_11, figure_14, of_kind, style
from nsbench.figures.frame import set_title
from nsbench.schemas.analysis import SELECTION
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_records import ARMS, OTHER_ARMS, make_cells, make_records, swept, write_results

SEEDS = (0, 1, 2, 3)
NO_CHOICE = pd.DataFrame(columns=SELECTION.names)
BASELINE, GENTLE = style.arm_colour(ARMS["baseline"]), style.arm_colour(ARMS["gentle"])


def five(cells: list[dict[str, Any]], scale: str = "demo", **options: Any) -> tuple[Figure, pd.DataFrame]:
    """Figure 5 of a grid of modular addition, and its times."""
    made = make_records(cells, **options)
    times = statistics.time_to_target(made["history"], made["runs"], cells)
    return figure_05.draw(made["history"], times, NO_CHOICE, cells, scale), times


def eleven(cells: list[dict[str, Any]], made: dict[str, pd.DataFrame]) -> tuple[Figure, pd.DataFrame]:
    """Figure 11 of these records, and their onsets."""
    every = trails(made["history"], made["runs"], cells)
    found = onsets(every, 0.1)
    times = statistics.time_to_target(made["history"], made["runs"], cells)
    return figure_11.draw(made["history"], found, made["evaluation"], times, NO_CHOICE, cells, "demo"), found


# --- figure 5 --------------------------------------------------------------------------------------


def test_figure_5_draws_every_seed_and_a_median_of_each_arm_in_its_colour() -> None:
    figure, times = five(make_cells(variants=("a", "b"), seeds=SEEDS))
    assert len(shown(figure)) == 4  # accuracy above loss, a column per variant
    for axes in shown(figure):
        assert len(with_gid(axes, "seed")) == 2 * len(SEEDS)
        assert [line.get_color() for line in with_gid(axes, "median")] == [BASELINE, GENTLE]
        assert sorted(line.get_color() for line in with_gid(axes, "seed")) == sorted([BASELINE, GENTLE] * len(SEEDS))
    top = shown(figure)[0]
    assert [line.get_ydata()[0] for line in with_gid(top, "target")] == [0.9]
    chosen = times[(times["variant"] == "a") & (times["arm"] == "gentle")]
    ticks, median = with_gid(top, "time")[1], with_gid(top, "median_time")[1]
    assert sorted(ticks.get_xdata()) == sorted(chosen["step"])
    assert median.get_xdata()[0] == np.median(chosen["step"])
    assert not with_gid(shown(figure)[2], "target")  # the target is of accuracy, not of loss


def test_figure_5_tells_who_reached_and_who_was_censored() -> None:
    figure, times = five(make_cells(seeds=SEEDS), rises={("baseline", 0): 1e9, ("gentle", 1): 1e9, ("gentle", 2): 1e9})
    median = times.loc[times["arm"] == "baseline", "step"].fillna(math.inf).median()
    assert f"baseline: reached 3/4, median {median:,.0f}" in texts(figure)
    assert "gentle: reached 2/4, median not reached" in texts(figure)
    (top, _) = shown(figure)
    assert [mark.get_color() for mark in with_gid(top, "censored")] == [BASELINE, GENTLE]
    assert [mark.get_color() for mark in with_gid(top, "median_time")] == [BASELINE]


def test_figure_5_shows_diverged_runs_and_counts_them_as_worst() -> None:
    figure, _ = five(make_cells(seeds=SEEDS), diverged=(("gentle", 0), ("gentle", 1), ("gentle", 2)))
    (top, bottom) = shown(figure)
    assert ", 3 diverged" in texts(figure).replace("\n", " ")
    assert len(with_gid(top, "diverged")) == len(with_gid(bottom, "diverged")) == 3
    for axes in (top, bottom):  # three of four are gone after half the budget, so there is no median
        line = with_gid(axes, "median")[1]
        assert np.isnan(line.get_ydata()[line.get_xdata() > 1500]).all()
        assert np.isfinite(line.get_ydata()[line.get_xdata() < 1500]).all()


def test_figure_5_draws_stopped_runs_to_their_end_and_the_median_to_the_first_s() -> None:
    cells = make_cells(seeds=SEEDS)
    rises = {(arm, seed): 800.0 + 200 * seed for arm in ("baseline", "gentle") for seed in SEEDS}
    whole, _ = five(cells, rises=rises)
    figure, times = five(cells, rises=rises, stopped=(("gentle", 1), ("gentle", 3)))
    assert (times["status"] == "stopped").sum() == 2
    for before, after in zip(shown(whole), shown(figure), strict=True):
        ends = [np.max(line.get_xdata()[np.isfinite(line.get_ydata())]) for line in with_gid(after, "seed")]
        assert ends[:4] == [3000] * 4
        assert (ends[4], ends[6]) == (3000, 3000)
        assert 1000 < ends[5] < ends[7] < 3000
        medians = [with_gid(axes, "median") for axes in (before, after)]
        np.testing.assert_array_equal(medians[1][0].get_ydata(), medians[0][0].get_ydata())
        assert medians[1][1].get_xdata()[-1] == ends[5]
        np.testing.assert_array_equal(
            medians[1][1].get_ydata(), medians[0][1].get_ydata()[medians[0][1].get_xdata() <= ends[5]]
        )
        assert not with_gid(after, "diverged")
    told = "Ended early by training.stop: 2 of 8 runs stopped at their target (gentle 2); the median ends with the"
    assert told in " ".join(texts(figure).split())
    assert "training.stop" not in texts(whole)
    assert "gentle: reached 4/4" in texts(figure)
    check_layout(figure, shown(figure))


def test_figure_5_with_many_variants_shows_the_target_s_metric_only() -> None:
    names = tuple(f"v{place}" for place in range(6))
    figure, _ = five(make_cells(variants=names, seeds=(0, 1), metric="val_loss", threshold=0.3), "paper")
    assert len(shown(figure)) == len(figure.axes) == 6
    assert all(len(with_gid(axes, "target")) == 1 for axes in shown(figure))
    assert {axes.get_yscale() for axes in shown(figure)} == {"log"}


def test_each_kind_of_arm_has_a_colour_and_arms_of_one_colour_differ_by_dashes() -> None:
    cells = make_cells(arms=("baseline", "gentle"), seeds=(0, 1))
    stronger = {**cells[1], "arm": "stronger", "arm_settings": {**ARMS["gentle"], "gamma": 2.0}}
    dashes = style.arm_dashes([*cells, stronger])
    assert dashes[0] == dashes[1] != dashes[2]
    colours = [style.arm_colour(arm) for arm in (*ARMS.values(), *OTHER_ARMS.values())]
    cheaper, control = FAMILY_COLOURS["cheaper"], FAMILY_COLOURS["control"]
    assert colours == ["#3B3B3B", "#D55E00", "#8E4FA8", cheaper, control, control]
    assert style.arm_text(stronger) == "stronger (ρ = 0.25, γ = 2, S = 1)"


def test_figure_5_s_texts_do_not_overlap() -> None:
    cells = make_cells(variants=("as_published", "calibrated"), arms=("baseline", "gentle", "reversed"), seeds=SEEDS)
    figure, _ = five(cells, diverged=(("gentle", 0),), rises={("baseline", 0): 1e9})
    check_layout(figure, shown(figure))


# --- figure 11 -------------------------------------------------------------------------------------


def test_figure_11_shows_the_series_and_the_onsets_that_the_verdict_uses() -> None:
    cells = make_cells("sparse_parity", arms=("gentle", "baseline"), seeds=SEEDS, budget=1500)
    made = make_records(cells)
    # A lead that checkpoints, five evaluations apart, would not show.
    learned = made["history"]["step"] > np.where(made["history"]["seed"] == 0, 300, 500)
    made["history"]["stability"] = np.where(learned, 0.75, 0.5)
    figure, found = eleven(cells, made)
    above, below = shown(figure)[::2], shown(figure)[1::2]
    assert len(above) == len(below) == 2  # baseline and regularised
    for cell, axes, loss in zip(cells[::-1], above, below, strict=True):
        assert style.arm_text(cell) in texts(axes)
        rows = comparison.of_cell(made["history"], cell)
        for panel, column in ((axes, "stability"), (loss, "val_loss")):
            expected = rows.pivot(index="step", columns="seed", values=column)
            drawn = with_gid(panel, f"seed {column}")
            np.testing.assert_array_equal([line.get_ydata() for line in drawn], expected.T)
            (median,) = with_gid(panel, f"median {column}")
            np.testing.assert_array_equal(median.get_ydata(), expected.median(axis=1))
            assert median.get_color() == (style.LOSS_COLOUR if panel is loss else style.STABILITY_COLOUR)
        (decision,) = with_gid(axes, "median decision")
        agreement = rows.groupby("step")["decision_agreement"].median()
        np.testing.assert_allclose(decision.get_ydata(), 2 * agreement - 1)
        onset = comparison.of_cell(found[found["series"] == "stability"], cell)
        for of in ("series", "loss"):
            (ticks,) = with_gid(axes, f"onset {of}")
            np.testing.assert_array_equal(ticks.get_xdata(), onset[f"{of}_onset_step"])
        assert sorted(onset["series_onset_step"]) == [400, 600, 600, 600]
        lead = onset["lead_steps"]
        told = (
            f"median: stability {round(lead.median())} steps first; stability first in {(lead > 0).sum()}, together in "
        )
        assert told in " ".join(texts(axes).split())
        lines = sorted(line.get_ydata()[0] for line in with_gid(axes, "closed_form"))
        assert lines == pytest.approx([0.75**2, (1 + 0.75**2) / 2])
    assert "here 0.75, not ρ" in " ".join(texts(figure).split())
    check_layout(figure, shown(figure))


def test_figure_11_has_the_same_axes_in_all_panels_and_nothing_outside() -> None:
    cells = make_cells("sparse_parity", variants=("a", "b"), seeds=(0, 1), budget=1500)
    made = make_records(cells)
    first = (made["history"]["variant"] == "a") & (made["history"]["arm"] == "gentle")
    made["history"].loc[first, "val_loss"] *= 3
    made["history"].loc[first, "decision_agreement"] = 0.4
    figure, _ = eleven(cells, made)
    for columns in (("stability", "decision"), ("val_loss",)):
        panels = [axes for axes in shown(figure) if with_gid(axes, f"median {columns[0]}")]
        assert len(panels) == 4
        ((low, high),) = {axes.get_ylim() for axes in panels}
        for line in (line for axes in panels for column in columns for line in with_gid(axes, f"median {column}")):
            assert low < min(line.get_ydata())
            assert max(line.get_ydata()) < high


def test_figure_11_has_medians_until_the_first_run_was_stopped_and_no_onset_of_it() -> None:
    cells = make_cells("sparse_parity", arms=("baseline",), seeds=(0, 1, 2))
    rises = {("baseline", seed): 1000.0 + 500 * seed for seed in range(3)}
    made = make_records(cells, rises, stopped=(("baseline", 0),))
    figure, _ = eleven(cells, made)
    end = made["runs"].loc[0, "steps"]
    for column in ("stability", "decision", "val_loss"):
        (median,) = with_gid(figure, f"median {column}")
        assert median.get_xdata()[-1] == end < 3000
    assert len(with_gid(figure, "onset series")[0].get_xdata()) == 2
    said = " ".join(texts(figure).split())
    assert "loss first in 0, undefined in 1" in said
    assert "Ended early by training.stop: 1 of 3 runs stopped at their target (baseline 1)" in said
    assert "such a run has no onset" in said


def test_figure_11_stands_without_stability_and_without_measures() -> None:
    cells = make_cells("sparse_parity", seeds=(0, 1), budget=1500)
    made = make_records(cells)
    noise = ["stability", "decision_agreement"]
    made["history"].loc[made["history"]["arm"] == "gentle", noise] = np.nan
    made["evaluation"] = made["evaluation"].iloc[:0]
    figure, _ = eleven(cells, made)
    baseline, _, gentle, _ = shown(figure)
    assert "no stability in its history" not in texts(baseline)
    assert "no stability in its history" in texts(gentle)
    assert "no run has both onsets" in texts(gentle)
    assert not with_gid(figure, "closed_form")


def test_figure_14_stands_without_any_stability() -> None:
    """As of runs whose noise is another variant's."""
    cells = make_cells("next_token", budget=1500)
    made = make_records(cells)
    history = made["history"].assign(stability=np.nan)
    times = statistics.time_to_target(history, made["runs"], cells)
    figure = figure_14.draw(history, times, NO_CHOICE, cells, "demo")
    figure.canvas.draw()
    assert len(with_gid(figure, "median")) == 4


# --- all figures -----------------------------------------------------------------------------------


def test_a_figure_renders_and_is_the_same_file_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = make_cells(seeds=(0, 1), budget=1000)
    write_results(tmp_path, cells, make_records(cells))
    for copy in ("one", "two"):
        outs = (tmp_path / f"{copy}.png", tmp_path / f"{copy}.pdf")
        drawing.render("figure_05_modular_addition", tmp_path, drawing.Grid(cells, "demo"), *outs)
    for kind, magic in (("png", b"\x89PNG"), ("pdf", b"%PDF")):
        content = (tmp_path / f"one.{kind}").read_bytes()
        assert content.startswith(magic)
        assert content == (tmp_path / f"two.{kind}").read_bytes()
        assert b"CreationDate" not in content
    saved = []
    monkeypatch.setattr(style, "save", lambda figure, *files: saved.append(texts(figure)))
    drawing.render("figure_11", tmp_path, drawing.Grid(cells, "demo"), "a.png", "a.pdf")
    assert "figure_11: the grid has nothing that it shows" in saved[0]


def test_a_grid_is_drawn_the_figures_that_it_can_fill() -> None:
    three = swept((0.05,), (0.05, 0.25, 0.75))
    addition, parity, text = (
        make_cells(task, arms=("baseline", "gentle")) for task in ("modular_addition", "sparse_parity", "next_token")
    )
    figures_for = drawing.figures_for
    assert figures_for([]) == []
    assert figures_for(addition) == ["figure_05_modular_addition", "time_to_target", "grokking_gap"]
    assert figures_for(parity) == ["figure_05_sparse_parity", "figure_11", "time_to_target", "grokking_gap"]
    of_text = ["figure_06", "figure_12", "figure_14"]
    assert figures_for(text) == [*of_text, "time_to_target", "grokking_gap"]
    two = make_cells("next_token", arms=("baseline", *three[:2], "reversed"))
    assert figures_for(two) == [*of_text, "time_to_target", "grokking_gap"]
    assert figures_for([*make_cells(arms=("baseline", *three)), *text]) == [
        "figure_05_modular_addition",
        *of_text,
        "sweep_modular_addition",
        "time_to_target",
        "grokking_gap",
    ]
    controlled = [{**addition[0], "arm": "entropy", "arm_settings": {"kind": "entropy"}}, *addition]
    assert figures_for(controlled) == ["figure_05_modular_addition", "time_to_target", "grokking_gap", "arms"]
    measured = figures_for(text, measures=["regularizer_gradient", "fourier_weight"])
    assert measured == [*of_text, "time_to_target", "grokking_gap", "gradient_share"]  # text has no Fourier weight
    tuned = [{**addition[0], "variant": f"calibrated-decay{decay}"} for decay in (1, 2)]
    times = drawing.FIGURES["time_to_target"]
    assert drawing.shown(times, [*addition, *tuned, parity[0]]) == addition  # baselines alone are in the tables
    assert drawing.shown(times, [*tuned, parity[0]]) == [*tuned, parity[0]]  # but for a grid of nothing else
    assert drawing.shown(replace(times, of_baselines=True), [*addition, *tuned]) == [*addition, *tuned]
    curve = [{**cell, "curve": cell["variant"], "curve_only": True} for cell in addition]
    assert figures_for(curve) == ["specification_curve_modular_addition"]
    apart = figures_for([], theory=True, pretrained=True)
    assert apart == [*of_kind("theory"), *of_kind("pretrained")]
    assert (len(apart), apart[0], apart[-1]) == (12, "figure_02", "figure_08")


def test_a_task_of_one_s_own_has_curves_and_a_sweep_with_its_name() -> None:
    arms = ("baseline", *swept((0.05,), (0.05, 0.25, 0.75)))
    cells = [{**cell, "task": "mine", "curve": "calibrated"} for cell in make_cells(arms=arms)]
    names = ["curves_mine", "sweep_mine", "time_to_target", "grokking_gap", "specification_curve_mine"]
    assert drawing.figures_for(cells) == names
    assert caption("curves_mine")[0] == "Mine: training with and without the regulariser"
    assert caption("sweep_mine")[0].startswith("Mine: what each (ρ, γ)")
    assert caption("sweep_sparse_parity")[0].startswith("Noisy sparse parity: what each (ρ, γ)")
    assert "26.7%" in caption("figure_05_modular_addition")[1]
    assert "protocol" in caption("sweep_next_token")[1]


def test_figures_5_and_11_draw_one_arm_of_a_sweep() -> None:
    cells = make_cells("sparse_parity", arms=("baseline", *swept(), "reversed"), seeds=SEEDS, budget=1500)
    made = make_records(cells)
    times = statistics.time_to_target(made["history"], made["runs"], cells)
    chosen = cells[5]["arm"]
    row = {"task": "sparse_parity", "variant": "calibrated", "procedure": "all_seeds", "selected": chosen}
    five_figure = figure_05.draw(made["history"], times, pd.DataFrame([row]), cells, "demo")
    found = onsets(trails(made["history"], made["runs"], cells), 0.1)
    eleven_figure = figure_11.draw(
        made["history"], found, made["evaluation"], times, pd.DataFrame([row]), cells, "demo"
    )
    for figure in (five_figure, eleven_figure):
        assert chosen in texts(figure)
        assert not any(cell["arm"] in texts(figure) for cell in cells[1:-1] if cell["arm"] != chosen)
        assert "Of 12 regularised arms with S = 1 a panel shows the one that the validation data" in " ".join(
            texts(figure).split()
        )
    assert len(with_gid(shown(five_figure)[0], "median")) == 3


def test_every_figure_has_a_caption() -> None:
    for name, one in FIGURES.items():
        title, text = caption(f"{name}_mine" if one.each_task else name)
        assert title[0].isupper()
        assert len(text) > 100
    assert caption("figure_99") == ("Figure 99", "")


def test_drawing_leaves_matplotlib_as_it_was() -> None:
    before = dict(matplotlib.rcParams)
    five(make_cells(seeds=(0, 1)))
    assert dict(matplotlib.rcParams) == before


DRAW = """
import sys
from nsbench.figures import style
with style.applied():
    figure = style.new(5, 3)
    axes = figure.add_subplot(ylabel="a text of $5 or $_^")
    style.header(axes, "a text of $5 or $_^", ["leak of $5 or $_^"], [style.sign("settled", marker="$=$")])
    style.footer(figure, ["a text of $5 or $_^"], [style.sign("$5 or $_^", marker="$=$")])
style.save(figure, sys.argv[1] + "/it.png", sys.argv[1] + "/it.pdf")
"""


def test_a_notebook_s_backend_and_a_matplotlibrc_change_no_byte_and_dollars_are_no_mathematics(tmp_path: Path) -> None:
    rc = "text.usetex: True\nfont.size: 30\nsavefig.bbox: tight\nbackend: none\naxes.linewidth: 9\n"
    (tmp_path / "matplotlibrc").write_text(rc)
    own = {"MPLBACKEND": "module://matplotlib_inline.not_here", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    made = []
    for name, environment in (("plain", {"MPLBACKEND": "agg"}), ("own", own)):
        (tmp_path / name).mkdir()
        call = [sys.executable, "-c", DRAW, str(tmp_path / name)]
        subprocess.run(call, env={**os.environ, **environment}, check=True, capture_output=True)
        made.append([(tmp_path / name / file).read_bytes() for file in ("it.png", "it.pdf")])
    assert made[0] == made[1]


@pytest.mark.parametrize("name", ["figure_99", "sweep", "sweep_"])
def test_an_unheard_of_figure_is_told(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=f"no figure is called '{name}'"):
        drawing.render(name, tmp_path, drawing.Grid([], "demo"), tmp_path / "a.png", tmp_path / "a.pdf")


def test_a_rendered_figure_has_its_title_and_takes_room_for_it(tmp_path: Path) -> None:
    cells = make_cells(seeds=(0, 1))
    write_results(tmp_path, cells, make_records(cells))
    sizes = []
    for title in ("Short", "A title that is far too long for one line of a figure, " * 3):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(drawing, "caption", lambda name, title=title: (title, ""))
            made = tmp_path / "a.png", tmp_path / "a.pdf"
            drawing.render("figure_05_modular_addition", tmp_path, drawing.Grid(cells, "demo"), *made)
        with Image.open(made[0]) as image:
            sizes.append(image.size)
            assert image.mode == "P"  # 256 colours
            assert max(image.convert("L").histogram()) == image.convert("L").histogram()[255]  # white stays white
    assert sizes[0][0] == sizes[1][0]
    assert sizes[1][1] - sizes[0][1] > 2 * 0.18 * style.DPI


def test_a_figure_of_one_s_own_without_a_layout_has_its_title_too() -> None:
    for figure in (Figure(), Figure(layout="constrained")):
        figure.subplots()
        set_title(figure, "What I saw")
        assert "What I saw" in texts(figure)


def test_the_key_has_what_is_drawn_and_no_more() -> None:
    def key(**options: Any) -> list[str]:
        figure, _ = five(make_cells(seeds=SEEDS), **options)
        return [text.get_text() for text in figure.legends[0].get_texts()]

    plain = ["one seed", "median over seeds", "target", "a seed's time to target", "median time"]
    assert key(rises={(arm, seed): 800.0 for arm in ("baseline", "gentle") for seed in SEEDS}) == plain
    lost = key(rises={("gentle", seed): 1e9 for seed in SEEDS}, diverged=(("gentle", 0),))
    assert set(lost) == {*plain, "diverged", "some seeds not within budget"}
