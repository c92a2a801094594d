"""Noise stability intervals: bounds on second moments, layer by layer, beside what is simulated."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nsbench.config.theory import IntervalsExperiment
from nsbench.figures import curves as house
from nsbench.figures import style
from nsbench.figures import theory_panels as panels
from nsbench.schemas import theory_labels as readings

LOOKS = {
    "lemma": {"color": "#D55E00", "ls": (0, (5, 1.6)), "marker": "D", "ms": 3.2},
    "range": {"color": "#6B6B6B", "ls": (0, (1, 1.1)), "marker": "s", "ms": 3.2},
    "sharp": {"color": "#0072B2", "ls": "-", "marker": "o", "ms": 3.2},
}
"""Method -> how its bounds are drawn."""
MOMENT_MARKERS = {"largest": "^", "mean": "o", "smallest": "v"}
ROOM = 12.0
"""How far beyond the simulated values the first row reaches, as a factor."""
TIGHTNESS = (1 / 40, 40.0)
"""Ends of the second row's axis, of bound / simulated."""
ENDS = {"lower": "smallest", "upper": "largest"}
"""Bound -> the simulated moment that it is on."""

_WHAT = (
    "A layer is attention (A), then a ReLU layer (R). Above: second moments E[H(X)_ij H(Y)_i'j'] of all pairs of "
    "entries, and bounds on the smallest and the largest. Below: bounds on the mean moment of an entry with itself, "
    "divided by its simulated value: 1 is tight. "
)
_METHODS = (
    "Lemma 12 with the largest row sum as its norm and values of one sign, as its proof needs; its step through a "
    "ReLU, which the paper's Lemma 11 cannot make, is ours. Ranges alone: products of almost sure ranges. Sharper "
    "bounds: moments about a centre, with bounds on attention weights from the ranges of logits. A bound beyond the "
    "axis is drawn on its edge: below, those are 0 or next to it."
)


def draw(
    curves: pd.DataFrame, points: pd.DataFrame, examples: pd.DataFrame, settings: IntervalsExperiment, scale: str
) -> Figure:
    """A column per logit scale: moments with their bounds above, the tightness of the mean's bounds below.

    `curves` and `points` are of `schemas.theory.CURVES` and SIMULATION; `examples` is not used. Axes are
    logarithmic and alike in all columns; a bound outside is drawn on the edge, and above the panel stands
    how far upper ones go. A simulated moment that is not positive is a triangle on the lower edge.
    """
    if panels.nothing(curves, points):
        return style.empty("Noise stability intervals: nothing was computed", scale)
    names = panels.ordered(
        panels.every("reading", [curves, points]), [readings.logit_scale(s) for s in settings.logit_scales]
    )
    curves, points = _placed(curves), _placed(points)
    n_rows, n_columns, places = style.blocks(len(names), 2, max_columns=5)
    with style.applied():
        figure = Figure(figsize=(max(2.45 * n_columns, 6.6), 2.95 * n_rows + 2.0), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False, sharey="row")
        for axes in grid.flat:
            axes.set_axis_off()
        limits = _limits(points)
        below = False
        for name, ((row, column), (next_row, _)) in zip(names, places, strict=True):
            bounds, simulated = (table[table["reading"] == name] for table in (curves, points))
            top, bottom = grid[row, column], grid[next_row, column]
            below |= _moments(top, bounds, simulated, limits)
            _tightness(bottom, bounds, simulated)
            for axes in (top, bottom):
                axes.set_axis_on()
                _place_axis(axes, settings.depth)
            house.header(top, name, [], [Line2D([], [], ls="", label=_beyond(bounds, limits))])
            if column == 0:
                top.set_ylabel("E[H(X) H(Y)] of entries")
                bottom.set_ylabel("bound / simulated,\nmean of an entry with itself")
            bottom.set_xlabel("after A or R of layer")
        sizes = [
            f"n = {settings.n_tokens} tokens",
            f"d = {settings.d_model}",
            f"depth {settings.depth}",
            f"uniform inputs with ρ = {settings.rho:g}",
            panels.replicates(settings, "of inputs to one network"),
        ]
        panels.foot(figure, [_WHAT + _METHODS, panels.POINTS_LINE], sizes, scale, _key(below))
    return figure


def _placed(table: pd.DataFrame) -> pd.DataFrame:
    """The table with each row's part and quantity, and its place among all parts of all layers, from 1."""
    series = {
        readings.entry_moments(part, quantity): (part, quantity)
        for part in readings.INTERVAL_PARTS
        for quantity in readings.INTERVAL_QUANTITIES
    }
    parts = list(readings.INTERVAL_PARTS)
    named = [series[name] for name in table["series"]]
    return table.assign(
        quantity=[quantity for _, quantity in named],
        place=[
            len(parts) * (layer - 1) + parts.index(part) + 1 for layer, (part, _) in zip(table["x"], named, strict=True)
        ],
    )


def _limits(points: pd.DataFrame) -> tuple[float, float]:
    """The first row's axis: all positive simulated values, with room for bounds."""
    positive = points.loc[points["value"] > 0, "value"]
    return (float(positive.min()) / ROOM, float(positive.max()) * ROOM) if len(positive) else (0.01, 10.0)


def _moments(axes: Axes, bounds: pd.DataFrame, simulated: pd.DataFrame, limits: tuple[float, float]) -> bool:
    """Simulated moments with error bars and the bounds on their ends; returns whether one is not positive."""
    axes.set_yscale("log")
    axes.set_ylim(limits)
    for status, quantity in ENDS.items():
        rows = bounds[(bounds["status"] == status) & (bounds["quantity"] == quantity)]
        _lines(axes, rows, rows["value"], limits, f"bound {status}")
    below = False
    for quantity, marker in MOMENT_MARKERS.items():
        rows = simulated[simulated["quantity"] == quantity].sort_values("place")
        inside = rows[rows["value"] > 0]
        dots, _, bars = axes.errorbar(
            inside["place"],
            inside["value"],
            yerr=panels.BARS * inside["standard_error"],
            color=panels.INK,
            ls="",
            marker=marker,
            ms=4,
            mfc=panels.INK if quantity == "mean" else "white",
            elinewidth=1,
            capsize=2,
            zorder=4,
        )
        dots.set(gid=f"simulated {quantity}")
        bars[0].set_gid("bars")
        zero = rows[rows["value"] <= 0]
        if len(zero):
            at = {"transform": axes.get_xaxis_transform(), "clip_on": False, "ls": "", "zorder": 5}
            axes.plot(zero["place"], [0.0] * len(zero), marker="v", ms=5, color=panels.INK, gid="below", **at)
            below = True
    style.log_axis(axes)
    return below


def _tightness(axes: Axes, bounds: pd.DataFrame, simulated: pd.DataFrame) -> None:
    """Bounds on the mean moment over its simulated value."""
    axes.set_yscale("log")
    axes.set_ylim(TIGHTNESS)
    axes.axhline(1, color=panels.INK, lw=0.9, gid="tight")
    mean = simulated[simulated["quantity"] == "mean"].set_index("place")["value"]
    for status in ENDS:
        rows = bounds[(bounds["status"] == status) & (bounds["quantity"] == "mean")]
        _lines(axes, rows, rows["value"] / rows["place"].map(mean), TIGHTNESS, f"tightness {status}")
    ticks = [tick for tick in (0.03, 0.1, 0.3, 1, 3, 10, 30) if TIGHTNESS[0] <= tick <= TIGHTNESS[1]]
    axes.yaxis.set_major_locator(FixedLocator(ticks))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _lines(axes: Axes, rows: pd.DataFrame, values: pd.Series, limits: tuple[float, float], gid: str) -> None:
    """A line for each method, kept between the limits: what is outside is on the edge."""
    for method, formula in readings.INTERVAL_METHODS.items():
        of_method = rows[rows["formula"] == formula].sort_values("place")
        if len(of_method):
            inside = values[of_method.index].clip(*limits)
            axes.plot(of_method["place"], inside, lw=1.4, zorder=3, gid=gid, label=method, **LOOKS[method])


def _place_axis(axes: Axes, depth: int) -> None:
    """A and R of each layer; layers alone where there are many."""
    count = 2 * depth
    axes.set_xlim(0.5, count + 0.5)
    letters = [f"{letter}{layer}" for layer in range(1, depth + 1) for letter in "AR"]
    step = 1 if count <= 8 else 2 * math.ceil(count / 16)
    axes.set_xticks(range(1, count + 1, step), letters[::step])


def _beyond(bounds: pd.DataFrame, limits: tuple[float, float]) -> str:
    """Which upper bounds leave the first row's panel, and how far; a space where none does."""
    rows = bounds[(bounds["status"] == "upper") & (bounds["quantity"] == ENDS["upper"])]
    highest = {formula: rows.loc[rows["formula"] == formula, "value"].max() for formula in rows["formula"].unique()}
    found = [f"{formula}: up to {_power(value)}" for formula, value in highest.items() if value > limits[1]]
    return ", ".join(found) or " "


def _power(value: float) -> str:
    """A number above 1, short: beyond thousands its decade from below."""
    if math.isinf(value):
        return "over 10³⁰⁸"
    if value < 1e4:
        return f"{value:,.0f}"
    digits = str(math.floor(math.log10(value)))
    return "10" + digits.translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _key(below: bool) -> list[Line2D]:
    """Methods, then simulated moments."""
    key = [Line2D([], [], lw=1.4, label=readings.INTERVAL_METHODS[name], **look) for name, look in LOOKS.items()]
    key += [
        Line2D(
            [],
            [],
            ls="",
            marker=marker,
            color=panels.INK,
            mfc=panels.INK if quantity == "mean" else "white",
            ms=4,
            label=f"simulated: {readings.INTERVAL_QUANTITIES[quantity]}",
        )
        for quantity, marker in MOMENT_MARKERS.items()
    ]
    if below:
        key.append(Line2D([], [], ls="", marker="v", ms=5, color=panels.INK, label="simulated: 0, a dead unit"))
    return key
