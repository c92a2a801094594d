"""Figure 14: noise stability at rho = 1/2 of next-token predictors over training, above the loss."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from nsbench.figures import comparison, curves, style

TASK = "next_token"
METRICS = {"stability": "noise stability, ρ = 1/2", "val_loss": style.metric_label("val_loss")}


def draw(
    history: pd.DataFrame, times: pd.DataFrame, selections: pd.DataFrame, cells: list[dict[str, Any]], scale: str
) -> Figure:
    """A column per variant: the mean of <M(X), M(Y)> over validation data above the validation loss.

    Both are of `schemas.training.HISTORY`. Arms are those of `comparison.compared`; thin lines are seeds,
    bold ones medians. A grid without the task gives an empty panel.
    """
    cells = [cell for cell in cells if cell["task"] == TASK]
    if not cells:
        return style.empty(f"Figure 14: the grid has no cells of {TASK}", scale)
    groups = {name: comparison.compared(group, selections) for name, group in style.variants(cells).items()}
    shown = [cell for group in groups.values() for cell in group]
    n_rows, n_columns, places = style.blocks(len(groups), len(METRICS))
    with style.applied():
        figure = Figure(figsize=(max(3.7 * n_columns, 6.2), 2.6 * n_rows + 1.5), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (variant, group), at in zip(groups.items(), places, strict=True):
            for metric, (row, column) in zip(METRICS, at, strict=True):
                axes = grid[row, column]
                axes.set_axis_on()
                for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
                    curves.of_runs(axes, cell, history, times, metric, dashes)
                style.step_axis(axes, group[0]["budget_steps"])
                if metric == "stability":
                    axes.set_ylim(bottom=min(0.0, axes.dataLim.y0))
                    curves.header(axes, variant, group[0]["leaks"], curves.arm_entries(group))
                else:
                    style.loss_axis(axes, axes.dataLim.y0, axes.dataLim.y1)
                if column == 0:
                    axes.set_ylabel(METRICS[metric])
            axes.set_xlabel("optimiser step")
        lines = [
            _what(shown),
            *style.stopped_line(times, shown),
            *comparison.choice_line(cells, shown, selections),
            *style.text_lines(times, shown),
            style.scale_text(shown, scale),
        ]
        style.footer(figure, lines, curves.run_key(), n_columns=3)
    return figure


def _what(cells: list[dict[str, Any]]) -> str:
    """What the stability is a mean of."""
    every = {cell["settings"]["data"].get("targets") for cell in cells}
    where = {
        frozenset({"every"}): "at each position, then averaged",
        frozenset({"last"}): "at the one position with a target",
    }.get(frozenset(every), "at each position that has a target")
    return (
        f"Stability is the mean over validation data of <M(X), M(Y)>, Definition 6.1 with ρ = 1/2, taken {where}. The "
        "regularised arms are trained on a quantity of this kind."
    )
