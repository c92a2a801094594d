"""What the figures of the gradient's share and of Fourier weight show, read back from the artists that they draw."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsbench.analysis import statistics
from nsbench.figures import fourier_weight, gradient_share, style
from nsbench.schemas.analysis import SELECTION
from tests.figures.artists import check_layout, shown, texts, with_gid
from tests.synthetic_records import make_cells, make_records

STEPS = (0, 500, 1000, 1500)
CELLS = make_cells("sparse_parity", variants=("a",), seeds=(0, 1), budget=1500)
NONE = pd.DataFrame(columns=SELECTION.names)


def times() -> pd.DataFrame:
    records = make_records(CELLS)
    return statistics.time_to_target(records["history"], records["runs"], CELLS)


def rows(measure: str, values: dict[tuple[str, float, float], list[float]]) -> pd.DataFrame:
    """(reduction, rho, correlation) -> values by step; a tenth more for seed 1."""
    found: list[dict[str, Any]] = []
    for cell in CELLS:
        for seed in (0, 1):
            run = {"task": "sparse_parity", "variant": "a", "arm": cell["arm"], "seed": seed, "measure": measure}
            for (reduction, rho, correlation), of_step in values.items():
                for step, value in zip(STEPS, of_step, strict=True):
                    row = {**run, "reduction": reduction, "rho": rho, "correlation": correlation}
                    found.append({**row, "step": step, "value": value * (1 + 0.1 * seed)})
    return pd.DataFrame(found)


def test_the_share_is_gamma_times_the_ratio_at_the_arm_s_rho() -> None:
    arm = next(cell["arm_settings"] for cell in CELLS if cell["arm_settings"]["kind"] == "noise_stability")
    ratio, cosine = [1.0, 0.1, 0.2, 0.4], [-1.0, 0.0, 0.5, 0.9]
    table = rows(
        "regularizer_gradient",
        {
            ("norm_ratio", arm["rho"], 0.5): ratio,
            ("cosine", arm["rho"], 0.5): cosine,
            ("norm_ratio", 0.9, 0.95): [7.0] * 4,
            ("cosine", 0.9, 0.95): [0.7] * 4,
        },
    )
    figure = gradient_share.draw(table, times(), NONE, CELLS, "demo")
    above, below = shown(figure)
    median = with_gid(above, "median")[0]
    np.testing.assert_allclose(median.get_ydata(), 1.05 * arm["gamma"] * np.array(ratio))
    np.testing.assert_allclose(with_gid(below, "median")[0].get_ydata(), 1.05 * np.array(cosine))
    assert len(with_gid(above, "seed")) == 2 * len(with_gid(above, "median"))
    low, high = above.get_ylim()
    assert low < 0.1 * arm["gamma"] < 1 < high
    assert f"ρ = {arm['rho']:g}, γ = {arm['gamma']:g}" in texts(figure)
    check_layout(figure, shown(figure))


def test_fourier_weight_has_a_colour_a_degree_and_the_bounds_of_the_last_step() -> None:
    weights = {
        ("degree_0", math.nan, math.nan): [0.9, 0.5, 0.1, 0.05],
        ("degree_2", math.nan, math.nan): [0.0, 0.2, 0.6, 0.64],
        ("tail_1", math.nan, math.nan): [0.1, 0.3, 0.9, 0.9],
        ("tail_2", math.nan, math.nan): [0.1, 0.3, 0.8, 0.85],
        ("influence_bound_1", math.nan, math.nan): [2.0, 2.0, 2.0, 1.8],
        ("influence_bound_2", math.nan, math.nan): [2.0, 2.0, 2.0, 0.9],
        ("stability_bound_1", 0.5, 0.75): [2.0, 2.0, 2.0, 1.6],
        ("stability_bound_2", 0.5, 0.75): [2.0, 2.0, 2.0, 0.95],
        ("stability_bound_2", 0.05, 0.525): [2.0, 2.0, 2.0, 0.1],
    }
    figure = fourier_weight.draw(rows("fourier_weight", weights), times(), NONE, CELLS, "demo")
    baseline, arm, tails = shown(figure)
    for axes in (baseline, arm):
        (line,) = with_gid(axes, "degree 2")
        np.testing.assert_allclose(line.get_ydata(), 1.05 * np.array(weights["degree_2", math.nan, math.nan]))
        assert line.get_color() == fourier_weight.COLOURS[2]
        assert not with_gid(axes, "degree 1")
    drawn = {name: with_gid(tails, name)[0] for name in fourier_weight.BOUNDS}
    assert {name: list(line.get_xdata()) for name, line in drawn.items()} == {name: [1, 2] for name in drawn}
    assert drawn["tail"].get_ydata() == pytest.approx([1.05 * 0.9, 1.05 * 0.85])
    assert drawn["influence_bound"].get_ydata() == pytest.approx([1, 1.05 * 0.9])  # above 1: on the edge
    assert drawn["stability_bound"].get_ydata() == pytest.approx([1, 1.05 * 0.95])
    assert style.arm_text(CELLS[0]) in texts(figure)
    check_layout(figure, shown(figure))
