"""How large the regulariser's gradient is beside that of the cross entropy, and where it points, over training."""

from __future__ import annotations

import math

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import by_variant, swept
from nsbench.figures.annotations import Cells, Figure, Table
from nsbench.figures.registry import figure

MEASURE = "regularizer_gradient"
LEAST = 1e-5
"""The lowest share that is drawn."""


@figure(
    "gradient_share",
    tables=["evaluation", "times", "selections"],
    measures=[MEASURE],
    title="The regulariser's share of the gradient over training, and where it points",
    caption="Above, the size of the regulariser's gradient by all weights, γ |∇R|, over that of the cross entropy, on "
    "training data at checkpoints and without dropout: at 1 the two are equally strong. Below, the cosine of the two: "
    "1 where the regulariser does what more cross entropy would do, −1 where it undoes it. ρ and γ are those of the "
    "regularised arm; on the baseline's runs this is what the regulariser would do there. The share bounds no number "
    "of steps: the optimiser scales gradients.",
)
def draw(evaluation: Table, times: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A column per variant: gamma times `norm_ratio` above `cosine`, of `measures.regularizer_gradient`, of the arms of
    `comparison.shown`."""
    groups = {name: comparison.shown(group, selections) for name, group in by_variant(cells).items()}
    drawn = [cell for group in groups.values() for cell in group]
    evaluation = evaluation[evaluation["measure"] == MEASURE]
    figure, columns = style.columns(len(groups), 2, 3.4, 2.4, below=1.5, sharey="row")
    for (name, group), (above, below) in zip(groups.items(), columns, strict=True):
        rho, gamma, of = _arm(group, evaluation)
        for axes, reduction, factor in ((above, "norm_ratio", gamma), (below, "cosine", 1.0)):
            here = (evaluation["reduction"] == reduction) & np.isclose(evaluation["rho"].astype(float), rho)
            values = evaluation[here].assign(drawn=lambda table, factor=factor: factor * table["value"])
            curves.of_arms(axes, group, values, times, "drawn")
        above.axhline(1, color=style.MUTED, lw=1, ls=curves.TARGET_DASHES, zorder=1)
        below.axhline(0, color=style.MUTED, lw=1, zorder=1)
        entries = [style.sign(of, ls=""), *curves.arm_entries(group)]
        style.header(above, " /\n".join(name), group[0].get("leaks", []), entries)
        below.set_xlabel("optimiser step")
        if style.is_first(above):
            above.set_ylabel("γ |∇R| / |∇CE|")
            below.set_ylabel("cosine of ∇R and ∇CE")
    high = max([axes.dataLim.y1 for axes, _ in columns if math.isfinite(axes.dataLim.y1)] or [1.0])
    low = min([axes.dataLim.minposy for axes, _ in columns if math.isfinite(axes.dataLim.minposy)] or [LEAST])
    for above, below in columns:
        style.log_axis(above, max(0.7 * low, LEAST), 1.4 * max(high, 1))
        below.set_ylim(-1.05, 1.05)
    style.footer(figure, footers.remarks(times, drawn, scale, cells, selections, ""), curves.run_key())
    return figure


def _arm(group: Cells, evaluation: Table) -> tuple[float, float, str]:
    """rho and gamma of the variant's regularised arm, or else the lowest rho that was evaluated and gamma = 1."""
    for cell in swept(group):
        rho, gamma = comparison.pair(cell)
        if np.isclose(evaluation["rho"].astype(float), rho).any():
            return rho, gamma, f"ρ = {rho:g}, γ = {gamma:g}"
    rho = float(evaluation["rho"].min())
    return rho, 1.0, f"ρ = {rho:g}, for γ = 1"
