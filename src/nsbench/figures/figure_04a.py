"""Figure 4a: second moment after each layer of a deep ReLU network, by its weights."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as readings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from nsbench.config.theory import FeedForwardExperiment

PAPER_LIMIT = 2 / (3 * math.pi)
REFERENCE = {**panels.REFERENCE, "lw": 1.2}
_WHAT = (
    "h_l = ReLU(W h_(l−1)) with h_0 = X; X and Y are standard Gaussian vectors with correlation ρ. Equation 5 takes "
    "each second moment for the next correlation, whatever the weights."
)


@figure(
    "figure_04a",
    tables=panels.TABLES,
    experiment="feed_forward",
    title="Figure 4a: second moment after each layer of a deep ReLU network, by its weights",
    caption="The paper does not say which weights its network has, and they decide what is seen. With W = I the value "
    "stays where the first layer puts it; with variance 1/d it falls by about half in each layer; with variance "
    "2/d it rises to the inputs' own second moment, as the two outputs align; with layer norm before each W it "
    "goes to 1/(2π). None settles at 2/(3π) ≈ 0.2122, the weak dampening that the paper reads from Equation 5."
    + panels.READING,
)
def draw(curves: pd.DataFrame, points: pd.DataFrame, settings: FeedForwardExperiment, scale: str) -> Figure:
    """A panel per reading of the weights, a series per correlation of the inputs, on one logarithmic axis; the
    horizontal line is the limit that the paper gives, 2 / (3 pi)."""
    tables = [curves, points]
    names = panels.ordered("reading", tables, readings.FEED_FORWARD_WEIGHTS.values())
    looks = panels.looks(panels.ordered("series", tables, map(readings.correlation, sorted(settings.rho))))
    figure, row, key = panels.fill_layers(names, looks, *tables, settings.depth, "E[h(X) h(Y)] per unit")
    for axes in row:
        axes.axhline(PAPER_LIMIT, gid="reference", zorder=1.5, **REFERENCE)
    key.append(style.sign(f"2/(3π) = {PAPER_LIMIT:.4f}, the paper's limit", **REFERENCE))
    sizes = [f"width {settings.width}", f"depth {settings.depth}", panels.replicates(settings)]
    panels.foot(figure, [_WHAT], sizes, scale, key)
    return figure
