"""Figure 12: validation accuracy of next-token prediction by which targets are counted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.figures import comparison, curves, style

TASK = "next_token"
METRICS = ["val_accuracy", "val_accuracy_unpadded", "val_accuracy_known"]
AS_ABOVE = "the same as above:\nno such targets in these data"


def draw(
    history: pd.DataFrame,
    times: pd.DataFrame,
    floors: pd.DataFrame,
    selections: pd.DataFrame,
    cells: list[dict[str, Any]],
    scale: str,
) -> Figure:
    """A column per variant and a row per kind of targets counted: all; without padding; without
    padding and unknown words. A row that equals the one above in every variant is left out.

    Arms, floors and signs as in figure 6; the panels of a variant share their vertical range. A grid
    without the task gives an empty panel.
    """
    cells = [cell for cell in cells if cell["task"] == TASK]
    if not cells:
        return style.empty(f"Figure 12: the grid has no cells of {TASK}", scale)
    groups = {name: comparison.compared(group, selections) for name, group in style.variants(cells).items()}
    shown = [cell for group in groups.values() for cell in group]
    metrics = [metric for metric in METRICS if metric not in _same(history, shown, METRICS)]
    n_rows, n_columns, places = style.blocks(len(groups), len(metrics))
    with style.applied():
        arms = {variant: curves.arm_entries(group) for variant, group in groups.items()}
        tallest = max(curves.header_height(group[0]["leaks"], arms[variant]) for variant, group in groups.items())
        height = 2.5 * n_rows + tallest * n_rows / len(metrics) + 1.2
        figure = Figure(figsize=(max(3.7 * n_columns, 6.2), height), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (variant, group), at in zip(groups.items(), places, strict=True):
            panels = [grid[place] for place in at]
            same = _same(history, group, metrics)
            for metric, axes in zip(metrics, panels, strict=True):
                if metric in same:
                    axes.text(0.5, 0.5, AS_ABOVE, ha="center", transform=axes.transAxes, color=style.MUTED, gid="same")
                    continue
                axes.set_axis_on()
                entries = _panel(axes, metric, group, history, times, floors)
                first = metric == metrics[0]
                curves.header(
                    axes,
                    variant if first else "",
                    group[0]["leaks"] if first else [],
                    arms[variant] * first + entries,
                )
                axes.set_ylabel(_label(metric))
            drawn = [axes for metric, axes in zip(metrics, panels, strict=True) if metric not in same]
            drawn[-1].set_xlabel("optimiser step")
            _share(drawn)
        lines = [
            *_left_out(metrics),
            *style.stopped_line(times, shown),
            *comparison.choice_line(cells, shown, selections),
            *style.text_lines(times, shown),
            style.scale_text(shown, scale),
        ]
        style.footer(figure, lines, curves.run_key(), n_columns=3)
    return figure


def _panel(
    axes: Axes,
    metric: str,
    group: list[dict[str, Any]],
    history: pd.DataFrame,
    times: pd.DataFrame,
    floors: pd.DataFrame,
) -> list[Line2D]:
    """One variant's curves and floors; returns the legend's entries of the floors."""
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        curves.of_runs(axes, cell, history, times, metric, dashes)
    style.step_axis(axes, group[0]["budget_steps"])
    return curves.floor_lines(axes, floors, group[0], metric)


def _same(history: pd.DataFrame, cells: list[dict[str, Any]], metrics: list[str]) -> set[str]:
    """The metrics whose values in these cells are those of the one before."""
    rows = pd.concat([style.of_cell(history, cell) for cell in cells])
    return {
        metric
        for before, metric in itertools.pairwise(metrics)
        if np.array_equal(rows[before].to_numpy(float), rows[metric].to_numpy(float), equal_nan=True)
    }


def _share(panels: list[Axes]) -> None:
    """One vertical range for the panels of a variant, from 0."""
    highest = max(axes.dataLim.y1 for axes in panels)
    for axes in panels:
        axes.set_ylim(-0.02 * highest, 1.05 * highest)


def _label(metric: str) -> str:
    return f"validation accuracy,\n{style.COUNTED_LABELS[curves.counted(metric)]}"


def _left_out(metrics: list[str]) -> list[str]:
    """A line on the kinds of targets that make no difference."""
    missing = [style.COUNTED_LABELS[curves.counted(metric)] for metric in METRICS if metric not in metrics]
    return [f"Not drawn, since it changes nothing here: counting targets {' or '.join(missing)}."] if missing else []
