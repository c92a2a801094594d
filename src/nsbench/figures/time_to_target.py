"""Time to target as Kaplan-Meier curves: the share of runs that have reached the target by each step."""

from __future__ import annotations

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cells, Figure, Line2D, Table
from nsbench.figures.registry import figure

WIDTHS = (3.2, 2.0, 1.0)
"""Line widths of a panel's arms in their order: of curves that lie on each other all are seen."""
_P = "p: logrank test against the baseline, without regard to pairs; of one comparison, not corrected for several."


@figure(
    "time_to_target",
    tables=["times", "kaplan_meier", "effects", "selections"],
    title="Time to target: share of runs that have reached it, by step",
    caption="Kaplan-Meier curves of each variant's arms, with pointwise intervals. A run that does not hold the target "
    "within its budget is censored there, a diverged one too, and counts in the denominator all along. Where a "
    "curve rises first its arm is sooner; where it ends below 1 runs were left over. The curves leave the pairs of "
    "seeds out of account: the table of effects has them.",
)
def draw(times: Table, kaplan_meier: Table, effects: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A small panel per variant: 1 - S, the share of runs that have reached the target, against optimiser steps.

    The arms are those of `comparison.shown`; bands are pointwise log-log intervals, ticks at the budget mark arms with
    censored runs.
    """
    groups = {name: comparison.shown(group, selections) for name, group in comparison.by_variant(cells).items()}
    drawn = [cell for group in groups.values() for cell in group]
    many_tasks = len({task for task, _ in groups}) > 1
    entries = {name: _entries(group, times, effects) for name, group in groups.items()}
    tallest = max(curves.header_height(group[0].get("leaks", []), entries[name]) for name, group in groups.items())
    figure, columns = style.columns(len(groups), 1, 3.1, 1.95 + tallest, below=1.6, max_columns=4)
    for ((task, variant), group), (axes,) in zip(groups.items(), columns, strict=True):
        _panel(axes, group, kaplan_meier)
        title = f"{task} /\n{variant}" if many_tasks else variant
        curves.header(axes, title, group[0].get("leaks", []), entries[task, variant])
        axes.set_xlabel("optimiser step")
        if style.is_first(axes):
            axes.set_ylabel("share of runs that\nreached the target")
    lines = [
        f"{style.arms_text(drawn)} {_P}",
        *_diverged(drawn, times),
        *comparison.choice_line(cells, drawn, selections),
        *style.text_lines(times, drawn),
        style.scale_text(drawn, scale),
    ]
    confidence = kaplan_meier["confidence"].iloc[0]
    key = [
        style.sign("share that has reached the target", lw=2, drawstyle="steps-post"),
        style.sign(f"{confidence:.0%} interval at each step", lw=7, alpha=0.25),
        style.sign("runs censored at the budget", marker="|", ms=9, mew=1.6),
    ]
    style.footer(figure, lines, key, n_columns=3 if len(groups) > 2 else 2)
    return figure


def _looks(group: Cells) -> Cells:
    """How the line of each arm of a variant looks."""
    dashes = style.arm_dashes(group)
    return [
        {"color": style.arm_colour(cell["arm_settings"]), "lw": WIDTHS[min(place, len(WIDTHS) - 1)], "ls": dash}
        for place, (cell, dash) in enumerate(zip(group, dashes, strict=True))
    ]


def _panel(axes: Axes, group: Cells, kaplan_meier: Table) -> None:
    """The curves of one variant's arms with their intervals and ticks."""
    budget = group[0]["budget_steps"]
    for cell, look in zip(group, _looks(group), strict=True):
        curve = style.of_cell(kaplan_meier, cell)
        steps, reached = curve["step"], 1 - curve["not_reached"]
        band = {"step": "post", "color": look["color"], "alpha": 0.1, "lw": 0, "gid": "band"}
        axes.fill_between(steps, 1 - curve["high"], 1 - curve["low"], **band)
        axes.plot(steps, reached, drawstyle="steps-post", gid="curve", zorder=3, **look)
        if curve["censored"].sum():
            axes.plot(budget, reached.iloc[-1], "|", color=look["color"], ms=9, mew=1.6, gid="censored", zorder=5)
    style.step_axis(axes, budget)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])


def _entries(group: Cells, times: Table, effects: Table) -> list[Line2D]:
    """A legend's entry for each arm: how many of its runs reached the target, and p against the baseline."""
    entries = []
    for cell, look in zip(group, _looks(group), strict=True):
        text = f"{int(style.of_cell(times, cell)['reached'].sum())}/{len(cell['seeds'])} reached"
        p = style.of_cell(effects, cell)["p_logrank"]
        if len(p) and np.isfinite(p.iloc[0]):
            text += f", p {'< 0.001' if p.iloc[0] < 0.001 else f'= {p.iloc[0]:.2g}'}"
        entries.append(style.sign(f"{cell['arm']}:{' ' if len(cell['arm']) < 16 else chr(10)}{text}", **look))
    return entries


def _diverged(cells: Cells, times: Table) -> list[str]:
    """A footer's line on diverged runs, where there are such."""
    count = sum(int((style.of_cell(times, cell)["status"] == "diverged").sum()) for cell in cells)
    if not count:
        return []
    return [f"{count} diverged run{' counts' if count == 1 else 's count'} as not reaching the target by the budget."]
