"""Figure 11: noise stability at rho = 1/2 above the validation loss, over training, and when each begins to move."""

from __future__ import annotations

import math

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Line2D, Table
from nsbench.figures.registry import figure

RHO = 0.5
CURVES = {
    "stability": ("stability of Definition 6.1", style.STABILITY_COLOUR, "-"),
    "decision": ("stability of ±1 decisions, median", style.STABILITY_COLOUR, (0, (3, 1.2))),
    "val_loss": ("validation loss", style.LOSS_COLOUR, "-"),
}
"""Column of the history -> its name, colour and dashes."""
CLOSED_FORMS = {"stability": "probability_dot", "decision": "decision"}
"""Column of the history -> the reduction of the evaluation whose value for the parity itself it has too."""
CLOSED_FORM = {"color": style.STABILITY_COLOUR, "lw": 1.1, "ls": ":"}
ONSETS = {"series": style.STABILITY_COLOUR, "loss": style.LOSS_COLOUR}
NAMES = {"series": "stability", "loss": "loss"}


@figure(
    "figure_11",
    tables=["history", "onsets", "evaluation", "times", "selections"],
    tasks=["sparse_parity"],
    title="Figure 11 of the paper, noisy sparse parity: noise stability and validation loss over training",
    caption="Noise stability at ρ = 1/2 under Definition 6.1 (green, solid) above the validation loss (blue) of the "
    "same runs, both on validation data at each evaluation: the curves by which it is judged whether stability moves "
    "first. All panels have the same axes. The strip on top marks where each run's stability (upper row) and loss "
    "(lower row) begin to move. The noise keeps a symbol with probability (1 + ρ)/2 and otherwise redraws it, which "
    "gives it the correlation κ = (1 + ρ)/2 = 0.75, not ρ. A parity of k bits has stability (1 + κᵏ)/2 as dot product "
    "of probabilities, which is Definition 6.1's, and κᵏ as ±1 decision (dotted); an untrained model that answers 1/2 "
    "everywhere has dot product 1/2. So the dot product rises while the parity is learned, and only the decision "
    "(dashed) can fall towards the parity's value, the fall that the paper describes with ρᵏ as its end. Whether they "
    "fall, and where they end, is judged by the same quantities on test data at checkpoints.",
)
def draw(
    history: Table, onsets: Table, evaluation: Table, times: Table, selections: Table, cells: Cells, scale: str
) -> Figure:
    """A column per variant: of the baseline, then of each regularised arm, stability above the validation loss.

    Curves are of `schemas.training.HISTORY`, which has the ±1 decisions' stability as the share of equal decisions,
    ticks of `schemas.analysis.ONSET`. Dotted lines are `target_value` of `schemas.training.EVALUATION` at rho = 1/2.
    """
    onsets = onsets[onsets["series"] == "stability"]
    history = history.assign(decision=2 * history["decision_agreement"] - 1)
    evaluation = evaluation[
        (evaluation["measure"] == "noise_stability") & np.isclose(evaluation["rho"].astype(float), RHO)
    ]
    # The baseline is the paper's figure, so it comes first whatever the grid's order.
    groups = [
        sorted(group, key=lambda cell: cell["arm_settings"]["kind"] != "baseline")
        for group in curves.groups_of(cells, selections).values()
    ]
    drawn = [cell for group in groups for cell in group]
    figure, columns = style.columns(len(groups), 2 * max(map(len, groups)), 3.7, 2.0, below=1.5, max_columns=4)
    for group, panels in zip(groups, columns, strict=True):
        for axes in panels[2 * len(group) :]:
            axes.set_axis_off()
        for cell, above, below in zip(group, panels[::2], panels[1::2], strict=False):
            forms = _closed_forms(above, cell, evaluation)
            for axes, names in ((above, CLOSED_FORMS), (below, ["val_loss"])):
                for name in names:
                    _plot(axes, history, times, cell, name)
                style.step_axis(axes, cell["budget_steps"])
            below.set_xlabel("optimiser step")
            if style.is_first(above):
                above.set_ylabel("noise stability,\nρ = 1/2")
                below.set_ylabel("validation loss\n(nats)")
            lead = _onsets(above, comparison.of_cell(onsets, cell))
            entries = [style.sign(text, ls="") for text in (style.arm_text(cell), lead)]
            style.header(above, cell["variant"], cell.get("leaks", []), [*entries, *forms])
    of_stability, of_loss = ([axes for panels in columns for axes in panels[at::2] if axes.axison] for at in (0, 1))
    _same_axes(of_stability, of_loss)
    known = sorted(evaluation["correlation"].dropna().astype(float).round(6).unique())
    given = f", here {', '.join(f'{value:g}' for value in known)}" if known else ""
    share = footers.interval_text(onsets["share"])
    lines = [
        f"A curve begins to move at the first evaluation at which it has made {share} of its whole change: stability "
        "up or down, the loss down.",
        f"Noise as in Definition 6.1 with ρ = 1/2: a kept symbol has correlation κ = (1 + ρ)/2{given}, not ρ.",
        *footers.remarks(
            times, drawn, scale, cells, selections, stopped=f"{footers.MEDIANS_END}, and such a run has no onset"
        ),
    ]
    key = [
        *(
            style.sign(name, color=colour, lw=2, ls=dashes, gid=f"median {column}")
            for column, (name, colour, dashes) in CURVES.items()
        ),
        style.sign("the parity itself (closed form)", gid="closed_form", **CLOSED_FORM),
        *(
            style.sign(f"onset of {NAMES[of]}, one seed", marker="|", ms=7, mew=1.2, color=colour, gid=f"onset {of}")
            for of, colour in ONSETS.items()
        ),
        *curves.run_key()[:2],
    ]
    style.footer(figure, lines, key)
    return figure


def _plot(axes: Axes, history: Table, times: Table, cell: Cell, column: str) -> None:
    """The cell's runs thin, but for decisions, which jump between evaluations, and their median bold."""
    _, colour, dashes = CURVES[column]
    seeds, median = curves.runs_of(history, times, cell, column)
    for _, curve in seeds.items() if column != "decision" else ():
        axes.plot(curve.index, curve, color=colour, lw=0.6, alpha=0.35, gid=f"seed {column}")
    axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid=f"median {column}")
    if column == "stability" and seeds.isna().all(axis=None):
        look = {"ha": "center", "transform": axes.transAxes, "color": style.MUTED}
        axes.text(0.5, 0.4, "no stability in its history", **look)


def _closed_forms(axes: Axes, cell: Cell, evaluation: Table) -> list[Line2D]:
    """Draw both values for the parity itself, which the legend's entry tells."""
    rows, told = comparison.of_cell(evaluation, cell), []
    of_logits = cell["settings"].get("noise", {}).get("output") == "logits"
    for name, reduction in CLOSED_FORMS.items():
        if of_logits and name == "stability":
            continue  # a product of logits has no closed form
        for value in rows.loc[rows["reduction"] == reduction, "target_value"].dropna().astype(float).round(9).unique():
            axes.axhline(value, gid="closed_form", zorder=1, **CLOSED_FORM)
            told.append(f"{value:.3f} ({'decision' if name == 'decision' else 'dot'})")
    return [style.sign(f"parity itself: {', '.join(told)}", **CLOSED_FORM)] if told else []


def _same_axes(of_stability: list[Axes], of_loss: list[Axes]) -> None:
    """One vertical axis for all panels of stability, with room for the strip on top, and one for all of the loss."""
    low = min(0.5, *(axes.dataLim.y0 for axes in of_stability)) - 0.03
    high = max(1.0, *(axes.dataLim.y1 for axes in of_stability)) + 0.03
    for axes in of_stability:
        axes.set_yticks(np.arange(math.ceil(4 * low), 4 * high) / 4)
        axes.set_ylim(low, low + (high - low) / (1 - len(ONSETS) * curves.STRIP))
    for axes in of_loss:
        axes.set_ylim(0, 1.05 * max(axes.dataLim.y1 for axes in of_loss))


def _onsets(axes: Axes, rows: Table) -> str:
    """The strip on top: a row each for when stability and loss begin to move; what the legend tells of the lead."""
    for place, (of, colour) in enumerate(ONSETS.items()):
        steps = rows[f"{of}_onset_step"].dropna()
        if len(steps):  # an empty line would count in the layout, as a mark in the figure's corner
            height, across = [1 - curves.STRIP * (place + 0.5)] * len(steps), axes.get_xaxis_transform()
            axes.plot(steps, height, "|", ms=7, mew=1.2, color=colour, transform=across, gid=f"onset {of}")
    leads = rows["lead_steps"].dropna()
    if leads.empty:
        return "no run has both onsets"
    undefined = f", undefined in {len(rows) - len(leads)}" if len(leads) < len(rows) else ""
    median = round(leads.median())
    typical = (
        "both at the same step"
        if not median
        else f"{'stability' if median > 0 else 'loss'} {abs(median):,} steps first"
    )
    first, together, later = (leads > 0).sum(), (leads == 0).sum(), (leads < 0).sum()
    counts = f"stability first in {first}, together in {together},\nloss first in {later}"
    return f"median: {typical};\n{counts}{undefined}"
