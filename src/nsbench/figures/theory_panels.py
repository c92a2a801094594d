"""What the figures of the theory share: formulas as lines, simulated points, keys and footers.

A line's dashes say what the formula is (`schemas.theory.STATUSES`), its colour says which series it
belongs to; simulated points of that series have the same colour.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple, Protocol

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from nsbench.figures import curves as house
from nsbench.figures import style

INK = "#3B3B3B"
"""Colour of what belongs to several series, and of the paper's own case among ordered ones."""
REFERENCE = "#9A9A9A"
CATEGORY_COLOURS = ["#D55E00", "#0072B2", "#00845F", "#8E4FA8", "#7F6A00", "#3B3B3B"]
STROKES = {
    "exact": {"ls": "-", "lw": 1.7},
    "limit": {"ls": "-", "lw": 1.7},
    "approximation": {"ls": (0, (5, 2)), "lw": 1.6},
    "published": {"ls": (0, (1, 1.2)), "lw": 1.9},
    "lower": {"ls": (0, (5, 1.5, 1, 1.5)), "lw": 1.5},
    "upper": {"ls": (0, (8, 2)), "lw": 1.5},
}
"""Status -> how its line is drawn."""
WORDS = {
    "exact": "exact",
    "limit": "limit of large sizes",
    "approximation": "approximation",
    "published": "as published",
    "lower": "lower bound",
    "upper": "upper bound",
}
MARKERS = ["o", "s", "D", "^", "v", "p", "h", "<", ">", "8"]
LARGEST, SMALLEST = 9.0, 4.2
BARS = 2.0
"""Half the length of an error bar, in standard errors."""


class Look(NamedTuple):
    """How a series is drawn."""

    colour: str
    marker: str
    size: float
    """Points; series have different sizes, so that open markers on one spot are seen one in the other."""


class Formula(NamedTuple):
    """A formula of one panel, with the colour of its series (INK where there are several)."""

    name: str
    status: str
    colour: str


class Replicated(Protocol):
    """Settings of an experiment."""

    n_draws: int
    n_pairs: int


def ordered(names: Iterable[str], known: Iterable[str]) -> list[str]:
    """The distinct `names`: first those in `known`, in its order, then the others as they come."""
    found = list(dict.fromkeys(names))
    first = [name for name in dict.fromkeys(known) if name in found]
    return first + [name for name in found if name not in first]


def every(column: str, tables: Iterable[pd.DataFrame]) -> list[str]:
    """The distinct names in a column of several tables, as they come."""
    return list(dict.fromkeys(name for table in tables for name in table[column]))


def shades(count: int) -> list[str]:
    """`count` colours from dark to light, told apart in every common form of colour blindness and in grey."""
    return [to_hex(shade) for shade in matplotlib.colormaps["viridis"](np.linspace(0.05, 0.8, count))]


def looks(names: list[str], colours: list[str] | None = None) -> dict[str, Look]:
    """A look for each series: the first has the largest marker. Colours are `shades` unless given."""
    colours = shades(len(names)) if colours is None else colours
    sizes = np.linspace(LARGEST, SMALLEST, len(names)) if len(names) > 1 else [5.5]
    return {
        name: Look(colours[place % len(colours)], MARKERS[place % len(MARKERS)], float(size))
        for place, (name, size) in enumerate(zip(names, sizes, strict=True))
    }


def draw_curves(axes: Axes, curves: pd.DataFrame, series: dict[str, Look], log: bool = False) -> list[Formula]:
    """Draw the formulas of one panel (`schemas.theory.CURVES`); returns which there are.

    A formula that several series have with the same values is one line in INK. On a logarithmic
    axis values that are not positive are left out.
    """
    found: dict[tuple[str, str], set[str]] = {}
    lines: dict[tuple[str, str, bytes, bytes], list[str]] = {}
    for name in series:
        of_series = curves[curves["series"] == name]
        by_formula = of_series.groupby(["formula", "status"], sort=False)
        for (formula, status), rows in sorted(by_formula, key=lambda item: list(STROKES).index(item[0][1])):
            rows = rows.sort_values("x")
            values = rows["value"].where(rows["value"] > 0) if log else rows["value"]
            found.setdefault((formula, status), set()).add(name)
            same = (formula, status, rows["x"].to_numpy(float).tobytes(), values.to_numpy(float).tobytes())
            lines.setdefault(same, []).append(name)
    for (_, status, x, values), names in lines.items():
        axes.plot(
            np.frombuffer(x),
            np.frombuffer(values),
            color=series[names[0]].colour if len(names) == 1 else INK,
            zorder=3.2 if status == "published" else 3,
            gid=f"curve {status}",
            label=" | ".join(names),
            **STROKES[status],
        )
    return [
        Formula(name, status, series[next(iter(names))].colour if len(names) == 1 else INK)
        for (name, status), names in found.items()
    ]


def draw_points(axes: Axes, points: pd.DataFrame, series: dict[str, Look], floor: float | None = None) -> bool:
    """Draw the simulated means of one panel (`schemas.theory.SIMULATION`) with error bars of 2 standard errors.

    floor: the lower end of a logarithmic axis; a mean that is not above it is a filled triangle on
    the edge. Returns whether there are such.
    """
    below = False
    for name, look in series.items():
        rows = points[points["series"] == name].sort_values("x")
        outside = rows[rows["value"] <= floor] if floor is not None else rows.iloc[:0]
        rows = rows.drop(outside.index)
        if len(rows):
            dots, _, bars = axes.errorbar(
                rows["x"],
                rows["value"],
                yerr=BARS * rows["standard_error"],
                color=look.colour,
                elinewidth=1,
                capsize=2,
                zorder=4,
                **marker(look),
            )
            dots.set(gid="points", label=name)
            bars[0].set(gid="bars", label=name)
        if len(outside):
            at = {"transform": axes.get_xaxis_transform(), "clip_on": False, "ls": "", "zorder": 5}
            axes.plot(
                outside["x"], [0.0] * len(outside), marker="v", ms=6, color=look.colour, gid="below", label=name, **at
            )
            below = True
    return below


def marker(look: Look) -> dict[str, object]:
    """An open marker of a series, without a line."""
    return {"ls": "", "marker": look.marker, "ms": look.size, "mfc": "none", "mew": 1.2}


def layer_axis(axes: Axes, depth: int) -> None:
    """Layers passed, from 0, as whole numbers."""
    axes.set_xlim(-0.04 * depth - 0.1, 1.04 * depth + 0.1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))


def plain_axis(axes: Axes) -> None:
    """Few ticks, in plain numbers."""
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))


def split(panels: list[list[Formula]]) -> tuple[list[Formula], list[list[Formula]]]:
    """(formulas of all panels, for the figure's key; each panel's others, for its own head)."""
    every = {(formula.name, formula.status) for formula in panels[0]} if panels else set()
    for panel in panels[1:]:
        every &= {(formula.name, formula.status) for formula in panel}
    common: dict[tuple[str, str], Formula] = {}
    for formula in (formula for panel in panels for formula in panel):
        place = (formula.name, formula.status)
        if place in every:
            first = common.setdefault(place, formula)
            common[place] = first if first.colour == formula.colour else formula._replace(colour=INK)
    others = [[formula for formula in panel if (formula.name, formula.status) not in every] for panel in panels]
    return list(common.values()), others


def formula_text(name: str, status: str) -> str:
    """A formula with what it is, unless its name says so."""
    return name if status in name else f"{name} ({WORDS[status]})"


def formula_signs(formulas: list[Formula]) -> list[Line2D]:
    """A legend's entry for each formula, with what it is."""
    return [
        Line2D([], [], color=colour, label=formula_text(name, status), **STROKES[status])
        for name, status, colour in formulas
    ]


def series_signs(series: dict[str, Look], drawn: Iterable[Axes]) -> list[Line2D]:
    """A legend's entry for each series: a line where a panel has one of its own, a marker where it has points."""
    found = {(line.get_gid() or "", line.get_label()) for axes in drawn for line in axes.lines}
    signs = []
    for name, look in series.items():
        lined = any(gid.startswith("curve") and label == name for gid, label in found)
        dotted = bool({("points", name), ("below", name)} & found)
        stroke = {"ls": "-" if lined else "", "lw": STROKES["exact"]["lw"]}
        signs.append(Line2D([], [], color=look.colour, label=name, **(marker(look) if dotted else {}) | stroke))
    return signs


def head(axes: Axes, title: str, formulas: list[Formula], n_entries: int) -> None:
    """Above the panel: its title, and its own formulas; room for `n_entries`, so that panels align."""
    blank = [Line2D([], [], ls="", label=" ")] * (n_entries - len(formulas))
    house.header(axes, title, [], [*formula_signs(formulas), *blank])


def foot(figure: Figure, lines: list[str], sizes: list[str], scale: str, key: list[Line2D]) -> None:
    """The key, the remarks, and the sizes with, where it is not the paper's, the scale."""
    text = ", ".join(sizes)
    told = f"Sizes: {text}." if scale == "paper" else f"{scale.upper()} SCALE, not the paper's setting: {text}."
    wanted = max((len(sign.get_label()) for sign in key), default=1) * 0.071 + 0.5
    most = max(1, int((figure.get_figwidth() - 0.1) / wanted))
    n_rows = math.ceil(len(key) / most)
    style.footer(figure, [*lines, told], key, n_columns=math.ceil(len(key) / n_rows) if key else 1)


def replicates(settings: Replicated, what: str = "of the weights") -> str:
    """How much was simulated."""
    return f"{settings.n_draws:,} draws {what} × {settings.n_pairs:,} pairs of inputs"


POINTS_LINE = "Points are Monte Carlo means; bars reach 2 standard errors (over draws) to each side."


def nothing(curves: pd.DataFrame, points: pd.DataFrame) -> bool:
    """Whether there is neither a formula nor a point."""
    return curves.empty and points.empty
