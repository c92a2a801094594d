"""Curves over training that several figures draw: runs and their median, times to target, floors."""

from __future__ import annotations

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from nsbench.analysis.statistics import quantile
from nsbench.figures import style
from nsbench.schemas.metrics import METRICS

LEGEND_WIDTH = 46
BOLD_WIDTH = 38
STRIP = 0.075
"""Height of an arm's row in the strip of times, as a share of the panel."""
TARGET_DASHES = (0, (4, 3))
FLOOR_COLOUR = "#0072B2"
FLOORS = {"commonest": ("commonest token", (0, (1, 1.6))), "bigram": ("bigram table", (0, (5, 1.5, 1, 1.5)))}
"""Predictor -> what it is called, and its dashes."""
LEAK = "LEAK: "


def is_loss(metric: str) -> bool:
    """Whether less of the metric is better."""
    return METRICS[metric].is_loss


def counted(metric: str) -> str:
    """The targets that a validation metric counts: all, unpadded or known."""
    return METRICS[metric].targets


def of_runs(
    axes: Axes, cell: dict[str, Any], history: pd.DataFrame, times: pd.DataFrame, metric: str, dashes: Any
) -> tuple[float, float]:
    """Draw a cell's runs thin and their pointwise median bold, with a cross where a run diverged.

    A diverged run counts as the worst value from where it ends, except for `stability`, which has
    no worst value. The median ends where the first run was stopped early. Returns the lowest and the
    highest value drawn (NaN without any).
    """
    colour = style.arm_colour(cell["arm_settings"])
    curves = style.by_seed(style.of_cell(history, cell), metric, cell["seeds"])
    shared = style.until_first_stop(curves, style.stopped_seeds(times, cell)).index
    if metric != "stability" and is_loss(metric):
        curves = curves.where(curves > 0)
    diverged = style.of_cell(times, cell).set_index("seed")["status"] == "diverged"
    for seed, curve in curves.items():
        axes.plot(curve.index, curve, color=colour, lw=0.7, alpha=0.4, gid="seed", zorder=2)
        seen = curve.dropna()
        if diverged[seed] and len(seen):
            axes.plot(seen.index[-1], seen.iloc[-1], "x", color=colour, ms=6, mew=1.6, gid="diverged", zorder=5)
    median = median_curve(curves.loc[shared], metric)
    axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid="median", zorder=3)
    finite = curves.where(np.isfinite(curves))
    return float(finite.min().min()), float(finite.max().max())


def median_curve(curves: pd.DataFrame, metric: str) -> pd.Series:
    """Pointwise median of (steps, seeds), a missing value counting as the worst of the metric."""
    if metric == "stability":
        return curves.median(axis=1)
    return style.pointwise_median(curves, np.inf if is_loss(metric) else -np.inf)


def target_line(axes: Axes, threshold: float) -> None:
    """The dashed line of the target."""
    axes.axhline(threshold, color=style.MUTED, lw=1, ls=TARGET_DASHES, gid="target", zorder=1)


def times_strip(axes: Axes, group: list[dict[str, Any]], times: pd.DataFrame) -> None:
    """The strip on top: a row per arm with each seed's time, the median, and the censored."""
    at = axes.get_xaxis_transform()
    for place, cell in enumerate(group):
        rows, colour = style.of_cell(times, cell), style.arm_colour(cell["arm_settings"])
        height = 1 - STRIP * (place + 0.5)
        reached = rows.loc[rows["reached"], "step"]
        common = {"transform": at, "color": colour, "ls": "", "clip_on": False}
        if len(reached):  # an empty line would count in the layout, as a mark in the figure's corner
            axes.plot(reached, [height] * len(reached), marker="|", ms=6, mew=1.1, gid="time", **common)
        median = quantile(rows["step"], 0.5)
        if np.isfinite(median):
            axes.plot(median, height, marker="D", ms=5.5, mec="white", mew=0.8, gid="median_time", zorder=6, **common)
        if not rows["reached"].all():
            end = cell["budget_steps"] * 1.02
            axes.plot(end, height, marker=">", ms=5, mfc="white", mew=1, gid="censored", zorder=6, **common)


def below_strip(group: list[dict[str, Any]]) -> float:
    """The share of a panel that is left to the curves under the strip of times."""
    return 1 - (STRIP * len(group) + 0.03)


def arm_entries(group: list[dict[str, Any]], times: pd.DataFrame | None = None) -> list[Line2D]:
    """A legend's entry for each arm; with `times`, how many of its runs reached the target and when."""
    handles = []
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        text = cell["arm"]
        if times is not None:
            rows = style.of_cell(times, cell)
            median, n_diverged = quantile(rows["step"], 0.5), int((rows["status"] == "diverged").sum())
            result = f"reached {int(rows['reached'].sum())}/{len(cell['seeds'])}"
            result += f", median {median:,.0f}" if np.isfinite(median) else ", median not reached"
            result += f", {n_diverged} diverged" if n_diverged else ""
            text += f": {result}" if len(f"{text}: {result}") <= LEGEND_WIDTH else f":\n{result}"
        handles.append(Line2D([], [], color=style.arm_colour(cell["arm_settings"]), lw=2, ls=dashes, label=text))
    return handles


def header_height(leaks: list[str], entries: list[Line2D]) -> float:
    """The height (inches) that `header` takes."""
    lines = [line for leak in leaks for line in textwrap.wrap(LEAK + leak, BOLD_WIDTH)]
    return 0.15 * (1 + len(lines) + sum(1 + entry.get_label().count("\n") for entry in entries))


def header(axes: Axes, title: str, leaks: list[str], entries: list[Line2D]) -> None:
    """Above the panel: its title, the leaks of its data in a warning colour, and the legend's entries."""
    warnings = [
        Line2D([], [], ls="", marker="^", ms=6, color=style.WARNING, label=textwrap.fill(LEAK + leak, BOLD_WIDTH))
        for leak in leaks
    ]
    legend = axes.legend(
        handles=[*warnings, *entries],
        title=title,
        title_fontproperties={"weight": "bold", "size": 9},
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        borderpad=0.1,
        labelspacing=0.25,
        handlelength=1.6,
    )
    for text in legend.get_texts()[: len(warnings)]:
        text.set(color=style.WARNING, weight="bold", gid="leak")


def floor(floors: pd.DataFrame, cell: dict[str, Any], predictor: str, targets: str, column: str) -> float:
    """A floor on validation data (`schemas.training.FLOORS`), median over the cell's seeds; NaN where there is none.

    `column` is accuracy or loss (nats).
    """
    rows = floors[
        (floors["task"] == cell["task"])
        & (floors["variant"] == cell["variant"])
        & floors["seed"].isin(cell["seeds"])
        & (floors["predictor"] == predictor)
        & (floors["targets"] == targets)
        & (floors["split"] == "val")
    ]
    return float(rows[column].astype(float).median())


def floor_lines(axes: Axes, floors: pd.DataFrame, cell: dict[str, Any], metric: str) -> list[Line2D]:
    """Draw both floors of a validation metric across the panel; a legend's entry for each, with its value."""
    column, entries = "loss" if is_loss(metric) else "accuracy", []
    for predictor, (name, dashes) in FLOORS.items():
        value = floor(floors, cell, predictor, counted(metric), column)
        if np.isfinite(value):
            look = {"color": FLOOR_COLOUR, "lw": 1.2, "ls": dashes}
            axes.axhline(value, gid=f"floor {predictor}", zorder=1.5, **look)
            entries.append(Line2D([], [], label=f"{name}: {value:.3f}", **look))
    return entries


def run_key() -> list[Line2D]:
    """What thin and bold lines and crosses mean, whatever the arm."""
    grey = {"color": style.MUTED}
    return [
        Line2D([], [], lw=0.7, alpha=0.6, label="one seed", **grey),
        Line2D([], [], lw=2, label="median over seeds", **grey),
        Line2D([], [], ls="", marker="x", ms=6, mew=1.6, label="diverged", **grey),
    ]


def times_key() -> list[Line2D]:
    """What all signs of a panel with a target and a strip of times mean."""
    grey = {"color": style.MUTED}
    seed, median, diverged = run_key()
    return [
        seed,
        median,
        Line2D([], [], lw=1, ls=TARGET_DASHES, label="target", **grey),
        Line2D([], [], ls="", marker="|", ms=6, mew=1.1, label="a seed's time to target", **grey),
        Line2D([], [], ls="", marker="D", ms=5.5, mec="white", label="median time", **grey),
        Line2D([], [], ls="", marker=">", ms=5, mfc="white", label="some seeds not within budget", **grey),
        diverged,
    ]
