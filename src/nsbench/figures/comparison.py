"""Which arms a figure or a table puts side by side, and what an interval settles."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nsbench.analysis.scores import by_variant
from nsbench.analysis.selection import selected_arm
from nsbench.arms import ARMS

SWEEP_PAIRS = 3
"""Distinct (rho, gamma) that make a sweep."""


def ordinary(cells: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells that are not in the grid for a specification curve alone."""
    return [cell for cell in cells if not cell.get("curve_only", False)]


def of_paper(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The cells of one variant whose arms are the paper's; all where there is none."""
    return [cell for cell in group if ARMS.find(cell["arm_settings"]["kind"]).family == "paper"] or group


def orientation(cell: dict[str, Any]) -> int | None:
    """The S of a noise-stability arm; None for other arms."""
    arm = cell["arm_settings"]
    return arm.get("orientation", 1) if arm["kind"] == "noise_stability" else None


def swept(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The noise-stability arms with S = 1 of one variant's cells, in grid order."""
    return [cell for cell in group if orientation(cell) == 1]


def pair(cell: dict[str, Any]) -> tuple[float, float]:
    """(rho, gamma) of a noise-stability arm."""
    return float(cell["arm_settings"]["rho"]), float(cell["arm_settings"]["gamma"])


def has_sweep(group: list[dict[str, Any]]) -> bool:
    """Whether one variant's cells hold a sweep: at least three (rho, gamma) with S = 1."""
    return len({pair(cell) for cell in swept(group)}) >= SWEEP_PAIRS


def selected(group: list[dict[str, Any]], selections: pd.DataFrame | None) -> str | None:
    """The arm of one variant that the validation data select over all seeds (`schemas.analysis.SELECTION`,
    procedure all_seeds), or None where there was nothing to select from."""
    if selections is None:
        return None
    name = selected_arm(selections, group[0]["task"], group[0]["variant"])
    return name if name in {cell["arm"] for cell in group} else None


def compared(group: list[dict[str, Any]], selections: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The cells of one variant that curves are drawn of: the baseline, one arm with S = 1 and one
    with S = 0, as far as there are such.

    With S = 1 it is the arm that the validation data select, or the first; with S = 0 the one with
    the same (rho, gamma), or the first. A variant without any of the three gives its cells.
    """
    group = of_paper(group)
    chosen = selected(group, selections)
    found = [cell for cell in group if cell["arm_settings"]["kind"] == "baseline"][:1]
    stable = sorted(swept(group), key=lambda cell: cell["arm"] != chosen)[:1]
    reversed_arms = [cell for cell in group if orientation(cell) == 0]
    if stable:
        reversed_arms.sort(key=lambda cell: pair(cell) != pair(stable[0]))
    return [*found, *stable, *reversed_arms[:1]] or group


def shown(group: list[dict[str, Any]], selections: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The cells of one variant with the paper's kinds of arm; of a sweep, which would be too many
    curves, only those `compared`."""
    return compared(group, selections) if has_sweep(group) else of_paper(group)


def choice_line(cells: list[dict[str, Any]], drawn: list[dict[str, Any]], selections: pd.DataFrame | None) -> list[str]:
    """A footer's line on which regularised arms are `drawn` of all `cells`; none where all are."""
    drawn_of = by_variant(drawn)
    lines: dict[bool, set[int]] = {}
    for name, group in by_variant(cells).items():
        if len(swept(drawn_of.get(name, []))) < len(swept(group)):
            lines.setdefault(selected(group, selections) is None, set()).add(len(swept(group)))
    texts = {
        False: "the one that the validation data of all seeds select. That flatters it; choosing on other seeds (leave "
        "one out) does not.",
        True: "the first.",
    }
    return [
        f"Of {' or '.join(map(str, sorted(counts)))} regularised arms with S = 1 a panel shows {texts[unselected]}"
        for unselected, counts in sorted(lines.items())
    ]
