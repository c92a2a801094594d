"""Figure 3: which token each row of attention looks at, for a pair of inputs and on average."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from nsbench.config.theory import PatternsExperiment
from nsbench.figures import style
from nsbench.figures import theory_panels as panels
from nsbench.schemas import theory_labels as readings
from nsbench.theory.attention import attention_pattern_stability

MATRICES = ("A_X", "A_Y")
AGREE = "#D55E00"
COLOURS = "Blues"
GUTTER = -0.12
"""Where a row's mark stands, in widths of the right matrix from its edge."""
_MARK: dict[str, Any] = {"marker": "D", "ms": 4.5, "color": AGREE}
_WHAT = (
    "Rows are tokens that attend, columns tokens attended to; W has entries N(0, 1), logits are not scaled. Left: one "
    "pair of inputs. Right: the share of rows whose largest weight is on the same token for X and for Y."
)


def draw(
    curves: pd.DataFrame, points: pd.DataFrame, examples: pd.DataFrame, settings: PatternsExperiment, scale: str
) -> Figure:
    """Left A_X beside A_Y for each number of tokens; right the share of rows that agree, and its error.

    `curves`, `points` and `examples` are of `schemas.theory.CURVES`, SIMULATION and EXAMPLE. Rows
    whose largest weight is on the same token in both matrices are marked and counted, beside the
    count n s(rho) that is to be expected; the error is the simulated share minus s(rho).
    """
    if panels.nothing(curves, points) and examples.empty:
        return style.empty("Figure 3: nothing was computed", scale)
    tokens = {readings.n_tokens(n): n for n in sorted(settings.n_tokens)}
    looks = panels.looks(panels.ordered(panels.every("series", [curves, points, examples]), tokens))
    shown = [name for name in looks if (examples["series"] == name).any()]
    with style.applied():
        figure = Figure(figsize=(10.6 if shown else 6.2, max(2.5 * len(shown), 5.2) + 2.2), layout="constrained")
        sides = figure.add_gridspec(1, 2 if shown else 1, width_ratios=[1.08, 1.0] if shown else [1.0])
        if shown:
            grid = sides[0].subgridspec(len(shown) + 1, 2, height_ratios=[*[1.0] * len(shown), 0.05])
            pairs = [[figure.add_subplot(grid[row, column]) for column in (0, 1)] for row in range(len(shown))]
            for pair, name in zip(pairs, shown, strict=True):
                expected = tokens[name] * float(attention_pattern_stability(settings.shown_rho, tokens[name]))
                title = f"{name}, ρ = {settings.shown_rho:g}"
                image = _pair(pair, examples[examples["series"] == name], title, expected)
            for axes in pairs[-1]:
                axes.set_xlabel("token attended to")
            bar = figure.colorbar(image, figure.add_subplot(grid[-1, :]), orientation="horizontal")
            bar.set_label("attention weight")
            bar.ax.grid(False)
        at = sides[-1].subgridspec(2, 1, height_ratios=[2.0, 1.0])
        top, bottom = (figure.add_subplot(part) for part in at)
        formulas = panels.draw_curves(top, curves, looks)
        panels.draw_points(top, points, looks)
        top.set_ylim(-0.03, 1.04)
        top.set_ylabel("share of rows with the same token")
        _errors(bottom, points, looks, tokens)
        for axes in (top, bottom):
            axes.set_xlim(-0.04, 1.04)
        top.tick_params(labelbottom=False)
        bottom.set_xlabel("correlation ρ of the inputs")
        panels.head(top, readings.PATTERNS_READING, formulas, len(formulas))
        key = panels.series_signs(looks, [top])
        if shown:
            key.append(Line2D([], [], ls="", label="same token in A_X and in A_Y", **_MARK))
        sizes = [f"d = {settings.d_model}", panels.replicates(settings)]
        panels.foot(figure, [_WHAT, panels.POINTS_LINE], sizes, scale, key)
    return figure


def _pair(pair: list[Axes], rows: pd.DataFrame, title: str, expected: float) -> AxesImage:
    """Both attention matrices of one pair; a mark between them at each row that agrees."""
    matrices = [_matrix(rows[rows["matrix"] == name]) for name in MATRICES]
    first, second = (matrix.argmax(axis=1) for matrix in matrices)
    same = np.flatnonzero(first == second)
    n = len(first)
    for axes, matrix, name in zip(pair, matrices, MATRICES, strict=True):
        image = axes.imshow(matrix, cmap=COLOURS, vmin=0.0, vmax=1.0, gid=name, interpolation="nearest")
        axes.grid(False)
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_xticks([0, n - 1])
        axes.set_yticks([0, n - 1])
        axes.set_title(f"\n${name}$", fontsize=9, pad=4, linespacing=1.7)  # the empty line is the pair's title's
        for row in same:
            cell = Rectangle((first[row] - 0.5, row - 0.5), 1, 1, fill=False, ec=AGREE, lw=1.3, gid="same token")
            axes.add_patch(cell)
    pair[0].set_ylabel("token that attends")
    pair[1].tick_params(labelleft=False)
    at = {"transform": pair[1].get_yaxis_transform(), "clip_on": False, "ls": ""}
    if len(same):  # an empty line would count in the layout, as a mark in the figure's corner
        pair[1].plot([GUTTER] * len(same), same, gid="same row", **at, **_MARK)
    # Wider than its panel, which the layout would make room for at the side.
    pair[0].annotate(
        f"{title}: {len(same)} of {n} rows agree, {expected:.1f} expected",
        (0, 1),
        (-2, 17),
        xycoords="axes fraction",
        textcoords="offset points",
        weight="bold",
        fontsize=9,
        gid="pair title",
    ).set_in_layout(False)
    return image


def _matrix(rows: pd.DataFrame) -> NDArray[np.float64]:
    """(row, column) of attention weights."""
    return rows.pivot(index="row", columns="column", values="value").to_numpy(float)


def _errors(axes: Axes, points: pd.DataFrame, looks: dict[str, panels.Look], tokens: dict[str, int]) -> None:
    """Simulated share minus s(rho), with error bars."""
    axes.axhline(0.0, color=panels.INK, lw=1.0, zorder=1.6, gid="zero")
    errors = points.assign(value=np.nan)
    for name, rows in points.groupby("series", sort=False):
        theory = attention_pattern_stability(rows["x"].to_numpy(float), tokens[name])
        errors.loc[rows.index, "value"] = rows["value"].to_numpy(float) - theory
    panels.draw_points(axes, errors, looks)
    axes.set_ylabel("simulation − s(ρ)")
    panels.plain_axis(axes)
