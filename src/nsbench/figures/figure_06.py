"""Figure 6: validation accuracy of next-token prediction over training, beside the floors."""

from __future__ import annotations

import numpy as np

import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cells, Figure, Line2D, Table
from nsbench.figures.figure_05 import READING
from nsbench.figures.registry import figure

PAPER_ACCURACY = 0.7
"""The level that section J.3 times."""
PAPER_LOOK = {"color": "#8A6D00", "lw": 0.8, "ls": "-"}


@figure(
    "figure_06",
    tables=["history", "times", "floors", "selections"],
    tasks=["next_token"],
    title="Figure 6 of the paper, next-token prediction: validation accuracy with and without the regulariser",
    caption=READING.replace("its panel", "each panel")
    + " Blue lines are floors, what an answer without a model reaches on validation data: always the commonest "
    "target, and a table of the last token (bigram). The paper reports 70% accuracy within 1,000 steps with the "
    "regulariser against 4,000 without, which is 75% fewer steps, or 300% faster; the thin solid line is that "
    "level." + curves.PROTOCOLS,
)
def draw(history: Table, times: Table, floors: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A panel per variant (protocol): the target's accuracy, or that over all targets, against steps.

    The arms are those of `comparison.shown`. Lines across are the floors on validation data
    (`schemas.training.FLOORS`, medians over seeds), the target where it is of accuracy, and the paper's 70%.
    """
    groups = curves.groups_of(cells, selections)
    drawn = [cell for group in groups.values() for cell in group]
    arms = {variant: curves.arm_entries(group, times) for variant, group in groups.items()}
    tallest = max(style.header_height(group[0]["leaks"], arms[variant]) for variant, group in groups.items())
    figure, columns = style.columns(len(groups), 1, 3.9, 2.7 + tallest, below=1.3)
    for (variant, group), (axes,) in zip(groups.items(), columns, strict=True):
        metric = group[0]["target"]["metric"]
        metric = "val_accuracy" if curves.is_loss(metric) else metric
        entries = _panel(axes, metric, group, history, times, floors)
        style.header(axes, variant, group[0]["leaks"], arms[variant] + entries)
        axes.set(xlabel="optimiser step", ylabel=style.metric_label(metric))
    lines = [*_targets(groups), *footers.remarks(times, drawn, scale, cells, selections)]
    style.footer(figure, lines, [*curves.times_key(), style.sign("70%, the paper's level", **PAPER_LOOK)])
    return figure


def _panel(axes: Axes, metric: str, group: Cells, history: Table, times: Table, floors: Table) -> list[Line2D]:
    """One variant's curves, lines across and strip; returns the legend's entries of the floors."""
    target = group[0]["target"]
    tops = [PAPER_ACCURACY, curves.of_arms(axes, group, history, times, metric)[1]]
    if target["metric"] == metric:
        curves.target_line(axes, target["threshold"])
        tops.append(target["threshold"])
    axes.axhline(PAPER_ACCURACY, gid="paper", zorder=1, **PAPER_LOOK)
    top = np.nanmax(tops)
    axes.set_ylim(-0.02, (top + 0.05) / curves.times_strip(axes, group, times))
    axes.set_yticks(np.arange(0, top + 0.05, 0.1 if top < 0.85 else 0.2))
    return curves.floor_lines(axes, floors, group[0], metric)[1]


def _targets(groups: dict[str, Cells]) -> list[str]:
    """A line on the targets that are not of the accuracy drawn, which the strip is about."""
    found = [
        f"{variant}: {style.metric_label(group[0]['target']['metric'])} {group[0]['target']['threshold']:g}"
        for variant, group in groups.items()
        if curves.is_loss(group[0]["target"]["metric"])
    ]
    return [f"Target, where it is not of accuracy: {'; '.join(found)}.".replace("\n", " ")] if found else []
