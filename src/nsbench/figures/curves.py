"""Curves over training that several figures draw: runs and their median, times to target, n-gram floors."""

from __future__ import annotations

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.style as style
from nsbench.config.cells import by_variant
from nsbench.figures.annotations import Axes, Cell, Cells, Line2D, Series, Table
from nsbench.schemas.metrics import METRICS

LEGEND_WIDTH = 46
STRIP = 0.075
"""Height of an arm's row in the strip of times, as a share of the panel."""
TARGET_DASHES = (0, (4, 3))
FLOORS = {"commonest": ("commonest token", (0, (1, 1.6))), "bigram": ("bigram table", (0, (5, 1.5, 1, 1.5)))}
"""Predictor -> what it is called, and its dashes."""
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
    return metric in METRICS and METRICS[metric].is_loss


def groups_of(cells: Cells, selections: Table | None = None) -> dict[str, Cells]:
    """Variant -> its cells; with `selections` those that are `comparison.shown`."""
    groups = {variant: group for (_, variant), group in by_variant(cells).items()}
    if selections is None:
        return groups
    return {variant: comparison.shown(group, selections) for variant, group in groups.items()}


def runs_of(table: Table, times: Table, cell: Cell, column: str) -> tuple[Table, Series]:
    """A column of the cell's runs, (steps, seeds), and its `median_of`."""
    curves = comparison.of_cell(table, cell).pivot(index="step", columns="seed", values=column)
    curves = curves.reindex(columns=cell["seeds"])
    return curves, median_of(curves, comparison.of_cell(times, cell), column)


def median_of(curves: Table, times: Table, column: str) -> Series:
    """The pointwise median of a column over all seeds (`curves`, steps x seeds); times: TIME_TO_TARGET of these runs.

    A diverged run counts as the worst value from where it ends; of what is no score, as `stability`, only runs with a
    value count. The median ends where the first run was stopped early: later, only slower runs are left.
    """
    counted, stopped = curves, times.loc[times["status"] == "stopped", "seed"].tolist()
    if stopped:
        counted = curves[curves[stopped].notna().all(axis=1)]
    if column in METRICS:
        counted = counted.fillna(np.inf if is_loss(column) else -np.inf)
    median = counted.median(axis=1)
    return median.where(np.isfinite(median))


def of_arms(axes: Axes, group: Cells, history: Table, times: Table, metric: str) -> tuple[float, float]:
    """Draw the runs of one variant's arms thin and their medians (`runs_of`) bold, a cross where a run diverged.

    Returns the lowest and highest value drawn, of losses the lowest above 0; NaN without any.
    """
    seen = []
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        colour = style.arm_colour(cell["arm_settings"])
        curves, median = runs_of(history, times, cell, metric)
        diverged = comparison.of_cell(times, cell).set_index("seed")["status"] == "diverged"
        for seed, curve in curves.items():
            axes.plot(curve.index, curve, color=colour, lw=0.7, alpha=0.4, gid="seed", zorder=2)
            known = curve.dropna()
            if diverged[seed] and len(known):
                axes.plot(known.index[-1], known.iloc[-1], "x", color=colour, ms=6, mew=1.6, gid="diverged", zorder=5)
        axes.plot(median.index, median, color=colour, lw=2, ls=dashes, gid="median", zorder=3)
        seen.append(curves.to_numpy(float).ravel())
    style.step_axis(axes, group[0]["budget_steps"])
    values = np.concatenate(seen)
    values = values[np.isfinite(values) & ((values > 0) | (not is_loss(metric)))]
    return (float(values.min()), float(values.max())) if len(values) else (np.nan, np.nan)


def target_line(axes: Axes, threshold: float) -> None:
    """The dashed line of the target."""
    axes.axhline(threshold, color=style.MUTED, lw=1, ls=TARGET_DASHES, gid="target", zorder=1)


def median_time(rows: Table) -> float:
    """The median of times to target (`TIME_TO_TARGET`), censored ones later than any; it may be inf."""
    return float(rows["step"].astype(float).fillna(np.inf).median())


def times_strip(axes: Axes, group: Cells, times: Table) -> float:
    """The strip on top: a row per arm with each seed's time, the median, and the censored.

    Returns the share of the panel that is left to the curves under it.
    """
    for place, cell in enumerate(group):
        rows, height = comparison.of_cell(times, cell), 1 - STRIP * (place + 0.5)
        common = {"transform": axes.get_xaxis_transform(), "color": style.arm_colour(cell["arm_settings"])}
        common |= {"ls": "", "clip_on": False}
        reached, median = rows.loc[rows["reached"], "step"], median_time(rows)
        if len(reached):  # an empty line would count in the layout, as a mark in the figure's corner
            axes.plot(reached, [height] * len(reached), marker="|", ms=6, mew=1.1, gid="time", **common)
        if np.isfinite(median):
            axes.plot(median, height, marker="D", ms=5.5, mec="white", mew=0.8, gid="median_time", zorder=6, **common)
        if not rows["reached"].all():
            end = cell["budget_steps"] * 1.02
            axes.plot(end, height, marker=">", ms=5, mfc="white", mew=1, gid="censored", zorder=6, **common)
    return 1 - (STRIP * len(group) + 0.03)


def arm_entries(group: Cells, times: Table | None = None, effects: Table | None = None) -> list[Line2D]:
    """A legend's entry for each arm; with `times`, how many of its runs reached the target and when, or with `effects`
    what its pairs with the baseline settle."""
    entries = []
    for cell, dashes in zip(group, style.arm_dashes(group), strict=True):
        text = cell["arm"]
        if times is not None:
            rows = comparison.of_cell(times, cell)
            median, n_diverged = median_time(rows), int((rows["status"] == "diverged").sum())
            result = f"reached {int(rows['reached'].sum())}/{len(cell['seeds'])}"
            if effects is None:
                result += f", median {median:,.0f}" if np.isfinite(median) else ", median not reached"
            else:
                result += "".join(f", {outcome}" for outcome in comparison.of_cell(effects, cell)["outcome"])
            result += f", {n_diverged} diverged" if n_diverged else ""
            text += f": {result}" if len(f"{text}: {result}") <= LEGEND_WIDTH else f":\n{result}"
        entries.append(style.sign(text, color=style.arm_colour(cell["arm_settings"]), lw=2, ls=dashes))
    return entries


def floor_lines(
    axes: Axes, floors: Table, cell: Cell, metric: str, predictors: tuple[str, ...] = tuple(FLOORS)
) -> tuple[list[float], list[Line2D]]:
    """Draw floors of a validation metric (`FLOORS`), medians over the cell's seeds, across the panel.

    Returns their values and legend's entries.
    """
    here = (floors["task"] == cell["task"]) & (floors["variant"] == cell["variant"]) & (floors["split"] == "val")
    here &= floors["seed"].isin(cell["seeds"]) & (floors["targets"] == METRICS[metric].targets)
    values, entries = [], []
    for predictor in predictors:
        rows, (name, dashes) = floors[here & (floors["predictor"] == predictor)], FLOORS[predictor]
        value = rows["loss" if is_loss(metric) else "accuracy"].astype(float).median()
        if np.isfinite(value):
            look = {"color": style.LOSS_COLOUR, "lw": 1.2, "ls": dashes}
            axes.axhline(value, gid=f"floor {predictor}", zorder=1.5, **look)
            values.append(value)
            entries.append(style.sign(f"{name}: {value:.3f}", **look))
    return values, entries


def run_key() -> list[Line2D]:
    """What thin and bold lines and crosses mean, whatever the arm."""
    return [
        style.sign("one seed", lw=0.7, alpha=0.6, gid="seed"),
        style.sign("median over seeds", lw=2, gid="median"),
        style.sign("diverged", marker="x", ms=6, mew=1.6, gid="diverged"),
    ]


def times_key() -> list[Line2D]:
    """What all signs of a panel with a target and a strip of times mean."""
    return [
        *run_key(),
        style.sign("target", lw=1, ls=TARGET_DASHES, gid="target"),
        style.sign("a seed's time to target", marker="|", ms=6, mew=1.1, gid="time"),
        style.sign("median time", marker="D", ms=5.5, mec="white", gid="median_time"),
        style.sign("some seeds not within budget", marker=">", ms=5, mfc="white", gid="censored"),
    ]
