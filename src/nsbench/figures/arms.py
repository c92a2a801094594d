"""The arms beside the paper's: cheaper ways to regularise, and controls, against the baseline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.arms import describe
from nsbench.config.cells import by_variant, swept
from nsbench.config.settled import OPEN
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Table
from nsbench.figures.registry import figure

RATIOS = {
    "steps_ratio": ("outcome", "steps to target,\narm / baseline"),
    "flops_ratio": ("flops_outcome", "FLOPs to target,\narm / baseline"),
}
"""Ratio -> the column of what is settled of it, and what its axis says."""
HEADINGS = {"paper": "the paper's", "cheaper": "cheaper", "control": "controls", "own": "your own"}
"""Of the families of arms, in this order."""
MARK = {"ms": 5.5, "mew": 1.4}
MARGIN = {"color": "#EEEEEE", "lw": 0}
INCHES = 0.33
"""Height of a row."""
Row = str | Cell
"""A line of a panel: a heading, or an arm."""


@figure(
    "arms",
    tables=["effects", "times"],
    needs=comparison.has_other_arms,
    title="Cheaper arms and controls: steps and FLOPs to target against the baseline",
    caption="Each arm's ratio to the baseline of its variant, paired by seed: left in steps, right in FLOPs, below 1 "
    "the arm needs less. Cheaper arms regularise in every tenth step, on a tenth of the batch, or through one branch, "
    "scaled to keep the strength. Controls do something else that a reader will ask for: resampled inputs as plain "
    "data augmentation, an entropy penalty without noise, Grokfast, more dropout, more weight decay. A control "
    "that does as well says that noise stability is not what helps. Filled marks are settled, hollow ones open. Where "
    "most runs of one side do not reach the target the ratio has no value but a bound: a triangle that points to where "
    "it must lie.",
)
def draw(effects: Table, times: Table, cells: Cells, scale: str) -> Figure:
    """For each variant: every arm's typical ratio of steps and of FLOPs to target against the baseline, with its
    interval; a row an arm.

    Filled marks are settled (`outcome`, `flops_outcome` of PAIRED_EFFECT), hollow ones open. A ratio beyond the budget
    is a triangle at its bound. Where there is neither, or the grid's arm has no row, it says so. Of a sweep of
    (rho, gamma) only arms with a cheaper arm's values are shown, or the first.
    """
    groups = by_variant(cells)
    lists = {name: _rows(group) for name, group in groups.items()}
    drawn = [row for rows in lists.values() for row in rows if isinstance(row, dict)]
    found = comparison.by_cell(effects)
    limits = _limits([found[key] for key in map(comparison.key, drawn) if key in found])
    heights = list(map(len, lists.values()))
    head = 0.55 * len(groups) + 0.3 * sum(len(group[0].get("leaks", [])) for group in groups.values())
    figure = style.new(8.4, INCHES * sum(heights) + head + 1.75)
    grid = figure.subplots(len(groups), 2, squeeze=False, sharey="row", height_ratios=heights)
    for (left, right), (name, rows) in zip(grid, lists.items(), strict=True):
        of_rows = [found.get(comparison.key(row)) if isinstance(row, dict) else None for row in rows]
        _panel(left, rows, of_rows, "steps_ratio", limits)
        _panel(right, rows, of_rows, "flops_ratio", limits)
        _labels(left, right, rows, of_rows)
        style.header(left, " / ".join(name), groups[name][0].get("leaks", []), [])
    for axes, (_, label) in zip(grid[-1], RATIOS.values(), strict=True):
        axes.set_xlabel(label)
    interval = footers.interval_text(effects["confidence"].dropna())
    margin = f"{100 * effects['margin'].max():g}%"
    lines = [
        f"Each row: an arm against the baseline of its variant, paired by seed: the typical ratio with its {interval} "
        "interval. Left of 1 is less than the baseline. Settled is less, more, or that there is no effect larger than "
        f"{margin} (the grey band), after the correction for many comparisons. On the right: runs that reached the "
        "target, baseline → arm, of how many pairs."
    ]
    shown = set(map(comparison.key, drawn))
    if any(comparison.family(cell) == "paper" and comparison.key(cell) not in shown for cell in _arms(cells)):
        lines.append("Of a sweep of (ρ, γ) only the values of the cheaper arms, or the first, are shown.")
    signs = [
        style.sign("settled", marker="o", gid="ratio settled", **MARK),
        style.sign("open", marker="o", mfc="white", gid="ratio open", **MARK),
        style.sign("a bound", marker=">", mfc="white", gid="bound", **MARK),
        style.sign("no end on this side", marker=style.TIPS["right"], ms=6, mfc="none", mew=1.3, gid="tip"),
        style.sign("the baseline", lw=1.1, color=style.INK),
    ]
    style.footer(figure, lines + footers.remarks(times, drawn, scale, stopped=""), signs)
    return figure


def _arms(cells: Cells) -> Cells:
    return [cell for cell in cells if cell["arm_settings"]["kind"] != "baseline"]


def _rows(group: Cells) -> list[Row]:
    """The lines of one variant's panels, from top to bottom."""
    found = {name: [cell for cell in _arms(group) if comparison.family(cell) == name] for name in HEADINGS}
    if comparison.has_sweep(group):
        pairs = {comparison.pair(cell) for cell in found["cheaper"]}
        matching = [cell for cell in found["paper"] if comparison.pair(cell) in pairs]
        found["paper"] = matching or swept(group)[:1]
    return [row for family, members in found.items() if members for row in (HEADINGS[family], *members)]


def _limits(rows: list[dict[str, Any]]) -> tuple[float, float]:
    """The ends of all panels' axes: every finite ratio and interval, and 1; with room for tips where there are any."""
    values = np.array(
        [float(row[f"{ratio}{end}"]) for row in rows for ratio in RATIOS for end in ("", "_low", "_high")]
    )
    room = [1.35 if (values == end).any() else 1.12 for end in (0, np.inf)]
    values = np.array([*values[np.isfinite(values) & (values > 0)], 0.8, 1.25])
    return values.min() / room[0], values.max() * room[1]


def _panel(
    axes: Axes, rows: list[Row], effects: list[dict[str, Any] | None], column: str, limits: tuple[float, float]
) -> None:
    """One ratio of all arms of a variant, on a logarithmic axis."""
    axes.set_xscale("log")
    axes.set_xlim(*limits)
    style.ratio_axis(axes.xaxis, *limits)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.axvline(1.0, color=style.INK, lw=1.1, gid="one", zorder=1.5)
    if margin := max((effect["margin"] for effect in effects if effect), default=0.0):
        axes.axvspan(1 / (1 + margin), 1 + margin, zorder=0, gid="margin", **MARGIN)
    for y, (cell, effect) in enumerate(zip(rows, effects, strict=True)):
        if isinstance(cell, str):
            continue
        colour = style.arm_colour(cell["arm_settings"])
        value, low, high = (float(effect[f"{column}{end}"]) if effect else math.nan for end in ("", "_low", "_high"))
        at, side = style.bound(value, low, high)
        if not math.isfinite(at):
            look = {"ha": "center", "va": "center", "fontsize": 7, "color": style.MUTED, "gid": "none"}
            look |= {"bbox": {"fc": "white", "ec": "none", "pad": 1.0}}
            axes.text(0.5, y, _why_none(effect), transform=axes.get_yaxis_transform(), **look)
            continue
        style.interval(axes, y, low, high, limits, color=colour, lw=1.8)
        is_open = effect[RATIOS[column][0]] == OPEN
        look = {"marker": {-1: "<", 0: "o", 1: ">"}[side], "mec": colour, "mfc": "white" if is_open else colour, **MARK}
        gid = f"{'bound' if side else 'ratio'} {'open' if is_open else 'settled'}"
        axes.plot([at], [y], ls="", gid=gid, zorder=3, **look)


def _why_none(effect: dict[str, Any] | None) -> str:
    """Why an arm has neither a ratio nor a bound."""
    if effect is None:
        return "not analysed"
    reached = effect["n_baseline_reached"] + effect["n_arm_reached"]
    return "beyond the budget, no bound yet" if reached else "no run reached the target"


def _labels(left: Axes, right: Axes, rows: list[Row], effects: list[dict[str, Any] | None]) -> None:
    """Names and settings of the arms on the left; pairs, and runs that reached, on the right."""
    names = [row if isinstance(row, str) else f"{row['arm']}\n{describe(row['arm_settings'])}" for row in rows]
    left.set_yticks(range(len(rows)), names, fontsize=7)
    for row, label in zip(rows, left.get_yticklabels(), strict=True):
        label.set(weight="bold" if isinstance(row, str) else "normal", color=style.TEXT)
    counts = ["n_baseline_reached", "n_arm_reached", "n_pairs"]
    reached = ["{} → {} of {}".format(*(int(row[name]) for name in counts)) if row else "" for row in effects]
    beside = right.secondary_yaxis("right")
    beside.set_yticks(range(len(rows)), ["reached", *reached[1:]], fontsize=7.5)
    beside.spines["right"].set_visible(False)
    for axes in (left, right, beside):
        axes.tick_params(axis="y", length=0, pad=9 if axes is beside else 4)
