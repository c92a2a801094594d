"""Fourier weight by degree over training, and the two bounds on its tail that Table 1 compares."""

from __future__ import annotations

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import by_variant
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Table
from nsbench.figures.registry import figure

MEASURE = "fourier_weight"
COLOURS = ("#3B3B3B", "#0072B2", "#D55E00", "#00845F", "#8E4FA8", "#B8860B")
"""Of degrees 0, 1, ... 5."""
BOUNDS = {
    "tail": ("the tail itself", {"marker": "o", "color": style.INK}),
    "influence_bound": ("bound from sensitivity", {"marker": "^", "color": "#0072B2"}),
    "stability_bound": ("bound from stability", {"marker": "s", "color": "#D55E00", "mfc": "white"}),
}
"""What a reduction begins with -> its name and look."""


@figure(
    "fourier_weight",
    tables=["evaluation", "times", "selections"],
    tasks=["sparse_parity", "modular_addition"],
    measures=[MEASURE],
    title="Fourier weight by degree over training, and bounds on its tail",
    caption="Above and in the middle, the weight of each degree in the model's probabilities (of two classes, their "
    "difference) on uniform inputs, with and without the regulariser: the weight of degree j is the sum of squared "
    "coefficients of terms of j tokens. A parity of k bits has all of its weight at degree k; addition has its at "
    "degree 2, beside that of a constant. Below, at the end of the baseline's training, the share in degrees of at "
    "least j, which is known here, and the two upper bounds on it that Table 1 compares; above 1 a bound says nothing "
    "and is drawn on the edge. Where all weight lies in degrees up to T, sensitivity's bound is the smaller from T on.",
)
def draw(evaluation: Table, times: Table, selections: Table, cells: Cells, scale: str) -> Figure:
    """A column per variant: `degree_j` of `measures.fourier_weight` by step, of baseline and regularised arm,
    and at the last step `tail_j` with its bounds, those from stability at the correlation nearest to 3/4.
    """
    groups = {name: comparison.shown(group, selections)[:2] for name, group in by_variant(cells).items()}
    drawn = [cell for group in groups.values() for cell in group]
    evaluation = evaluation[evaluation["measure"] == MEASURE]
    figure, columns = style.columns(len(groups), 3, 3.4, 2.2, below=1.6)
    for (name, group), panels in zip(groups.items(), columns, strict=True):
        for axes, cell in zip(panels, group, strict=False):
            _degrees(axes, cell, comparison.of_cell(evaluation, cell))
            first = (" /\n".join(name), group[0].get("leaks", [])) if axes is panels[0] else ("", [])
            style.header(axes, *first, [style.sign(style.arm_text(cell), ls="")], handlelength=0)
        for axes in panels[len(group) : 2]:
            axes.set_axis_off()
        _tails(panels[2], comparison.of_cell(evaluation, group[0]))
        if style.is_first(panels[2]):
            panels[2].set_ylabel("share in degrees ≥ j")
    key = [style.sign(f"degree {j}", color=colour, lw=2, gid=f"degree {j}") for j, colour in enumerate(COLOURS)]
    key += [style.sign(label, ms=5, gid=name, **look) for name, (label, look) in BOUNDS.items()]
    style.footer(figure, footers.remarks(times, drawn, scale, cells, selections, ""), key)
    return figure


def _degrees(axes: Axes, cell: Cell, rows: Table) -> None:
    """The runs of a cell thin, their medians bold, a colour for each degree."""
    for degree, colour in enumerate(COLOURS):
        here = rows[rows["reduction"] == f"degree_{degree}"]
        values = here.pivot(index="step", columns="seed", values="value")
        for _, run in values.items():
            axes.plot(run.index, run, color=colour, lw=0.7, alpha=0.4, gid="seed")
        if len(values):
            axes.plot(values.index, values.median(axis=1), color=colour, lw=2, gid=f"degree {degree}")
    style.step_axis(axes, cell["budget_steps"])
    axes.set_ylim(-0.02, None)
    axes.set_xlabel("optimiser step")
    if style.is_first(axes):
        axes.set_ylabel("weight")


def _tails(axes: Axes, rows: Table) -> None:
    """The tail by degree and its bounds at the last step, medians over runs."""
    last = rows[rows["step"] == rows["step"].max()]
    correlations = last["correlation"].astype(float)
    nearest = correlations.iloc[(correlations - 0.75).abs().argsort()[:1]].iloc[0] if correlations.notna().any() else 0
    for name, (_, look) in BOUNDS.items():
        here = last[last["reduction"].str.fullmatch(f"{name}_\\d+")]
        if name == "stability_bound":
            here = here[np.isclose(here["correlation"].astype(float), nearest)]
        values = here.groupby(here["reduction"].str.rsplit("_", n=1).str[1].astype(int))["value"].median()
        axes.plot(values.index, values.clip(upper=1), ls="", ms=5, clip_on=False, gid=name, **look)
    axes.set_ylim(-0.02, 1)
    axes.set_xlabel("degree j")
    axes.xaxis.get_major_locator().set_params(integer=True)
