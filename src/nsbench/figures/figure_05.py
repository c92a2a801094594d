"""Figure 5: validation accuracy and loss over training, and each arm's time to target."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nsbench.figures import comparison, curves, style

MANY_VARIANTS = 4


def draw(
    history: pd.DataFrame,
    times: pd.DataFrame,
    cells: list[dict[str, Any]],
    task: str,
    scale: str,
    selections: pd.DataFrame | None = None,
) -> Figure:
    """A column per variant of `task`: accuracy above, loss (log) below, against optimiser steps.

    Thin lines are seeds, bold ones the pointwise median over all seeds of the grid, the dashed line
    is the target; the strip on top of its panel marks every seed's time to target, the median, and
    the censored. With more than four variants only the target's metric is drawn, four to a row. Of a
    sweep it shows the arm that the validation data select (`schemas.analysis.SELECTION`).
    Takes `schemas.training.HISTORY` and `schemas.training.TIME_TO_TARGET`; a task without cells gives an empty panel.
    """
    cells = [cell for cell in cells if cell["task"] == task]
    if not cells:
        return style.empty(f"Figure 5: the grid has no cells of {task}", scale)
    groups = {name: comparison.shown(group, selections) for name, group in style.variants(cells).items()}
    every, cells = cells, [cell for group in groups.values() for cell in group]
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
                    axes.set_ylabel(style.metric_label(panel_metric))
            curves.header(panels[0], variant, group[0].get("leaks", []), curves.arm_entries(group, times))
            panels[-1].set_xlabel("optimiser step")
        for axes in grid.flat[len(groups) :] if wrapped else []:
            axes.set_axis_off()
        arms = list(dict.fromkeys(style.arm_text(cell) for cell in cells))
        choice = comparison.choice_line(every, cells, selections)
        lines = [
            f"Arms: {'; '.join(arms)}.",
            *style.stopped_line(times, cells),
            *choice,
            style.scale_text(cells, scale),
        ]
        style.footer(figure, lines, curves.times_key(), n_columns=3 if n_columns < 3 else 7)
    return figure


def _panel(axes: Axes, metric: str, group: list[dict[str, Any]], history: pd.DataFrame, times: pd.DataFrame) -> None:
    """The curves of one variant's arms and, where the target is of this metric, the target."""
    target, budget = group[0]["target"], group[0]["budget_steps"]
    extremes = [
        curves.of_runs(axes, cell, history, times, metric, dashes)
        for cell, dashes in zip(group, style.arm_dashes(group), strict=True)
    ]
    style.step_axis(axes, budget)
    is_target = target["metric"] == metric
    if is_target:
        curves.target_line(axes, target["threshold"])
        extremes.append((target["threshold"], target["threshold"]))
    lowest, highest = zip(*extremes, strict=True)
    curves_top = curves.below_strip(group) if is_target else 1.0
    if curves.is_loss(metric):
        low, high = np.nanmin([*lowest, 1e300]) / 1.15, np.nanmax([*highest, 1e-300]) * 1.15
        axes.set_yscale("log")
        if low < high:
            axes.set_ylim(low, low * (high / low) ** (1 / curves_top))
        style.log_axis(axes)
    else:
        floor = 0.4 if np.nanmin([*lowest, 1]) > 0.42 else -0.03
        axes.set_ylim(floor, floor + (1.02 - floor) / curves_top)
        axes.set_yticks([0.5, 0.75, 1] if floor > 0 else [0, 0.25, 0.5, 0.75, 1])
    if is_target:
        curves.times_strip(axes, group, times)
