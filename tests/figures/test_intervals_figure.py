"""The figure of noise stability intervals, read back from its artists."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from nsbench.config.theory import IntervalsExperiment
from nsbench.figures import intervals, style
from nsbench.schemas import theory_labels as labels
from nsbench.theory.propagation import network_intervals, random_network
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_theory import interval_curves

SETTINGS = IntervalsExperiment(logit_scales=[0.01, 0.1, 1.0], depth=3)


def tables(settings: IntervalsExperiment = SETTINGS) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bounds as they are, and points midway between the sharp ones."""
    curves = interval_curves(settings, 0)
    rows = []
    for scale in settings.logit_scales:
        network = random_network(settings.depth, settings.d_model, scale, 0)
        for found in network_intervals(network, settings.n_tokens, settings.rho, "sharp"):
            mean = (found.mean_lower + found.mean_upper) / 2
            for quantity, value in (
                ("smallest", (found.lower + mean) / 2 if found.lower else 0.0),
                ("mean", mean),
                ("largest", (found.upper + mean) / 2),
            ):
                rows.append(
                    {
                        "reading": labels.logit_scale(scale),
                        "series": labels.entry_moments(found.part, quantity),
                        "x": float(found.layer),
                        "value": value,
                        "standard_error": 0.01 * value,
                        "n_draws": 50,
                        "n_pairs": 100,
                    }
                )
    return curves, pd.DataFrame(rows)


def drawn(settings: IntervalsExperiment = SETTINGS, scale: str = "paper") -> Figure:
    curves, points = tables(settings)
    return intervals.draw(curves, points, settings, scale)


@pytest.fixture(scope="module")
def figure() -> Figure:
    return drawn()


def line(axes: object, gid: str, method: str) -> np.ndarray:
    (found,) = [artist for artist in with_gid(axes, gid) if artist.get_label() == method]
    return np.asarray(found.get_ydata(), dtype=float)


def test_each_logit_scale_has_its_moments_above_their_tightness(figure: Figure) -> None:
    assert len(shown(figure)) == 6
    for top, bottom in zip(*columns(figure), strict=True):
        for quantity in ("mean", "largest"):
            assert len(with_gid(top, f"simulated {quantity}")) == 1
        for gid, axes in (("bound", top), ("tightness", bottom)):
            for status in ("lower", "upper"):
                assert len(with_gid(axes, f"{gid} {status}")) == 3  # methods
        assert [tick.get_text() for tick in bottom.get_xticklabels()] == ["A1", "R1", "A2", "R2", "A3", "R3"]
        assert (top.get_yscale(), bottom.get_yscale()) == ("log", "log")
    for row in columns(figure):
        assert len({axes.get_ylim() for axes in row}) == 1


def columns(figure: Figure) -> tuple[list[object], list[object]]:
    """Panels of the first row, and of the second."""
    tops = [axes for axes in shown(figure) if with_gid(axes, "bound upper")]
    bottoms = [axes for axes in shown(figure) if with_gid(axes, "tightness upper")]
    assert len(tops) == len(bottoms)
    return tops, bottoms


def test_lines_and_points_are_the_tables_numbers_and_stay_on_the_axis(figure: Figure) -> None:
    points = tables()[1]
    is_mean = points["series"].isin([labels.entry_moments(part, "mean") for part in labels.INTERVAL_PARTS])
    for scale, top, bottom in zip(SETTINGS.logit_scales, *columns(figure), strict=True):
        network = random_network(3, SETTINGS.d_model, scale, 0)
        for method in labels.INTERVAL_METHODS:
            found = network_intervals(network, SETTINGS.n_tokens, SETTINGS.rho, method)
            for name in ("lower", "upper"):
                expected = [getattr(interval, name) for interval in found]
                np.testing.assert_allclose(line(top, f"bound {name}", method), np.clip(expected, *top.get_ylim()))
        means = points.loc[is_mean & (points["reading"] == labels.logit_scale(scale)), "value"].to_numpy()
        (dots,) = with_gid(top, "simulated mean")
        np.testing.assert_allclose(np.asarray(dots.get_ydata(), dtype=float), means)
        sharp = network_intervals(network, SETTINGS.n_tokens, SETTINGS.rho, "sharp")
        for name in ("lower", "upper"):
            ratio = [getattr(interval, f"mean_{name}") / mean for interval, mean in zip(sharp, means, strict=True)]
            np.testing.assert_allclose(line(bottom, f"tightness {name}", "sharp"), np.clip(ratio, *bottom.get_ylim()))


def test_how_far_a_bound_leaves_the_panel_is_told_above_it(figure: Figure) -> None:
    curves, _ = tables()
    tops, _ = columns(figure)
    for scale, top in zip(SETTINGS.logit_scales, tops, strict=True):
        rows = curves[(curves["reading"] == labels.logit_scale(scale)) & (curves["formula"] == "Lemma 12")]
        highest = rows.loc[rows["status"] == "upper", "value"].max()
        if highest <= top.get_ylim()[1]:
            assert "up to" not in texts(top)
        elif math.isinf(highest):
            assert "Lemma 12: up to over 10³⁰⁸" in texts(top)
        else:
            superscript = str(math.floor(math.log10(highest))).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))
            assert f"Lemma 12: up to 10{superscript}" in texts(top) or f"up to {highest:,.0f}" in texts(top)
        assert labels.logit_scale(scale) in texts(top)
        assert "sharper" not in texts(top)
    assert any("up to" in texts(top) for top in tops)


def test_a_dead_unit_is_a_triangle_on_the_edge_that_the_key_explains() -> None:
    curves, points = tables()
    mark = "simulated: 0, a dead unit"
    (points.loc[points["value"] == 0, "value"]) = 1e-3
    assert mark not in texts(intervals.draw(curves, points, SETTINGS, "paper"))
    smallest = points["series"] == labels.entry_moments("MLP", "smallest")
    points.loc[smallest & (points["x"] == 2.0), "value"] = 0.0
    figure = intervals.draw(curves, points, SETTINGS, "paper")
    assert mark in texts(figure)
    for top in columns(figure)[0]:
        (below,) = with_gid(top, "below")
        assert list(below.get_xdata()) == [4]


def test_what_was_simulated_and_the_scale_are_told(figure: Figure) -> None:
    told = " ".join(texts(figure).replace("\u00a0", " ").split())
    assert "n = 4 tokens, d = 4, depth 3, uniform inputs with ρ = 0.5" in told
    assert "50 draws of inputs to one network × 4,000 pairs of inputs" in told
    assert "SCALE" not in told
    assert "DEMO SCALE, not the paper's setting" in texts(drawn(scale="demo"))


@pytest.mark.parametrize(
    "settings",
    [
        IntervalsExperiment(logit_scales=[0.1, 0.2], depth=12),
        IntervalsExperiment(logit_scales=[0.01, 0.03, 0.1, 0.2, 0.3, 1.0], depth=2),
    ],
    ids=["deep", "wrapped"],
)
def test_no_text_lies_over_another_or_is_cut(settings: IntervalsExperiment) -> None:
    figure = drawn(settings)
    with style.applied():
        check_layout(figure, shown(figure))


def test_bounds_without_points_and_points_without_bounds_are_drawn() -> None:
    curves, points = tables()
    for some in ((curves.iloc[:0], points), (curves, points.iloc[:0])):
        figure = intervals.draw(*some, SETTINGS, "demo")
        figure.draw_without_rendering()
        assert len(shown(figure)) == 6
