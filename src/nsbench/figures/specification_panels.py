"""The lower panels of the specification curve, and what they share with the upper: the answers to each choice."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.style as style
from nsbench.config.canonical import canonical_json
from nsbench.figures.annotations import Axes, Cells, Table

LOOKS = {
    "helps": {"color": "#0072B2", "marker": "v", "mfc": "#0072B2"},
    "open": {"color": "#555555", "marker": "o", "mfc": "white"},
    "hurts": {"color": "#C4322B", "marker": "^", "mfc": "#C4322B"},
    "not counted": {"color": "#B3B3B3", "marker": "o", "mfc": "white"},
}
"""Effect of a specification (`schemas.analysis.SPECIFICATION`) -> its mark: full where it is settled."""
NO_EFFECT = {"color": "#222222", "lw": 0.9}
OF_PAPER = {"color": "#8A6100", "lw": 1.1, "ls": (0, (5, 2))}
POOLED = "#5B3F8C"
BANDS = {"new": 0.1, "pooled": 0.24}
"""The interval of a new setting, and that of the pooled ratio -> how dark."""
SMALLEST = 0.4
"""What marks shrink to where many specifications stand side by side."""
ROOM = 2.0
"""How far a pooled interval may stretch the axis beyond all else, as a factor."""
ENDS = ["steps_ratio", "steps_ratio_low", "steps_ratio_high"]
"""A ratio and the ends of its interval."""
Levels = dict[str, list[Any]]
"""Choice -> its levels: numbers by size, others with the base's first."""


def levels_of(group: Cells) -> Levels:
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


def limits(seen: np.ndarray, paper: float | None, pooled: list[float]) -> tuple[float, float]:
    """The ends of an axis of ratios: all of `seen` that is positive, no effect and the paper's number; of the ends of
    `pooled` intervals, which few settings make enormous, what is not much more than that."""
    values = np.array([*seen.ravel(), 1.0, paper or 1.0])
    values = values[np.isfinite(values) & (values > 0)]
    low, high = values.min(), values.max()
    ends = np.array(pooled)
    ends = np.clip(ends[np.isfinite(ends)], low / ROOM, high * ROOM)
    return min([low, *ends]) / 1.1, max([high, *ends]) * 1.1


def matrix(axes: Axes, group: Cells, rows: Table, places: np.ndarray, levels: Levels, size: float = 1) -> None:
    """A row for each level, grouped by choice, with a dot where a specification has it. size: of dots."""
    choices = [group[place]["choices"] for place in rows["place"]]
    for y, (choice, level) in enumerate(_lines(levels)):
        has = np.array([given[choice] == level for given in choices])
        for effect, look in LOOKS.items():
            at = places[has & (rows["effect"] == effect).to_numpy()]
            if len(at):
                dots = {"ls": "", "marker": "o", "ms": 4.2 * size, "mew": 0, "color": look["color"], "gid": "has"}
                axes.plot(at, [y] * len(at), **dots)
    _stripes(axes, levels)
    labels = [level_text(level) for _, level in _lines(levels)]
    axes.set_yticks(range(len(labels)), labels, fontsize=7)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.grid(False)


def forest(
    axes: Axes, answers: list[dict[str, Any]], levels: Levels, whole: dict[str, Any], paper: float | None
) -> None:
    """The pooled ratio of each level with its interval, in the matrix' rows, and the names of the choices beside it."""
    found = {(row["choice"], row["level"]): row for row in answers}
    pooled = [whole[name] for name in ENDS[1:]]
    ends = [row[name] for row in answers for name in ENDS[1:]]
    ends_of_axis = limits(np.array([row["steps_ratio"] for row in answers]), paper, [*pooled, *ends])
    axes.set_xscale("log")
    axes.set_xlim(*ends_of_axis)
    axes.axvline(1, zorder=1, gid="none", **NO_EFFECT)
    if paper is not None:
        axes.axvline(paper, zorder=1, gid="paper", **OF_PAPER)
    if math.isfinite(pooled[0]):
        axes.axvspan(*pooled, color=POOLED, alpha=BANDS["pooled"], lw=0, zorder=0.5, gid="band pooled")
    for y, (choice, level) in enumerate(_lines(levels)):
        row = found.get((choice, canonical_json(level)))
        if row is None:
            continue
        style.interval(axes, y, *(row[name] for name in ENDS[1:]), ends_of_axis, color=style.INK, lw=1.4)
        look = {"marker": "o", "ms": 4.2, "mew": 1.1, "color": style.INK, "mfc": style.INK if matters(row) else "white"}
        axes.plot(row["steps_ratio"], y, ls="", zorder=3, gid="level", **look)
    _stripes(axes, levels)
    style.ratio_axis(axes.xaxis, *ends_of_axis)
    axes.set_xlabel("pooled ratio of steps", fontsize=8)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")
    beside = axes.secondary_yaxis("right")
    ends = np.cumsum([0, *map(len, levels.values())])
    deciding = {row["choice"]: row for row in answers}
    names = [choice_text(choice) + _q_text(deciding.get(choice)) for choice in levels]
    beside.set_yticks((ends[:-1] + ends[1:] - 1) / 2, names, fontsize=7)
    for choice, label in zip(levels, beside.get_yticklabels(), strict=True):
        label.set_weight("bold" if choice in deciding and matters(deciding[choice]) else "normal")
    beside.tick_params(length=0)
    beside.spines[:].set_visible(False)


def _lines(levels: Levels) -> list[tuple[str, Any]]:
    """The rows of the lower panels: each choice and level."""
    return [(choice, level) for choice, found in levels.items() for level in found]


def _stripes(axes: Axes, levels: Levels) -> None:
    """Every other choice on a ground of grey, from top to bottom."""
    ends = np.cumsum([0, *map(len, levels.values())]) - 0.5
    for low, high in zip(ends[1::2], ends[2::2], strict=False):
        axes.axhspan(low, high, color="#EFEFEF", alpha=0.7, lw=0, zorder=0.1)
    axes.set_ylim(ends[-1], ends[0])


def matters(row: dict[str, Any]) -> bool:
    """Whether a choice is settled to matter: a row of SPECIFICATION_CHOICE."""
    return bool(row["q_value"] <= 1 - row["confidence"])


def _q_text(row: dict[str, Any] | None) -> str:
    """The corrected p-value of a choice."""
    if row is None or math.isnan(row["q_value"]):
        return ""
    return "\nq < 0.001" if row["q_value"] < 0.001 else f"\nq = {row['q_value']:.2g}"


def choice_text(choice: str) -> str:
    """A choice as the matrix calls it: its field, after the section where that is needed to tell what it is of."""
    section, _, name = choice.rpartition(".")
    return f"{section} {name}".replace("_", " ") if section in ("noise", "target") else name.replace("_", " ")


def level_text(level: Any) -> str:
    """A level as the matrix calls it."""
    if level is None or isinstance(level, bool):
        return {None: "default", True: "yes", False: "no"}[level]
    return f"{level:,}" if isinstance(level, int) else f"{level}"


def mattering(answers: list[dict[str, Any]]) -> str:
    """The choices that are settled to matter, in words: rows of SPECIFICATION_CHOICE. One turns the sign where the
    interval of one answer lies below 1 and that of another above."""
    found: dict[str, set[int]] = {}
    for row in filter(matters, answers):
        side = int(row["steps_ratio_low"] > 1) - int(row["steps_ratio_high"] < 1)
        found.setdefault(choice_text(row["choice"]), set()).add(side)
    return ", ".join(name + " (turns the sign)" * ({-1, 1} <= sides) for name, sides in found.items())
