"""The specification curve: an arm's effect in every specification, sorted and pooled, with its choices below."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.specification_panels as panels
import nsbench.figures.style as style
from nsbench.arms import describe
from nsbench.figures.annotations import Axes, Cells, Figure, Line2D, Table
from nsbench.figures.frame import drawn_only
from nsbench.figures.registry import figure

PAPER = {"modular_addition": 3300 / 4500, "sparse_parity": 1 / 1.35, "next_token": 1000 / 4000}
"""Steps of the regularised run / the baseline's as the paper has them: about 3,300 for 4,500, and a speed-up of about
35%, read as its 36% for 3,300 instead of 4,500 is (section 6); 1,000 instead of 4,000 (appendix J.3)."""
MEANINGS = ["fewer steps", "open", "more steps", "not counted"]
BASE = {"marker": "o", "ms": 9.5, "mfc": "none", "color": "black", "mew": 0.9}
ROW, COLUMN, UPPER, FOREST = 0.15, 0.13, 2.1, 2.3
"""Inches: a level's row, a specification's column, the panel above, the panel of the levels' ratios."""
NARROWEST, WIDEST, BESIDE = 4.7, 9.0, 2.6
"""Inches: of the panels, at least and at most, and of the text on both sides."""


def has_curve(group: Cells) -> bool:
    """Whether a variant is a specification of a curve."""
    return any(cell.get("curve") for cell in group)


@figure(
    "specification_curve",
    tables=["specifications", "pooled", "choices"],
    each_task=True,
    needs=has_curve,
    of_curves=True,
    title="{task}: what the regulariser does to the steps, by the choices that the paper leaves open",
    caption="A specification is one answer to each choice that the paper leaves open. Above, each one's ratio of steps "
    "to target, arm / baseline, sorted: below 1 the regulariser helps. Few pairs settle little, so they are a "
    "description. What is judged is the pooled ratio: the average over all settings that count, with an interval that "
    "allows for settings that differ and for seeds that all of them share (crossed random effects). The pale band is "
    "where one more setting of this kind would fall. Below, which answer each specification gives to each choice, "
    "and beside it the pooled ratio of the specifications with that answer. Where the answers to a choice differ by "
    "more than chance, corrected for the number of choices, its marks are filled and its name is bold. Only "
    "specifications whose baseline reaches the target in more than half of the pairs count; the others have no time "
    "that could be shorter.",
    notes={"next_token": curves.PROTOCOLS},
)
def draw(specifications: Table, pooled: Table, choices: Table, cells: Cells, scale: str) -> Figure:
    """Of each specification curve and each of its arms: above, the ratio of steps to target, arm / baseline, with its
    interval, sorted, before bands of the pooled ratio; below, a row for each level of each choice, with a dot where
    the specification has it, and beside them the levels' pooled ratios.

    Takes `schemas.analysis.SPECIFICATION`, `SPECIFICATION_CURVE` and `SPECIFICATION_CHOICE`; which specifications and
    choices there are comes from the grid's cells. Those that do not count stand greyed at the right. Lines across are
    no effect and the paper's own number (PAPER). Raises RecordError for a specification of the grid that the table
    does not have.
    """
    groups: dict[tuple[str, str], Cells] = {}
    for cell in cells:
        if cell.get("curve") is not None and cell["arm_settings"]["kind"] != "baseline":
            groups.setdefault((cell["curve"], cell["arm"]), []).append(cell)
    drawn = [cell for group in groups.values() for cell in group]
    levels = {key: panels.levels_of(group) for key, group in groups.items()}
    heights = [height for found in levels.values() for height in (UPPER, ROW * sum(map(len, found.values())))]
    most = max(map(len, groups.values())) + 2
    matrix = min(max(COLUMN * most, NARROWEST), WIDEST)
    size = min(1.0, max(matrix / (COLUMN * most), panels.SMALLEST))
    figure = style.new(matrix + FOREST + BESIDE, sum(heights) + 1.25 * len(groups) + 1.5)
    grid = figure.subplots(2 * len(groups), 2, height_ratios=heights, width_ratios=[matrix, FOREST])
    paper, tables, confidence = PAPER.get(cells[0]["task"]), [], footers.interval_text(pooled["confidence"])
    for row_of_panels, ((curve, arm), group) in zip(grid.reshape(-1, 4), groups.items(), strict=True):
        upper, beside, lower, forest = row_of_panels
        rows = _rows(specifications, group)
        (whole,) = _of(pooled, group[0]["task"], curve, arm)
        answers = _of(choices, group[0]["task"], curve, arm)
        places = _places(rows, upper, lower)
        _effects(upper, rows, places, whole, paper, size)
        beside.set_axis_off()
        panels.matrix(lower, group, rows, places, levels[curve, arm], size)
        panels.forest(forest, answers, levels[curve, arm], whole, paper)
        text = [describe(group[0]["arm_settings"]), *_summary(rows, whole, answers)]
        entries = [style.sign(line, ls="") for line in text if line]
        leaks = [leak for cell in group for leak in cell.get("leaks", [])]
        leaks = [f"{leak} ({leaks.count(leak)} of {len(group)})" for leak in dict.fromkeys(leaks)]
        style.header(upper, f"{curve}: {arm}", leaks, entries)
        tables.append(rows)
    key = drawn_only(figure, _key(paper, confidence))
    grid[0, 1].legend(handles=key, loc="center left", handlelength=2.2, borderpad=0)
    lines = [*_reading(tables), *footers.text_lines(specifications, drawn), footers.scale_text(drawn, scale)]
    style.footer(figure, lines)
    return figure


def _key(paper: float | None, confidence: str) -> list[Line2D]:
    """What all signs mean."""
    signs = [
        style.sign(text, ms=5, mew=1.1, gid=effect, **look)
        for text, (effect, look) in zip(MEANINGS, panels.LOOKS.items(), strict=True)
    ]
    signs += [style.sign("the base", gid="base", **BASE), style.sign("no effect", **panels.NO_EFFECT)]
    signs += [style.sign(f"the paper: {paper:.2f}", **panels.OF_PAPER)] if paper else []
    return [
        *signs,
        style.sign("pooled ratio", color=panels.POOLED, lw=1.6, gid="pooled"),
        style.sign(
            f"its {confidence} interval", color=panels.POOLED, lw=8, alpha=sum(panels.BANDS.values()), gid="band pooled"
        ),
        style.sign("that of a new setting", color=panels.POOLED, lw=8, alpha=panels.BANDS["new"], gid="band new"),
    ]


def _of(table: Table, task: str, curve: str, arm: str) -> list[dict[str, Any]]:
    """The rows of a curve and arm."""
    return table[(table["task"] == task) & (table["curve"] == curve) & (table["arm"] == arm)].to_dict("records")


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
    ends = rows[panels.ENDS].to_numpy(float)
    rows = rows.assign(later=~rows["counts"].astype(bool), at=[style.bound(*row)[0] for row in ends])
    return rows.sort_values(["later", "at"], kind="stable", na_position="last", ignore_index=True)


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


def _effects(
    axes: Axes, rows: Table, places: np.ndarray, whole: dict[str, Any], paper: float | None, size: float
) -> None:
    """Each specification's ratio, or its bound, and interval, before the bands of the pooled ratio. size: of marks."""
    axes.set_yscale("log")
    axes.axhline(1, zorder=1, gid="none", **panels.NO_EFFECT)
    if paper is not None:
        axes.axhline(paper, zorder=1, gid="paper", **panels.OF_PAPER)
    pooled = [whole[f"{new}steps_ratio_{end}"] for new in ("", "new_") for end in ("low", "high")]
    low, high = limits = panels.limits(rows[[*panels.ENDS, "at"]].to_numpy(float), paper, pooled)
    axes.set_ylim(low, high * (high / low) ** 0.16)  # room above for the remark
    counted = places[: whole["n_counted"]]
    if len(counted):
        across = [counted[0] - 0.6, counted[-1] + 0.6]
        for name, dark in panels.BANDS.items():
            ends = [whole[f"{'new_' * (name == 'new')}steps_ratio_{end}"] for end in ("low", "high")]
            if np.isfinite(ends).all():
                axes.fill_between(across, *ends, color=panels.POOLED, alpha=dark, lw=0, zorder=0.5, gid=f"band {name}")
        axes.plot(across, [whole["steps_ratio"]] * 2, color=panels.POOLED, lw=1.6, zorder=1.5, gid="pooled")
    for row, place in zip(rows.to_dict("records"), places, strict=True):
        look = panels.LOOKS[row["effect"]]
        if math.isfinite(row["at"]):
            line = {"color": look["color"], "lw": 1.2 * size}
            style.interval(axes, place, *(row[name] for name in panels.ENDS[1:]), limits, True, **line)
            axes.plot(place, row["at"], ls="", ms=5 * size, mew=1.1 * size, zorder=3, gid=row["effect"], **look)
            if row["base"]:
                axes.plot(place, row["at"], ls="", zorder=4, gid="base", **BASE)
    style.ratio_axis(axes.yaxis, low, high)
    axes.set_ylabel("steps to target,\narm / baseline")
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _summary(rows: Table, whole: dict[str, Any], answers: list[dict[str, Any]]) -> list[str]:
    """The pooled ratio in words, what is settled of single specifications and choices, and what does not count."""
    n, aside = whole["n_counted"], rows[rows["later"]]
    lines = [f"{n} of {whole['n_specifications']} specifications count"]
    if n:
        ratio, low, high = (whole[name] for name in panels.ENDS)
        lines[0] += f": by their own pairs fewer steps in {whole['n_helps']}, more in {whole['n_hurts']}"
        lines.append(f"pooled ratio {ratio:.2f}")
        if math.isfinite(low):
            ends = (whole[f"new_steps_ratio_{end}"] for end in ("low", "high"))
            lines[-1] += " ({:.2f} to {:.2f}); of a new setting {:.2f} to {:.2f}".format(low, high, *ends)
    if answers:
        lines.append(f"choices that matter: {panels.mattering(answers) or 'none is settled'}")
    if len(aside):
        reached = int((aside["n_arm_reached"] > aside["n_pairs"] / 2).sum())
        lines.append(f"in {len(aside)} the baseline does not reach the target (the arm does in {reached})")
    return lines


def _reading(tables: list[Table]) -> list[str]:
    """How to read the panels."""
    confidence = footers.interval_text(level for rows in tables for level in rows["confidence"])
    lines = [
        "Each column: one combination of open choices, the arm against its own baseline, paired by seed, with its "
        f"{confidence} interval; some leave 1 by chance. It counts where the baseline reaches the target in more than "
        "half of the pairs. A line with a tip goes on: it has no end where runs were left over at the budget; the "
        "pooled ratio counts them there. On the right: the pooled ratio of the specifications with each answer, with "
        "its interval; q is of the test that a choice's answers do not differ, corrected for the number of choices."
    ]
    factors = {rows["arm"].iloc[0]: (rows["flops_ratio"] / rows["steps_ratio"]).median() for rows in tables}
    costs = [
        f"{arm} {factor:.2g}, so it saves work below a ratio of {1 / factor:.2f}"
        for arm, factor in factors.items()
        if math.isfinite(factor)
    ]
    return lines + [f"What a step costs in FLOPs, arm / baseline: {'; '.join(costs)}."] * bool(costs)
