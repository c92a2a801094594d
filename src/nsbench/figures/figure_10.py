"""Figure 10: second moment after each attention and ReLU layer of a transformer, by W_V and its norm."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure

from nsbench.config.theory import TransformerExperiment
from nsbench.figures import style, theory_layers
from nsbench.figures import theory_panels as panels
from nsbench.schemas import theory_labels as readings

_WHAT = (
    "A layer is attention with W_Q W_Kᵀ = I, then ReLU; columns of W_V have norm γ. Equation 8 has γ² inside s, where "
    "it cannot shrink the output: even γ = 0, whose output is zero, gets 1/(2π)."
)


def draw(
    curves: pd.DataFrame, points: pd.DataFrame, examples: pd.DataFrame, settings: TransformerExperiment, scale: str
) -> Figure:
    """A panel per reading of W_V, a series per norm gamma, on one logarithmic axis.

    `curves` and `points` are of `schemas.theory.CURVES` and SIMULATION; `examples` is not used. A mean
    that is not positive is a triangle on the lower edge.
    """
    if panels.nothing(curves, points):
        return style.empty("Figure 10: nothing was computed", scale)
    names = panels.ordered(panels.every("reading", [curves, points]), readings.VALUE_WEIGHTS.values())
    known = [readings.value_norm(gamma) for gamma in sorted(settings.value_norms, reverse=True)]
    looks = panels.looks(panels.ordered(panels.every("series", [curves, points]), known))
    with style.applied():
        figure, row = theory_layers.row_of_panels(len(names))
        key = theory_layers.fill_log_row(row, names, looks, (curves, points), settings.depth)
        for axes in row:
            axes.set_xlabel("layers passed")
        row[0].set_ylabel("E[h(X) h(Y)] per output entry")
        sizes = [
            f"n = {settings.n_tokens} tokens",
            f"d = {settings.d_model}",
            f"depth {settings.depth}",
            f"inputs with ρ = {settings.rho:g}",
            panels.replicates(settings),
        ]
        panels.foot(figure, [_WHAT, panels.POINTS_LINE], sizes, scale, key)
    return figure
