"""Figures 4a and 10: second moment after each layer of a deep ReLU network, and of a transformer, by their weights."""

from __future__ import annotations

import math

import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.config.theory import FeedForwardExperiment, TransformerExperiment
from nsbench.figures.annotations import Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as labels

PAPER_LIMIT = 2 / (3 * math.pi)
REFERENCE = {**panels.REFERENCE, "lw": 1.2}
_WHAT = (
    "h_l = ReLU(W h_(l−1)) with h_0 = X; X and Y are standard Gaussian vectors with correlation ρ. Equation 5 takes "
    "each second moment for the next correlation, whatever the weights."
)

_WHAT_10 = (
    "A layer is attention with W_Q W_Kᵀ = I, then ReLU; columns of W_V have norm γ. Equation 8 has γ² inside s, where "
    "it cannot shrink the output: even γ = 0, whose output is zero, gets 1/(2π)."
)


@figure(
    "figure_04a",
    tables=panels.TABLES,
    experiment="feed_forward",
    title="Figure 4a of the paper: second moment after each layer of a deep ReLU network, by its weights",
    caption="The paper does not say which weights its network has, and they decide what is seen. With W = I the value "
    "stays where the first layer puts it; with variance 1/d it falls by about half in each layer; with variance "
    "2/d it rises to the inputs' own second moment, as the two outputs align; with layer norm before each W it "
    "goes to 1/(2π). None settles at 2/(3π) ≈ 0.2122, the weak dampening that the paper reads from Equation 5."
    + panels.READING,
)
def draw(curves: Table, points: Table, settings: FeedForwardExperiment, scale: str) -> Figure:
    """A panel per reading of the weights, a series per correlation of the inputs, on one logarithmic axis; the
    horizontal line is the limit that the paper gives, 2 / (3 pi)."""
    tables = [curves, points]
    names = panels.ordered("reading", tables, labels.FEED_FORWARD_WEIGHTS.values())
    looks = panels.looks(panels.ordered("series", tables, map(labels.correlation, sorted(settings.rho))))
    figure, row, key = panels.fill_layers(names, looks, *tables, settings.depth, "E[h(X) h(Y)] per unit")
    for axes in row:
        axes.axhline(PAPER_LIMIT, gid="reference", zorder=1.5, **REFERENCE)
    key.append(style.sign(f"2/(3π) = {PAPER_LIMIT:.4f}, the paper's limit", **REFERENCE))
    sizes = [f"width {settings.width}", f"depth {settings.depth}", panels.replicates(settings)]
    panels.foot(figure, _WHAT, sizes, scale, key)
    return figure


@figure(
    "figure_10",
    tables=panels.TABLES,
    experiment="transformer",
    title="Figure 10 of the paper: second moment after each layer of a transformer, by W_V and its norm γ",
    caption="The paper sees full dampening for γ < 1 and weak dampening for γ = 1, and has candidate fixed points "
    "2/(π(4 − γ²)) from Equation 8, s(γ²ρ). The factor belongs outside: one step gives γ² s(ρ), and a signal that "
    "shrinks by γ² in each layer has no fixed point but 0. The paper's pattern needs W_V = γ I, where after l "
    "layers γ²ˡ s(ρ) is left; a random W_V, orthogonal or Gaussian, dampens fully at γ = 1 too." + panels.READING,
)
def draw_transformer(curves: Table, points: Table, settings: TransformerExperiment, scale: str) -> Figure:
    """A panel per reading of W_V, a series per norm gamma, on one logarithmic axis; a mean that is not positive is a
    triangle on the lower edge."""
    tables = [curves, points]
    names = panels.ordered("reading", tables, labels.VALUE_WEIGHTS.values())
    known = map(labels.value_norm, sorted(settings.value_norms, reverse=True))
    looks = panels.looks(panels.ordered("series", tables, known))
    figure, _, key = panels.fill_layers(names, looks, *tables, settings.depth, "E[h(X) h(Y)] per output entry")
    sizes = [f"n = {settings.n_tokens} tokens", f"d = {settings.d_model}", f"depth {settings.depth}"]
    sizes += [f"inputs with ρ = {settings.rho:g}", panels.replicates(settings)]
    panels.foot(figure, _WHAT_10, sizes, scale, key)
    return figure
