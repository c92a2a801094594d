"""Figure 2: stability of one attention layer against the correlation of its inputs, by the kind of W."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.config.theory import AttentionExperiment
from nsbench.figures import style
from nsbench.figures import theory_panels as panels
from nsbench.schemas import theory_labels as readings

UNSTRUCTURED = [readings.UNSTRUCTURED, readings.SMALL_UNSTRUCTURED]
KINDS = ("identity and low rank", "independent entries")
"""Upper and lower row."""
COLOURS = ["#D55E00", "#B8428C", "#7F6A00"]
"""Of W = I, and of the two unstructured kinds; ranks have `panels.shades`."""
REFERENCE = {"color": panels.REFERENCE, "lw": 1.0, "ls": "-"}
_WHAT = (
    "One attention layer f(X) = softmax(X W Xᵀ) X W_V with W_V = I, whose columns have norm 1; X and Y are standard "
    "Gaussian matrices with correlation ρ. U has independent entries N(0, 1/k); the paper gives ρ for every rank k "
    "far below d."
)


def draw(
    curves: pd.DataFrame, points: pd.DataFrame, examples: pd.DataFrame, settings: AttentionExperiment, scale: str
) -> Figure:
    """A column per reading of the logits: W = I and low rank above, W of independent entries below.

    `curves` and `points` are of `schemas.theory.CURVES` and SIMULATION; `examples` is not used. Below,
    a thin line is rho, the stability with W = I.
    """
    if panels.nothing(curves, points):
        return style.empty("Figure 2: nothing was computed", scale)
    tables = [curves, points]
    names = panels.ordered(panels.every("reading", tables), readings.ATTENTION_SCALINGS)
    structured = [readings.IDENTITY, *(readings.low_rank(rank) for rank in sorted(settings.ranks, reverse=True))]
    series = panels.ordered(panels.every("series", tables), [*structured, *UNSTRUCTURED])
    kinds = {
        KINDS[0]: _structured([name for name in series if name not in UNSTRUCTURED]),
        KINDS[1]: panels.looks([name for name in series if name in UNSTRUCTURED], COLOURS[1:]),
    }
    kinds = {kind: looks for kind, looks in kinds.items() if looks}
    with style.applied():
        figure = Figure(figsize=(max(4.4 * len(names), 6.2), 3.2 * len(kinds) + 1.9), layout="constrained")
        grid = figure.subplots(len(kinds), len(names), squeeze=False, sharex=True, sharey="row")
        for row, (kind, looks) in zip(grid, kinds.items(), strict=True):
            found = []
            for axes, name in zip(row, names, strict=True):
                if kind == KINDS[1]:
                    axes.plot([0, 1], [0, 1], gid="reference", zorder=1.5, **REFERENCE)
                found.append(panels.draw_curves(axes, curves[curves["reading"] == name], looks))
                panels.draw_points(axes, points[points["reading"] == name], looks)
                axes.set_xlim(-0.04, 1.04)
            for axes, name, formulas in zip(row, names, found, strict=True):
                panels.head(axes, f"{name}: {kind}", formulas, max(len(some) for some in found))
            row[0].set_ylabel("E[f(X) f(Y)] per output entry")
        for axes in grid[-1]:
            axes.set_xlabel("correlation ρ of the inputs")
        key = [sign for looks in kinds.values() for sign in panels.series_signs(looks, grid.flat)]
        if KINDS[1] in kinds:
            key.append(Line2D([], [], label="ρ, to compare with", **REFERENCE))
        sizes = [f"n = {settings.n_tokens} tokens", f"d = {settings.d_model}", panels.replicates(settings)]
        panels.foot(figure, [_WHAT, panels.POINTS_LINE], sizes, scale, key)
    return figure


def _structured(names: list[str]) -> dict[str, panels.Look]:
    """Looks of the identity and of the ranks, from high (dark) to low (light)."""
    with_identity = readings.IDENTITY in names
    return panels.looks(names, COLOURS[:1] * with_identity + panels.shades(len(names) - with_identity))
