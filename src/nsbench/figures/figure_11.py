"""Figure 11: noise stability at rho = 1/2 beside the validation loss, over training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Line2D, Series, Table
from nsbench.figures.registry import figure

RHO = 0.5
REDUCTIONS = {
    "decision": ("±1 decision", "-"),
    "probability_dot": ("dot product of probabilities", (0, (3, 1.2))),
}
"""What the stability is of -> its name and dashes."""
CLOSED_FORM = {"color": style.STABILITY_COLOUR, "lw": 1.1, "ls": ":"}


@figure(
    "figure_11",
    tables=["history", "evaluation", "runs", "times", "selections"],
    tasks=["sparse_parity"],
    title="Figure 11, noisy sparse parity: noise stability and validation loss over training",
    caption="Noise stability at ρ = 1/2 under Definition 6.1 (green, right) beside the validation loss (blue, left). "
    "A symbol is kept with probability (1 + ρ)/2 and otherwise redrawn, which gives it the correlation "
    "κ = (1 + ρ)/2 = 0.75, not ρ. A parity of k bits has stability κᵏ as ±1 decision and (1 + κᵏ)/2 as dot "
    "product of probabilities (dotted); an untrained model that answers 1/2 everywhere has dot product 1/2. "
    "So the dot product rises while the parity is learned, and only the decision can fall towards the "
    "parity's value, the fall that the paper describes with ρᵏ as its end.",
)
def draw(
    history: Table, evaluation: Table, runs: Table, times: Table, selections: Table, cells: Cells, scale: str
) -> Figure:
    """A panel per variant and arm, the baseline above the regularised arms.

    Left axis: validation loss. Right axis: noise stability at rho = 1/2 of the +-1 decision and of the dot product of
    probabilities (`schemas.training.EVALUATION`); dotted lines are both values for the parity itself. Runs without
    measures (`schemas.training.COLLECTED_RUNS`) have no stability here, and the footer counts them.
    """
    at_half = (evaluation["measure"] == "noise_stability") & np.isclose(evaluation["rho"].astype(float), RHO)
    evaluation = evaluation[at_half]
    # The baseline is the paper's figure, so it comes first whatever the grid's order.
    groups = [
        sorted(group, key=lambda cell: cell["arm_settings"]["kind"] != "baseline")
        for group in curves.groups_of(cells, selections).values()
    ]
    drawn = [cell for group in groups for cell in group]
    figure, columns = style.columns(len(groups), max(map(len, groups)), 3.7, 2.8, below=1.5, max_columns=4)
    floor = min(0.0, evaluation["value"].min()) if len(evaluation) else 0.0
    for place, (group, panels) in enumerate(zip(groups, columns, strict=True)):
        is_last = place == len(groups) - 1 or style.is_first(columns[place + 1][0])
        for axes in panels[len(group) :]:
            axes.set_axis_off()
        for cell, axes in zip(group, panels, strict=False):
            _plot(axes, *curves.runs_of(history, times, cell, "val_loss"), "loss", style.LOSS_COLOUR)
            axes.set_ylim(bottom=0)
            axes.tick_params(axis="y", labelcolor=style.LOSS_COLOUR)
            style.step_axis(axes, cell["budget_steps"])
            axes.set_xlabel("optimiser step")
            if style.is_first(axes):
                axes.set_ylabel("validation loss (nats)", color=style.LOSS_COLOUR)
            right = axes.twinx()
            entries = _stability(right, cell, evaluation, times)
            right.set_ylim(floor - 0.03, 1.04)
            right.set_yticks(np.arange(math.ceil(floor * 4), 5) / 4)
            right.tick_params(axis="y", labelcolor=style.STABILITY_COLOUR, labelright=is_last)
            if is_last:
                right.set_ylabel("noise stability, ρ = 1/2", color=style.STABILITY_COLOUR)
            arm = style.sign(style.arm_text(cell), ls="")
            style.header(axes, cell["variant"], cell.get("leaks", []), [arm, *entries])
    known = sorted(evaluation["correlation"].dropna().astype(float).round(6).unique())
    given = f", here {', '.join(f'{value:g}' for value in known)}" if known else ""
    lines = [
        f"Noise as in Definition 6.1 with ρ = 1/2: a kept symbol has correlation κ = (1 + ρ)/2{given}, not ρ.",
        *footers.unmeasured_lines(runs, drawn, "stability"),
        *footers.remarks(times, drawn, scale, cells, selections),
    ]
    green = {"color": style.STABILITY_COLOUR}
    key = [
        style.sign("validation loss", color=style.LOSS_COLOUR, lw=2),
        *(style.sign(f"stability: {name}", lw=2, ls=ls, **green) for name, ls in REDUCTIONS.values()),
        style.sign("the parity itself (closed form)", **CLOSED_FORM),
        *curves.run_key()[:2],
    ]
    style.footer(figure, lines, key)
    return figure


def _stability(axes: Axes, cell: Cell, evaluation: Table, times: Table) -> list[Line2D]:
    """Draw both stabilities, and the values for the parity itself, which the legend's entry tells."""
    axes.grid(False)
    axes.spines["right"].set_visible(True)
    rows, closed_forms = comparison.of_cell(evaluation, cell), []
    if rows.empty:
        look = {"ha": "center", "transform": axes.transAxes, "color": style.MUTED}
        axes.text(0.5, 0.5, "not measured at ρ = 1/2", **look)
    for reduction, (_, dashes) in REDUCTIONS.items():
        chosen = rows[rows["reduction"] == reduction]
        _plot(axes, *curves.runs_of(chosen, times, cell, "value"), reduction, style.STABILITY_COLOUR, dashes)
        for value in chosen["target_value"].dropna().astype(float).round(9).unique():
            axes.axhline(value, gid="closed_form", zorder=1, **CLOSED_FORM)
            closed_forms.append(f"{value:.3f} ({'decision' if reduction == 'decision' else 'dot'})")
    return [style.sign(f"parity itself: {', '.join(closed_forms)}", **CLOSED_FORM)] if closed_forms else []


def _plot(axes: Axes, seeds: Table, median: Series, name: str, colour: str, dashes: Any = "-") -> None:
    for _, curve in seeds.items():
        seen = curve.dropna()  # a run that was stopped has a last checkpoint that others lack
        axes.plot(seen.index, seen, color=colour, lw=0.6, alpha=0.35, ls=dashes, gid=f"seed {name}")
    axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid=f"median {name}")
