"""Figure 12: validation accuracy of next-token prediction by which targets are counted."""

from __future__ import annotations

import itertools

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Cells, Figure, Table
from nsbench.figures.registry import figure

KINDS = {"val_accuracy": "all", "val_accuracy_unpadded": "unpadded", "val_accuracy_known": "known"}


@figure(
    "figure_12",
    tables=["history", "times", "floors", "selections"],
    tasks=["next_token"],
    title="Figure 12 of the paper, next-token prediction: validation accuracy by which targets are counted",
    caption="The same runs, counting all targets, those that are no padding, and those that are neither padding nor "
    "the unknown word: these two are easy to guess and lift an accuracy without saying anything about the text. "
    "Blue lines are the floors over the same targets, on validation data. The paper reports 70% accuracy within "
    "1,000 steps with the regulariser against 4,000 without (75% fewer steps, or 300% faster), and does not say "
    "what it counts." + curves.PROTOCOLS,
)
def draw(history: Table, times: Table, floors: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A column per variant and a row per kind of targets counted: all; without padding; without padding and unknown
    words. A row that equals the one above in every variant is left out.

    Arms, floors and signs as in figure 6; the panels of a variant share their vertical range.
    """
    groups = curves.groups_of(cells, selections)
    drawn = [cell for group in groups.values() for cell in group]
    values = {
        metric: np.concatenate([comparison.of_cell(history, cell)[metric].to_numpy(float) for cell in drawn])
        for metric in KINDS
    }
    pairs = itertools.pairwise(KINDS)
    unchanged = [metric for above, metric in pairs if np.array_equal(values[above], values[metric], equal_nan=True)]
    metrics = [metric for metric in KINDS if metric not in unchanged]
    arms = {variant: curves.arm_entries(group) for variant, group in groups.items()}
    tallest = max(style.header_height(group[0]["leaks"], arms[variant]) for variant, group in groups.items())
    figure, columns = style.columns(len(groups), len(metrics), 3.7, 2.5 + tallest / len(metrics), below=1.2)
    for (variant, group), panels in zip(groups.items(), columns, strict=True):
        for metric, axes in zip(metrics, panels, strict=True):
            curves.of_arms(axes, group, history, times, metric)
            _, entries = curves.floor_lines(axes, floors, group[0], metric)
            first = (variant, group[0]["leaks"], arms[variant] + entries)
            style.header(axes, *(first if axes is panels[0] else ("", [], entries)))
            axes.set_ylabel(f"validation accuracy,\n{style.COUNTED_LABELS[KINDS[metric]]}")
        panels[-1].set_xlabel("optimiser step")
        highest = max(axes.dataLim.y1 for axes in panels)
        for axes in panels:
            axes.set_ylim(-0.02 * highest, 1.05 * highest)
    lines = footers.remarks(times, drawn, scale, cells, selections)
    if unchanged:
        kinds = " or ".join(style.COUNTED_LABELS[KINDS[metric]] for metric in unchanged)
        lines.insert(0, f"Not drawn, since it changes nothing here: counting targets {kinds}.")
    style.footer(figure, lines, curves.run_key())
    return figure
