"""The arms beside the paper's: cheaper ways to regularise, and controls, against the baseline."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.style as style
from nsbench.arms import describe
from nsbench.config.settled import settles, settles_steps
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Table
from nsbench.figures.registry import figure

RATIOS = {
    "steps_ratio": "steps to target,\narm / baseline",
    "flops_ratio": "FLOPs to target,\narm / baseline",
}
COUNTS = ("n_baseline_reached", "n_arm_reached", "n_pairs")
HEADINGS = {"paper": "the paper's", "cheaper": "cheaper", "control": "controls", "own": "your own"}
"""Of the families of arms, in this order."""
GAP, HEADING, BELOW = 0.95, 0.8, 0.75
"""From an arm to the next heading, from a heading to its first arm, and from the last arm to the axis, in rows."""
INCHES = 0.36
"""Height of a row: the distance of two arms."""
Key = tuple[str, str, str]
"""Task, variant and arm."""


class _Row(NamedTuple):
    """A line of a panel: its height below the top, in rows; a heading has no cell."""

    y: float
    heading: str
    cell: Cell | None = None


@figure(
    "arms",
    tables=["effects", "times"],
    needs=comparison.has_other_arms,
    title="Cheaper arms and controls: steps and FLOPs to target against the baseline",
    caption="Each arm's ratio to the baseline of its variant, paired by seed: left in steps, right in FLOPs, below 1 "
    "the arm needs less. Cheaper arms regularise in every tenth step, on a tenth of the batch, or through one branch, "
    "scaled to keep the strength. Controls do something else that a reader will ask for: resampled inputs as plain "
    "data augmentation, an entropy penalty without noise, Grokfast, more dropout, more weight decay. A control "
    "that does as well says that noise stability is not what helps. Filled marks are settled, hollow ones open.",
)
def draw(effects: Table, times: Table, cells: Cells, scale: str) -> Figure:
    """For each variant: every arm's ratio of steps and of FLOPs to target against the baseline, with its interval; a
    row an arm.

    Filled marks are settled (`config.settled` at ratio 1), hollow ones open; where no run of a pair of arms reached the
    target, or the grid's arm has no row, it says so. Of a sweep of (rho, gamma) only arms with a cheaper arm's values
    are shown, or the first.
    """
    groups = comparison.by_variant(cells)
    lists = {name: _rows(group) for name, group in groups.items()}
    heights = [rows[-1].y + BELOW for rows in lists.values()]
    drawn = [row.cell for rows in lists.values() for row in rows if row.cell]
    found = {(row["task"], row["variant"], row["arm"]): row for row in effects.to_dict("records")}
    limits = _limits([found[key] for key in map(_key_of, drawn) if key in found])
    head = 0.55 * len(groups) + 0.3 * sum(len(group[0].get("leaks", [])) for group in groups.values())
    figure = style.new(8.4, INCHES * sum(heights) + head + 1.75)
    grid = figure.subplots(len(groups), 2, squeeze=False, sharey="row", height_ratios=heights)
    for panels, (name, rows), height in zip(grid, lists.items(), heights, strict=True):
        for axes, (column, label) in zip(panels, RATIOS.items(), strict=True):
            _panel(axes, rows, found, column, limits)
            axes.set_ylim(height, 0)
            if axes in grid[-1]:
                axes.set_xlabel(label)
        _labels(*panels, rows, found)
        curves.header(panels[0], " / ".join(name), groups[name][0].get("leaks", []), [])
    lines = [
        _reading(effects),
        *_sweep_line(cells, drawn),
        *style.text_lines(times, drawn),
        style.scale_text(drawn, scale),
    ]
    dot = {"marker": "o", "ms": 5.5, "mew": 1.4}
    key = [
        style.sign("settled: interval without 1", **dot),
        style.sign("open", mfc="white", **dot),
        style.sign("the baseline", lw=1.1, color=style.INK),
    ]
    style.footer(figure, lines, key, n_columns=4)
    return figure


def _key_of(cell: Cell) -> Key:
    return cell["task"], cell["variant"], cell["arm"]


def _rows(group: Cells) -> list[_Row]:
    """The lines of one variant's panels, from top to bottom."""
    arms = [cell for cell in group if cell["arm_settings"]["kind"] != "baseline"]
    found = {name: [cell for cell in arms if comparison.family(cell) == name] for name in HEADINGS}
    if comparison.has_sweep(group):
        pairs = {comparison.pair(cell) for cell in found["cheaper"]}
        matching = [cell for cell in found["paper"] if comparison.pair(cell) in pairs]
        found["paper"] = matching or comparison.swept(group)[:1]
    rows: list[_Row] = []
    for family, members in found.items():
        if members:
            y = rows[-1].y + GAP if rows else 0.5
            rows.append(_Row(y, HEADINGS[family]))
            rows += [_Row(y + HEADING + place, "", cell) for place, cell in enumerate(members)]
    return rows


def _limits(rows: Cells) -> tuple[float, float]:
    """The ends of all panels' axes: every finite ratio and interval, and 1."""
    names = [f"{ratio}{end}" for ratio in RATIOS for end in ("", "_low", "_high")]
    values = np.array([float(row[name]) for row in rows for name in names] + [0.8, 1.25])
    values = values[np.isfinite(values) & (values > 0)]
    return values.min() / 1.12, values.max() * 1.12


def _panel(
    axes: Axes, rows: list[_Row], found: dict[Key, dict[str, Any]], column: str, limits: tuple[float, float]
) -> None:
    """One ratio of all arms of a variant, on a logarithmic axis."""
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    style.ratio_ticks(axes.xaxis, *limits)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    axes.axvline(1.0, color=style.INK, lw=1.1, gid="one", zorder=1.5)
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


def _labels(left: Axes, right: Axes, rows: list[_Row], found: dict[Key, dict[str, Any]]) -> None:
    """Names and settings of the arms on the left; pairs, and runs that reached, on the right."""
    left.set_yticks([row.y for row in rows if row.cell], ["" for row in rows if row.cell])
    beside = {"transform": right.get_yaxis_transform(), "ha": "left", "va": "center", "fontsize": 7.5}
    right.text(1.03, rows[0].y, "reached", color="#444444", **beside)
    at = {"transform": left.get_yaxis_transform(), "ha": "right"}
    for row in rows:
        if row.cell is None:
            bold = {"weight": "bold", "fontsize": 8, "color": style.TEXT, "gid": "heading"}
            left.text(-0.02, row.y, row.heading, va="center", **at, **bold)
            continue
        left.text(-0.02, row.y, row.cell["arm"], va="bottom", fontsize=8, color=style.TEXT, gid="arm", **at)
        settings = describe(row.cell["arm_settings"])
        left.text(-0.02, row.y + 0.06, settings, va="top", fontsize=6.5, color=style.MUTED, **at)
        effect = found.get(_key_of(row.cell))
        if effect:
            reached, ours, pairs = (int(effect[name]) for name in COUNTS)
            right.text(1.03, row.y, f"{reached} → {ours} of {pairs}", color="#444444", gid="counts", **beside)


def _reading(effects: Table) -> str:
    """What the rows say."""
    levels = " or ".join(f"{100 * level:g}%" for level in sorted(effects["confidence"].dropna().unique()))
    return (
        f"Each row: an arm against the baseline of its variant, paired by seed, with its {levels or 'bootstrap'} "
        "interval over seeds. Left of 1 is less than the baseline. A run that did not reach the target counts at the "
        "budget. On the right: runs that reached it, baseline → arm, of how many pairs. With this many rows some "
        "intervals miss 1 by chance."
    )


def _sweep_line(cells: Cells, drawn: Cells) -> list[str]:
    """A footer's line where not all of the paper's arms are shown."""
    keys = set(map(_key_of, drawn))
    arms = [cell for cell in cells if cell["arm_settings"]["kind"] != "baseline"]
    hidden = [cell for cell in arms if comparison.family(cell) == "paper" and _key_of(cell) not in keys]
    return ["Of a sweep of (ρ, γ) only the values of the cheaper arms, or the first, are shown."] if hidden else []
