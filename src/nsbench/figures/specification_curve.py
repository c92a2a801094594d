"""The specification curve: an arm's effect in every specification, sorted, with its choices below."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from nsbench.analysis.specification_curves import HELPS, HURTS, NOT_COUNTED, OPEN
from nsbench.arms import describe
from nsbench.config.settled import few
from nsbench.figures import curves, style
from nsbench.storage.parquet import RecordError

PAPER = {"modular_addition": 3300 / 4500, "sparse_parity": 1 / 1.35, "next_token": 1000 / 4000}
"""Steps of the regularised run / the baseline's as the paper has them: about 3,300 for 4,500, and a speed-up of about
35%, read as its 36% for 3,300 instead of 4,500 is (section 6); 1,000 instead of 4,000 (appendix J.3)."""
LOOKS = {
    HELPS: {"color": "#0072B2", "marker": "v"},
    OPEN: {"color": "#555555", "marker": "o"},
    HURTS: {"color": "#C4322B", "marker": "^"},
    NOT_COUNTED: {"color": "#B3B3B3", "marker": "o"},
}
MEANINGS = {
    HELPS: "helps: fewer steps",
    OPEN: "open: cannot be told",
    HURTS: "hurts: more steps",
    NOT_COUNTED: "not counted",
}
PAPER_COLOUR = "#8A6100"
TICKS = (0.05, 0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 5, 10, 20)
ROW, COLUMN, UPPER = 0.145, 0.13, 2.0
"""Inches: a level's row, a specification's column, the panel above."""
NARROWEST = 4.7
"""Inches of the panels, at least: room for what stands above them."""
LEVEL_SIZE, GAP = 7.0, 13.0
"""Points: the type of the matrix, and what is left between its columns of text."""
LEVEL_WORDS = {None: "default", True: "yes", False: "no"}

Levels = dict[str, list[Any]]
"""Choice -> its levels: numbers by size, others with the base's first."""


def draw(
    specifications: pd.DataFrame, shares: pd.DataFrame, cells: list[dict[str, Any]], scale: str, task: str
) -> Figure:
    """Of each specification curve of `task` and each of its arms: above, the ratio of steps to target, arm / baseline,
    with its interval, sorted; below, a row for each level of each choice, with a dot where the specification has it.

    Takes `schemas.analysis.SPECIFICATION` and `SPECIFICATION_SHARE`; which specifications and choices there are comes
    from the grid's cells. Those that do not count stand greyed at the right, with what their ratio is where one of
    their arms reached the target. Lines across are no effect and the paper's own number (PAPER). Raises RecordError
    for a specification of the grid that the table does not have.
    """
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        if cell["task"] == task and cell.get("curve") is not None and cell["arm_settings"]["kind"] != "baseline":
            groups.setdefault((cell["curve"], cell["arm"]), []).append(cell)
    if not groups:
        return style.empty(f"Specification curve: the grid has none of {task}", scale)
    shown = [cell for group in groups.values() for cell in group]
    levels = {key: _levels(group) for key, group in groups.items()}
    heights = [_height(found) for found in levels.values()]
    most = max(len(group) for group in groups.values())
    with style.applied():
        labels = max(_widths(found)[0] + _widths(found)[1] + 2 * GAP for found in levels.values()) / 72
        width = labels + max(COLUMN * (most + 2), NARROWEST) + 0.3
        figure = Figure(figsize=(width, sum(heights) + 1.5), layout="constrained")
        ratios = [ratio for found in levels.values() for ratio in (UPPER, ROW * _n_levels(found))]
        grid = figure.subplots(2 * len(groups), 1, height_ratios=ratios)
        tables = []
        for place, (key, group) in enumerate(groups.items()):
            rows = _rows(specifications, group)
            share = shares[(shares["task"] == task) & (shares["curve"] == key[0]) & (shares["arm"] == key[1])].iloc[0]
            _curve(grid[2 * place], grid[2 * place + 1], group, rows, share, levels[key], PAPER.get(task))
            tables.append(rows)
        table = pd.concat(tables)
        lines = [*_reading(table), *style.text_lines(table, shown), style.scale_text(shown, scale)]
        style.footer(figure, lines, _key(task), n_columns=4 if width > 8 else 3)
    return figure


def _levels(group: list[dict[str, Any]]) -> Levels:
    """The choices of a curve and the levels that its specifications have, in grid order."""
    found: Levels = {}
    for cell in group:
        for choice, level in cell["choices"].items():
            if level not in found.setdefault(choice, []):
                found[choice].append(level)
    return {choice: sorted(given) if _are_numbers(given) else given for choice, given in found.items()}


def _are_numbers(levels: list[Any]) -> bool:
    return all(isinstance(level, (int, float)) and not isinstance(level, bool) for level in levels)


def _n_levels(levels: Levels) -> int:
    return sum(len(found) for found in levels.values())


def _height(levels: Levels) -> float:
    """Inches that a curve takes."""
    return UPPER + ROW * _n_levels(levels) + 1.1


def _rows(table: pd.DataFrame, group: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of a curve and arm in the figure's order: those that count by their ratio, then the others."""
    keys = table.set_index(["task", "variant", "arm"], drop=False)
    rows = []
    for cell in group:
        key = (cell["task"], cell["variant"], cell["arm"])
        if key not in keys.index:
            raise RecordError(f"{' / '.join(key)}: this specification of the grid has no row; analyse the grid again")
        rows.append({**keys.loc[key].to_dict(), "has": cell["choices"]})
    found = pd.DataFrame(rows)
    found["later"] = ~found["counts"].astype(bool)
    return found.sort_values(["later", "steps_ratio"], kind="stable", na_position="last", ignore_index=True)


def _curve(
    upper: Axes,
    lower: Axes,
    group: list[dict[str, Any]],
    rows: pd.DataFrame,
    share: pd.Series,
    levels: Levels,
    paper: float | None,
) -> None:
    """Both panels of a curve and arm."""
    n_counted = int(rows["counts"].sum())
    n_aside = len(rows) - n_counted
    places = np.arange(len(rows)) + 1.0 * (np.arange(len(rows)) >= n_counted) * (n_counted > 0)
    _effects(upper, rows, places, paper)
    _matrix(lower, rows, places, levels)
    for axes in (upper, lower):
        axes.set_xlim(places[0] - 0.75, places[-1] + 0.75)
        if n_aside:
            axes.axvspan(places[n_counted] - 0.75, places[-1] + 0.75, color="#F4F4F4", lw=0, zorder=0)
    if n_aside:
        look = {"fontsize": 7, "ha": "center", "va": "top", "color": style.MUTED, "gid": "aside", "linespacing": 1.1}
        at = (places[n_counted] + places[-1]) / 2, 0.985
        upper.text(*at, f"{n_aside} not\ncounted", transform=upper.get_xaxis_transform(), **look)
    arm = describe(group[0]["arm_settings"])
    entries = [Line2D([], [], ls="", label=line) for line in (arm, *_summary(rows, share)) if line]
    curves.header(upper, f"{share['curve']}: {share['arm']}", _leaks(group), entries)


def _effects(axes: Axes, rows: pd.DataFrame, places: np.ndarray, paper: float | None) -> None:
    """Each specification's ratio and interval."""
    axes.set_yscale("log")
    axes.axhline(1, color="#222222", lw=0.9, zorder=1, gid="none")
    if paper is not None:
        axes.axhline(paper, color=PAPER_COLOUR, lw=1.1, ls=(0, (5, 2)), zorder=1, gid="paper")
    for row, place in zip(rows.to_dict("records"), places, strict=True):
        colour = LOOKS[row["effect"]]["color"]
        ratio, low, high = (float(row[f"steps_ratio{end}"]) for end in ("", "_low", "_high"))
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([place, place], [low, high], color=colour, lw=1.3, zorder=2, gid="interval")
        if math.isfinite(ratio):
            axes.plot(place, ratio, ls="", zorder=3, gid=row["effect"], **_mark(row["effect"]))
        if row["base"] and math.isfinite(ratio):
            axes.plot(place, ratio, ls="", marker="o", ms=9.5, mfc="none", mec="black", mew=0.9, zorder=4, gid="base")
    ends = rows[["steps_ratio", "steps_ratio_low", "steps_ratio_high"]].to_numpy(float)
    seen = [*ends[np.isfinite(ends)], 1.0, *([paper] if paper else [])]
    low, high = min(seen) / 1.1, max(seen) * 1.1
    axes.set_ylim(low, high * (high / low) ** 0.16)  # room above for the remark
    _ratio_ticks(axes, low, high)
    axes.set_ylabel("steps to target,\narm / baseline")
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _mark(effect: str) -> dict[str, Any]:
    """The marker of an effect: full where it is settled."""
    colour = LOOKS[effect]["color"]
    return {**LOOKS[effect], "ms": 5, "mew": 1.1, "mfc": colour if effect in (HELPS, HURTS) else "white"}


def _ratio_ticks(axes: Axes, low: float, high: float) -> None:
    """Few enough plain numbers on the logarithmic axis, 1 among them."""
    near, chosen = 0.09 * math.log(high / low), [1.0]
    for tick in sorted(TICKS, key=lambda tick: abs(math.log(tick))):
        if low <= tick <= high and all(abs(math.log(tick / other)) > near for other in chosen):
            chosen.append(tick)
    axes.yaxis.set_major_locator(FixedLocator(sorted(chosen)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def _matrix(axes: Axes, rows: pd.DataFrame, places: np.ndarray, levels: Levels) -> None:
    """A row for each level, grouped by choice, with a dot where a specification has it."""
    labels, centres, row = [], [], 0
    for at, (choice, found) in enumerate(levels.items()):
        if at % 2:
            axes.axhspan(row - 0.5, row + len(found) - 0.5, color="#EFEFEF", alpha=0.7, lw=0, zorder=0.1)
        centres.append(row + (len(found) - 1) / 2)
        for level in found:
            labels.append(level_text(level))
            has = np.array([given[choice] == level for given in rows["has"]])
            for effect, look in LOOKS.items():
                chosen = places[has & (rows["effect"] == effect).to_numpy()]
                if len(chosen):
                    dots = {"marker": "o", "ms": 4.2, "mew": 0, "color": look["color"], "gid": "has", "zorder": 2}
                    axes.plot(chosen, np.full(len(chosen), row), ls="", **dots)
            row += 1
    axes.set_ylim(row - 0.5, -0.5)
    axes.yaxis.remove_overlapping_locs = False
    axes.set_yticks(range(row), labels, fontsize=LEVEL_SIZE)
    axes.set_yticks(centres, [choice_text(choice) for choice in levels], minor=True, fontsize=LEVEL_SIZE, weight="bold")
    axes.tick_params(axis="both", length=0, which="both")
    axes.tick_params(axis="y", which="minor", pad=_widths(levels)[0] + GAP)
    axes.tick_params(axis="x", labelbottom=False)
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)


def _widths(levels: Levels) -> tuple[float, float]:
    """Points that the matrix needs for the levels' names and for the choices'."""
    named = [level_text(level) for found in levels.values() for level in found], [choice_text(name) for name in levels]
    fonts = FontProperties(family="DejaVu Sans"), FontProperties(family="DejaVu Sans", weight="bold")
    return tuple(
        max(TextPath((0, 0), text, size=LEVEL_SIZE, prop=font).get_extents().width for text in texts)
        for texts, font in zip(named, fonts, strict=True)
    )


def choice_text(choice: str) -> str:
    """A choice as the matrix calls it: its field, after the section where that is needed to tell what it is of."""
    section, _, name = choice.rpartition(".")
    return f"{section} {name}".replace("_", " ") if section in ("noise", "target") else name.replace("_", " ")


def level_text(level: Any) -> str:
    """A level as the matrix calls it."""
    if level is None or isinstance(level, bool):
        return LEVEL_WORDS[level]
    return f"{level:,}" if isinstance(level, int) else f"{level}"


def _summary(rows: pd.DataFrame, share: pd.Series) -> list[str]:
    """The shares in words, and what became of those that do not count."""
    aside = rows[~rows["counts"].astype(bool)]
    counted = f"{share['n_counted']} of {share['n_specifications']} specifications count"
    lines = [counted]
    if share["n_counted"]:
        lines = [f"{counted}: {share['n_helps']} help, {share['n_hurts']} hurt, {share['n_open']} open"]
        low, high = 100 * share["share_helps_low"], 100 * share["share_helps_high"]
        lines.append(
            f"helps in {100 * share['share_helps']:.0f}% ({low:.0f} to {high:.0f}%), median ratio "
            f"{share['median_steps_ratio']:.2f}"
        )
    if len(aside):
        reached = int((aside["n_arm_reached"] > aside["n_pairs"] / 2).sum())
        lines.append(f"in {len(aside)} the baseline does not reach the target (the arm does in {reached})")
    return lines


def _leaks(group: list[dict[str, Any]]) -> list[str]:
    """The leaks of a curve, each with how many of its specifications have it where not all do."""
    found: dict[str, int] = {}
    for cell in group:
        for leak in cell.get("leaks", []):
            found[leak] = found.get(leak, 0) + 1
    return [leak if count == len(group) else f"{leak} ({count} of {len(group)})" for leak, count in found.items()]


def _reading(table: pd.DataFrame) -> list[str]:
    """How to read the panels."""
    confidence, n_pairs = float(table["confidence"].iloc[0]), int(table["n_pairs"].max())
    lines = [
        "Each column: one combination of open choices, the arm against its own baseline, paired by seed, with its "
        f"{100 * confidence:g}% interval. It counts where the baseline reaches the target in more than half of the "
        "pairs. Some leave 1 by chance, so compare helps with hurts. The interval of a share is Wilson's, as if "
        "specifications were independent, which they are not."
    ]
    lines += [f"So none is settled: {note}." for note in few(n_pairs, "pairs", confidence)]
    factors = (table["flops_ratio"] / table["steps_ratio"]).groupby(table["arm"], sort=False).median().dropna()
    costs = [
        f"{arm} {factor:.2g}, so it saves work below a ratio of {1 / factor:.2f}" for arm, factor in factors.items()
    ]
    if costs:
        lines.append(f"What a step costs in FLOPs, arm / baseline: {'; '.join(costs)}.")
    return lines


def _key(task: str) -> list[Any]:
    marks = [Line2D([], [], ls="", label=words, **_mark(effect)) for effect, words in MEANINGS.items()]
    base = Line2D([], [], ls="", marker="o", ms=9, mfc="none", mec="black", mew=0.9, label="the base")
    paper = Line2D([], [], color=PAPER_COLOUR, lw=1.1, ls=(0, (5, 2)), label=f"the paper: {PAPER[task]:.2f}")
    none = Line2D([], [], color="#222222", lw=0.9, label="no effect")
    return [*marks, base, none, paper]
