"""Figure 14: noise stability at rho = 1/2 of next-token predictors over training, above the loss."""

from __future__ import annotations

import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Cells, Figure, Table
from nsbench.figures.registry import figure

METRICS = {"stability": "noise stability, ρ = 1/2", "val_loss": style.metric_label("val_loss")}


@figure(
    "figure_14",
    tables=["history", "times", "selections"],
    tasks=["next_token"],
    title="Figure 14 of the paper, next-token prediction: noise stability and validation loss over training",
    caption="Above, the noise stability of Definition 6.1 at ρ = 1/2 on validation data; below, the validation loss of "
    "the same runs. The paper reports that the model without the regulariser becomes less and less stable while "
    "regularised ones stay stable. The regulariser trains directly on a quantity of this kind, so that stability "
    "is higher with it is what was asked for, and by itself no evidence for better learning; that is what the "
    "loss is for. Probabilities that spread over many tokens have a small product whatever the noise does: an "
    "untrained model's stability is about one over the vocabulary size. Where lines are padded, "
    "positions of padding count too: noise hardly moves what is said there, which lifts the mean." + curves.PROTOCOLS,
)
def draw(history: Table, times: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A column per variant: the mean of <M(X), M(Y)> over validation data above the validation loss.

    Both are of `schemas.training.HISTORY`. Arms are those of `comparison.shown`.
    """
    groups = curves.groups_of(cells, selections)
    drawn = [cell for group in groups.values() for cell in group]
    figure, columns = style.columns(len(groups), len(METRICS), 3.7, 2.6, below=1.5)
    for (variant, group), panels in zip(groups.items(), columns, strict=True):
        for (metric, label), axes in zip(METRICS.items(), panels, strict=True):
            low, high = curves.of_arms(axes, group, history, times, metric)
            if style.is_first(axes):
                axes.set_ylabel(label)
        above, below = panels
        above.set_ylim(bottom=min(0.0, above.dataLim.y0))
        style.header(above, variant, group[0]["leaks"], curves.arm_entries(group))
        style.loss_axis(below, low, high)  # of the loss, drawn last
        below.set_xlabel("optimiser step")
    lines = [_what(drawn), *footers.remarks(times, drawn, scale, cells, selections)]
    style.footer(figure, lines, curves.run_key())
    return figure


def _what(cells: Cells) -> str:
    """What the stability is a mean of."""
    targets = {cell["settings"]["data"].get("targets") for cell in cells}
    where = "at each position that has a target"
    if len(targets) == 1:
        where = {"every": "at each position, then averaged", "last": "at the one position with a target"}[targets.pop()]
    return (
        f"Stability is the mean over validation data of <M(X), M(Y)>, Definition 6.1 with ρ = 1/2, taken {where}. The "
        "regularised arms are trained on a quantity of this kind."
    )
