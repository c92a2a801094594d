"""Figure 13: training or validation loss of next-token prediction over the sweep of (rho, gamma)."""

from __future__ import annotations

import itertools
import textwrap
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from nsbench.figures import comparison, curves, style

TASK = "next_token"
BASELINE_LOOK = {"color": "black", "lw": 2.4, "ls": "-"}
REVERSED_LOOK = {"color": "#8C8C8C", "lw": 1.5, "ls": "-"}
RHO_DASHES = ["-", (0, (5, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)), (0, (2, 1.2)), (0, (8, 1.5, 1, 1, 1, 1.5))]
RHO_WIDTHS = (1.5, 0.8)
CROWD = 0.75
HEADROOM = 1.5
"""A curve leaves the panel where its highest value is over HEADROOM times what CROWD of them stay under."""


def draw(
    history: pd.DataFrame,
    times: pd.DataFrame,
    floors: pd.DataFrame,
    cells: list[dict[str, Any]],
    scale: str,
    metric: str,
) -> Figure:
    """A panel per variant with a sweep: the median over seeds of `metric` for each arm.

    `metric` is train_loss or val_loss of `schemas.training.HISTORY` (nats). Colour is gamma, dashes are
    rho; of the validation loss each curve's minimum is marked and the bigram floor is drawn
    (`schemas.training.FLOORS`; there is none for training data). A median ends where the first run of its arm was
    stopped early, without a minimum. Curves far above the rest leave the panel,
    which then says so. Without a sweep the figure says that there is none.
    """
    groups = {
        name: comparison.of_paper(group)
        for name, group in style.variants([cell for cell in cells if cell["task"] == TASK]).items()
        if comparison.has_sweep(group)
    }
    if not groups:
        return style.empty(f"Figure 13: the grid has no sweep of (ρ, γ) of {TASK}", scale)
    shown = [cell for group in groups.values() for cell in group]
    looks = _looks(shown)
    n_rows, n_columns, places = style.blocks(len(groups), 1)
    with style.applied():
        figure = Figure(figsize=(max(3.7 * n_columns, 6.2), 3.2 * n_rows + 1.7), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (variant, group), [(row, column)] in zip(groups.items(), places, strict=True):
            axes = grid[row, column]
            axes.set_axis_on()
            floor = curves.floor(floors, group[0], "bigram", "all", "loss") if metric == "val_loss" else np.nan
            left = _panel(axes, group, history, times, metric, looks, floor)
            entries = [_sign(f"bigram table: {floor:.3f}", **_floor_look())] if np.isfinite(floor) else []
            curves.header(axes, variant, group[0]["leaks"], entries + left)
            axes.set_xlabel("optimiser step")
            if column == 0:
                axes.set_ylabel(style.metric_label(metric))
        lines = [
            *style.stopped_line(times, shown),
            *style.text_lines(times, shown),
            style.scale_text(shown, scale),
        ]
        style.footer(figure, lines, _key(shown, metric), n_columns=4 if n_columns < 3 else 7)
    return figure


def _panel(
    axes: Axes,
    group: list[dict[str, Any]],
    history: pd.DataFrame,
    times: pd.DataFrame,
    metric: str,
    looks: dict[tuple[float, float], dict[str, Any]],
    floor: float,
) -> list[Line2D]:
    """One variant's medians; returns a legend's entry that names the curves that leave the panel."""
    lowest, tops = [], {}
    for cell in group:
        seeds = style.by_seed(style.of_cell(history, cell), metric, cell["seeds"])
        stopped = style.stopped_seeds(times, cell)
        shared = style.until_first_stop(seeds, stopped).index
        median = curves.median_curve(seeds.where(seeds > 0).loc[shared], metric)
        look, gid = _look(cell, looks)
        axes.plot(median.index, median, gid=gid, zorder=4 if gid == "median baseline" else 3, **look)
        known = median.dropna()
        if known.empty:
            continue
        end = median.index[-1] if stopped else cell["budget_steps"]
        if known.index[-1] < end:  # where most of its runs have diverged
            axes.plot(
                known.index[-1], known.iloc[-1], "x", ms=6, color=look["color"], mew=1.6, gid="diverged", zorder=5
            )
        if metric == "val_loss" and not stopped:
            mark = {"marker": "o", "ms": 5, "mec": "white", "mew": 0.7, "zorder": 5, "gid": "minimum"}
            axes.plot(known.idxmin(), known.min(), color=look["color"], **mark)
        lowest.append(known.min())
        tops[cell["arm"]] = known.max()
    if np.isfinite(floor):
        axes.axhline(floor, gid="floor bigram", zorder=1.5, **_floor_look())
    style.step_axis(axes, group[0]["budget_steps"])
    if not tops:
        return []
    limit = HEADROOM * float(np.quantile(list(tops.values()), CROWD, method="lower"))
    outside = {arm: top for arm, top in tops.items() if top > limit}
    within = [top for top in tops.values() if top <= limit]
    style.loss_axis(axes, np.nanmin([*lowest, floor]), np.nanmax([*within, floor]))
    if not outside:
        return []
    what = next(iter(outside)) if len(outside) == 1 else f"{len(outside)} arms"
    text = f"{what} above the panel, up to {max(outside.values()):,.3g}"
    text = textwrap.fill(text, curves.LEGEND_WIDTH, break_on_hyphens=False)
    return [_sign(text, ls="", marker=r"$\uparrow$", ms=7, color=style.MUTED)]


def _looks(cells: list[dict[str, Any]]) -> dict[tuple[float, float], dict[str, Any]]:
    """(rho, gamma) -> look: the darker, the larger gamma; dashes (and then width) by rho."""
    rhos, gammas = _values(cells)
    shades = matplotlib.colormaps["YlOrRd"](np.linspace(0.45, 1.0, len(gammas)))
    strokes = [(dashes, width) for width, dashes in itertools.product(RHO_WIDTHS, RHO_DASHES)]
    return {
        (rho, gamma): {
            "color": to_hex(shade),
            "ls": strokes[place % len(strokes)][0],
            "lw": strokes[place % len(strokes)][1],
        }
        for gamma, shade in zip(gammas, shades, strict=True)
        for place, rho in enumerate(rhos)
    }


def _look(cell: dict[str, Any], looks: dict[tuple[float, float], dict[str, Any]]) -> tuple[dict[str, Any], str]:
    """A cell's look and the mark that its curve carries."""
    orientation = comparison.orientation(cell)
    if orientation is None:
        return BASELINE_LOOK, "median baseline"
    return (looks[comparison.pair(cell)], "median swept") if orientation == 1 else (REVERSED_LOOK, "median reversed")


def _values(cells: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """The rho and the gamma of the sweep, each in order."""
    pairs = [comparison.pair(cell) for cell in comparison.swept(cells)]
    return sorted({rho for rho, _ in pairs}), sorted({gamma for _, gamma in pairs})


def _floor_look() -> dict[str, Any]:
    return {"color": curves.FLOOR_COLOUR, "lw": 1.2, "ls": curves.FLOORS["bigram"][1]}


def _sign(label: str, **look: Any) -> Line2D:
    return Line2D([], [], label=label, **look)


def _key(cells: list[dict[str, Any]], metric: str) -> list[Line2D]:
    """What colours and dashes mean, in all panels."""
    looks, (rhos, gammas) = _looks(cells), _values(cells)
    signs = [_sign("baseline", **BASELINE_LOOK)]
    if any(comparison.orientation(cell) == 0 for cell in cells):
        signs.append(_sign("S = 0", **REVERSED_LOOK))
    signs += [_sign(f"γ = {gamma:g}", color=looks[rhos[0], gamma]["color"], lw=3) for gamma in gammas]
    signs += [_sign(f"ρ = {rho:g}", **looks[rho, gammas[0]] | {"color": style.MUTED}) for rho in rhos]
    if metric == "val_loss":
        signs.append(_sign("minimum of a curve", ls="", marker="o", ms=5, color=style.MUTED))
    return signs
