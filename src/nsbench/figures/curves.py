"""Curves over training that several figures draw: runs and their median, times to target, floors."""

from __future__ import annotations

import textwrap

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cell, Cells, Line2D, Series, Table
from nsbench.schemas.metrics import METRICS

LEGEND_WIDTH = 46
BOLD_WIDTH = 38
STRIP = 0.075
"""Height of an arm's row in the strip of times, as a share of the panel."""
TARGET_DASHES = (0, (4, 3))
FLOORS = {"commonest": ("commonest token", (0, (1, 1.6))), "bigram": ("bigram table", (0, (5, 1.5, 1, 1.5)))}
"""Predictor -> what it is called, and its dashes."""
LEAK = "LEAK: "
PROTOCOLS = (
    " A variant is a protocol: the paper does not say how the text is cut into examples, whether there is one target "
    "per example or one at each position, nor which targets its accuracy counts. Where there is a target at each "
    "position, Definition 6.1 is applied at each of them and averaged. A protocol whose name is followed by “LEAK” "
    "lets validation answers be seen, on purpose or because the protocol that it follows does; its accuracy shows what "
    "that gives."
)
"""What captions say of next-token prediction."""


def is_loss(metric: str) -> bool:
    """Whether less of the metric is better."""
    return METRICS[metric].is_loss


def counted(metric: str) -> str:
    """The targets that a validation metric counts: all, unpadded or known."""
    return METRICS[metric].targets


def groups_of(cells: Cells, selections: Table | None = None) -> dict[str, Cells]:
    """Variant -> its cells; with `selections` those that are `compared`."""
    groups = {variant: group for (_, variant), group in comparison.by_variant(cells).items()}
    if selections is None:
        return groups
    return {variant: comparison.compared(group, selections) for variant, group in groups.items()}


def of_arms(axes: Axes, group: Cells, history: Table, times: Table, metric: str) -> tuple[float, float]:
    """Draw the runs of one variant's arms thin and their pointwise medians bold, a cross where a run diverged.

    A diverged run counts as the worst value from where it ends, except for `stability`, which has no worst value. The
    median ends where the first run was stopped early. Returns the lowest and highest value drawn, NaN without any.
    """
    seen = []
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        colour = style.arm_colour(cell["arm_settings"])
        curves = style.by_seed(style.of_cell(history, cell), metric, cell["seeds"])
        shared = style.until_first_stop(curves, style.stopped_seeds(times, cell)).index
        if metric != "stability" and is_loss(metric):
            curves = curves.where(curves > 0)
        diverged = style.of_cell(times, cell).set_index("seed")["status"] == "diverged"
        for seed, curve in curves.items():
            axes.plot(curve.index, curve, color=colour, lw=0.7, alpha=0.4, gid="seed", zorder=2)
            known = curve.dropna()
            if diverged[seed] and len(known):
                axes.plot(known.index[-1], known.iloc[-1], "x", color=colour, ms=6, mew=1.6, gid="diverged", zorder=5)
        median = median_curve(curves.loc[shared], metric)
        axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid="median", zorder=3)
        seen.append(curves.to_numpy(float).ravel())
    style.step_axis(axes, group[0]["budget_steps"])
    values = np.concatenate(seen)
    values = values[np.isfinite(values)]
    return (float(values.min()), float(values.max())) if len(values) else (np.nan, np.nan)


def median_curve(curves: Table, metric: str) -> Series:
    """Pointwise median of (steps, seeds), a missing value counting as the worst of the metric."""
    if metric == "stability":
        return curves.median(axis=1)
    return style.pointwise_median(curves, np.inf if is_loss(metric) else -np.inf)


def target_line(axes: Axes, threshold: float) -> None:
    """The dashed line of the target."""
    axes.axhline(threshold, color=style.MUTED, lw=1, ls=TARGET_DASHES, gid="target", zorder=1)


def times_strip(axes: Axes, group: Cells, times: Table) -> None:
    """The strip on top: a row per arm with each seed's time, the median, and the censored."""
    for place, cell in enumerate(group):
        rows, height = style.of_cell(times, cell), 1 - STRIP * (place + 0.5)
        common = {"transform": axes.get_xaxis_transform(), "color": style.arm_colour(cell["arm_settings"])}
        common |= {"ls": "", "clip_on": False}
        reached, median = rows.loc[rows["reached"], "step"], style.median_time(rows)
        if len(reached):  # an empty line would count in the layout, as a mark in the figure's corner
            axes.plot(reached, [height] * len(reached), marker="|", ms=6, mew=1.1, gid="time", **common)
        if np.isfinite(median):
            axes.plot(median, height, marker="D", ms=5.5, mec="white", mew=0.8, gid="median_time", zorder=6, **common)
        if not rows["reached"].all():
            end = cell["budget_steps"] * 1.02
            axes.plot(end, height, marker=">", ms=5, mfc="white", mew=1, gid="censored", zorder=6, **common)


def below_strip(group: Cells) -> float:
    """The share of a panel that is left to the curves under the strip of times."""
    return 1 - (STRIP * len(group) + 0.03)


def arm_entries(group: Cells, times: Table | None = None) -> list[Line2D]:
    """A legend's entry for each arm; with `times`, how many of its runs reached the target and when."""
    entries = []
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        text = cell["arm"]
        if times is not None:
            rows = style.of_cell(times, cell)
            median, n_diverged = style.median_time(rows), int((rows["status"] == "diverged").sum())
            result = f"reached {int(rows['reached'].sum())}/{len(cell['seeds'])}"
            result += f", median {median:,.0f}" if np.isfinite(median) else ", median not reached"
            result += f", {n_diverged} diverged" if n_diverged else ""
            text += f": {result}" if len(f"{text}: {result}") <= LEGEND_WIDTH else f":\n{result}"
        entries.append(style.sign(text, color=style.arm_colour(cell["arm_settings"]), lw=2, ls=dashes))
    return entries


def header_height(leaks: list[str], entries: list[Line2D]) -> float:
    """The height (inches) that `header` takes."""
    lines = [line for leak in leaks for line in textwrap.wrap(LEAK + leak, BOLD_WIDTH)]
    return 0.15 * (1 + len(lines) + sum(1 + entry.get_label().count("\n") for entry in entries))


def header(axes: Axes, title: str, leaks: list[str], entries: list[Line2D]) -> None:
    """Above the panel: its title, the leaks of its data in a warning colour, and the legend's entries."""
    texts = [textwrap.fill(LEAK + leak, BOLD_WIDTH) for leak in leaks]
    warnings = [style.sign(text, marker="^", ms=6, color=style.WARNING) for text in texts]
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


def floor_line(axes: Axes, floors: Table, cell: Cell, predictor: str, metric: str) -> tuple[float, list[Line2D]]:
    """Draw a floor of a validation metric (`FLOORS`), the median over the cell's seeds, across the panel.

    Returns its value and a legend's entry; NaN and none where there is no such floor.
    """
    here = (floors["task"] == cell["task"]) & (floors["variant"] == cell["variant"]) & (floors["split"] == "val")
    here &= floors["seed"].isin(cell["seeds"]) & (floors["predictor"] == predictor)
    rows = floors[here & (floors["targets"] == counted(metric))]
    value, (name, dashes) = rows["loss" if is_loss(metric) else "accuracy"].astype(float).median(), FLOORS[predictor]
    if not np.isfinite(value):
        return value, []
    look = {"color": style.LOSS_COLOUR, "lw": 1.2, "ls": dashes}
    axes.axhline(value, gid=f"floor {predictor}", zorder=1.5, **look)
    return value, [style.sign(f"{name}: {value:.3f}", **look)]


def floor_lines(axes: Axes, floors: Table, cell: Cell, metric: str) -> list[Line2D]:
    """Draw both floors of a validation metric across the panel; a legend's entry for each."""
    return [entry for name in FLOORS for entry in floor_line(axes, floors, cell, name, metric)[1]]


def remarks(times: Table, cells: Cells, drawn: Cells, selections: Table, scale: str) -> list[str]:
    """A footer's last lines: runs that were stopped, arms that are chosen, the text, and the scale."""
    return [
        *style.stopped_line(times, drawn),
        *comparison.choice_line(cells, drawn, selections),
        *style.text_lines(times, drawn),
        style.scale_text(drawn, scale),
    ]


def run_key() -> list[Line2D]:
    """What thin and bold lines and crosses mean, whatever the arm."""
    return [
        style.sign("one seed", lw=0.7, alpha=0.6),
        style.sign("median over seeds", lw=2),
        style.sign("diverged", marker="x", ms=6, mew=1.6),
    ]


def times_key() -> list[Line2D]:
    """What all signs of a panel with a target and a strip of times mean."""
    seed, median, diverged = run_key()
    return [
        seed,
        median,
        style.sign("target", lw=1, ls=TARGET_DASHES),
        style.sign("a seed's time to target", marker="|", ms=6, mew=1.1),
        style.sign("median time", marker="D", ms=5.5, mec="white"),
        style.sign("some seeds not within budget", marker=">", ms=5, mfc="white"),
        diverged,
    ]
