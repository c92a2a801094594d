"""What the figures of pretrained models show, read back from the artists that they draw."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nsbench.figures import FIGURES, drawing, figure_07, pretrained_panels
from nsbench.storage.parquet import RecordError
from tests.figures.artists import check_layout, overlaps, shown, texts, with_gid
from tests.synthetic_pretrained import Made, Tables, change, make, spec, write

REASON = "google/gemma-2-2b is gated: accept its terms on its page, then set $HF_TOKEN, or $HF_HOME with a token in it"
CAUSAL = Made(12, 2, remark="dequantised 4-bit", text="an encyclopedia")
ENCODER = Made(6, 12, "encoder", n_special=2, text="an encyclopedia")
GATED = Made(6, 2, paper="gemma", reason=REASON)
OURS = Made(0, 0, source="checkpoint", remark="a checkpoint of ours, of a task without a text", text="")
THREE = {"causal": CAUSAL, "encoder": ENCODER, "gated": GATED}
SEVEN = {
    "a": Made(6, 2, paper="gpt2"),
    "b": Made(6, 2, "masked", paper="bert", n_special=2),
    "c": Made(4, 2, "masked", n_special=2),
    **THREE,
    "ours": OURS,
}
MODULES = ("figure_01", "figure_07", "figure_08")


def figure_of(name: str, tables: Tables, models: Any, scale: str = "demo", **figures: str) -> Figure:
    one = FIGURES[name]
    given = {table: getattr(tables, table) for table in one.tables}
    return one(**given, spec=spec(models, scale, **figures), **one.options)


@pytest.fixture(scope="module")
def three() -> Tables:
    return make(THREE)


@pytest.fixture(scope="module")
def seven() -> Tables:
    return make(SEVEN)


@pytest.fixture(scope="module")
def drawn(three: Tables) -> dict[str, Figure]:
    return {name: figure_of(name, three, THREE) for name in MODULES}


@pytest.fixture(scope="module")
def drawn_seven(seven: Tables) -> dict[str, Figure]:
    return {name: figure_of(name, seven, SEVEN) for name in MODULES}


def flat(place: Any) -> str:
    """All text of a figure or panel, on one line."""
    return " ".join(texts(place).split())


def panels_of(figure: Figure, model: str) -> list[Axes]:
    """The panels from the one with this model's name above it to the next model's."""
    found, inside = [], False
    places = {axes: axes.get_subplotspec().get_topmost_subplotspec() for axes in shown(figure)}
    for axes in sorted(places, key=lambda axes: (places[axes].colspan.start, places[axes].rowspan.start)):
        name = axes.get_legend().get_title().get_text() if axes.get_legend() else ""
        if name in SEVEN:
            inside = name == model
        if inside:
            found.append(axes)
    return found


def values(tables: Tables, model: str, weights: str = "pretrained", **where: Any) -> pd.DataFrame:
    """Influences of one case, by position where it is of one site."""
    own = {"readout": "pooled_norm" if model == "encoder" else "mean_top_logit", "inputs": "text", "norm": "l1"}
    rows = tables.influence
    for column, value in ({"model": model, "weights": weights, "site": "embeddings"} | own | where).items():
        rows = rows[rows[column] == value]
    assert len(rows)
    return rows


def share(rows: pd.DataFrame) -> np.ndarray:
    return (rows["value"] / rows["value"].sum()).to_numpy()


# --- figure 1 and figure 8: shares -----------------------------------------------------------------


def check_shares(axes: Axes, rows: dict[str, pd.DataFrame]) -> None:
    """Each weights' shares are on a line with a band of 2 standard errors, its ends marked."""
    assert axes.get_yscale() == "log"
    (threshold,) = with_gid(axes, "threshold")
    assert set(threshold.get_ydata()) == {0.1}
    for weights, table in rows.items():
        expected, total = share(table), table["value"].sum()
        (line,) = with_gid(axes, f"shares {weights}")
        np.testing.assert_allclose(line.get_xydata(), np.column_stack([np.arange(len(expected)), expected]))
        (ends,) = with_gid(axes, f"ends {weights}")
        np.testing.assert_allclose(ends.get_xydata(), line.get_xydata()[[0, -1]])
        (band,) = with_gid(axes, f"band {weights}")
        edge = expected + 2 * table["standard_error"].to_numpy() / total
        assert band.get_paths()[0].vertices[:, 1].max() == pytest.approx(edge.max())
        assert line.get_color() == ends.get_color() == pretrained_panels.COLOURS[weights]
    own, control = (with_gid(axes, f"shares {weights}")[0] for weights in ("pretrained", "random"))
    assert own.get_zorder() > control.get_zorder()


def test_figure_1_shows_each_model_s_shares_before_its_random_copy(three: Tables, drawn: dict[str, Figure]) -> None:
    for model in ("causal", "encoder"):
        (axes,) = panels_of(drawn["figure_01"], model)
        rows = {weights: values(three, model, weights) for weights in ("pretrained", "random")}
        check_shares(axes, rows)
        for weights, name in (("pretrained", "pretrained"), ("random", "random copy")):
            shares = np.sort(share(rows[weights]))[::-1]
            n_large, n_half = (shares >= 0.1).sum(), 1 + (shares.cumsum() < 0.5).sum()
            order = (-share(rows[weights])).argsort().argsort() + 1
            told = f"{name}: {n_large} ≥ 0.1, {n_half} hold half; ends rank {order[0]}, {order[-1]}"
            assert told in flat(axes)


def test_all_panels_have_one_axis_of_shares(drawn_seven: dict[str, Figure]) -> None:
    for name in ("figure_01", "figure_08"):
        panels_ = [axes for axes in shown(drawn_seven[name]) if with_gid(axes, "threshold")]
        assert len(panels_) == {"figure_01": 6, "figure_08": 10}[name]
        (limits,) = {axes.get_ylim() for axes in panels_}
        lines = [line for axes in panels_ for line in axes.lines if (line.get_gid() or "").startswith("shares")]
        assert limits[0] < min(line.get_ydata().min() for line in lines)
        assert limits[1] > max(line.get_ydata().max() for line in lines)
        assert limits[0] < 0.1 < limits[1]


def test_figure_8_shows_two_heads_of_each_model(three: Tables, drawn: dict[str, Figure]) -> None:
    for model, layers in (("causal", (0, 6)), ("encoder", (0, 3))):
        found = panels_of(drawn["figure_08"], model)
        assert len(found) == 2
        for axes, layer in zip(found, layers, strict=True):
            assert f"layer {layer}, head 0" in flat(axes)
            at = {"site": "head", "layer": layer, "head": 0}
            rows = {weights: values(three, model, weights, **at) for weights in ("pretrained", "random")}
            check_shares(axes, rows)
            n_half = 1 + (np.sort(share(rows["pretrained"]))[::-1].cumsum() < 0.5).sum()
            assert f"{n_half} hold half" in flat(axes)


def test_a_position_without_influence_is_on_the_edge_and_counted(three: Tables) -> None:
    influence = three.influence.copy()
    at = (influence["model"] == "causal") & (influence["site"] == "embeddings") & influence["position"].isin([0, 7])
    influence.loc[at & (influence["weights"] == "pretrained"), "value"] = 0.0
    concentration = three.concentration.copy()
    concentration.loc[concentration["model"] == "causal", "n_zero"] = 2.0
    figure = figure_of("figure_01", three._replace(influence=influence, concentration=concentration), THREE)
    (axes,) = panels_of(figure, "causal")
    (marks,) = with_gid(axes, "below pretrained")
    assert (list(marks.get_xdata()), set(marks.get_ydata())) == ([0, 7], {0.0})
    assert not with_gid(axes, "below random")
    assert np.isnan(with_gid(axes, "shares pretrained")[0].get_ydata()).sum() == 2
    assert "hold half, 2 have none" in flat(axes)
    assert min(axes.get_ylim()) > 1e-5


# --- figure 7: maps --------------------------------------------------------------------------------


def test_figure_7_shows_layers_relative_to_the_embeddings(three: Tables, drawn: dict[str, Figure]) -> None:
    model = "causal"
    found = panels_of(drawn["figure_07"], model)
    limits, highest = set(), -np.inf
    for weights in ("pretrained", "random"):
        at = values(three, model, weights)
        layers = values(three, model, weights, site="layer").pivot(index="layer", columns="position", values="value")
        expected = np.vstack([at["value"], layers.to_numpy()]) / at["value"].sum()
        (image,) = [image for axes in found for image in with_gid(axes, f"map {weights}")]
        np.testing.assert_allclose(image.get_array(), np.log10(expected))
        assert image.origin == "lower"
        limits.add(image.get_clim())
        highest = max(highest, image.get_array().max())
        (line,) = [line for axes in found for line in with_gid(axes, f"totals {weights}")]
        np.testing.assert_allclose(line.get_xdata(), expected.sum(1))
        assert line.get_xdata()[0] == pytest.approx(1.0)
        np.testing.assert_array_equal(line.get_ydata(), np.arange(len(expected)))
    assert len(limits) == 1, "a model and its random copy have one scale of colours"
    assert limits.pop()[1] == pytest.approx(highest)
    labels = [label.get_text() for label in found[0].get_yticklabels()]
    assert (labels[:2], labels[-1]) == (["emb.", "0"], str(THREE[model].n_layers - 1))


def test_figure_7_shows_a_layer_without_influence_in_grey(three: Tables) -> None:
    tables = change(three, 0.0, model="encoder", weights="pretrained", site="layer", layer=2)
    figure = figure_of("figure_07", tables, ["encoder"])
    (image,) = with_gid(figure, "map pretrained")
    assert image.get_array().mask.all(axis=1).tolist() == [False, False, False, True, False, False, False]
    assert matplotlib.colors.to_hex(image.get_cmap().get_bad()) == figure_07.ZERO.lower()
    check_layout(figure, shown(figure))


def test_a_scale_of_colours_reaches_down_four_decades_at_most(three: Tables) -> None:
    tables = change(three, 1e-12, model="encoder", weights="pretrained", site="layer", layer=2)
    (image,) = with_gid(figure_of("figure_07", tables, ["encoder"]), "map pretrained")
    low, high = image.get_clim()
    assert high - low == pytest.approx(4.0)


# --- what cannot be shown --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_a_model_that_cannot_be_had_has_a_panel_with_its_name_and_why(drawn: dict[str, Figure], name: str) -> None:
    (axes,) = panels_of(drawn[name], "gated")
    assert "the paper's Gemma" in flat(axes)
    (notice,) = with_gid(axes, "notice")
    assert " ".join(notice.get_text().split()) == f"unavailable: {REASON}"
    assert not notice.get_parse_math()
    assert not axes.lines


@pytest.mark.parametrize("name", ["figure_07", "figure_08"])
def test_a_long_reason_stays_in_its_panel(name: str) -> None:
    made = {"gated": GATED._replace(reason="because " * 300), "encoder": ENCODER}
    figure = figure_of(name, make(made), made)
    (axes,) = panels_of(figure, "gated")
    figure.draw_without_rendering()
    extent, inside = with_gid(axes, "notice")[0].get_window_extent(), axes.get_window_extent()
    assert inside.x0 <= extent.x0 < extent.x1 <= inside.x1
    assert inside.y0 <= extent.y0 < extent.y1 <= inside.y1


@pytest.mark.parametrize("name", MODULES)
def test_a_readout_that_a_model_has_not_is_replaced_or_told(three: Tables, drawn: dict[str, Figure], name: str) -> None:
    heads = {model: flat(panels_of(drawn[name], model)[0]) for model in ("causal", "encoder")}
    assert "readout: mean over positions of the largest logit" in heads["causal"]
    assert "readout: norm of the mean hidden state" in heads["encoder"]
    figure = figure_of(name, three, THREE, readout="top_logit_last", fallback="cross_entropy")
    (axes,) = panels_of(figure, "encoder")
    assert flat(with_gid(axes, "notice")[0]) == "not applicable: encoder has no language-model head, so no logits"
    assert "readout: largest logit at the last position" in flat(panels_of(figure, "causal")[0])


@pytest.mark.parametrize(("name", "text"), [("figure_07", "no layers"), ("figure_08", "no heads")])
def test_a_model_without_layers_says_so(drawn_seven: dict[str, Figure], name: str, text: str) -> None:
    (axes,) = panels_of(drawn_seven[name], "ours")
    assert text in flat(with_gid(axes, "notice")[0])
    assert panels_of(drawn_seven["figure_01"], "ours")[0].lines


def test_a_long_remark_is_cut(three: Tables) -> None:
    models = three.models.assign(remark="what its loading found, " * 60)
    figure = figure_of("figure_01", three._replace(models=models), ["causal", "encoder", "a"])
    head = panels_of(figure, "causal")[0].get_legend()
    assert flat(head).count("…") == 1
    assert "hold half" in flat(head)
    check_layout(figure, shown(figure))


@pytest.mark.parametrize("name", MODULES)
def test_figures_stand_without_a_control(name: str) -> None:
    made = {"encoder": ENCODER._replace(weights=("pretrained",)), "a": Made(2, 4)}
    figure = figure_of(name, make(made), made)
    alone = panels_of(figure, "encoder")
    assert "no control" in flat(alone[-2]) if name == "figure_07" else "random copy" not in flat(alone[0])
    assert not [axes for axes in alone for gid in ("shares random", "map random") if with_gid(axes, gid)]


@pytest.mark.parametrize("name", ["figure_01", "figure_07"])
@pytest.mark.parametrize("weights", ["pretrained", "random"])
def test_weights_without_any_influence_are_told(three: Tables, name: str, weights: str) -> None:
    figure = figure_of(name, change(three, 0.0, model="causal", weights=weights), ["causal"])
    told = " ".join(flat(axes) for axes in panels_of(figure, "causal"))
    assert "no influence" in told
    line = {"pretrained": "random", "random": "pretrained"}[weights]
    if name != "figure_07":
        assert f"{pretrained_panels.NAMES[weights]}: no influence at any position" in told
        assert with_gid(panels_of(figure, "causal")[0], f"shares {line}")


# --- the whole -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_the_footer_tells_the_case_the_text_and_the_scale(
    three: Tables, drawn: dict[str, Figure], drawn_seven: dict[str, Figure], name: str
) -> None:
    demo, paper = flat(drawn[name].texts[0]), flat(figure_of(name, three, ["gated", "encoder"], "paper").texts[0])
    for footer in (demo, paper):
        assert "Readout: mean over positions of the largest logit (of a model that has it not: norm of" in footer
        assert "Norm: L1 norm of the gradient. Inputs: text." in footer
        assert "Text: an encyclopedia." in footer
    assert "Special tokens in each sequence of text – causal: 0; encoder: 2." in demo
    assert demo.endswith("DEMO SCALE, not the paper's setting: 32 tokens a sequence, 8 sequences.")
    assert paper.endswith("Sizes: 32 tokens a sequence, 8 sequences.")
    if name == "figure_01":
        assert "Text: an encyclopedia (causal, encoder)." in flat(drawn_seven[name].texts[0])
    other = flat(figure_of(name, three, ["causal"], norm="squared_l2", inputs="uniform").texts[0])
    assert "Norm: squared L2 norm of the gradient. Inputs: token ids drawn uniformly." in other
    assert "Text:" not in other


@pytest.mark.parametrize("name", MODULES)
def test_a_figure_shows_the_norm_and_inputs_that_the_spec_names(three: Tables, name: str) -> None:
    figure = figure_of(name, three, ["causal"], norm="squared_l2", inputs="uniform", readout="top_logit_last")
    site = {"site": "head", "layer": 0} if name == "figure_08" else {}
    rows = values(three, "causal", norm="squared_l2", inputs="uniform", readout="top_logit_last", **site)
    if name == "figure_07":
        (image,) = with_gid(figure, "map pretrained")
        np.testing.assert_allclose(10 ** image.get_array()[0], share(rows))
    else:
        np.testing.assert_allclose(with_gid(figure, "shares pretrained")[0].get_ydata(), share(rows))


@pytest.mark.parametrize("name", MODULES)
def test_nothing_lies_over_another_or_outside(drawn_seven: dict[str, Figure], name: str) -> None:
    figure = drawn_seven[name]
    check_layout(figure, shown(figure))
    heads = [axes.get_legend() for axes in shown(figure) if axes.get_legend()]
    for place, head in enumerate(heads):
        assert head.get_window_extent().x0 >= 0
        others = [*heads[place + 1 :], *(axes for axes in shown(figure) if axes is not head.axes)]
        assert not [other for other in others if overlaps(head, other)]


@pytest.mark.parametrize("name", MODULES)
def test_figures_stand_with_the_shortest_sequences(name: str) -> None:
    figure = figure_of(name, make({"a": Made(1, 1)}, n_tokens=4, n_sequences=2), ["a"])
    assert [label.get_text() for label in shown(figure)[0].get_xticklabels()] == ["0", "1", "2", "3"]
    assert ("no second head" in flat(figure)) == (name == "figure_08")
    check_layout(figure, shown(figure))


def test_rendering_reads_the_tables_that_a_figure_needs(three: Tables, tmp_path: Path) -> None:
    write(three, tmp_path / "tables")
    out = tmp_path / "a.png", tmp_path / "a.pdf"
    (tmp_path / "tables" / "concentration.parquet").unlink()
    drawing.render("figure_07", tmp_path, spec(THREE), *out)
    assert out[0].read_bytes()[:4] == b"\x89PNG"
    assert out[1].read_bytes()[:4] == b"%PDF"
    with pytest.raises(RecordError, match="concentration"):
        drawing.render("figure_01", tmp_path, spec(THREE), *out)
