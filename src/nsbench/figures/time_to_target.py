"""Time to target as Kaplan-Meier curves: the share of runs that have reached the target by each step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.analysis.scores import by_variant
from nsbench.figures import comparison, curves, style

COLUMNS = 4
WIDTHS = (3.2, 2.0, 1.0)
"""Line widths of a panel's arms in their order: of curves that lie on each other all are seen."""
_P = "p: logrank test against the baseline, without regard to pairs; of one comparison, not corrected for several."


def draw(
    times: pd.DataFrame,
    kaplan_meier: pd.DataFrame,
    effects: pd.DataFrame,
    cells: list[dict[str, Any]],
    scale: str,
    task: str | None = None,
    selections: pd.DataFrame | None = None,
) -> Figure:
    """A small panel per variant: 1 - S, the share of runs that have reached the target, against optimiser steps.

    Variants that are in the grid only for a specification curve are left out. The arms are those of
    `comparison.shown`; bands are pointwise log-log intervals, ticks at the budget mark arms with
    censored runs. Takes `schemas.training.TIME_TO_TARGET`, `survival.KAPLAN_MEIER` and
    `schemas.statistics.PAIRED_EFFECT`, for all tasks or for `task`; a grid without cells to show gives an empty panel.
    """
    cells = [cell for cell in comparison.ordinary(cells) if task is None or cell["task"] == task]
    if not cells:
        return style.empty(f"Time to target: the grid has no cells{f' of {task}' if task else ''}", scale)
    groups = {name: comparison.shown(group, selections) for name, group in by_variant(cells).items()}
    shown = [cell for group in groups.values() for cell in group]
    many_tasks = len({name for name, _ in groups}) > 1
    entries = {name: _entries(group, times, effects) for name, group in groups.items()}
    tallest = max(curves.header_height(group[0].get("leaks", []), entries[name]) for name, group in groups.items())
    n_rows, n_columns, places = style.blocks(len(groups), 1, COLUMNS)
    with style.applied():
        size = (max(3.1 * n_columns, 6.2), (1.95 + tallest) * n_rows + 1.6)
        figure = Figure(figsize=size, layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for ((of_task, variant), group), [(row, column)] in zip(groups.items(), places, strict=True):
            axes = grid[row, column]
            axes.set_axis_on()
            _panel(axes, group, kaplan_meier)
            title = f"{of_task} /\n{variant}" if many_tasks else variant
            curves.header(axes, title, group[0].get("leaks", []), entries[of_task, variant])
            axes.set_xlabel("optimiser step")
            if column == 0:
                axes.set_ylabel("share of runs that\nreached the target")
        arms = list(dict.fromkeys(style.arm_text(cell) for cell in shown))
        lines = [
            f"Arms: {'; '.join(arms)}. {_P}",
            *_diverged(shown, times),
            *comparison.choice_line(cells, shown, selections),
            *style.text_lines(times, shown),
            style.scale_text(shown, scale),
        ]
        style.footer(figure, lines, _key(kaplan_meier), n_columns=3 if n_columns > 2 else 2)
    return figure


def _of(table: pd.DataFrame, cell: dict[str, Any]) -> pd.DataFrame:
    """A cell's rows of a table by cell."""
    return table[
        (table["task"] == cell["task"]) & (table["variant"] == cell["variant"]) & (table["arm"] == cell["arm"])
    ]


def _widths(group: list[dict[str, Any]]) -> list[float]:
    return [WIDTHS[min(place, len(WIDTHS) - 1)] for place in range(len(group))]


def _panel(axes: Axes, group: list[dict[str, Any]], kaplan_meier: pd.DataFrame) -> None:
    """The curves of one variant's arms with their intervals and ticks."""
    budget = group[0]["budget_steps"]
    for cell, dashes, width in zip(group, style.arm_dashes(group), _widths(group), strict=True):
        colour = style.arm_colour(cell["arm_settings"])
        curve = _of(kaplan_meier, cell).sort_values("step")
        reached = 1 - curve["not_reached"]
        axes.fill_between(
            curve["step"], 1 - curve["high"], 1 - curve["low"], step="post", color=colour, alpha=0.1, lw=0, gid="band"
        )
        axes.plot(
            curve["step"], reached, drawstyle="steps-post", color=colour, lw=width, ls=dashes, gid="curve", zorder=3
        )
        if curve["censored"].sum():
            axes.plot(budget, reached.iloc[-1], "|", color=colour, ms=9, mew=1.6, gid="censored", zorder=5)
    style.step_axis(axes, budget)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])


def _entries(group: list[dict[str, Any]], times: pd.DataFrame, effects: pd.DataFrame) -> list[Line2D]:
    """A legend's entry for each arm: how many of its runs reached the target, and p against the baseline."""
    handles = []
    for cell, dashes, width in zip(group, style.arm_dashes(group), _widths(group), strict=True):
        n_reached = int(style.of_cell(times, cell)["reached"].sum())
        text = f"{n_reached}/{len(cell['seeds'])} reached"
        p = _of(effects, cell)["p_logrank"]
        if len(p) and np.isfinite(p.iloc[0]):
            text += f", p {'< 0.001' if p.iloc[0] < 0.001 else f'= {p.iloc[0]:.2g}'}"
        text = f"{cell['arm']}: {text}" if len(cell["arm"]) < 16 else f"{cell['arm']}:\n{text}"
        handles.append(Line2D([], [], color=style.arm_colour(cell["arm_settings"]), lw=width, ls=dashes, label=text))
    return handles


def _diverged(cells: list[dict[str, Any]], times: pd.DataFrame) -> list[str]:
    """A footer's line on diverged runs, where there are such."""
    count = sum(int((style.of_cell(times, cell)["status"] == "diverged").sum()) for cell in cells)
    if not count:
        return []
    return [f"{count} diverged run{' counts' if count == 1 else 's count'} as not reaching the target by the budget."]


def _key(kaplan_meier: pd.DataFrame) -> list[Line2D]:
    """What the signs mean, whatever the arm."""
    confidence = kaplan_meier["confidence"].iloc[0]
    return [
        Line2D([], [], color=style.MUTED, lw=2, drawstyle="steps-post", label="share that has reached the target"),
        Line2D([], [], color=style.MUTED, lw=7, alpha=0.25, label=f"{confidence:.0%} interval at each step"),
        Line2D([], [], color=style.MUTED, ls="", marker="|", ms=9, mew=1.6, label="runs censored at the budget"),
    ]
