"""Figure 10: second moment after each attention and ReLU layer of a transformer, by W_V and its norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

import nsbench.figures.theory_panels as panels
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as readings

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from nsbench.config.theory import TransformerExperiment

_WHAT = (
    "A layer is attention with W_Q W_Kᵀ = I, then ReLU; columns of W_V have norm γ. Equation 8 has γ² inside s, where "
    "it cannot shrink the output: even γ = 0, whose output is zero, gets 1/(2π)."
)


@figure(
    "figure_10",
    tables=panels.TABLES,
    experiment="transformer",
    title="Figure 10: second moment after each layer of a transformer, by W_V and its norm γ",
    caption="The paper sees full dampening for γ < 1 and weak dampening for γ = 1, and has candidate fixed points "
    "2/(π(4 − γ²)) from Equation 8, s(γ²ρ). The factor belongs outside: one step gives γ² s(ρ), and a signal that "
    "shrinks by γ² in each layer has no fixed point but 0. The paper's pattern needs W_V = γ I, where after l "
    "layers γ²ˡ s(ρ) is left; a random W_V, orthogonal or Gaussian, dampens fully at γ = 1 too." + panels.READING,
)
def draw(curves: pd.DataFrame, points: pd.DataFrame, settings: TransformerExperiment, scale: str) -> Figure:
    """A panel per reading of W_V, a series per norm gamma, on one logarithmic axis; a mean that is not positive is a
    triangle on the lower edge."""
    tables = [curves, points]
    names = panels.ordered("reading", tables, readings.VALUE_WEIGHTS.values())
    known = map(readings.value_norm, sorted(settings.value_norms, reverse=True))
    looks = panels.looks(panels.ordered("series", tables, known))
    figure, _, key = panels.fill_layers(names, looks, *tables, settings.depth, "E[h(X) h(Y)] per output entry")
    sizes = [f"n = {settings.n_tokens} tokens", f"d = {settings.d_model}", f"depth {settings.depth}"]
    sizes += [f"inputs with ρ = {settings.rho:g}", panels.replicates(settings)]
    panels.foot(figure, [_WHAT], sizes, scale, key)
    return figure
