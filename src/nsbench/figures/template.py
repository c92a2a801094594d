"""Curves of training as a figure. Change it to yours: a function of tables that returns a matplotlib Figure.

`nsbench.figures.registry` lists the tables and what else `figure` takes (`tasks`, `each_task`, `needs` ...);
`nsbench.schemas` has their columns; the figures in its folder are examples.
"""

from __future__ import annotations

from typing import Any

import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench import figure
from nsbench.config.cells import by_variant


@figure(
    "my_kind",
    tables=["history", "times"],
    title="Validation loss over training",
    caption="Thin: single seeds. Bold: the median over all seeds; a diverged run counts as the worst value.",
)
def draw(history: Any, times: Any, cells: list[dict[str, Any]], scale: str) -> Any:
    """A panel for each variant of each task: the runs of its arms.

    history, times: DataFrames of the tables named above. cells: of the grid, each with its task, variant, arm,
    arm_settings, seeds, target and budget_steps. scale: `paper`, `demo` ...
    """
    # Where you need matplotlib or pandas itself, import it here: planning reads this file too, and should stay fast.
    # Text between dollars is mathematics only with parse_math=True.
    groups = by_variant(cells)
    figure, columns = style.columns(len(groups), n_rows=1, width=3.7, height=3.2, below=1.2)
    for (name, group), (axes,) in zip(groups.items(), columns, strict=True):
        low, high = curves.of_arms(axes, group, history, times, "val_loss")
        style.loss_axis(axes, low, high)
        style.header(axes, " / ".join(name), group[0]["leaks"], curves.arm_entries(group, times))
        axes.set_xlabel("optimiser step")
        axes.set_ylabel(style.metric_label("val_loss"))
    style.footer(figure, footers.remarks(times, cells, scale), curves.run_key())
    return figure
