"""Figure 11: noise stability at rho = 1/2 beside the validation loss, over training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.figures import comparison, style

TASK = "sparse_parity"
RHO = 0.5
REDUCTIONS = {"decision": "-", "probability_dot": (0, (3, 1.2))}
NAMES = {"decision": "±1 decision", "probability_dot": "dot product of probabilities"}
MAX_COLUMNS = 4


def draw(
    history: pd.DataFrame,
    evaluation: pd.DataFrame,
    runs: pd.DataFrame,
    times: pd.DataFrame,
    cells: list[dict[str, Any]],
    scale: str,
    selections: pd.DataFrame | None = None,
) -> Figure:
    """A panel per variant of sparse parity and arm, the baseline above the regularised arms.

    Left axis: validation loss (`schemas.training.HISTORY`). Right axis: noise stability at rho = 1/2 of the
    +-1 decision and of the dot product of probabilities (`schemas.training.EVALUATION`); dotted lines are
    both values for the parity itself. Thin lines are seeds, bold ones medians over seeds, which end where
    the first run was stopped early (`schemas.training.TIME_TO_TARGET`). Runs without measures
    (`schemas.training.COLLECTED_RUNS`) have no stability here, and the footer counts them. A grid without the task
    gives an empty panel. Of a sweep it shows the arm that the validation data select (`schemas.analysis.SELECTION`).
    """
    cells = [cell for cell in cells if cell["task"] == TASK]
    if not cells:
        return style.empty(f"Figure 11: the grid has no cells of {TASK}", scale)
    at_half = (evaluation["measure"] == "noise_stability") & np.isclose(evaluation["rho"].astype(float), RHO)
    evaluation = evaluation[at_half]
    groups = [comparison.shown(group, selections) for group in style.variants(cells).values()]
    every, cells = cells, [cell for group in groups for cell in group]
    n_columns = min(len(groups), MAX_COLUMNS)
    n_arms = max(len(group) for group in groups)
    n_rows = math.ceil(len(groups) / n_columns) * n_arms
    with style.applied():
        figure = Figure(figsize=(max(3.7 * n_columns, 6.2), 2.7 * n_rows + 1.5), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        floor = min(0.0, evaluation["value"].min()) if len(evaluation) else 0.0
        for place, group in enumerate(groups):
            block, column = divmod(place, n_columns)
            last = column == n_columns - 1 or place == len(groups) - 1
            # The baseline is the paper's figure, so it comes first whatever the grid's order.
            for row, cell in enumerate(sorted(group, key=lambda cell: cell["arm_settings"]["kind"] != "baseline")):
                axes = grid[block * n_arms + row, column]
                stopped = style.stopped_seeds(times, cell)
                why = "" if style.of_cell(runs, cell)["no_evaluation"].eq("").any() else "these runs have no measures"
                _panel(axes, cell, history, evaluation, stopped, floor, why, first=column == 0, last=last)
        lines = [
            _which(evaluation),
            *style.stopped_line(times, cells),
            *style.unmeasured_line(runs, cells, "stability"),
            *comparison.choice_line(every, cells, selections),
            style.scale_text(cells, scale),
        ]
        style.footer(figure, lines, _key(), n_columns=2 if n_columns < 3 else 6)
    return figure


def _panel(
    axes: Axes,
    cell: dict[str, Any],
    history: pd.DataFrame,
    evaluation: pd.DataFrame,
    stopped: list[int],
    floor: float,
    why: str,
    first: bool,
    last: bool,
) -> None:
    axes.set_axis_on()
    rows = style.of_cell(evaluation, cell)
    losses = style.by_seed(style.of_cell(history, cell), "val_loss", cell["seeds"])
    _curves(axes, losses, stopped, style.LOSS_COLOUR, "-", "loss")
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="y", labelcolor=style.LOSS_COLOUR)
    style.step_axis(axes, cell["budget_steps"])
    axes.set_xlabel("optimiser step")
    right = axes.twinx()
    right.grid(False)
    right.spines["right"].set_visible(True)
    right.set_ylim(floor - 0.03, 1.04)
    right.set_yticks(np.arange(math.ceil(floor * 4), 5) / 4)
    right.tick_params(axis="y", labelcolor=style.STABILITY_COLOUR, labelright=last)
    closed_forms = []
    for reduction, dashes in REDUCTIONS.items():
        chosen = rows[rows["reduction"] == reduction]
        curves = style.by_seed(chosen, "value", cell["seeds"])
        _curves(right, curves, stopped, style.STABILITY_COLOUR, dashes, reduction)
        for value in chosen["target_value"].dropna().astype(float).round(9).unique():
            right.axhline(value, color=style.STABILITY_COLOUR, lw=1.1, ls=":", gid="closed_form", zorder=1)
            closed_forms.append(f"{value:.3f} ({'decision' if reduction == 'decision' else 'dot'})")
    if rows.empty:
        words = why or "not evaluated at ρ = 1/2"
        right.text(0.5, 0.5, words, ha="center", transform=right.transAxes, color=style.MUTED)
    colour = style.arm_colour(cell["arm_settings"])
    form = f"parity itself: {', '.join(closed_forms)}" if closed_forms else ""
    for place, (text, options) in enumerate(
        [
            (form, {"color": style.STABILITY_COLOUR, "fontsize": 8}),
            (style.arm_text(cell), {"color": colour, "fontsize": 8}),
            (cell["variant"], {"weight": "bold", "fontsize": 9}),
        ]
    ):
        axes.annotate(
            text, (0, 1), (0, 4 + 11 * place), xycoords="axes fraction", textcoords="offset points", **options
        )
    if first:
        axes.set_ylabel("validation loss (nats)", color=style.LOSS_COLOUR)
    if last:
        right.set_ylabel("noise stability, ρ = 1/2", color=style.STABILITY_COLOUR)


def _curves(axes: Axes, curves: pd.DataFrame, stopped: list[int], colour: str, dashes: Any, name: str) -> None:
    for _, curve in curves.items():
        seen = curve.dropna()  # a run that was stopped has a last checkpoint that others lack
        axes.plot(seen.index, seen, color=colour, lw=0.6, alpha=0.35, ls=dashes, gid=f"seed {name}")
    # A diverged run has no stability: the median at a step is over the seeds that have one.
    curves = style.until_first_stop(curves, stopped)
    median = curves.median(axis=1) if name != "loss" else style.pointwise_median(curves, np.inf)
    axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid=f"median {name}")


def _which(evaluation: pd.DataFrame) -> str:
    """Which of the stabilities this is, with the correlation that was really given."""
    known = sorted(evaluation["correlation"].dropna().astype(float).round(6).unique())
    given = f", here {', '.join(f'{value:g}' for value in known)}" if known else ""
    return (
        f"Noise as in Definition 6.1 with ρ = 1/2: a kept symbol has correlation κ = (1 + ρ)/2{given}, not ρ. A parity "
        "of k bits then has κᵏ as ±1 decision and (1 + κᵏ)/2 as dot product of probabilities; the paper's text has ρᵏ."
    )


def _key() -> list[Line2D]:
    green, grey = {"color": style.STABILITY_COLOUR}, {"color": style.MUTED}
    return [
        Line2D([], [], color=style.LOSS_COLOUR, lw=2, label="validation loss"),
        *(
            Line2D([], [], lw=2, ls=dashes, label=f"stability: {NAMES[name]}", **green)
            for name, dashes in REDUCTIONS.items()
        ),
        Line2D([], [], lw=1.1, ls=":", label="the parity itself (closed form)", **green),
        Line2D([], [], lw=0.6, alpha=0.6, label="one seed", **grey),
        Line2D([], [], lw=2, label="median over seeds", **grey),
    ]
