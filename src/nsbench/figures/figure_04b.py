"""Figure 4b: the recurrence of Equation 5 beside its linear form and its corrected forms."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.config.theory import RecurrenceExperiment
from nsbench.figures import style
from nsbench.figures import theory_panels as panels
from nsbench.schemas import theory_labels as readings
from nsbench.theory.recurrences import ffn_fixed_point

CLOSE = ("published", "linear")
"""Kinds whose fixed points are so close that the lower row shows them enlarged."""
ROOM = 1.5
"""The lower row reaches this many distances of the two fixed points beyond them."""
_WHAT = (
    "Thin lines are the attracting fixed points, with their values. Equation 5 takes the second moment of a layer's "
    "outputs for their correlation; the two corrected maps are those of their cosine similarity and of their Pearson "
    "correlation, with points from random ReLU networks."
)


def draw(
    curves: pd.DataFrame, points: pd.DataFrame, examples: pd.DataFrame, settings: RecurrenceExperiment, scale: str
) -> Figure:
    """A column per start rho; all recurrences above, those with close fixed points enlarged below.

    `curves` and `points` are of `schemas.theory.CURVES` and SIMULATION; `examples` is not used.
    """
    if panels.nothing(curves, points):
        return style.empty("Figure 4b: nothing was computed", scale)
    tables = [curves, points]
    names = panels.ordered(panels.every("reading", tables), [readings.correlation(rho) for rho in sorted(settings.rho)])
    kinds = readings.RECURRENCE_KINDS
    looks = panels.looks(list(kinds.values()), panels.CATEGORY_COLOURS)
    found = panels.every("series", tables)
    looks = {name: look for name, look in looks.items() if name in found}
    fixed = {kind: ffn_fixed_point(kind) for kind, name in kinds.items() if name in looks}
    enlarged = all(kind in fixed for kind in CLOSE)
    with style.applied():
        figure = Figure(figsize=(max(3.7 * len(names), 6.2), 3.1 + 2.0 * enlarged + 1.9), layout="constrained")
        grid = figure.subplots(
            1 + enlarged,
            len(names),
            squeeze=False,
            sharex=True,
            sharey="row",
            height_ratios=[1.7, 1.0] if enlarged else [1.0],
        )
        close = {kinds[kind]: looks[kinds[kind]] for kind in CLOSE if kind in fixed}
        for row, drawn in zip(grid, (looks, close), strict=False):
            for axes, name in zip(row, names, strict=True):
                panels.draw_curves(axes, curves[curves["reading"] == name], drawn)
                panels.draw_points(axes, points[points["reading"] == name], drawn)
                panels.layer_axis(axes, settings.depth)
        for axes, name in zip(grid[0], names, strict=True):
            panels.head(axes, f"start: {name}", [], 0)
        _fixed_points(grid[0], fixed, looks, close=not enlarged)
        grid[0][0].set_ylabel("correlation or second moment")
        if enlarged:
            ends = sorted(fixed[kind] for kind in CLOSE)
            room = ROOM * (ends[1] - ends[0])
            grid[1][0].set_ylim(ends[0] - room, ends[1] + room)
            _fixed_points(grid[1], {kind: fixed[kind] for kind in CLOSE}, looks, close=True)
            grid[1][0].set_ylabel("the same, enlarged")
        for axes in grid[-1]:
            axes.set_xlabel("layers passed")
        sizes = [f"width {settings.width}", f"depth {settings.depth}", panels.replicates(settings)]
        panels.foot(figure, [_WHAT, panels.POINTS_LINE], sizes, scale, _key(curves, looks, grid[0]))
    return figure


def _fixed_points(row: list[Axes], fixed: dict[str, float], looks: dict[str, panels.Look], close: bool) -> None:
    """Thin lines across all panels of a row, with their values at its right end; `close` ones only where told."""
    for kind, value in fixed.items():
        colour = looks[readings.RECURRENCE_KINDS[kind]].colour
        for axes in row:
            axes.axhline(value, color=colour, lw=0.8, alpha=0.7, zorder=1.5, gid=f"fixed point {kind}")
        if close or kind not in CLOSE:
            row[-1].annotate(
                f"{value:.4g}",
                (1, value),
                (4, 0),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                va="center",
                color=colour,
                fontsize=8,
                gid="value",
            )


def _key(curves: pd.DataFrame, looks: dict[str, panels.Look], row: list[Axes]) -> list[Line2D]:
    """Every series with its formula, for they differ from series to series."""
    signs = panels.series_signs(looks, row)
    for name, sign in zip(looks, signs, strict=True):
        formulas = curves.loc[curves["series"] == name, ["formula", "status"]].drop_duplicates()
        for formula, status in formulas.itertuples(index=False):
            sign.set(label=f"{name}: {panels.formula_text(formula, status)}", **panels.STROKES[status])
    return signs
