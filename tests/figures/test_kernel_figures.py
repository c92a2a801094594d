"""Figures of kernels, read back from the artists that they draw."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from nsbench.config.theory import ExperimentSpec, KernelsExperiment
from nsbench.figures import FIGURES, kernels
from nsbench.schemas import theory_labels as labels
from nsbench.simulation.curves import curves, formulas
from nsbench.theory.kernels import conjugate_kernel, cube_spectrum, overlaps, tangent_kernel
from tests.figures.artists import check_layout, shown, texts, with_gid

SETTINGS = KernelsExperiment(n_variables=8, depth=4, kept=0.25)
CURVES = curves(list(formulas(ExperimentSpec(experiment="kernels", seed=0, settings=SETTINGS.model_dump())))).assign(
    experiment="kernels"
)


def points() -> pd.DataFrame:
    """Near the curves of networks."""
    here = CURVES["reading"].isin(labels.SIGN_READINGS.values()) & CURVES["series"].isin(labels.NETWORKS.values())
    return CURVES[here].assign(value=1.1 * CURVES["value"], standard_error=0.02, n_draws=10, n_pairs=20)


@pytest.fixture(scope="module")
def spectrum() -> Figure:
    return FIGURES["kernel_spectrum"](CURVES, settings=SETTINGS, scale="demo")


@pytest.fixture(scope="module")
def sensitivity() -> Figure:
    return FIGURES["kernel_sensitivity"](CURVES, points(), settings=SETTINGS, scale="paper")


def test_every_mass_above_the_floor_is_drawn_once_by_parity(spectrum: Figure) -> None:
    for axes, (reading, title) in zip(shown(spectrum), kernels.PANELS.items(), strict=True):
        assert axes.get_legend().get_title().get_text() == title
        for series, rows in CURVES[CURVES["reading"] == reading].groupby("series"):
            drawn = [line for line in with_gid(axes, "mass") if line.get_label() == series]
            xs = [line.get_xdata() for line in drawn]
            assert all(len(set(x % 2)) == 1 for x in xs)
            seen = dict(pair for line in drawn for pair in line.get_xydata().tolist())
            wanted = rows[rows["value"] > kernels.FLOOR]
            assert seen == dict(zip(wanted["x"], wanted["value"], strict=True))


def test_panels_say_how_often_the_full_order_fails(spectrum: Figure) -> None:
    heads = [axes.get_legend().get_texts()[0].get_text() for axes in shown(spectrum)]
    kernels_of = [(a, kernel) for a in ("relu", "erf") for kernel in (conjugate_kernel, tangent_kernel)]
    for at, (activation, kernel) in enumerate(kernels_of):
        found = [cube_spectrum(kernel(overlaps(8), depth, activation)).eigenvalues for depth in (1, 4)]
        broken = [(np.diff(mu) > 1e-13).sum() for mu in found]
        assert heads[at] == f"μ_k < μ_(k+1): {broken[0]} times (1 layer), {broken[1]} times (4 layers)"
    assert heads[0] != heads[2]
    # Of a spectrum that falls everywhere, and of one that rises once.
    rows = CURVES[CURVES["reading"] == next(iter(kernels.PANELS))]
    one = rows[rows["series"] == "1 layer"].assign(value=[math.comb(8, k) * 0.5**k for k in range(9)])
    other = one.assign(series="4 layers", value=[math.comb(8, k) * (0.5**k if k != 3 else 1.0) for k in range(9)])
    figure = FIGURES["kernel_spectrum"](pd.concat([one, other]), settings=SETTINGS, scale="paper")
    assert "0 times (1 layer), 1 times (4 layers)" in texts(figure)


def test_sensitivity_and_stability_have_lines_and_points(sensitivity: Figure) -> None:
    made = points()
    for axes, reading in zip(shown(sensitivity), labels.SIGN_READINGS.values(), strict=True):
        for series, rows in CURVES[CURVES["reading"] == reading].groupby("series"):
            (line,) = [line for line in with_gid(axes, "curve limit") if line.get_label() == series]
            np.testing.assert_allclose(line.get_xydata(), rows[["x", "value"]])
            dots = [line for line in with_gid(axes, "points") if line.get_label() == series]
            own = made[(made["reading"] == reading) & (made["series"] == series)]
            assert len(dots) == (series in labels.NETWORKS.values())
            for one in dots:
                np.testing.assert_allclose(one.get_xydata(), own[["x", "value"]])
        low, high = axes.get_ylim()
        assert low <= min(made["value"].min(), 0) < CURVES.loc[CURVES["reading"] == reading, "value"].max() <= high
    assert "with 25% of the variables kept" in texts(sensitivity)
    assert "Sizes: n = 8 variables, width 256" in " ".join(texts(sensitivity).split())


def test_series_are_in_a_key_and_nothing_overlaps(spectrum: Figure, sensitivity: Figure) -> None:
    for figure, names in (
        (spectrum, ["1 layer", "2 layers", "4 layers", "even degree", "odd degree"]),
        (sensitivity, [*labels.NETWORKS.values(), *labels.LINEAR_ATTENTION]),
    ):
        entries = [text.get_text() for text in figure.legends[0].get_texts()]
        assert entries == names
        check_layout(figure, shown(figure))


def test_figures_stand_with_one_layer_and_without_points() -> None:
    one = CURVES[(CURVES["x"] == 1) | ~CURVES["reading"].isin(labels.SIGN_READINGS.values())]
    one = one[one["series"].isin(["1 layer", *labels.NETWORKS.values(), *labels.LINEAR_ATTENTION])]
    settings = KernelsExperiment(n_variables=8, depth=1)
    for figure in (
        FIGURES["kernel_spectrum"](one, settings=settings, scale="demo"),
        FIGURES["kernel_sensitivity"](one, points().iloc[:0], settings=settings, scale="demo"),
    ):
        check_layout(figure, shown(figure))
        assert not with_gid(figure, "points")
