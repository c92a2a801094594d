"""Noise stability intervals: bounds on second moments, layer by layer, beside what is simulated."""

from __future__ import annotations

import math

import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.config.theory import IntervalsExperiment
from nsbench.figures.annotations import Axes, Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as labels

LOOKS = {
    "lemma": {"color": "#D55E00", "ls": (0, (5, 1.6)), "marker": "D", "ms": 3.2},
    "range": {"color": "#6B6B6B", "ls": (0, (1, 1.1)), "marker": "s", "ms": 3.2},
    "sharp": {"color": "#0072B2", "ls": "-", "marker": "o", "ms": 3.2},
}
"""Method -> how its bounds are drawn."""
MOMENTS = {
    quantity: {"ls": "", "marker": marker, "ms": 4, "color": panels.INK, "mfc": face}
    for quantity, marker, face in (("largest", "^", "white"), ("mean", "o", panels.INK), ("smallest", "v", "white"))
}
"""Quantity -> the mark of its simulated values."""
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
    "Lemma 12 with the largest row sum as its norm and values of one sign, as its proof needs; its step through a "
    "ReLU, which the paper's Lemma 11 cannot make, is ours. Ranges alone: products of almost sure ranges. Sharper "
    "bounds: moments about a centre, with bounds on attention weights from the ranges of logits. A bound beyond the "
    "axis is drawn on its edge: below, those are 0 or next to it."
)


@figure(
    "intervals",
    tables=panels.TABLES,
    experiment="intervals",
    title="Bounds on second moments after each layer of a small network",
    caption="Lower and upper bounds on E[H(X) H(Y)], carried from layer to layer through one small random network, "
    "beside the simulated moments of the same network (points, with bars of 2 standard errors), by the size of its "
    "query and key weights. A bound is worth what lies between it and its points: one that does not use the "
    "correlation may be as tight as one that does, and one that is far off says nothing about the network. A "
    "method whose conditions no longer hold after some layer has no bound from there on.",
)
def draw(curves: Table, points: Table, settings: IntervalsExperiment, scale: str) -> Figure:
    """A column per logit scale: moments with their bounds above, the tightness of the mean's bounds below.

    Axes are logarithmic and alike in all columns; a bound outside is drawn on the edge, and above the panel stands
    how far upper ones go. A simulated moment that is not positive is a triangle on the lower edge.
    """
    names = panels.ordered("reading", [curves, points], map(labels.logit_scale, settings.logit_scales))
    curves, points = _placed(curves), _placed(points)
    figure, columns = style.columns(len(names), 2, 2.45, 2.95, below=2.0, max_columns=5, sharey="row")
    positive = points.loc[points["value"] > 0, "value"]
    limits = (float(positive.min()) / ROOM, float(positive.max()) * ROOM) if len(positive) else (0.01, 10.0)
    for name, (top, bottom) in zip(names, columns, strict=True):
        bounds, simulated = (table[table["reading"] == name] for table in (curves, points))
        _moments(top, bounds, simulated, limits)
        _tightness(bottom, bounds, simulated)
        for axes in (top, bottom):
            _place_axis(axes, settings.depth)
        style.header(top, name, [], [style.sign(_beyond(bounds, limits), ls="")])
        if style.is_first(top):
            top.set_ylabel("E[H(X) H(Y)] of entries")
            bottom.set_ylabel("bound / simulated,\nmean of an entry with itself")
        bottom.set_xlabel("after A or R of layer")
    sizes = [f"n = {settings.n_tokens} tokens", f"d = {settings.d_model}", f"depth {settings.depth}"]
    sizes += [f"uniform inputs with ρ = {settings.rho:g}", panels.replicates(settings, " of inputs to one network")]
    key = [style.sign(labels.INTERVAL_METHODS[name], lw=1.4, **look) for name, look in LOOKS.items()]
    key += [style.sign(f"simulated: {labels.INTERVAL_QUANTITIES[name]}", **look) for name, look in MOMENTS.items()]
    if (points["value"] <= 0).any():
        key.append(style.sign("simulated: 0, a dead unit", marker="v", ms=5, color=panels.INK))
    panels.foot(figure, _WHAT, sizes, scale, key)
    return figure


def _placed(table: Table) -> Table:
    """The table with each row's quantity, and its place among all parts of all layers, from 1."""
    parts = list(labels.INTERVAL_PARTS)
    series = {
        labels.entry_moments(part, quantity): (quantity, place)
        for place, part in enumerate(parts, 1)
        for quantity in labels.INTERVAL_QUANTITIES
    }
    within = table["series"].map(lambda name: series[name][1]).astype(float)
    return table.assign(
        quantity=table["series"].map(lambda name: series[name][0]), place=len(parts) * (table["x"] - 1) + within
    )


def _moments(axes: Axes, bounds: Table, simulated: Table, limits: tuple[float, float]) -> None:
    """Simulated moments with error bars and the bounds on their ends."""
    style.log_axis(axes, *limits)
    for status, quantity in ENDS.items():
        rows = bounds[(bounds["status"] == status) & (bounds["quantity"] == quantity)]
        _lines(axes, rows, limits, f"bound {status}")
    for quantity, look in MOMENTS.items():
        rows = simulated[simulated["quantity"] == quantity].sort_values("place")
        inside, zero = rows[rows["value"] > 0], rows[rows["value"] <= 0]
        panels.error_bars(axes, inside["place"], inside, look, f"simulated {quantity}")
        panels.on_edge(axes, zero["place"], 5, panels.INK)


def _tightness(axes: Axes, bounds: Table, simulated: Table) -> None:
    """Bounds on the mean moment over its simulated value."""
    style.log_axis(axes, *TIGHTNESS)
    axes.axhline(1, color=panels.INK, lw=0.9, gid="tight")
    mean = simulated[simulated["quantity"] == "mean"].set_index("place")["value"]
    for status in ENDS:
        rows = bounds[(bounds["status"] == status) & (bounds["quantity"] == "mean")]
        ratios = rows.assign(value=rows["value"] / rows["place"].map(mean))
        _lines(axes, ratios, TIGHTNESS, f"tightness {status}")
    style.plain_numbers(axes.yaxis, [0.03, 0.1, 0.3, 1, 3, 10, 30])


def _lines(axes: Axes, rows: Table, limits: tuple[float, float], gid: str) -> None:
    """A line for each method, kept between the limits: what is outside is on the edge."""
    for method, formula in labels.INTERVAL_METHODS.items():
        of_method = rows[rows["formula"] == formula].sort_values("place")
        if len(of_method):
            inside = of_method["value"].clip(*limits)
            axes.plot(of_method["place"], inside, lw=1.4, zorder=3, gid=gid, label=method, **LOOKS[method])


def _place_axis(axes: Axes, depth: int) -> None:
    """A and R of each layer; layers alone where there are many."""
    count = 2 * depth
    axes.set_xlim(0.5, count + 0.5)
    letters = [f"{letter}{layer}" for layer in range(1, depth + 1) for letter in "AR"]
    step = 1 if count <= 8 else 2 * math.ceil(count / 16)
    axes.set_xticks(range(1, count + 1, step), letters[::step])


def _beyond(bounds: Table, limits: tuple[float, float]) -> str:
    """Which upper bounds leave the first row's panel, and how far, by decades from below; a space where none does."""
    rows = bounds[(bounds["status"] == "upper") & (bounds["quantity"] == ENDS["upper"])]
    found = []
    for formula, value in rows.groupby("formula", sort=False)["value"].max().items():
        if value > limits[1]:
            decade = "over 10³⁰⁸" if math.isinf(value) else style.power_of_ten(math.floor(math.log10(value)))
            found.append(f"{formula}: up to {f'{value:,.0f}' if value < 1e4 else decade}")
    return ", ".join(found) or " "
