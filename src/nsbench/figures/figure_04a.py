"""Figure 4a: second moment after each layer of a deep ReLU network, by its weights."""

from __future__ import annotations

import math

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.config.theory import FeedForwardExperiment
from nsbench.figures import style, theory_layers
from nsbench.figures import theory_panels as panels
from nsbench.schemas import theory_labels as readings

PAPER_LIMIT = 2 / (3 * math.pi)
REFERENCE = {"color": panels.REFERENCE, "lw": 1.2, "ls": "-"}
_WHAT = (
    "h_l = ReLU(W h_(l−1)) with h_0 = X; X and Y are standard Gaussian vectors with correlation ρ. Equation 5 takes "
    "each second moment for the next correlation, whatever the weights."
)


def draw(
    curves: pd.DataFrame, points: pd.DataFrame, examples: pd.DataFrame, settings: FeedForwardExperiment, scale: str
) -> Figure:
    """A panel per reading of the weights, a series per correlation of the inputs, on one logarithmic axis.

    `curves` and `points` are of `schemas.theory.CURVES` and SIMULATION; `examples` is not used. The
    horizontal line is the limit that the paper gives, 2 / (3 pi).
    """
    if panels.nothing(curves, points):
        return style.empty("Figure 4a: nothing was computed", scale)
    names = panels.ordered(panels.every("reading", [curves, points]), readings.FEED_FORWARD_WEIGHTS.values())
    known = [readings.correlation(rho) for rho in sorted(settings.rho)]
    looks = panels.looks(panels.ordered(panels.every("series", [curves, points]), known))
    with style.applied():
        figure, row = theory_layers.row_of_panels(len(names))
        key = theory_layers.fill_log_row(row, names, looks, (curves, points), settings.depth)
        for axes in row:
            axes.axhline(PAPER_LIMIT, gid="reference", zorder=1.5, **REFERENCE)
            axes.set_xlabel("layers passed")
        row[0].set_ylabel("E[h(X) h(Y)] per unit")
        key.append(Line2D([], [], label=f"2/(3π) = {PAPER_LIMIT:.4f}, the paper's limit", **REFERENCE))
        sizes = [f"width {settings.width}", f"depth {settings.depth}", panels.replicates(settings)]
        panels.foot(figure, [_WHAT, panels.POINTS_LINE], sizes, scale, key)
    return figure
