"""Figure 5: validation accuracy and loss over training, and each arm's time to target; of every task but next tokens,
which Figure 6 shows."""

from __future__ import annotations

import numpy as np

import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cells, Figure, Table
from nsbench.figures.registry import figure

MANY_VARIANTS = 4
TABLES = ("history", "times", "selections")
PAPER = {
    "modular_addition": " The paper reports about 4,500 steps without and 3,300 with it, which is 26.7% fewer steps, "
    "or 36.4% faster.",
    "sparse_parity": " The paper reports a speed-up of about 35%.",
}
TITLE = "{task}: training with and without the regulariser"
READING = (
    "Thin lines are single seeds, bold lines the pointwise median over all seeds of the grid (a diverged run "
    "counts as the worst value from where it ends). The dashed line is the target, fixed before anything ran. "
    "The strip on top of its panel marks when each run first reached the target and held it, a diamond their "
    "median, an arrow runs that did not hold it within the budget. Arms share data, initial weights and batch "
    "order seed by seed."
)


def is_not_of_the_paper(group: Cells) -> bool:
    """Whether a variant is of a task whose curves are in no figure of the paper."""
    return group[0]["task"] not in (*PAPER, "next_token")


@figure("curves", tables=TABLES, title=TITLE, caption=READING, needs=is_not_of_the_paper, each_task=True)
@figure(
    "figure_05",
    tables=TABLES,
    title=f"Figure 5 of the paper, {TITLE}",
    caption=READING,
    notes=PAPER,
    tasks=PAPER,
    each_task=True,
)
def draw(history: Table, times: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A column per variant: accuracy above, loss (log) below, against optimiser steps.

    With more than four variants only the target's metric is drawn, four to a row. Of a sweep it shows the arm that the
    validation data select (`schemas.analysis.SELECTION`).
    """
    groups = curves.groups_of(cells, selections)
    drawn = [cell for group in groups.values() for cell in group]
    many = len(groups) > MANY_VARIANTS
    figure, columns = style.columns(len(groups), 1 if many else 2, 3.5, 2.7, below=1.4, max_columns=MANY_VARIANTS)
    for (variant, group), panels in zip(groups.items(), columns, strict=True):
        metrics = [group[0]["target"]["metric"]] if many else ["val_accuracy", "val_loss"]
        for axes, metric in zip(panels, metrics, strict=True):
            _panel(axes, metric, group, history, times)
            if style.is_first(axes):
                axes.set_ylabel(style.metric_label(metric))
        style.header(panels[0], variant, group[0].get("leaks", []), curves.arm_entries(group, times))
        panels[-1].set_xlabel("optimiser step")
    lines = [footers.arms_text(drawn), *footers.remarks(times, drawn, scale, cells, selections)]
    style.footer(figure, lines, curves.times_key())
    return figure


def _panel(axes: Axes, metric: str, group: Cells, history: Table, times: Table) -> None:
    """The curves of one variant's arms and, where the target is of this metric, the target."""
    target, room = group[0]["target"], 1.0
    values = [*curves.of_arms(axes, group, history, times, metric)]
    if target["metric"] == metric:
        curves.target_line(axes, target["threshold"])
        values.append(target["threshold"])
        room = curves.times_strip(axes, group, times)
    low, high = np.nanmin([*values, np.inf]), np.nanmax([*values, -np.inf])
    if not curves.is_loss(metric):
        floor = 0.4 if 0.42 < low < 1 else -0.03
        axes.set_ylim(floor, floor + (1.02 - floor) / room)
        axes.set_yticks([0.5, 0.75, 1] if floor > 0 else [0, 0.25, 0.5, 0.75, 1])
    elif low < high:
        style.log_axis(axes, low / 1.15, low / 1.15 * (1.15**2 * high / low) ** (1 / room))
