"""The specification curve: an arm's effect in every specification, sorted, with its choices below."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.arms import describe
from nsbench.config.settled import few
from nsbench.figures.annotations import Axes, Cells, Figure, Series, Table
from nsbench.figures.registry import figure

PAPER = {"modular_addition": 3300 / 4500, "sparse_parity": 1 / 1.35, "next_token": 1000 / 4000}
"""Steps of the regularised run / the baseline's as the paper has them: about 3,300 for 4,500, and a speed-up of about
35%, read as its 36% for 3,300 instead of 4,500 is (section 6); 1,000 instead of 4,000 (appendix J.3)."""
LOOKS = {
    "helps": {"color": "#0072B2", "marker": "v", "mfc": "#0072B2"},
    "open": {"color": "#555555", "marker": "o", "mfc": "white"},
    "hurts": {"color": "#C4322B", "marker": "^", "mfc": "#C4322B"},
    "not counted": {"color": "#B3B3B3", "marker": "o", "mfc": "white"},
}
"""Effect of a specification (`schemas.analysis.SPECIFICATION`) -> its mark: full where it is settled."""
MEANINGS = ["helps: fewer steps", "open: cannot be told", "hurts: more steps", "not counted"]
BASE = {"marker": "o", "ms": 9.5, "mfc": "none", "color": "black", "mew": 0.9}
NO_EFFECT = {"color": "#222222", "lw": 0.9}
OF_PAPER = {"color": "#8A6100", "lw": 1.1, "ls": (0, (5, 2))}
ROW, COLUMN, UPPER = 0.145, 0.13, 2.0
"""Inches: a level's row, a specification's column, the panel above."""
NARROWEST, BESIDE = 4.7, 2.4
"""Inches: of the panels, at least, and of the text on both sides."""

Levels = dict[str, list[Any]]
"""Choice -> its levels: numbers by size, others with the base's first."""


def has_curve(group: Cells) -> bool:
    """Whether a variant is a specification of a curve."""
    return any(cell.get("curve") for cell in group)


@figure(
    "specification_curve",
    tables=["specifications", "shares"],
    each_task=True,
    needs=has_curve,
    of_curves=True,
    title="Specification curve, {task}",
    caption="A specification is one answer to each choice that the paper leaves open. Above, the ratio of steps to "
    "target, arm / baseline, of each, sorted, with its interval: below 1 the regulariser helps. Below, which answer "
    "each specification gives to each choice: a choice that decides the effect has its answers on one side. Only "
    "specifications whose baseline reaches the target in more than half of the pairs count; the others have no time "
    "that could be shorter. Sorted values look like a trend even where they differ by chance alone, so read the "
    "intervals, and the shares in the table.",
    notes={"next_token": curves.PROTOCOLS},
)
def draw(specifications: Table, shares: Table, cells: Cells, scale: str) -> Figure:
    """Of each specification curve and each of its arms: above, the ratio of steps to target, arm / baseline, with its
    interval, sorted; below, a row for each level of each choice, with a dot where the specification has it.

    Takes `schemas.analysis.SPECIFICATION` and `SPECIFICATION_SHARE`; which specifications and choices there are comes
    from the grid's cells. Those that do not count stand greyed at the right, with what their ratio is where one of
    their arms reached the target. Lines across are no effect and the paper's own number (PAPER). Raises RecordError
    for a specification of the grid that the table does not have.
    """
    groups: dict[tuple[str, str], Cells] = {}
    for cell in cells:
        if cell.get("curve") is not None and cell["arm_settings"]["kind"] != "baseline":
            groups.setdefault((cell["curve"], cell["arm"]), []).append(cell)
    drawn = [cell for group in groups.values() for cell in group]
    levels = {key: _levels(group) for key, group in groups.items()}
    heights = [height for found in levels.values() for height in (UPPER, ROW * sum(map(len, found.values())))]
    width = max(COLUMN * (max(map(len, groups.values())) + 2), NARROWEST) + BESIDE
    figure = style.new(width, sum(heights) + 1.1 * len(groups) + 1.5)
    grid = figure.subplots(2 * len(groups), 1, height_ratios=heights)
    paper, tables = PAPER.get(cells[0]["task"]), []
    for (upper, lower), (key, group) in zip(grid.reshape(-1, 2), groups.items(), strict=True):
        here = (shares["task"] == group[0]["task"]) & (shares["curve"] == key[0]) & (shares["arm"] == key[1])
        rows, share = _rows(specifications, group), shares[here].iloc[0]
        places = _places(rows, upper, lower)
        _effects(upper, rows, places, paper)
        _matrix(lower, group, rows, places, levels[key])
        text = [describe(group[0]["arm_settings"]), *_summary(rows, share)]
        entries = [style.sign(line, ls="") for line in text if line]
        leaks = [leak for cell in group for leak in cell.get("leaks", [])]
        leaks = [f"{leak} ({leaks.count(leak)} of {len(group)})" for leak in dict.fromkeys(leaks)]
        style.header(upper, f"{share['curve']}: {share['arm']}", leaks, entries)
        tables.append(rows)
    lines = [*_reading(tables), *footers.text_lines(specifications, drawn), footers.scale_text(drawn, scale)]
    signs = [style.sign(text, ms=5, mew=1.1, **look) for text, look in zip(MEANINGS, LOOKS.values(), strict=True)]
    signs += [style.sign("the base", **BASE), style.sign("no effect", **NO_EFFECT)]
    signs += [style.sign(f"the paper: {paper:.2f}", **OF_PAPER)] if paper else []
    style.footer(figure, lines, signs)
    return figure


def _levels(group: Cells) -> Levels:
    """The choices of a curve and the levels that its specifications have, in grid order."""
    found: Levels = {}
    for cell in group:
        for choice, level in cell["choices"].items():
            if level not in found.setdefault(choice, []):
                found[choice].append(level)
    return {
        name: sorted(given) if all(type(one) in (int, float) for one in given) else given
        for name, given in found.items()
    }


def _rows(table: Table, group: Cells) -> Table:
    """The rows of a curve and arm in the figure's order: those that count by their ratio, then the others; `place` is
    the row's cell in the group."""
    import pandas as pd

    found = comparison.by_cell(table)
    missing = [" / ".join(key) for key in map(comparison.key, group) if key not in found]
    if missing:
        from nsbench.storage.parquet import RecordError

        raise RecordError(f"{missing[0]}: this specification of the grid has no row; analyse the grid again")
    rows = pd.DataFrame([found[comparison.key(cell)] | {"place": at} for at, cell in enumerate(group)])
    rows = rows.assign(later=~rows["counts"].astype(bool))
    return rows.sort_values(["later", "steps_ratio"], kind="stable", na_position="last", ignore_index=True)


def _places(rows: Table, upper: Axes, lower: Axes) -> np.ndarray:
    """Where each row stands on the axis that both panels share; those that do not count on a ground of grey."""
    n_counted = int(rows["counts"].sum())
    n_aside = len(rows) - n_counted
    places = np.arange(len(rows)) + 1.0 * (np.arange(len(rows)) >= n_counted) * (n_counted > 0)
    for axes in (upper, lower):
        axes.set_xlim(places[0] - 0.75, places[-1] + 0.75)
        if n_aside:
            axes.axvspan(places[n_counted] - 0.75, places[-1] + 0.75, color="#F4F4F4", lw=0, zorder=0)
    if n_aside:
        look = {"fontsize": 7, "ha": "center", "va": "top", "color": style.MUTED, "gid": "aside", "linespacing": 1.1}
        at = (places[n_counted] + places[-1]) / 2, 0.985
        upper.text(*at, f"{n_aside} not\ncounted", transform=upper.get_xaxis_transform(), **look)
    return places


def _effects(axes: Axes, rows: Table, places: np.ndarray, paper: float | None) -> None:
    """Each specification's ratio and interval."""
    axes.set_yscale("log")
    axes.axhline(1, zorder=1, gid="none", **NO_EFFECT)
    if paper is not None:
        axes.axhline(paper, zorder=1, gid="paper", **OF_PAPER)
    ends = rows[["steps_ratio", "steps_ratio_low", "steps_ratio_high"]].to_numpy(float)
    for (ratio, low, high), row, place in zip(ends, rows.to_dict("records"), places, strict=True):
        look = LOOKS[row["effect"]]
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([place, place], [low, high], color=look["color"], lw=1.3, zorder=2, gid="interval")
        if math.isfinite(ratio):
            axes.plot(place, ratio, ls="", ms=5, mew=1.1, zorder=3, gid=row["effect"], **look)
            if row["base"]:
                axes.plot(place, ratio, ls="", zorder=4, gid="base", **BASE)
    seen = [*ends[np.isfinite(ends)], 1.0, *([paper] if paper else [])]
    low, high = min(seen) / 1.1, max(seen) * 1.1
    axes.set_ylim(low, high * (high / low) ** 0.16)  # room above for the remark
    style.ratio_axis(axes.yaxis, low, high)
    axes.set_ylabel("steps to target,\narm / baseline")
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _matrix(axes: Axes, group: Cells, rows: Table, places: np.ndarray, levels: Levels) -> None:
    """A row for each level, grouped by choice, with a dot where a specification has it."""
    choices = [group[place]["choices"] for place in rows["place"]]
    labels, centres = [], []
    for block, (choice, found) in enumerate(levels.items()):
        if block % 2:
            row = len(labels)
            axes.axhspan(row - 0.5, row + len(found) - 0.5, color="#EFEFEF", alpha=0.7, lw=0, zorder=0.1)
        centres.append(len(labels) + (len(found) - 1) / 2)
        for level in found:
            has = np.array([given[choice] == level for given in choices])
            for effect, look in LOOKS.items():
                at = places[has & (rows["effect"] == effect).to_numpy()]
                if len(at):
                    dots = {"ls": "", "marker": "o", "ms": 4.2, "mew": 0, "color": look["color"], "gid": "has"}
                    axes.plot(at, [len(labels)] * len(at), **dots)
            labels.append(level_text(level))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    beside = axes.secondary_yaxis("right")
    beside.set_yticks(centres, [choice_text(choice) for choice in levels], fontsize=7, weight="bold")
    for one in (axes, beside):
        one.tick_params(length=0, labelbottom=False)
        one.spines[:].set_visible(False)
    axes.grid(False)


def choice_text(choice: str) -> str:
    """A choice as the matrix calls it: its field, after the section where that is needed to tell what it is of."""
    section, _, name = choice.rpartition(".")
    return f"{section} {name}".replace("_", " ") if section in ("noise", "target") else name.replace("_", " ")


def level_text(level: Any) -> str:
    """A level as the matrix calls it."""
    if level is None or isinstance(level, bool):
        return {None: "default", True: "yes", False: "no"}[level]
    return f"{level:,}" if isinstance(level, int) else f"{level}"


def _summary(rows: Table, share: Series) -> list[str]:
    """The shares in words, and what became of those that do not count."""
    aside = rows[rows["later"]]
    lines = [f"{share['n_counted']} of {share['n_specifications']} specifications count"]
    if share["n_counted"]:
        lines[0] += f": {share['n_helps']} help, {share['n_hurts']} hurt, {share['n_open']} open"
        low, high = 100 * share["share_helps_low"], 100 * share["share_helps_high"]
        helps, median = 100 * share["share_helps"], share["median_steps_ratio"]
        lines.append(f"helps in {helps:.0f}% ({low:.0f} to {high:.0f}%), median ratio {median:.2f}")
    if len(aside):
        reached = int((aside["n_arm_reached"] > aside["n_pairs"] / 2).sum())
        lines.append(f"in {len(aside)} the baseline does not reach the target (the arm does in {reached})")
    return lines


def _reading(tables: list[Table]) -> list[str]:
    """How to read the panels."""
    confidence = float(tables[0]["confidence"].iloc[0])
    n_pairs = max(int(rows["n_pairs"].max()) for rows in tables)
    lines = [
        "Each column: one combination of open choices, the arm against its own baseline, paired by seed, with its "
        f"{100 * confidence:g}% interval. It counts where the baseline reaches the target in more than half of the "
        "pairs. Some leave 1 by chance, so compare helps with hurts. The interval of a share is Wilson's, as if "
        "specifications were independent, which they are not."
    ]
    lines += [f"So none is settled: {note}." for note in few(n_pairs, "pairs", confidence)]
    factors = {rows["arm"].iloc[0]: (rows["flops_ratio"] / rows["steps_ratio"]).median() for rows in tables}
    costs = [
        f"{arm} {factor:.2g}, so it saves work below a ratio of {1 / factor:.2f}"
        for arm, factor in factors.items()
        if math.isfinite(factor)
    ]
    return lines + [f"What a step costs in FLOPs, arm / baseline: {'; '.join(costs)}."] * bool(costs)
