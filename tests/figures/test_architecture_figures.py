"""What the figures that compare architectures show, read back from the artists that they draw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

import nsbench.analysis.statistics.ranks as ranks
from nsbench.analysis.matched import matched_measures
from nsbench.analysis.matched_effects import matched_effects
from nsbench.analysis.rank_agreement import rank_agreement
from nsbench.analysis.statistics.times import trails
from nsbench.config.sections import Analysis
from nsbench.figures import FIGURES, architectures
from nsbench.figures.drawing import figures_for, shown
from tests.figures.artists import check_layout, texts, with_gid
from tests.figures.artists import shown as panels_of
from tests.synthetic_matched import ARMS, LAWS, TASK, make_image_cells, make_image_records, moving
from tests.synthetic_records import make_cells

SEEDS = (0, 1, 2, 3, 4, 5)
KINDS = {"vit": "transformer", "mlp": "mlp", "convmixer": "convmixer", "lstm": "lstm"}
CELLS = make_image_cells(SEEDS, KINDS)
MEASURES = ["token_sensitivity", "weight_noise", "corruptions", "test_scores"]
OF_MODELS = [name for name, one in FIGURES.items() if one.compares_models]


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks, "N_RESAMPLES", 100)
        records = make_image_records(CELLS)
        matched = matched_measures(trails(records["history"], records["runs"], CELLS), records["evaluation"], CELLS)
        made = {"matched": matched, "matched_effects": matched_effects(matched, CELLS, Analysis())}
        made["rank_agreement"] = rank_agreement(matched, CELLS, 0.95)
    return {name: table.assign(text="Fashion-MNIST") for name, table in made.items()} | records


def drawn(name: str, tables: dict[str, pd.DataFrame], cells: list[dict[str, Any]] = CELLS) -> Any:
    drawing = FIGURES[name]
    return drawing(*(tables[one] for one in drawing.tables), cells=shown(drawing, cells, TASK), scale="paper")


def test_each_is_drawn_where_models_are_compared_and_nowhere_else() -> None:
    assert len(OF_MODELS) == 6
    with_all = figures_for(CELLS, measures=MEASURES)
    by_task = {name: name if name in with_all else f"{name}_{TASK}" for name in [*OF_MODELS, "two_by_two"]}
    assert set(by_task.values()) <= set(with_all)
    one_kind = make_image_cells(SEEDS, {"vit": "transformer"})
    assert not any(name.startswith(tuple(OF_MODELS)) for name in figures_for(one_kind, measures=MEASURES))
    assert f"two_by_two_{TASK}" in figures_for(one_kind, measures=MEASURES)
    assert (
        not set(with_all) & set(figures_for(make_cells(variants=("a", "b")), measures=MEASURES)) & set(by_task.values())
    )
    assert not set(by_task.values()) & set(figures_for(CELLS, measures=["test_scores"]))


@pytest.mark.parametrize("name", [*OF_MODELS, "two_by_two"])
def test_each_names_the_data_and_its_texts_do_not_touch(name: str, tables: dict[str, pd.DataFrame]) -> None:
    figure = drawn(name, tables)
    assert "Fashion-MNIST" in texts(figure)
    check_layout(figure, panels_of(figure))


@pytest.fixture(scope="module")
def of_text(tables: dict[str, pd.DataFrame]) -> tuple[dict[str, pd.DataFrame], list[dict[str, Any]]]:
    """The tables and cells of a task of text with two models."""
    kinds = ("vit", "lstm")
    cells = [cell for cell in CELLS if cell["variant"] in kinds and cell["arm"] == "baseline"]
    own = {one: table[table["variant"].isin(kinds)] for one, table in tables.items() if "variant" in table}
    matched = own["matched"][~own["matched"]["quantity"].isin(["clean_accuracy", "corrupted_accuracy"])]
    return own | {"matched": matched, "rank_agreement": rank_agreement(matched, cells, 0.95)}, cells


@pytest.mark.parametrize("name", OF_MODELS)
def test_a_task_of_text_with_two_models_leaves_out_what_it_lacks(name: str, of_text: Any) -> None:
    figure = drawn(name, *of_text)
    check_layout(figure, panels_of(figure))
    if name == "sensitivity_robustness":
        assert "corrupted images" not in texts(figure)
    if name == "rank_agreement":
        assert "fewer than four variants" in texts(figure)


def test_every_run_of_every_law_has_a_mark(tables: dict[str, pd.DataFrame]) -> None:
    figure = drawn("sensitivity_by_architecture", tables)
    panels = panels_of(figure)
    assert len(panels) == 2 * len(LAWS)
    matched = tables["matched"]
    here = matched[(matched["matching"] == "train_accuracy") & (matched["split"] == "train")]
    for axes, (law, quantity) in zip(
        panels, [(law, one) for one in ("sensitivity", "sensitivity_normalised") for law in LAWS], strict=True
    ):
        own = here[(here["law"] == law) & (here["quantity"] == quantity) & (here["arm"] == "baseline")]
        marks = [line.get_xdata() for line in with_gid(axes, "run")]
        assert sorted(np.concatenate(marks)) == sorted(own["value"])
        medians = [line.get_xdata()[0] for line in with_gid(axes, "median")]
        assert medians == [own.loc[own["variant"] == variant, "value"].median() for variant in KINDS]
    assert "Compared at training accuracy 0.95." in texts(figure)


def test_models_that_do_not_fit_are_compared_at_the_end_and_zeros_are_hollow(tables: dict[str, pd.DataFrame]) -> None:
    matched = tables["matched"].copy()
    matched.loc[(matched["matching"] == "train_accuracy") & (matched["variant"] == "mlp"), "value"] = np.nan
    matched.loc[(matched["variant"] == "mlp") & (matched["seed"] == 0) & (matched["matching"] == "end"), "value"] = 0.0
    figure = drawn("sensitivity_by_architecture", {**tables, "matched": matched})
    assert "at the end of training, as not all reach training accuracy 0.95" in texts(figure)
    hollow = with_gid(panels_of(figure)[0], "no flip")
    assert [line.get_xdata()[0] for line in hollow] == [panels_of(figure)[0].get_xlim()[0]]
    assert "a run without any flip" in texts(figure)


def test_the_specification_curve_has_every_way_to_compare_in_order(tables: dict[str, pd.DataFrame]) -> None:
    figure = drawn("sensitivity_laws", tables)
    uppers = panels_of(figure)[::2]
    assert len(uppers) == len(KINDS) - 1
    effects = tables["matched_effects"]
    for axes, variant in zip(uppers, [one for one in KINDS if one != "vit"], strict=True):
        marks = [line for name in ("helps", "open", "hurts") for line in with_gid(axes, name)]
        heights = [line.get_ydata()[0] for line in sorted(marks, key=lambda line: line.get_xdata()[0])]
        own = effects[(effects["variant"] == variant) & effects["quantity"].str.startswith("sensitivity")]
        own = own[own["matching"] != "equal_flops"]
        assert heights == sorted(own["effect"])
        assert len(with_gid(axes, "helps")) == (own["outcome"] == "lower").sum()


def test_the_two_by_two_shows_each_arm_twice(tables: dict[str, pd.DataFrame]) -> None:
    figure = drawn("two_by_two", tables)
    effects = tables["matched_effects"]
    left, middle, _ = panels_of(figure)
    for axes, quantity in ((left, "test_accuracy"), (middle, "corrupted_accuracy")):
        for matching in ("end", "equal_flops"):
            own = effects[
                (effects["quantity"] == quantity) & (effects["matching"] == matching) & (effects["arm"] != "baseline")
            ]
            assert [line.get_xdata()[0] for line in with_gid(axes, matching)] == own["effect"].tolist()
    assert "one token, γ = 1" in texts(figure)
    assert len(ARMS) - 1 == len(with_gid(left, "end"))


def test_robustness_is_shown_beside_clean_accuracy_with_its_partial_correlation(
    tables: dict[str, pd.DataFrame],
) -> None:
    figure = drawn("sensitivity_robustness", tables)
    left = panels_of(figure)[0]
    assert len(with_gid(left, "run")) == len(KINDS) * len(SEEDS)
    assert len(with_gid(left, "arm")) == (len(ARMS) - 1) * len(SEEDS)
    (top, low) = with_gid(left, "clean")[0].get_ydata()[::-1]
    assert top > low
    assert "partial rank correlation given clean" in texts(left)


def test_variants_of_one_kind_differ_by_mark() -> None:
    cells = make_image_cells((0,), {"a": "transformer", "b": "transformer", "c": "own"}, ("baseline",))
    looks = architectures.looks(cells)
    assert looks[TASK, "a"]["color"] == looks[TASK, "b"]["color"] != looks[TASK, "c"]["color"]
    assert looks[TASK, "a"]["marker"] != looks[TASK, "b"]["marker"]


def test_what_moves_first_while_a_model_groks_is_marked_and_smoothing_delays_the_loss() -> None:
    cells = make_image_cells(
        SEEDS, {"grokking": "transformer", "other": "transformer"}, ("baseline",), "modular_addition"
    )
    at = {"sensitivity": 640, "stability": 800, "test_loss": 1280, "weight_norm": 320}
    records = moving(cells, at)
    no_sensitivity = (records["evaluation"]["variant"] == "other") & (
        records["evaluation"]["measure"] == "token_sensitivity"
    )
    tables = {**records, "evaluation": records["evaluation"][~no_sensitivity]}
    tables["onsets"] = pd.DataFrame({"share": [0.1]})
    tables["times"] = records["runs"].assign(text="")
    drawing = FIGURES["sensitivity_grokking"]

    def draw(**changed: pd.DataFrame) -> Any:
        return drawing(*({**tables, **changed}[one] for one in drawing.tables), cells=cells, scale="paper")

    figure = draw()
    (panel,) = panels_of(figure)
    assert {mark.get_label(): list(mark.get_xdata()) for mark in with_gid(panel, "onset")} == {
        name: [step] * len(SEEDS) for name, step in at.items()
    }
    for name, step in at.items():
        (line,) = with_gid(panel, f"median {name}")
        assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == {
            one: float(one >= step) for one in line.get_xdata()
        }
    (smooth,) = with_gid(panel, "smoothed")
    delayed = smooth.get_ydata()[list(smooth.get_xdata()).index(1280)]
    assert 0 < delayed < 1
    check_layout(figure, [panel])
    rising = tables["evaluation"].copy()
    one = (rising["measure"] == "test_loss") & (rising["seed"] == 0)
    rising.loc[one, "value"] = 4.0 + rising.loc[one, "step"]  # a loss that never falls does not begin to
    (axes,) = panels_of(draw(evaluation=rising))
    assert {mark.get_label(): len(mark.get_xdata()) for mark in with_gid(axes, "onset")} == {
        name: len(SEEDS) - (name == "test_loss") for name in at
    }
    without = records["evaluation"][records["evaluation"]["measure"] != "token_sensitivity"]
    assert "No run of modular addition has token sensitivity" in texts(draw(evaluation=without))
