"""Figure 11: noise stability at rho = 1/2 beside the validation loss, over training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Line2D, Table
from nsbench.figures.curves import groups_of, run_key
from nsbench.figures.registry import figure

RHO = 0.5
REDUCTIONS = {
    "decision": ("±1 decision", "-"),
    "probability_dot": ("dot product of probabilities", (0, (3, 1.2))),
}
"""What the stability is of -> its name and dashes."""


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
        sorted(comparison.shown(group, selections), key=lambda cell: cell["arm_settings"]["kind"] != "baseline")
        for group in groups_of(cells).values()
    ]
    drawn = [cell for group in groups for cell in group]
    figure, columns = style.columns(len(groups), max(map(len, groups)), 3.7, 2.7, below=1.5, max_columns=4)
    floor = min(0.0, evaluation["value"].min()) if len(evaluation) else 0.0
    for place, (group, panels) in enumerate(zip(groups, columns, strict=True)):
        is_last = place == len(groups) - 1 or style.is_first(columns[place + 1][0])
        for axes in panels[len(group) :]:
            axes.set_axis_off()
        for cell, axes in zip(group, panels, strict=False):
            _loss(axes, cell, history, times)
            right = axes.twinx()
            found = _stability(right, cell, evaluation, times)
            right.set_ylim(floor - 0.03, 1.04)
            right.set_yticks(np.arange(math.ceil(floor * 4), 5) / 4)
            right.tick_params(axis="y", labelcolor=style.STABILITY_COLOUR, labelright=is_last)
            if is_last:
                right.set_ylabel("noise stability, ρ = 1/2", color=style.STABILITY_COLOUR)
            if found is None:
                measured = style.of_cell(runs, cell)["no_evaluation"].eq("").any()
                words = "not evaluated at ρ = 1/2" if measured else "these runs have no measures"
                right.text(0.5, 0.5, words, ha="center", transform=right.transAxes, color=style.MUTED)
            _title(axes, cell, found or [])
    known = sorted(evaluation["correlation"].dropna().astype(float).round(6).unique())
    given = f", here {', '.join(f'{value:g}' for value in known)}" if known else ""
    lines = [
        f"Noise as in Definition 6.1 with ρ = 1/2: a kept symbol has correlation κ = (1 + ρ)/2{given}, not ρ.",
        *style.stopped_line(times, drawn),
        *style.unmeasured_line(runs, drawn, "stability"),
        *comparison.choice_line(cells, drawn, selections),
        style.scale_text(drawn, scale),
    ]
    style.footer(figure, lines, _key(), n_columns=2 if len(groups) < 3 else 6)
    return figure


def _loss(axes: Axes, cell: Cell, history: Table, times: Table) -> None:
    losses = style.by_seed(style.of_cell(history, cell), "val_loss", cell["seeds"])
    _curves(axes, losses, style.stopped_seeds(times, cell), style.LOSS_COLOUR, "-", "loss")
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="y", labelcolor=style.LOSS_COLOUR)
    style.step_axis(axes, cell["budget_steps"])
    axes.set_xlabel("optimiser step")
    if style.is_first(axes):
        axes.set_ylabel("validation loss (nats)", color=style.LOSS_COLOUR)


def _stability(axes: Axes, cell: Cell, evaluation: Table, times: Table) -> list[str] | None:
    """Draw both stabilities; the values for the parity itself in words, None where nothing was measured."""
    axes.grid(False)
    axes.spines["right"].set_visible(True)
    rows, closed_forms = style.of_cell(evaluation, cell), []
    for reduction, (_, dashes) in REDUCTIONS.items():
        chosen = rows[rows["reduction"] == reduction]
        seeds = style.by_seed(chosen, "value", cell["seeds"])
        _curves(axes, seeds, style.stopped_seeds(times, cell), style.STABILITY_COLOUR, dashes, reduction)
        for value in chosen["target_value"].dropna().astype(float).round(9).unique():
            axes.axhline(value, color=style.STABILITY_COLOUR, lw=1.1, ls=":", gid="closed_form", zorder=1)
            closed_forms.append(f"{value:.3f} ({'decision' if reduction == 'decision' else 'dot'})")
    return None if rows.empty else closed_forms


def _curves(axes: Axes, curves: Table, stopped: list[int], colour: str, dashes: Any, name: str) -> None:
    for _, curve in curves.items():
        seen = curve.dropna()  # a run that was stopped has a last checkpoint that others lack
        axes.plot(seen.index, seen, color=colour, lw=0.6, alpha=0.35, ls=dashes, gid=f"seed {name}")
    # A diverged run has no stability: the median at a step is over the seeds that have one.
    curves = style.until_first_stop(curves, stopped)
    median = curves.median(axis=1) if name != "loss" else style.pointwise_median(curves, np.inf)
    axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid=f"median {name}")


def _title(axes: Axes, cell: Cell, closed_forms: list[str]) -> None:
    """Above the panel: the variant, the arm, and what the parity itself has."""
    lines = [
        (f"parity itself: {', '.join(closed_forms)}" if closed_forms else "", {"color": style.STABILITY_COLOUR}),
        (style.arm_text(cell), {"color": style.arm_colour(cell["arm_settings"])}),
        (cell["variant"], {"weight": "bold", "fontsize": 9}),
    ]
    for place, (text, look) in enumerate(lines):
        at = {"xycoords": "axes fraction", "textcoords": "offset points"}
        axes.annotate(text, (0, 1), (0, 4 + 11 * place), **at, **{"fontsize": 8, **look})


def _key() -> list[Line2D]:
    green = {"color": style.STABILITY_COLOUR}
    stabilities = [style.sign(f"stability: {name}", lw=2, ls=ls, **green) for name, ls in REDUCTIONS.values()]
    return [
        style.sign("validation loss", color=style.LOSS_COLOUR, lw=2),
        *stabilities,
        style.sign("the parity itself (closed form)", lw=1.1, ls=":", **green),
        *run_key()[:2],
    ]
