"""Second moments by layer on a logarithmic axis, a panel for each reading: what Figures 4a and 10 share."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from nsbench.figures import style
from nsbench.figures import theory_panels as panels


def row_of_panels(count: int, max_columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels side by side, wrapped where there are many, that share both axes."""
    n_rows, n_columns, places = style.blocks(count, 1, max_columns)
    figure = Figure(figsize=(max(2.95 * n_columns, 6.2), 3.7 * n_rows + 1.9), layout="constrained")
    grid = figure.subplots(n_rows, n_columns, squeeze=False, sharex=True, sharey=True)
    for axes in grid.flat[count:]:
        axes.set_axis_off()
    return figure, [grid[row, column] for [(row, column)] in places]


def fill_log_row(
    row: list[Axes],
    names: list[str],
    series: dict[str, panels.Look],
    tables: tuple[pd.DataFrame, pd.DataFrame],
    depth: int,
) -> list[Line2D]:
    """Curves and points by layer, a panel for each reading in `names`, on a logarithmic axis; returns the key.

    `tables` are CURVES and SIMULATION.
    """
    found, below = [], False
    low, high = log_limits(*tables)
    for axes, name in zip(row, names, strict=True):
        curves, points = (table[table["reading"] == name] for table in tables)
        axes.set_yscale("log", nonpositive="clip")
        found.append(panels.draw_curves(axes, curves, series, log=True))
        below |= panels.draw_points(axes, points, series, low)
        panels.layer_axis(axes, depth)
    row[0].set_ylim(low, high)
    common, others = panels.split(found)
    for axes, name, formulas in zip(row, names, others, strict=True):
        log_axis(axes)
        panels.head(axes, name, formulas, max(len(some) for some in others))
    key = [*panels.series_signs(series, row), *panels.formula_signs(common)]
    if below:
        key.append(
            Line2D([], [], color=style.MUTED, ls="", marker="v", ms=6, label="mean below the axis, or not above 0")
        )
    return key


def log_limits(curves: pd.DataFrame, points: pd.DataFrame) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds the positive values of CURVES, and those of SIMULATION that
    noise alone would not give."""
    sure = points[points["value"] > panels.BARS * points["standard_error"]]
    values = np.concatenate([table["value"].to_numpy(float) for table in (curves, sure)])
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive):
        return 0.1, 1.0
    low, high = float(positive.min()), float(positive.max())
    room = max((high / low) ** 0.06, 1.25)
    return low / room, high * room


def log_axis(axes: Axes) -> None:
    """As `style.log_axis`, with small numbers as powers of ten."""
    style.log_axis(axes)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _plain_or_power(value)))


def _plain_or_power(value: float) -> str:
    exponent = round(math.log10(value))
    if value >= 0.0005 or not math.isclose(value, 10.0**exponent):
        return f"{value:g}"
    return "10" + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
