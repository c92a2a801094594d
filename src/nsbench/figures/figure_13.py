"""Figure 13: training or validation loss of next-token prediction over the sweep of (rho, gamma)."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import orientation
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Line2D, Table
from nsbench.figures.registry import figure

BASELINE_LOOK = {"color": "black", "lw": 2.4, "ls": "-"}
REVERSED_LOOK = {"color": "#8C8C8C", "lw": 1.5, "ls": "-"}
RHO_DASHES = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1.2)), (0, (8, 1.5, 1, 1, 1, 1.5))]
CROWD, HEADROOM = 0.75, 1.5
"""A curve leaves the panel where its highest value is over HEADROOM times what CROWD of them stay under."""
READING = (
    "Each curve is the pointwise median over seeds of one arm: the darker, the larger γ; dashes are ρ. The paper "
    "reports that the regulariser helps for a variety of (ρ, γ), that validation losses with it fall earlier and "
    "fluctuate less, and that the best setting needs a sweep. An arm far above the others leaves the panel, which "
    "then says so."
)
OF = {"tables": ["history", "times", "floors"], "tasks": ["next_token"], "needs": comparison.has_sweep}
Looks = dict[tuple[float, float], dict[str, Any]]
"""(rho, gamma) -> look."""


@figure(
    "figure_13_val",
    title="Figure 13 of the paper, next-token prediction: validation loss over the sweep of (ρ, γ)",
    caption=f"{READING} A dot marks each curve's minimum; the blue line is the loss of a table of the last token "
    "(bigram) on the same targets.",
    options={"metric": "val_loss"},
    **OF,
)
@figure(
    "figure_13_train",
    title="Figure 13 of the paper, next-token prediction: training loss over the sweep of (ρ, γ)",
    caption=f"{READING} The training loss is the cross entropy alone, without the regulariser's term, with dropout.",
    options={"metric": "train_loss"},
    **OF,
)
def draw(history: Table, times: Table, floors: Table, cells: Cells, scale: str, metric: str) -> Figure:
    """A panel per variant: the median over seeds of `metric` (train_loss or val_loss, nats) for each arm.

    Of the validation loss each curve's minimum is marked and the bigram floor is drawn (`FLOORS`; there
    is none for training data). A median ends where the first run of its arm was stopped early, without a minimum.
    """
    groups = {name: comparison.of_paper(group) for name, group in curves.groups_of(cells).items()}
    drawn = [cell for group in groups.values() for cell in group]
    looks = _looks(drawn)
    figure, columns = style.columns(len(groups), 1, 3.7, 3.2, below=1.7)
    for (variant, group), (axes,) in zip(groups.items(), columns, strict=True):
        floors_at, entries = [], []
        if metric == "val_loss":
            floors_at, entries = curves.floor_lines(axes, floors, group[0], metric, ("bigram",))
        left = _panel(axes, group, history, times, metric, looks, floors_at)
        style.header(axes, variant, group[0]["leaks"], entries + left)
        axes.set_xlabel("optimiser step")
        if style.is_first(axes):
            axes.set_ylabel(style.metric_label(metric))
    style.footer(figure, footers.remarks(times, drawn, scale), _key(drawn, looks))
    return figure


def _panel(
    axes: Axes, group: Cells, history: Table, times: Table, metric: str, looks: Looks, floors_at: list[float]
) -> list[Line2D]:
    """One variant's medians; returns a legend's entry that names the curves that leave the panel."""
    lowest, tops = [], {}
    for cell in group:
        _, median = curves.runs_of(history, times, cell, metric)
        stopped = (comparison.of_cell(times, cell)["status"] == "stopped").any()
        look, gid = _look(cell, looks)
        axes.plot(median.index, median, gid=gid, zorder=4 if gid == "median baseline" else 3, **look)
        known = median.dropna()
        if known.empty:
            continue
        mark = {"color": look["color"], "zorder": 5}
        if known.index[-1] < (median.index[-1] if stopped else cell["budget_steps"]):  # most of its runs have diverged
            axes.plot(known.index[-1], known.iloc[-1], "x", ms=6, mew=1.6, gid="diverged", **mark)
        if metric == "val_loss" and not stopped:
            axes.plot(known.idxmin(), known.min(), "o", ms=5, mec="white", mew=0.7, gid="minimum", **mark)
        lowest.append(known[known > 0].min())
        tops[cell["arm"]] = known.max()
    style.step_axis(axes, group[0]["budget_steps"])
    if not tops:
        return []
    limit = HEADROOM * float(np.quantile(list(tops.values()), CROWD, method="lower"))
    outside = {arm: top for arm, top in tops.items() if top > limit}
    within = [top for top in tops.values() if top <= limit]
    style.loss_axis(axes, np.nanmin([*lowest, *floors_at]), np.nanmax([*within, *floors_at]))
    if not outside:
        return []
    what = next(iter(outside)) if len(outside) == 1 else f"{len(outside)} arms"
    text = f"{what} above the panel, up to {max(outside.values()):,.3g}"
    text = textwrap.fill(text, curves.LEGEND_WIDTH, break_on_hyphens=False)
    return [style.sign(text, marker=r"$\uparrow$", ms=7)]


def _looks(cells: Cells) -> Looks:
    """The darker, the larger gamma; dashes by rho."""
    import matplotlib
    from matplotlib.colors import to_hex

    rhos, gammas = comparison.sweep_values(cells)
    shades = matplotlib.colormaps["YlOrRd"](np.linspace(0.45, 1.0, len(gammas)))
    return {
        (rho, gamma): {"color": to_hex(shade), "ls": RHO_DASHES[place % len(RHO_DASHES)], "lw": 1.5}
        for gamma, shade in zip(gammas, shades, strict=True)
        for place, rho in enumerate(rhos)
    }


def _look(cell: Cell, looks: Looks) -> tuple[dict[str, Any], str]:
    """A cell's look and the mark that its curve carries."""
    sign = orientation(cell)
    if sign is None:
        return BASELINE_LOOK, "median baseline"
    return (looks[comparison.pair(cell)], "median swept") if sign == 1 else (REVERSED_LOOK, "median reversed")


def _key(cells: Cells, looks: Looks) -> list[Line2D]:
    """What colours and dashes mean, in all panels."""
    rhos, gammas = comparison.sweep_values(cells)
    signs = [style.sign("baseline", **BASELINE_LOOK)]
    if any(orientation(cell) == 0 for cell in cells):
        signs.append(style.sign("S = 0", **REVERSED_LOOK))
    signs += [style.sign(f"γ = {gamma:g}", color=looks[rhos[0], gamma]["color"], lw=3) for gamma in gammas]
    signs += [style.sign(f"ρ = {rho:g}", **looks[rho, gammas[0]] | {"color": style.MUTED}) for rho in rhos]
    diverged = style.sign("most of its runs diverged", marker="x", ms=6, mew=1.6, gid="diverged")
    return [*signs, style.sign("minimum of a curve", marker="o", ms=5, gid="minimum"), diverged]
