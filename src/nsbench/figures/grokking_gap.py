"""Grokking: from reaching the target's threshold on training data to reaching it on validation data, run by run."""

from __future__ import annotations

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import by_variant
from nsbench.figures.annotations import Axes, Cells, Figure, Table
from nsbench.figures.registry import figure


@figure(
    "grokking_gap",
    tables=["times", "effects", "selections"],
    title="Grokking: from fitting the training data to generalising, run by run",
    caption="Each line is a run: from the step at which it reaches the target's threshold on training data (hollow) to "
    "that at which it reaches it on validation data (filled). The line's length is the grokking gap. A run that does "
    "not generalise within its budget has an arrow there. Runs that never reach the threshold on training data, as "
    "where labels are noisy, have a mark alone.",
)
def draw(times: Table, effects: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A panel per variant with a line for each run, the arms of `comparison.shown` one below the other."""
    groups = {name: comparison.shown(group, selections) for name, group in by_variant(cells).items()}
    drawn = [cell for group in groups.values() for cell in group]
    entries = {name: curves.arm_entries(group, times, effects) for name, group in groups.items()}
    tallest = max(style.header_height(group[0].get("leaks", []), entries[name]) for name, group in groups.items())
    most = max(sum(len(cell["seeds"]) for cell in group) for group in groups.values())
    figure, columns = style.columns(
        len(groups), 1, 3.4, 0.9 + min(max(0.09 * most, 0.7), 4.5) + tallest, below=1.5, max_columns=4
    )
    for (name, group), (axes,) in zip(groups.items(), columns, strict=True):
        _panel(axes, group, times)
        style.header(axes, " /\n".join(name), group[0].get("leaks", []), entries[name])
        axes.set_xlabel("optimiser step")
        if style.is_first(axes):
            axes.set_ylabel("runs")
    key = [
        style.sign("threshold reached on training data", marker="o", ms=5, mfc="white", gid="fits"),
        style.sign("on validation data, and held", marker="o", ms=5, gid="generalises"),
        style.sign("not within the budget", marker=">", ms=5, gid="censored"),
    ]
    style.footer(figure, [footers.arms_text(drawn), *footers.remarks(times, drawn, scale, cells, selections, "")], key)
    return figure


def _panel(axes: Axes, group: Cells, times: Table) -> None:
    """The runs of one variant's arms, a line each, from top to bottom."""
    budget, y = group[0]["budget_steps"], 0
    for cell in group:
        colour = style.arm_colour(cell["arm_settings"])
        for fits, step in comparison.of_cell(times, cell)[["train_step", "step"]].to_numpy(float):
            end = step if step == step else budget
            if fits == fits:
                axes.plot([fits, end], [y, y], color=colour, lw=1.4, gid="gap")
                axes.plot(fits, y, "o", ms=4, mec=colour, mfc="white", mew=1.2, zorder=3, gid="fits")
            mark = {"marker": "o" if step == step else ">", "gid": "generalises" if step == step else "censored"}
            axes.plot(end, y, ls="", ms=4, color=colour, zorder=3, **mark)
            y += 1
        y += 1
    style.step_axis(axes, budget)
    axes.set_ylim(y - 0.5, -1)
    axes.set_yticks([])
