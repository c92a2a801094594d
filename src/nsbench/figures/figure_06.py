"""Figure 6: validation accuracy of next-token prediction over training, beside the floors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.figures import comparison, curves, style

TASK = "next_token"
PAPER_ACCURACY = 0.7
"""The level that section J.3 times."""
PAPER_LOOK = {"color": "#8A6D00", "lw": 0.8, "ls": "-"}


def draw(
    history: pd.DataFrame,
    times: pd.DataFrame,
    floors: pd.DataFrame,
    selections: pd.DataFrame,
    cells: list[dict[str, Any]],
    scale: str,
) -> Figure:
    """A panel per variant (protocol) of next-token prediction: the target's accuracy against steps.

    The arms are those of `comparison.compared`. Lines across are the floors on validation data
    (`schemas.training.FLOORS`, medians over seeds), the target where it is of accuracy, and the paper's
    70%; the strip on top marks times to target (`schemas.training.TIME_TO_TARGET`) as in figure 5. A grid
    without the task gives an empty panel.
    """
    cells = [cell for cell in cells if cell["task"] == TASK]
    if not cells:
        return style.empty(f"Figure 6: the grid has no cells of {TASK}", scale)
    groups = {name: comparison.compared(group, selections) for name, group in style.variants(cells).items()}
    shown = [cell for group in groups.values() for cell in group]
    n_rows, n_columns, places = style.blocks(len(groups), 1)
    with style.applied():
        arms = {variant: curves.arm_entries(group, times) for variant, group in groups.items()}
        tallest = max(curves.header_height(group[0]["leaks"], arms[variant]) for variant, group in groups.items())
        height = (2.7 + tallest) * n_rows + 1.3
        figure = Figure(figsize=(max(3.9 * n_columns, 6.2), height), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (variant, group), [(row, column)] in zip(groups.items(), places, strict=True):
            axes = grid[row, column]
            axes.set_axis_on()
            metric = _metric(group)
            floor_entries = _panel(axes, metric, group, history, times, floors)
            curves.header(axes, variant, group[0]["leaks"], arms[variant] + floor_entries)
            axes.set_xlabel("optimiser step")
            if column == 0 or metric != _metric(next(iter(groups.values()))):
                axes.set_ylabel(style.metric_label(metric))
        lines = [
            *_targets(groups),
            *style.stopped_line(times, shown),
            *comparison.choice_line(cells, shown, selections),
            *style.text_lines(times, shown),
            style.scale_text(shown, scale),
        ]
        style.footer(figure, lines, _key(), n_columns=3 if n_columns < 3 else 4)
    return figure


def _metric(group: list[dict[str, Any]]) -> str:
    """The target's metric where that is an accuracy, else the accuracy over all targets."""
    metric = group[0]["target"]["metric"]
    return "val_accuracy" if curves.is_loss(metric) else metric


def _panel(
    axes: Axes,
    metric: str,
    group: list[dict[str, Any]],
    history: pd.DataFrame,
    times: pd.DataFrame,
    floors: pd.DataFrame,
) -> list[Line2D]:
    """One variant's curves, lines across and strip; returns the legend's entries of the floors."""
    target = group[0]["target"]
    tops = [PAPER_ACCURACY]
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        tops.append(curves.of_runs(axes, cell, history, times, metric, dashes)[1])
    if target["metric"] == metric:
        curves.target_line(axes, target["threshold"])
        tops.append(target["threshold"])
    axes.axhline(PAPER_ACCURACY, gid="paper", zorder=1, **PAPER_LOOK)
    style.step_axis(axes, group[0]["budget_steps"])
    axes.set_ylim(-0.02, (np.nanmax(tops) + 0.05) / curves.below_strip(group))
    axes.set_yticks(np.arange(0, np.nanmax(tops) + 0.05, 0.1 if np.nanmax(tops) < 0.85 else 0.2))
    curves.times_strip(axes, group, times)
    return curves.floor_lines(axes, floors, group[0], metric)


def _targets(groups: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A line on the targets that are not of the accuracy drawn, which the strip is about."""
    found = {
        variant: f"{style.metric_label(target['metric'])} {target['threshold']:g}".replace("\n", " ")
        for variant, target in ((variant, group[0]["target"]) for variant, group in groups.items())
        if curves.is_loss(target["metric"])
    }
    if not found:
        return []
    return [f"Target, where it is not of accuracy: {'; '.join(f'{name}: {text}' for name, text in found.items())}."]


def _key() -> list[Line2D]:
    return [*curves.times_key(), Line2D([], [], label="70%, the paper's level", **PAPER_LOOK)]
