"""Figure 5: validation accuracy and loss over training, and each arm's time to target."""

from __future__ import annotations

import math
import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.figures import style
from nsbench.statistics import quantile

WORST = {"val_accuracy": -np.inf, "val_loss": np.inf}
MANY_VARIANTS = 4
LEGEND_WIDTH = 48
STRIP = 0.075
"""Height of an arm's row in the strip of times, as a share of the panel."""


def draw(history: pd.DataFrame, times: pd.DataFrame, cells: list[dict[str, Any]], task: str, scale: str) -> Figure:
    """A column per variant of `task`: accuracy above, loss (log) below, against optimiser steps.

    Thin lines are seeds, bold ones the pointwise median over all seeds of the grid, the dashed line
    is the target; the strip on top of its panel marks every seed's time to target, the median, and
    the censored. With more than four variants only the target's metric is drawn, four to a row.
    Takes `records.HISTORY` and `records.TIME_TO_TARGET`; a task without cells gives an empty panel.
    """
    cells = [cell for cell in cells if cell["task"] == task]
    if not cells:
        return style.empty(f"Figure 5: the grid has no cells of {task}", scale)
    groups = style.variants(cells)
    wrapped = len(groups) > MANY_VARIANTS
    n_columns = min(len(groups), MANY_VARIANTS)
    n_rows = math.ceil(len(groups) / n_columns) if wrapped else 2
    with style.applied():
        size = (max(3.5 * n_columns, 6.0), (2.5 if wrapped else 2.7) * n_rows + 1.4)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for place, (variant, group) in enumerate(groups.items()):
            metric = group[0]["target"]["metric"]
            shown = [metric] if wrapped else ["val_accuracy", "val_loss"]
            row, column = divmod(place, n_columns) if wrapped else (0, place)
            panels = [grid[row, column]] if wrapped else list(grid[:, column])
            for axes, panel_metric in zip(panels, shown, strict=True):
                _panel(axes, panel_metric, group, history, times)
                if column == 0 or (panel_metric != shown[0] == metric and wrapped):
                    axes.set_ylabel(style.METRIC_LABELS[panel_metric])
            _legend(panels[0], variant, group, times)
            panels[-1].set_xlabel("optimiser step")
        for axes in grid.flat[len(groups) :] if wrapped else []:
            axes.set_axis_off()
        arms = list(dict.fromkeys(style.arm_text(cell) for cell in cells))
        lines = [f"Arms: {'; '.join(arms)}.", style.scale_text(cells, scale)]
        style.footer(figure, lines, _key(), n_columns=3 if n_columns < 3 else 7)
    return figure


def _panel(axes: Axes, metric: str, group: list[dict[str, Any]], history: pd.DataFrame, times: pd.DataFrame) -> None:
    """The curves of one variant's arms and, where the target is of this metric, the target."""
    target, budget = group[0]["target"], group[0]["budget_steps"]
    lowest, highest = [], []
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        colour = style.arm_colour(cell["arm_settings"])
        curves = style.by_seed(style.of_cell(history, cell), metric, cell["seeds"])
        if metric == "val_loss":
            curves = curves.where(curves > 0)
        diverged = style.of_cell(times, cell).set_index("seed")["status"] == "diverged"
        for seed, curve in curves.items():
            axes.plot(curve.index, curve, color=colour, lw=0.7, alpha=0.4, gid="seed", zorder=2)
            seen = curve.dropna()
            if diverged[seed] and len(seen):
                axes.plot(seen.index[-1], seen.iloc[-1], "x", color=colour, ms=6, mew=1.6, gid="diverged", zorder=5)
        median = style.pointwise_median(curves, WORST[metric])
        axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid="median", zorder=3)
        finite = curves.where(np.isfinite(curves))
        lowest.append(finite.min().min())
        highest.append(finite.max().max())
    style.step_axis(axes, budget)
    is_target = target["metric"] == metric
    if is_target:
        axes.axhline(target["threshold"], color=style.MUTED, lw=1, ls=(0, (4, 3)), gid="target", zorder=1)
        lowest.append(target["threshold"])
        highest.append(target["threshold"])
    curves_top = 1 - (STRIP * len(group) + 0.03) * is_target
    if metric == "val_accuracy":
        floor = 0.4 if np.nanmin([*lowest, 1]) > 0.42 else -0.03
        axes.set_ylim(floor, floor + (1.02 - floor) / curves_top)
        axes.set_yticks([0.5, 0.75, 1] if floor > 0 else [0, 0.25, 0.5, 0.75, 1])
    else:
        low, high = np.nanmin([*lowest, 1e300]) / 1.15, np.nanmax([*highest, 1e-300]) * 1.15
        axes.set_yscale("log")
        if low < high:
            axes.set_ylim(low, low * (high / low) ** (1 / curves_top))
        style.log_axis(axes)
    if is_target:
        _times(axes, group, times)


def _times(axes: Axes, group: list[dict[str, Any]], times: pd.DataFrame) -> None:
    """The strip on top: a row per arm with each seed's time, the median, and the censored."""
    at = axes.get_xaxis_transform()
    for place, cell in enumerate(group):
        rows, colour = style.of_cell(times, cell), style.arm_colour(cell["arm_settings"])
        height = 1 - STRIP * (place + 0.5)
        reached = rows.loc[rows["reached"], "step"]
        common = {"transform": at, "color": colour, "ls": "", "clip_on": False}
        axes.plot(reached, [height] * len(reached), marker="|", ms=6, mew=1.1, gid="time", **common)
        median = quantile(rows["step"], 0.5)
        if np.isfinite(median):
            axes.plot(median, height, marker="D", ms=5.5, mec="white", mew=0.8, gid="median_time", zorder=6, **common)
        if not rows["reached"].all():
            end = cell["budget_steps"] * 1.02
            axes.plot(end, height, marker=">", ms=5, mfc="white", mew=1, gid="censored", zorder=6, **common)


def _legend(axes: Axes, variant: str, group: list[dict[str, Any]], times: pd.DataFrame) -> None:
    """Above the panel: the variant and, for each arm, how many runs reached the target and when."""
    handles = []
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        rows = style.of_cell(times, cell)
        median, n_diverged = quantile(rows["step"], 0.5), int((rows["status"] == "diverged").sum())
        text = f"{cell['arm']}: reached {int(rows['reached'].sum())}/{len(cell['seeds'])}"
        text += f", median {median:,.0f}" if np.isfinite(median) else ", median not reached"
        text += f", {n_diverged} diverged" if n_diverged else ""
        text = textwrap.fill(text, LEGEND_WIDTH)
        handles.append(Line2D([], [], color=style.arm_colour(cell["arm_settings"]), lw=2, ls=dashes, label=text))
    axes.legend(
        handles=handles,
        title=variant,
        title_fontproperties={"weight": "bold", "size": 9},
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        borderpad=0.1,
        labelspacing=0.25,
        handlelength=1.6,
    )


def _key() -> list[Line2D]:
    """What the signs mean, whatever the arm."""
    grey = {"color": style.MUTED}
    return [
        Line2D([], [], lw=0.7, alpha=0.6, label="one seed", **grey),
        Line2D([], [], lw=2, label="median over seeds", **grey),
        Line2D([], [], lw=1, ls=(0, (4, 3)), label="target", **grey),
        Line2D([], [], ls="", marker="|", ms=6, mew=1.1, label="a seed's time to target", **grey),
        Line2D([], [], ls="", marker="D", ms=5.5, mec="white", label="median time", **grey),
        Line2D([], [], ls="", marker=">", ms=5, mfc="white", label="some seeds not within budget", **grey),
        Line2D([], [], ls="", marker="x", ms=6, mew=1.6, label="diverged", **grey),
    ]
