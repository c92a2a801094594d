"""The arms beside the paper's: cheaper ways to regularise, and controls, against the baseline."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nsbench.analysis.scores import by_variant
from nsbench.arms import ARMS, describe
from nsbench.config.settled import settles, settles_steps
from nsbench.figures import comparison, curves, style

RATIOS = {
    "steps_ratio": "steps to target,\narm / baseline",
    "flops_ratio": "FLOPs to target,\narm / baseline",
}
COUNTS = ("n_baseline_reached", "n_arm_reached", "n_pairs")
HEADINGS = {"paper": "the paper's", "cheaper": "cheaper", "control": "controls", "own": "your own"}
"""Of the families of arms, in this order."""
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
GAP, HEADING, BELOW = 0.95, 0.8, 0.75
"""From an arm to the next heading, from a heading to its first arm, and from the last arm to the axis, in rows."""
INCHES = 0.36
"""Height of a row: the distance of two arms."""


class _Row(NamedTuple):
    """A line of a panel: its height below the top, in rows; a heading has no cell."""

    y: float
    heading: str
    cell: dict[str, Any] | None = None


def draw(effects: pd.DataFrame, cells: list[dict[str, Any]], scale: str, times: pd.DataFrame | None = None) -> Figure:
    """For each variant that has other arms than the paper's kinds: every arm's ratio of steps and of
    FLOPs to target against the baseline, with its interval; a row an arm.

    Takes `schemas.statistics.PAIRED_EFFECT`; `times` (`schemas.training.TIME_TO_TARGET`) names the text in the footer.
    Filled marks are settled (`intervals.settles` at ratio 1), hollow ones open; where no run of a
    pair of arms reached the target, or the grid's arm has no row, it says so. Of a sweep of (rho,
    gamma) only arms with a cheaper arm's values are shown, or the first. Cells that are in the grid
    for a specification curve alone are left out. Without other arms the figure says so.
    """
    cells = comparison.ordinary(cells)
    groups = {name: group for name, group in by_variant(cells).items() if len(comparison.of_paper(group)) < len(group)}
    if not groups:
        return style.empty("Arms: the grid has no arms beside the paper's", scale)
    lists = {name: _rows(group) for name, group in groups.items()}
    heights = [rows[-1].y + BELOW for rows in lists.values()]
    drawn = [row.cell for rows in lists.values() for row in rows if row.cell]
    found = {(row["task"], row["variant"], row["arm"]): row for row in effects.to_dict("records")}
    limits = _limits([found[key] for key in map(_key_of, drawn) if key in found])
    with style.applied():
        head = 0.55 * len(groups) + 0.15 * sum(len(group[0].get("leaks", [])) * 2 for group in groups.values())
        figure = Figure(figsize=(8.4, INCHES * sum(heights) + head + 1.75), layout="constrained")
        grid = figure.subplots(len(groups), 2, squeeze=False, sharey="row", height_ratios=heights)
        for panels, (name, rows), height in zip(grid, lists.items(), heights, strict=True):
            for axes, column in zip(panels, RATIOS, strict=True):
                _panel(axes, rows, found, column, limits)
                axes.set_ylim(height, 0)
            _labels(*panels, rows, found)
            curves.header(panels[0], " / ".join(name), groups[name][0].get("leaks", []), [])
        for axes, column in zip(grid[-1], RATIOS, strict=True):
            axes.set_xlabel(RATIOS[column])
        text = [] if times is None else style.text_lines(times, drawn)
        lines = [_reading(effects), *_sweep_line(groups, drawn), *text, style.scale_text(drawn, scale)]
        style.footer(figure, lines, _key(), n_columns=4)
    return figure


def _key_of(cell: dict[str, Any]) -> tuple[str, str, str]:
    return cell["task"], cell["variant"], cell["arm"]


def _rows(group: list[dict[str, Any]]) -> list[_Row]:
    """The lines of one variant's panels, from top to bottom."""
    found: dict[str, list[dict[str, Any]]] = {family: [] for family in HEADINGS}
    for cell in group:
        if cell["arm_settings"]["kind"] != "baseline":
            found[ARMS.find(cell["arm_settings"]["kind"]).family].append(cell)
    if comparison.has_sweep(group):
        pairs = {comparison.pair(cell) for cell in found["cheaper"]}
        matching = [cell for cell in found["paper"] if comparison.pair(cell) in pairs]
        found["paper"] = matching or comparison.swept(group)[:1]
    rows: list[_Row] = []
    for family, members in found.items():
        if not members:
            continue
        y = rows[-1].y + GAP if rows else 0.5
        rows.append(_Row(y, HEADINGS[family]))
        rows += [_Row(y + HEADING + place, "", cell) for place, cell in enumerate(members)]
    return rows


def _limits(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """The ends of all panels' axes: every finite ratio and interval, and 1."""
    names = [f"{ratio}{end}" for ratio in RATIOS for end in ("", "_low", "_high")]
    values = np.array([float(row[name]) for row in rows for name in names] + [0.8, 1.25])
    values = values[np.isfinite(values) & (values > 0)]
    return values.min() / 1.12, values.max() * 1.12


def _panel(
    axes: Axes, rows: list[_Row], found: dict[tuple[str, str, str], dict[str, Any]], column: str, limits: Any
) -> None:
    """One ratio of all arms of a variant, on a logarithmic axis."""
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    ticks = [tick for tick in TICKS if limits[0] <= tick <= limits[1]]
    axes.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) > 2 else [*ticks, 0.8, 1.25]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.axvline(1.0, color=style.ARM_COLOURS["baseline", None], lw=1.1, gid="one", zorder=1.5)
    for row in rows:
        if row.cell is None:
            continue
        effect, colour = found.get(_key_of(row.cell)), style.arm_colour(row.cell["arm_settings"])
        value, low, high = (float(effect[f"{column}{end}"]) if effect else math.nan for end in ("", "_low", "_high"))
        if not math.isfinite(value):
            why = "no run reached the target" if effect else "not analysed"
            look = {"ha": "center", "va": "center", "fontsize": 7, "color": style.MUTED, "gid": "none"}
            look |= {"bbox": {"fc": "white", "ec": "none", "pad": 1.0}}
            axes.text(0.5, row.y, why, transform=axes.get_yaxis_transform(), **look)
            continue
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([low, high], [row.y, row.y], color=colour, lw=1.8, solid_capstyle="butt", gid="interval")
        if column == "steps_ratio":
            settled = settles_steps(effect) != 0
        else:
            settled = settles(low, high, effect["n_pairs"], effect["confidence"], neutral=1.0) != 0
        face = colour if settled else "white"
        axes.plot([value], [row.y], ls="", marker="o", ms=5.5, mec=colour, mew=1.4, mfc=face, gid="ratio", zorder=3)


def _labels(left: Axes, right: Axes, rows: list[_Row], found: dict[tuple[str, str, str], dict[str, Any]]) -> None:
    """Names and settings of the arms on the left; pairs, and runs that reached, on the right."""
    left.set_yticks([row.y for row in rows if row.cell], ["" for row in rows if row.cell])
    look = {"transform": right.get_yaxis_transform(), "ha": "left", "va": "center", "fontsize": 7.5}
    right.text(1.03, rows[0].y, "reached", color="#444444", **look)
    for row in rows:
        at = {"transform": left.get_yaxis_transform(), "ha": "right"}
        if row.cell is None:
            bold = {"weight": "bold", "fontsize": 8, "color": "#222222", "gid": "heading"}
            left.text(-0.02, row.y, row.heading, va="center", **at, **bold)
            continue
        left.text(-0.02, row.y, row.cell["arm"], va="bottom", fontsize=8, color="#222222", gid="arm", **at)
        settings = describe(row.cell["arm_settings"])
        left.text(-0.02, row.y + 0.06, settings, va="top", fontsize=6.5, color=style.MUTED, **at)
        effect = found.get(_key_of(row.cell))
        if effect:
            reached, ours, pairs = (int(effect[name]) for name in COUNTS)
            counts = f"{reached} → {ours} of {pairs}"
            right.text(1.03, row.y, counts, color="#444444", gid="counts", **look)


def _reading(effects: pd.DataFrame) -> str:
    """What the rows say."""
    levels = " or ".join(f"{100 * level:g}%" for level in sorted(effects["confidence"].dropna().unique()))
    return (
        f"Each row: an arm against the baseline of its variant, paired by seed, with its {levels or 'bootstrap'} "
        "interval over seeds. Left of 1 is less than the baseline. A run that did not reach the target counts at the "
        "budget. On the right: runs that reached it, baseline → arm, of how many pairs. With this many rows some "
        "intervals miss 1 by chance."
    )


def _sweep_line(groups: dict[Any, list[dict[str, Any]]], drawn: list[dict[str, Any]]) -> list[str]:
    """A footer's line where not all of the paper's arms are shown."""
    keys = set(map(_key_of, drawn))
    hidden = [
        cell
        for group in groups.values()
        for cell in comparison.of_paper(group)
        if cell["arm_settings"]["kind"] != "baseline" and _key_of(cell) not in keys
    ]
    return ["Of a sweep of (ρ, γ) only the values of the cheaper arms, or the first, are shown."] if hidden else []


def _key() -> list[Line2D]:
    grey = {"color": style.MUTED, "marker": "o", "ms": 5.5, "mew": 1.4}
    return [
        Line2D([], [], ls="", label="settled: interval without 1", **grey),
        Line2D([], [], ls="", label="open", mfc="white", **grey),
        Line2D([], [], lw=1.1, color=style.ARM_COLOURS["baseline", None], label="the baseline"),
    ]
