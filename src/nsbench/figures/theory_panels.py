"""What the figures of the theory share: formulas as lines, simulated points, axes, keys and footers.

A line's dashes say what the formula is (`schemas.theory.STATUSES`), its colour says which series it
belongs to; simulated points of that series have the same colour.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Figure, Line2D, Series, Table

INK = style.INK
"""Colour of what belongs to several series, and of the paper's own case among ordered ones."""
REFERENCE = {"color": "#9A9A9A", "lw": 1.0, "ls": "-"}
CATEGORY_COLOURS = ["#D55E00", "#0072B2", "#00845F", "#8E4FA8", "#7F6A00", "#3B3B3B"]
STATUSES = {
    "exact": ("exact", {"ls": "-", "lw": 1.7}),
    "limit": ("limit of large sizes", {"ls": "-", "lw": 1.7}),
    "approximation": ("approximation", {"ls": (0, (5, 2)), "lw": 1.6}),
    "published": ("as published", {"ls": (0, (1, 1.2)), "lw": 1.9}),
    "lower": ("lower bound", {"ls": (0, (5, 1.5, 1, 1.5)), "lw": 1.5}),
    "upper": ("upper bound", {"ls": (0, (8, 2)), "lw": 1.5}),
}
"""Status of a formula -> what it is called, and how its line is drawn."""
MARKERS = ["o", "s", "D", "^", "v", "p", "h", "<", ">", "8"]
LARGEST, SMALLEST = 9.0, 4.2
BARS = 2.0
"""Half the length of an error bar, in standard errors."""
POINTS_LINE = "Points are Monte Carlo means; bars reach 2 standard errors (over draws) to each side."
READING = (
    " Lines are formulas: solid where the formula is exact or the limit of large sizes, dashed where it approximates, "
    "dotted where it is the paper's printed form and not right. Points are simulated, with bars of 2 standard errors; "
    "points have the colour of their line."
)
"""What captions say of all these figures."""
TABLES = ("curves", "points")


class Look(NamedTuple):
    """How a series is drawn."""

    colour: str
    marker: str
    size: float
    """Points; series have different sizes, so that open markers on one spot are seen one in the other."""

    def mark(self) -> dict[str, Any]:
        """An open marker, without a line."""
        return {"ls": "", "marker": self.marker, "ms": self.size, "mfc": "none", "mew": 1.2, "color": self.colour}


Formulas = dict[tuple[str, str], str]
"""Formula and status -> the colour of its series, INK where there are several."""


def ordered(column: str, tables: Iterable[Table], known: Iterable[str]) -> list[str]:
    """The distinct names in a column of several tables: first those in `known`, in its order, then as they come."""
    found = dict.fromkeys(name for table in tables for name in table[column])
    first = [name for name in dict.fromkeys(known) if name in found]
    return first + [name for name in found if name not in first]


def shades(count: int) -> list[str]:
    """`count` colours from dark to light, told apart in every common form of colour blindness and in grey."""
    import matplotlib
    from matplotlib.colors import to_hex

    return [to_hex(shade) for shade in matplotlib.colormaps["viridis"](np.linspace(0.05, 0.8, count))]


def looks(names: list[str], colours: list[str] | None = None) -> dict[str, Look]:
    """A look for each series: the first has the largest marker. Colours are `shades` unless given."""
    colours = shades(len(names)) if colours is None else colours
    sizes = np.linspace(LARGEST, SMALLEST, len(names)).tolist() if len(names) > 1 else [5.5]
    return {
        name: Look(colours[place % len(colours)], MARKERS[place % len(MARKERS)], size)
        for place, (name, size) in enumerate(zip(names, sizes, strict=False))
    }


def draw_panel(
    axes: Axes, curves: Table, points: Table, reading: str, series: dict[str, Look], floor: float | None = None
) -> Formulas:
    """Draw the formulas and the simulated means of one reading, as `draw_curves` and `draw_points` do."""
    draw_points(axes, points[points["reading"] == reading], series, floor)
    return draw_curves(axes, curves[curves["reading"] == reading], series, floor is not None)


def draw_curves(axes: Axes, curves: Table, series: dict[str, Look], log: bool = False) -> Formulas:
    """Draw the formulas of one panel (`schemas.theory.CURVES`); returns which there are.

    A formula that several series have with the same values is one line in INK. On a logarithmic axis values that are
    not positive are left out.
    """
    found: Formulas = {}
    groups = curves[curves["series"].isin(list(series))].groupby(["formula", "status"], sort=False)
    for (formula, status), group in sorted(groups, key=lambda item: list(STATUSES).index(item[0][1])):
        names = [name for name in series if (group["series"] == name).any()]
        by_x = group.groupby("x")["value"]
        shared = len(names) > 1 and (by_x.nunique() == 1).all() and (by_x.size() == len(names)).all()
        found[formula, status] = series[names[0]].colour if len(names) == 1 else INK
        look = {"zorder": 3.2 if status == "published" else 3, "gid": f"curve {status}", **STATUSES[status][1]}
        for name in names[:1] if shared else names:
            line = group[group["series"] == name].sort_values("x")
            look |= (
                {"color": INK, "label": " | ".join(names)} if shared else {"color": series[name].colour, "label": name}
            )
            axes.plot(line["x"], line["value"].where(line["value"] > 0) if log else line["value"], **look)
    return found


def draw_points(axes: Axes, points: Table, series: dict[str, Look], floor: float | None = None) -> None:
    """Draw the simulated means of one panel (`schemas.theory.SIMULATION`) with error bars of 2 standard errors.

    floor: the lower end of a logarithmic axis; a mean that is not above it is a filled triangle on the edge.
    """
    for name, look in series.items():
        rows = points[points["series"] == name].sort_values("x")
        inside = rows if floor is None else rows[rows["value"] > floor]
        error_bars(axes, inside["x"], inside, look.mark(), "points", label=name)
        on_edge(axes, rows.drop(inside.index)["x"], 6, look.colour, label=name)


def error_bars(axes: Axes, x: Series, rows: Table, look: dict[str, Any], gid: str, **marks: Any) -> None:
    """Simulated values (rows of SIMULATION) at x with bars of 2 standard errors."""
    if rows.empty:
        return
    bars = {"yerr": BARS * rows["standard_error"], "elinewidth": 1, "capsize": 2, "zorder": 4}
    dots, _, (lines,) = axes.errorbar(x, rows["value"], **bars, **look)
    dots.set(gid=gid, **marks)
    lines.set(gid="bars", **marks)


def on_edge(axes: Axes, x: Series, size: float, colour: str, **marks: Any) -> None:
    """Filled triangles on a panel's lower edge."""
    if x.empty:
        return
    look = {"ls": "", "marker": "v", "ms": size, "color": colour, "zorder": 5, "clip_on": False, "gid": "below"}
    axes.plot(x, [0.0] * len(x), transform=axes.get_xaxis_transform(), **look, **marks)


def rho_axis(axes: Axes) -> None:
    """Correlations from 0 to 1."""
    axes.set_xlim(-0.04, 1.04)
    axes.set_xlabel("correlation ρ of the inputs")


def layer_axis(axes: Axes, depth: int) -> None:
    """Layers passed, from 0, as whole numbers."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(-0.04 * depth - 0.1, 1.04 * depth + 0.1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=[1, 2, 5, 10]))
    axes.set_xlabel("layers passed")


def error_axis(axes: Axes, points: Table, series: dict[str, Look], exact: Any) -> None:
    """Errors of simulated points, with a line at 0: value minus `exact`(x, series)."""
    from matplotlib.ticker import MaxNLocator

    axes.axhline(0.0, color=INK, lw=1.0, zorder=1.6, gid="zero")
    for name, look in series.items():
        rows = points[points["series"] == name]
        draw_points(axes, rows.assign(value=rows["value"] - exact(rows["x"].to_numpy(float), name)), {name: look})
    style.plain_numbers(axes.yaxis, MaxNLocator(4))


def formula_text(name: str, status: str) -> str:
    """A formula with what it is, unless its name says so."""
    return name if status in name else f"{name} ({STATUSES[status][0]})"


def formula_sign(name: str, status: str, colour: str) -> Line2D:
    """A formula's entry in a legend."""
    return style.sign(formula_text(name, status), color=colour, **STATUSES[status][1])


def series_signs(series: dict[str, Look], drawn: Iterable[Axes]) -> list[Line2D]:
    """A legend's entry for each series: a line where a panel has one of its own, a marker where it has points."""
    found = {((line.get_gid() or "").split(" ")[0], line.get_label()) for axes in drawn for line in axes.lines}
    signs = []
    for name, look in series.items():
        mark = look.mark() if {("points", name), ("below", name)} & found else {"color": look.colour}
        signs.append(style.sign(name, **mark | {"ls": "-" if ("curve", name) in found else "", "lw": 1.7}))
    return signs


def heads(row: Iterable[Axes], titles: Iterable[str], found: list[Formulas]) -> None:
    """Above each panel of a row its title and its own formulas, with room for as many in all, so that titles align."""
    for axes, title, formulas in zip(row, titles, found, strict=True):
        signs = [formula_sign(*formula, colour) for formula, colour in formulas.items()]
        blank = [style.sign(" ", ls="")] * (max(map(len, found)) - len(signs))
        style.header(axes, title, [], signs + blank)


def foot(figure: Figure, what: str, sizes: list[str], scale: str, key: list[Line2D]) -> None:
    """The key, the remarks, and the sizes with, where it is not the paper's, the scale."""
    style.footer(figure, [what, POINTS_LINE, footers.sizes_text(sizes, scale)], key)


def replicates(settings: Any, what: str = " of the weights", of: str = "inputs") -> str:
    """How much an experiment simulated."""
    return f"{settings.n_draws:,} draws{what} × {settings.n_pairs:,} pairs of {of}"


# --- second moments by layer: Figures 4a and 10 -----------------------------------------------------------


def fill_layers(
    names: list[str], series: dict[str, Look], curves: Table, points: Table, depth: int, label: str
) -> tuple[Figure, list[Axes], list[Line2D]]:
    """A figure with curves and points by layer, a panel for each reading in `names`, on one logarithmic axis; its
    panels and key. Formulas that all panels have are in the key, others above their panel."""
    figure, columns = style.columns(len(names), 1, 2.95, 3.7, below=1.9, max_columns=4, sharex=True, sharey=True)
    row, found, (low, high) = [axes for (axes,) in columns], [], log_limits(curves, points)
    for axes, name in zip(row, names, strict=True):
        found.append(draw_panel(axes, curves, points, name, series, low))
        layer_axis(axes, depth)
        style.log_axis(axes, low, high)
        if style.is_first(axes):
            axes.set_ylabel(label)
    common = set.intersection(*map(set, found))
    heads(row, names, [{key: colour for key, colour in of.items() if key not in common} for of in found])
    signs = series_signs(series, row)
    for formula in [formula for formula in found[0] if formula in common]:
        colours = {of[formula] for of in found}
        signs.append(formula_sign(*formula, colours.pop() if len(colours) == 1 else INK))
    if any(line.get_gid() == "below" for axes in row for line in axes.lines):
        signs.append(style.sign("mean below the axis, or not above 0", marker="v", ms=6))
    return figure, row, signs


def log_limits(curves: Table, points: Table) -> tuple[float, float]:
    """Ends of a logarithmic axis that holds the positive values of CURVES, and those of SIMULATION that
    noise alone would not give."""
    sure = points[points["value"] > BARS * points["standard_error"]]
    values = np.concatenate([table["value"].to_numpy(float) for table in (curves, sure)])
    positive = values[np.isfinite(values) & (values > 0)]
    if not len(positive):
        return 0.1, 1.0
    low, high = float(positive.min()), float(positive.max())
    room = max((high / low) ** 0.06, 1.25)
    return low / room, high * room
