"""Which arms a figure or a table puts side by side, and their rows."""

from __future__ import annotations

from typing import Any

from nsbench.arms import ARMS
from nsbench.config.cells import orientation, swept
from nsbench.figures.annotations import Cell, Cells, Table

SWEEP_PAIRS = 3
"""Distinct (rho, gamma) that make a sweep."""


def of_cell(table: Table, cell: Cell) -> Table:
    """A cell's rows: those of its grid seeds, ordered by seed, where there are seeds, and by step."""
    here = (table["task"] == cell["task"]) & (table["variant"] == cell["variant"]) & (table["arm"] == cell["arm"])
    if "seed" in table:
        here &= table["seed"].isin(cell["seeds"])
    order = [name for name in ("seed", "step") if name in table]
    return table[here].sort_values(order) if order else table[here]


def key(cell: Cell) -> tuple[str, str, str]:
    """Task, variant and arm."""
    return cell["task"], cell["variant"], cell["arm"]


def by_cell(table: Table) -> dict[tuple[str, str, str], dict[str, Any]]:
    """`key` of a cell -> its row of a table that has one for each."""
    return {(row["task"], row["variant"], row["arm"]): row for row in table.to_dict("records")}


def family(cell: Cell) -> str:
    """The family of a cell's arm (`Arm.family`)."""
    return ARMS.find(cell["arm_settings"]["kind"]).family


def of_paper(group: Cells) -> Cells:
    """The cells of one variant whose arms are the paper's; all where there is none."""
    return [cell for cell in group if family(cell) == "paper"] or group


def has_other_arms(group: Cells) -> bool:
    """Whether one variant's cells hold arms that are not the paper's beside those."""
    return 0 < sum(family(cell) != "paper" for cell in group) < len(group)


def pair(cell: Cell) -> tuple[float, float]:
    """(rho, gamma) of a noise-stability arm."""
    return float(cell["arm_settings"]["rho"]), float(cell["arm_settings"]["gamma"])


def sweep_values(cells: Cells) -> tuple[list[float], list[float]]:
    """The rho and the gamma of a sweep, each in order."""
    rhos, gammas = zip(*map(pair, swept(cells)), strict=True)
    return sorted(set(rhos)), sorted(set(gammas))


def has_sweep(group: Cells) -> bool:
    """Whether one variant's cells hold a sweep: at least three (rho, gamma) with S = 1."""
    return len({pair(cell) for cell in swept(group)}) >= SWEEP_PAIRS


def selected(group: Cells, selections: Table) -> str | None:
    """The arm of one variant that the validation data select over all seeds (`schemas.analysis.SELECTION`,
    procedure all_seeds), or None where there was nothing to select from."""
    here = (selections["task"] == group[0]["task"]) & (selections["variant"] == group[0]["variant"])
    found = selections.loc[here & (selections["procedure"] == "all_seeds"), "selected"].tolist()
    return found[0] if found and found[0] in {cell["arm"] for cell in group} else None


def compared(group: Cells, selections: Table) -> Cells:
    """The cells of one variant that curves are drawn of: the baseline, one arm with S = 1 and one with S = 0, as far as
    there are such; without any of the three its cells.

    With S = 1 it is the arm that the validation data select, or the first; with S = 0 the one with the same
    (rho, gamma), or the first.
    """
    group = of_paper(group)
    chosen = selected(group, selections)
    found = [cell for cell in group if cell["arm_settings"]["kind"] == "baseline"][:1]
    stable = sorted(swept(group), key=lambda cell: cell["arm"] != chosen)[:1]
    reversed_arms = [cell for cell in group if orientation(cell) == 0]
    if stable:
        reversed_arms.sort(key=lambda cell: pair(cell) != pair(stable[0]))
    return [*found, *stable, *reversed_arms[:1]] or group


def shown(group: Cells, selections: Table) -> Cells:
    """The cells of one variant with the paper's kinds of arm; of a sweep, which would be too many curves, only those
    `compared`."""
    return compared(group, selections) if has_sweep(group) else of_paper(group)
