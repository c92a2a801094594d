"""Figure 4b: the recurrence of Equation 5 beside its linear form and its corrected forms."""

from __future__ import annotations

import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.config.theory import RecurrenceExperiment
from nsbench.figures.annotations import Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as labels

CLOSE = ("published", "linear")
"""Kinds whose fixed points are so close that the lower row shows them enlarged."""
ROOM = 1.5
"""The lower row reaches this many distances of the two fixed points beyond them."""
_WHAT = (
    "Thin lines are the attracting fixed points, with their values. Equation 5 takes the second moment of a layer's "
    "outputs for their correlation; the two corrected maps are those of their cosine similarity and of their Pearson "
    "correlation, with points from random ReLU networks."
)


@figure(
    "figure_04b",
    tables=panels.TABLES,
    experiment="recurrence",
    title="Figure 4b of the paper: Equation 5 and its corrected forms, iterated",
    caption="Equation 5 maps the correlation of two Gaussian inputs to E[ReLU(X) ReLU(Y)], which is no correlation: it "
    "takes 1 to 1/2. Iterated, it settles at 0.2172; the paper gives 2/(3π) = 0.2122, the fixed point of the "
    "linear form (the lower row enlarges both). The cosine similarity of a layer's outputs goes to 1 instead, the"
    " Pearson correlation to 0 unless it starts at 1. Points of Equation 5 iterate Monte Carlo means; the others "
    "are measured in random networks, W ~ N(0, 2/d) for the cosine similarity, layer norm and W ~ N(0, 1/d) for "
    "the Pearson correlation." + panels.READING,
)
def draw(curves: Table, points: Table, settings: RecurrenceExperiment, scale: str) -> Figure:
    """A column per start rho; all recurrences above, those with close fixed points enlarged below."""
    from nsbench.theory.recurrences import ffn_fixed_point

    kinds = labels.RECURRENCE_KINDS
    names = panels.ordered("reading", [curves, points], map(labels.correlation, sorted(settings.rho)))
    looks = panels.looks(list(kinds.values()), panels.CATEGORY_COLOURS)
    fixed = {kind: ffn_fixed_point(kind) for kind in kinds}
    figure = style.new(max(3.7 * len(names), 6.2), 7.0)
    shape = {"squeeze": False, "sharex": True, "sharey": "row", "height_ratios": [1.7, 1.0]}
    upper, lower = figure.subplots(2, len(names), **shape)
    others = [kind for kind in kinds if kind not in CLOSE]
    for row, shown, told in ((upper, kinds, others), (lower, CLOSE, CLOSE)):
        for axes, name in zip(row, names, strict=True):
            panels.draw_panel(axes, curves, points, name, {kinds[kind]: looks[kinds[kind]] for kind in shown})
            panels.layer_axis(axes, settings.depth)
            axes.label_outer()
            for kind in shown:
                look = {"color": looks[kinds[kind]].colour, "lw": 0.8, "alpha": 0.7, "zorder": 1.5}
                axes.axhline(fixed[kind], gid=f"fixed point {kind}", **look)
        for kind in told:
            at = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "gid": "value"}
            look = {"color": looks[kinds[kind]].colour, "fontsize": 8}
            row[-1].annotate(f"{fixed[kind]:.4g}", (1, fixed[kind]), (4, 0), **look, **at)
    panels.heads(upper, [f"start: {name}" for name in names], [{}] * len(names))
    upper[0].set_ylabel("correlation or second moment")
    lower[0].set_ylabel("the same, enlarged")
    low, high = sorted(fixed[kind] for kind in CLOSE)
    lower[0].set_ylim(low - ROOM * (high - low), high + ROOM * (high - low))
    key = panels.series_signs(looks, upper)
    for name, sign in zip(looks, key, strict=True):  # formulas differ from series to series
        formulas = curves.loc[curves["series"] == name, ["formula", "status"]].drop_duplicates()
        for formula, status in formulas.itertuples(index=False):
            sign.set(label=f"{name}: {panels.formula_text(formula, status)}", **panels.STATUSES[status][1])
    sizes = [f"width {settings.width}", f"depth {settings.depth}", panels.replicates(settings)]
    panels.foot(figure, _WHAT, sizes, scale, key)
    return figure
