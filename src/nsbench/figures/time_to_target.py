"""Time to target as Kaplan-Meier curves: the share of runs that have reached the target by each step."""

from __future__ import annotations

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import by_variant
from nsbench.figures.annotations import Axes, Cells, Figure, Table
from nsbench.figures.registry import figure

_SETTLED = "Beside the counts: what the pairs of seeds settle of the steps (table of effects)."


@figure(
    "time_to_target",
    tables=["times", "kaplan_meier", "effects", "selections"],
    title="Time to target: share of runs that have reached it, by step",
    caption="Kaplan-Meier curves of each variant's arms. Bands are Wilson's intervals for the share at each "
    "step by itself, of arms with more than one run. A run that does not hold the target "
    "within its budget is censored there, a diverged one too, and counts in the denominator all along. Where a "
    "curve rises first its arm is sooner; where it ends below 1 runs were left over. The curves leave the pairs of "
    "seeds out of account; beside each arm stands what these settle.",
)
def draw(times: Table, kaplan_meier: Table, effects: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A small panel per variant: 1 - S, the share of runs that have reached the target, against optimiser steps.

    The arms are those of `comparison.shown`; bands are the table's intervals, ticks at the budget mark arms with
    censored runs.
    """
    groups = {name: comparison.shown(group, selections) for name, group in by_variant(cells).items()}
    drawn = [cell for group in groups.values() for cell in group]
    many_tasks = len({task for task, _ in groups}) > 1
    entries = {name: curves.arm_entries(group, times, effects) for name, group in groups.items()}
    tallest = max(style.header_height(group[0].get("leaks", []), entries[name]) for name, group in groups.items())
    figure, columns = style.columns(len(groups), 1, 3.4, 1.95 + tallest, below=1.6, max_columns=4)
    for ((task, variant), group), (axes,) in zip(groups.items(), columns, strict=True):
        _panel(axes, group, kaplan_meier)
        title = f"{task} /\n{variant}" if many_tasks else variant
        style.header(axes, title, group[0].get("leaks", []), entries[task, variant])
        axes.set_xlabel("optimiser step")
        if style.is_first(axes):
            axes.set_ylabel("share of runs that\nreached the target")
    remarks = footers.remarks(times, drawn, scale, cells, selections, stopped="")
    confidence = kaplan_meier["confidence"].iloc[0]
    key = [
        style.sign("share that has reached the target", lw=2, drawstyle="steps-post", gid="curve"),
        style.sign(f"{confidence:.0%} interval at each step", lw=7, alpha=0.25, gid="band"),
        style.sign("runs censored at the budget", marker="|", ms=9, mew=1.6, gid="censored"),
    ]
    style.footer(figure, [f"{footers.arms_text(drawn)} {_SETTLED}", *remarks], key)
    return figure


def _panel(axes: Axes, group: Cells, kaplan_meier: Table) -> None:
    """The curves of one variant's arms with their intervals and ticks; the first ones wide, so that curves that lie on
    each other are all seen."""
    budget = group[0]["budget_steps"]
    for place, (cell, dashes) in enumerate(zip(group, style.arm_dashes(group), strict=True)):
        colour, curve = style.arm_colour(cell["arm_settings"]), comparison.of_cell(kaplan_meier, cell)
        steps, reached = curve["step"], 1 - curve["not_reached"]
        if curve["low"].notna().any():
            band = {"step": "post", "color": colour, "alpha": 0.1, "lw": 0, "gid": "band"}
            axes.fill_between(steps, 1 - curve["high"], 1 - curve["low"], **band)
        line = {"lw": max(3.2 - 1.1 * place, 1.0), "ls": dashes, "drawstyle": "steps-post"}
        axes.plot(steps, reached, color=colour, gid="curve", zorder=3, **line)
        if curve["censored"].sum():
            axes.plot(budget, reached.iloc[-1], "|", color=colour, ms=9, mew=1.6, gid="censored", zorder=5)
    style.step_axis(axes, budget)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
