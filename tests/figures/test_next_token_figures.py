"""What the figures of next-token prediction and of sweeps show, read back from their artists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from nsbench.analysis.statistics import time_to_target
from nsbench.figures import comparison, figure_06, figure_12, figure_13, figure_14, style, sweep
from nsbench.figures.drawing import shown as shown_cells
from nsbench.schemas.analysis import SELECTION
from nsbench.schemas.metrics import TARGETS
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_records import ARMS, COUNTED, make_cells, make_records, swept, write_results

SEEDS = (0, 1, 2, 3, 4, 5)
VARIANTS = ("plain", "rows", "leaky")
OVERLAP = "training and validation windows overlap"
SWEPT = swept((0.05, 0.5), (0.05, 0.75))
LOST = "noise_stability-rho0.5-gamma0.75"
"""An arm that never reaches the target, and loses one run."""
BASELINE, STABLE, REVERSED = (style.arm_colour(arm) for arm in ARMS.values())
TEXT = "Some excerpt, not WikiText-2"

NO_FLOORS = pd.DataFrame(columns=["task", "variant", "seed", "predictor", "targets", "split", "loss"])

Tables = dict[str, pd.DataFrame]


def grid(variants: tuple[str, ...] = VARIANTS, arms: tuple[str, ...] = ("baseline", *SWEPT, "reversed")) -> Any:
    leaks = {"leaky": [OVERLAP]}
    return make_cells("next_token", variants, arms, SEEDS, 2000, threshold=0.25, leaks=leaks, rows=("rows",))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Tables]:
    """The grid, and its records and tables under the names that `draw` has for them."""
    cells = grid()
    rises = {(LOST, seed): 1e9 for seed in SEEDS} | {("noise_stability-rho0.05-gamma0.05", seed): 300 for seed in SEEDS}
    records = make_records(cells, rises, diverged=((LOST, 0),), text=TEXT)
    tables = write_results(tmp_path_factory.mktemp("results"), cells, records, looks={"pairs": [6], "alpha": 0.05})
    named = {"times": "time_to_target", "effects": "paired_effect", "score_effects": "score_effect"}
    named |= {"selections": "selection", "floors": "floors"}
    return cells, {**records, **{name: tables[table] for name, table in named.items()}}


def draw(module: Any, made: tuple[list[dict[str, Any]], Tables], scale: str = "demo", **options: Any) -> Figure:
    cells, tables = made
    one = module.draw
    return one(**{name: tables[name] for name in one.tables}, cells=shown_cells(one, cells), scale=scale, **options)


def only(made: tuple[list[dict[str, Any]], Tables], **wanted: Any) -> tuple[list[dict[str, Any]], Tables]:
    """The results of some cells."""
    return [cell for cell in made[0] if all(cell[key] in values for key, values in wanted.items())], made[1]


def colours(lines: list[Any]) -> list[str]:
    return [line.get_color() for line in lines]


DRAWN = {
    "06": (figure_06, {}),
    "12": (figure_12, {}),
    "13": (figure_13, {"metric": "val_loss"}),
    "14": (figure_14, {}),
    "sweep": (sweep, {}),
}
EVERY_FIGURE = pytest.mark.parametrize("name", DRAWN)


@pytest.fixture(scope="module")
def drawn(made: Any) -> dict[str, Figure]:
    return {name: draw(module, made, **options) for name, (module, options) in DRAWN.items()}


# --- all -----------------------------------------------------------------------------------------------


@EVERY_FIGURE
def test_leaks_the_text_and_the_scale_are_told(drawn: dict[str, Figure], name: str) -> None:
    figure = drawn[name]
    (leak,) = [text for text in with_gid(figure, "leak") if "LEAK" in text.get_text()]
    assert " ".join(leak.get_text().split()) == f"LEAK: {OVERLAP}"
    assert leak.get_color() == style.WARNING
    (panel,) = [axes for axes in shown(figure) if axes.get_legend() and "LEAK" in texts(axes.get_legend())]
    assert panel.get_legend().get_title().get_text() == "leaky"
    flat = " ".join(texts(figure).split())
    assert f"Data: {TEXT}." in flat
    assert "DEMO SCALE, not the paper's setting: vocabulary of 500, 20 tokens per example" in flat


def test_what_is_as_in_the_paper_needs_no_remark(made: Any) -> None:
    cells, tables = only(made, variant=("plain", "rows"))
    renamed = {name: table.assign(text="WikiText-2") if "text" in table else table for name, table in tables.items()}
    figure = draw(figure_14, (cells, renamed), "paper")
    assert not with_gid(figure, "leak")
    assert not any(word in texts(figure) for word in ("Text:", "SCALE", "training.stop"))


@pytest.mark.parametrize("module", [figure_14, sweep])
def test_runs_that_were_stopped_early_are_told(made: Any, module: Any) -> None:
    cells, tables = made
    times = tables["times"].copy()
    times.loc[(times["variant"] == "plain") & (times["arm"] == "baseline") & (times["seed"] < 2), "status"] = "stopped"
    found = " ".join(texts(draw(module, (cells, {**tables, "times": times}))).split())
    assert re.search(r"Ended early by training\.stop: 2 of \d+ runs stopped at their target \(baseline 2\);", found)


@EVERY_FIGURE
def test_nothing_lies_over_anything_else(drawn: dict[str, Figure], name: str) -> None:
    check_layout(drawn[name], shown(drawn[name]))


def test_panels_of_many_variants_wrap_to_blocks() -> None:
    for count, n_rows, shape, fourth in ((1, 2, (2, 1), None), (4, 1, (2, 2), (1, 1)), (5, 2, (4, 3), (2, 0))):
        figure, columns = style.columns(count, n_rows, 3.0, 2.0, below=1.0)
        places = [[axes.get_subplotspec() for axes in column] for column in columns]
        assert places[0][0].get_gridspec().get_geometry() == shape
        assert len(shown(figure)) == count * n_rows
        if fourth:
            assert (places[3][0].rowspan.start, places[3][0].colspan.start) == fourth
        assert all(
            spec.rowspan.start == column[0].rowspan.start + row for column in places for row, spec in enumerate(column)
        )


# --- arms that are compared ----------------------------------------------------------------------------


def test_the_arm_shown_is_the_one_that_validation_selects(made: Any) -> None:
    cells, tables = made
    group = [cell for cell in cells if cell["variant"] == "plain"]
    names = [cell["arm"] for cell in comparison.compared(group, tables["selections"])]
    assert names == ["baseline", "noise_stability-rho0.05-gamma0.05", "reversed"]
    chosen = pd.DataFrame([{"task": "next_token", "variant": "plain", "procedure": "all_seeds", "selected": SWEPT[3]}])
    assert [cell["arm"] for cell in comparison.compared(group, chosen)] == ["baseline", SWEPT[3], "reversed"]
    unknown = chosen.assign(selected="gone")
    for nothing in (chosen.iloc[:0], unknown):
        assert [cell["arm"] for cell in comparison.compared(group, nothing)] == ["baseline", SWEPT[0], "reversed"]


def test_of_several_reversed_arms_the_one_with_the_same_settings_is_compared() -> None:
    cells = make_cells("next_token", arms=("baseline", *SWEPT[:2], "reversed"))
    other = {**cells[-1], "arm": "other", "arm_settings": {**cells[2]["arm_settings"], "orientation": 0}}
    row = {"task": "next_token", "variant": "calibrated", "procedure": "all_seeds", "selected": SWEPT[1]}
    names = [cell["arm"] for cell in comparison.compared([*cells, other], pd.DataFrame([row]))]
    assert names == ["baseline", SWEPT[1], "other"]


def test_arms_that_are_missing_are_left_out() -> None:
    for arms in (("baseline",), ("baseline", "reversed"), ("gentle",)):
        cells = make_cells("next_token", arms=arms)
        assert [cell["arm"] for cell in comparison.compared(cells, pd.DataFrame(columns=SELECTION.names))] == list(arms)


# --- figure 6 ------------------------------------------------------------------------------------------


def test_figure_6_draws_three_arms_and_the_lines_across(drawn: dict[str, Figure]) -> None:
    figure = drawn["06"]
    panels = shown(figure)
    assert [axes.get_legend().get_title().get_text() for axes in panels] == list(VARIANTS)
    for axes in panels:
        assert len(with_gid(axes, "seed")) == 3 * len(SEEDS)
        assert colours(with_gid(axes, "median")) == [BASELINE, STABLE, REVERSED]
        heights = {gid: with_gid(axes, gid)[0].get_ydata()[0] for gid in ("target", "paper")}
        assert heights == {"target": 0.25, "paper": 0.7}
        # The floors' medians over seeds 0 to 5, each 0.001 above the last.
        assert with_gid(axes, "floor commonest")[0].get_ydata()[0] == pytest.approx(0.1225)
        assert with_gid(axes, "floor bigram")[0].get_ydata()[0] == pytest.approx(0.2025)
        assert "bigram table: 0.20" in texts(axes.get_legend())
        assert len(with_gid(axes, "median_time")) == 3
    assert "Of 4 regularised arms with S = 1 a panel shows the one that the" in " ".join(texts(figure).split())


def test_figure_6_keeps_its_panels_where_no_run_reached(made: Any) -> None:
    """Marks of no times must not count in the layout: it would give the panels almost no room."""
    cells, tables = only(made, variant=("plain", "leaky"), arm=("baseline", SWEPT[0]))
    lost = tables["times"].assign(reached=tables["times"]["reached"] & (tables["times"]["variant"] != "leaky"))
    figure = draw(figure_06, (cells, {**tables, "times": lost.assign(step=lost["step"].where(lost["reached"]))}))
    check_layout(figure, shown(figure))
    assert sum(axes.get_position().width for axes in shown(figure)) > 0.8


def test_figure_6_shows_the_accuracy_that_the_target_counts(made: Any) -> None:
    cells, tables = made
    target = {"metric": "val_accuracy_known", "threshold": 0.2, "hold_evaluations": 3, "hold_steps": 0}
    (panel,) = shown(
        draw(figure_06, ([{**cell, "target": target} for cell in cells if cell["variant"] == "rows"], tables))
    )
    assert panel.get_ylabel() == "validation accuracy,\nwithout padding and unknown words"
    history = tables["history"]
    chosen = history[(history["variant"] == "rows") & (history["arm"] == "baseline")]
    expected = chosen.pivot(index="step", columns="seed", values="val_accuracy_known").median(axis=1)
    np.testing.assert_allclose(with_gid(panel, "median")[0].get_ydata(), expected)
    assert with_gid(panel, "floor bigram")[0].get_ydata()[0] == pytest.approx(0.2 * COUNTED["_known"] + 0.0025)


def test_figure_6_tells_a_target_that_is_a_loss(made: Any) -> None:
    cells, tables = made
    target = {"metric": "val_loss", "threshold": 4.0, "hold_evaluations": 3, "hold_steps": 0}
    figure = draw(figure_06, ([{**cell, "target": target} for cell in cells], tables))
    assert "plain: validation loss (nats) 4" in " ".join(texts(figure).split())
    assert not with_gid(figure, "target")


# --- figure 12 -----------------------------------------------------------------------------------------


def test_figure_12_has_the_kinds_of_targets_that_differ(made: Any, drawn: dict[str, Figure]) -> None:
    panels = shown(drawn["12"])
    assert len(panels) == 9
    endings = {style.COUNTED_LABELS[kind]: ending for kind, ending in TARGETS.items()}
    history = made[1]["history"]
    rows = history[(history["variant"] == "rows") & (history["arm"] == "baseline")]
    for axes in panels[1::3]:  # of the variant with padding
        ending = endings[axes.get_ylabel().splitlines()[1]]
        assert with_gid(axes, "floor commonest")[0].get_ydata()[0] == pytest.approx(0.12 * COUNTED[ending] + 0.0025)
        median = rows.pivot(index="step", columns="seed", values=f"val_accuracy{ending}").median(axis=1)
        np.testing.assert_allclose(with_gid(axes, "median")[0].get_ydata(), median)


def test_figure_12_leaves_out_kinds_that_change_nothing(made: Any, drawn: dict[str, Figure]) -> None:
    figure = draw(figure_12, only(made, variant=("plain", "leaky")))
    assert len(shown(figure)) == 2
    assert "changes nothing here" in texts(figure)
    assert "changes nothing here" not in texts(drawn["12"])


# --- figure 13 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("metric", "label"), [("train_loss", "training loss"), ("val_loss", "validation loss")])
def test_figure_13_draws_the_median_of_every_arm(made: Any, drawn: dict[str, Figure], metric: str, label: str) -> None:
    panels = shown(drawn["13"] if metric == "val_loss" else draw(figure_13, made, metric=metric))
    assert [axes.get_ylabel() for axes in panels] == [f"{label} (nats)", "", ""]
    for axes in panels:
        assert [len(with_gid(axes, f"median {name}")) for name in ("baseline", "swept", "reversed")] == [1, 4, 1]
        looks = {
            (line.get_color(), str(line.get_linestyle()), line.get_linewidth())
            for line in with_gid(axes, "median swept")
        }
        assert len(looks) == 4
        assert len({colour for colour, *_ in looks}) == 2
        assert len(with_gid(axes, "floor bigram")) == (metric == "val_loss")
        assert len(with_gid(axes, "minimum")) == 6 * (metric == "val_loss")


def test_figure_13_marks_the_minimum_of_the_median(made: Any, drawn: dict[str, Figure]) -> None:
    history = made[1]["history"]
    chosen = history[(history["variant"] == "plain") & (history["arm"] == "baseline")]
    median = chosen.pivot(index="step", columns="seed", values="val_loss").median(axis=1)
    mark = with_gid(shown(drawn["13"])[0], "minimum")[0]
    assert (mark.get_xdata()[0], mark.get_ydata()[0]) == (median.idxmin(), pytest.approx(median.min()))


def test_figure_13_says_when_an_arm_leaves_the_panel(made: Any, drawn: dict[str, Figure]) -> None:
    cells, tables = made
    history = tables["history"].copy()
    history.loc[history["arm"] == LOST, "val_loss"] *= 100
    figure = draw(figure_13, (cells, {**tables, "history": history}), metric="val_loss")
    assert f"{LOST} above the panel, up to 6" in " ".join(texts(figure).replace(f"{LOST}\n", f"{LOST} ").split())
    assert all(axes.get_ylim()[1] < 12 for axes in shown(figure))
    assert "above the panel" not in texts(drawn["13"])
    for axes in shown(drawn["13"]):
        assert all(axes.get_ylim()[1] >= np.nanmax(line.get_ydata()) for line in with_gid(axes, "median swept"))


def test_figure_13_ends_an_arm_where_most_of_its_runs_diverged() -> None:
    cells = grid(("plain",))
    lost = tuple((LOST, seed) for seed in SEEDS[:4])
    records = make_records(cells, diverged=lost)
    times = time_to_target(records["history"], records["runs"], cells)
    figure = figure_13.draw(records["history"], times, NO_FLOORS, cells, "demo", "val_loss")
    (cross,) = with_gid(figure, "diverged")
    assert cross.get_xdata()[0] == 1000
    assert not with_gid(figure, "floor bigram")


# --- figure 14 -----------------------------------------------------------------------------------------


def test_figure_14_has_stability_above_the_loss(made: Any, drawn: dict[str, Figure]) -> None:
    figure = drawn["14"]
    panels = shown(figure)
    assert len(panels) == 6
    history = made[1]["history"]
    for metric, axes in zip(("stability", "val_loss"), (panels[0], panels[3]), strict=True):
        assert colours(with_gid(axes, "median")) == [BASELINE, STABLE, REVERSED]
        chosen = history[(history["variant"] == "plain") & (history["arm"] == "baseline")]
        expected = chosen.pivot(index="step", columns="seed", values=metric).median(axis=1)
        np.testing.assert_allclose(with_gid(axes, "median")[0].get_ydata(), expected)
    assert "at the one position with a target" in " ".join(texts(figure).split())
    history = history.assign(val_loss=history["val_loss"].where(history["step"] < history["step"].max(), 0.0))
    history.loc[history["step"] == 0, "val_loss"] *= 100
    below = shown(draw(figure_14, (made[0], {**made[1], "history": history})))[3]
    assert below.get_yscale() == "log"  # a loss of exactly 0 has no place on it
    every = [{**cell, "settings": {"data": {**cell["settings"]["data"], "targets": "every"}}} for cell in made[0]]
    assert "at each position, then averaged" in " ".join(texts(draw(figure_14, (every, made[1]))).split())


# --- sweep ---------------------------------------------------------------------------------------------


def fields(axes: Any) -> list[str]:
    return [text.get_text() for text in with_gid(axes, "field text")]


def test_the_sweep_shows_every_arm_with_its_interval(made: Any, drawn: dict[str, Figure]) -> None:
    panels = [axes for axes in shown(drawn["sweep"]) if with_gid(axes, "field")]
    assert len(panels) == 6
    assert all(len(with_gid(axes, "field")) == 4 for axes in panels)
    row = made[1]["effects"].set_index(["variant", "arm"]).loc[("plain", SWEPT[0])]
    value, low, high = (row[f"fewer_steps_percent{end}"] for end in ("", "_low", "_high"))
    assert row["outcome"] == "fewer steps"
    assert low > 0
    assert f"{value:.0f}% fewer •" in fields(panels[0])
    assert f"{low:.0f} to {high:.0f}" in fields(panels[0])
    assert [label.get_text() for label in panels[0].get_xticklabels()] == ["0.05", "0.75"]
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["0.05", "0.5"]


def test_the_sweep_frames_the_selected_arm(made: Any, drawn: dict[str, Figure]) -> None:
    for axes in [axes for axes in shown(drawn["sweep"]) if with_gid(axes, "field")]:
        (frame,) = with_gid(axes, "selected")
        assert (round(frame.get_x()), round(frame.get_y())) == (0, 0)  # gamma 0.05, rho 0.05
    cells, tables = made
    assert not with_gid(draw(sweep, (cells, tables | {"selections": tables["selections"].iloc[:0]})), "selected")


def test_of_an_arm_beyond_the_budget_the_sweep_shows_the_bound(made: Any, drawn: dict[str, Figure]) -> None:
    panel = next(axes for axes in shown(drawn["sweep"]) if with_gid(axes, "field"))
    row = made[1]["effects"].set_index(["variant", "arm"]).loc[("plain", LOST)]
    assert np.isnan(row["fewer_steps_percent"])
    assert np.isneginf(row["fewer_steps_percent_low"])
    least = f"{-row['fewer_steps_percent_high']:.0f}"
    assert f"≥ {least}% more •" in fields(panel)
    assert len(fields(panel)) == 2 * 4 - 1  # without an interval below
    effects = made[1]["effects"].assign(fewer_steps_percent=-5.0)
    effects.loc[effects["arm"] == LOST, "outcome"] = "open"
    panel = next(axes for axes in shown(draw(sweep, (made[0], {**made[1], "effects": effects}))) if axes.texts)
    assert {"5% more", f"{least} or more"} <= set(fields(panel))


def test_bold_means_settled_steps_alone(made: Any) -> None:
    """Losses are not judged, and of steps the interval is not enough: the correction must agree."""
    effects = made[1]["effects"].copy()
    given = dict(zip(SWEPT, ("fewer steps", "more steps", "no effect larger than 10%", "open"), strict=True))
    effects["outcome"] = effects["arm"].map(given).fillna("open")
    panels = [axes for axes in shown(draw(sweep, (made[0], {**made[1], "effects": effects}))) if axes.texts]
    for steps in panels[:3]:
        bold = [text.get_text()[-1] for text in with_gid(steps, "field text") if text.get_weight() == "bold"]
        assert bold == ["•", "•", "="]
    for losses in panels[3:]:
        assert {text.get_weight() for text in with_gid(losses, "field text")} == {"normal"}


def test_colours_are_shared_and_centred_on_zero(made: Any) -> None:
    cells, tables = made
    table = tables["effects"].copy()
    norm = sweep._norm(table, sweep.STEPS, cells)
    assert norm.vmin == -norm.vmax < 0
    table.loc[table["arm"] == SWEPT[0], sweep.STEPS] = np.nan
    assert np.isfinite(sweep._norm(table, sweep.STEPS, cells).vmax)
    for column, given, limit in ((sweep.STEPS, np.nan, 10), (sweep.STEPS, 30.0, 30), (sweep.LOSS, np.nan, 1)):
        name = "effects" if column == sweep.STEPS else "score_effects"
        table = tables[name].assign(**{f"{column}{end}": given for end in ("", "_low", "_high")})
        table.loc[(table["variant"] == "plain") & (table["arm"] == LOST), column] = -1000 * given
        norm = sweep._norm(table, column, cells)
        assert (norm.vmin, norm.vmax) == (-limit, limit)  # what is no effect is pale, and no field pales all others


def test_fields_that_no_run_reached_are_hatched_and_arms_that_are_missing_are_blank(tmp_path: Path) -> None:
    cells = grid(("plain",), ("baseline", *SWEPT[:3]))
    records = make_records(cells, {(cell["arm"], seed): 1e9 for cell in cells for seed in SEEDS})
    tables = write_results(tmp_path, cells, records)
    figure = sweep.draw(
        tables["paired_effect"], tables["score_effect"], tables["selection"], tables["time_to_target"], cells, "demo"
    )
    steps, losses = [axes for axes in shown(figure) if with_gid(axes, "field text")]
    assert len(with_gid(steps, "field empty")) == 3
    assert fields(steps) == ["not reached"] * 3
    assert len(with_gid(losses, "field")) == 3
    # Where no run went to its end there is no loss to show.
    names = [f"best_val_loss_difference{end}" for end in ("", "_low", "_high")]
    none = tables["score_effect"].assign(**dict.fromkeys(names, np.nan))
    figure = sweep.draw(tables["paired_effect"], none, tables["selection"], tables["time_to_target"], cells, "demo")
    assert len([axes for axes in shown(figure) if with_gid(axes, "field text")]) == 1
