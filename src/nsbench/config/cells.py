"""What is asked of the cells of a grid, as plain values (`workflow.plan.plain`), by analysis, claims and figures."""

from __future__ import annotations

from typing import Any

DEFAULT_KIND = "transformer"
"""The kind of a model whose settings name none."""
Cell = dict[str, Any]


def by_variant(cells: list[Cell]) -> dict[tuple[str, str], list[Cell]]:
    """The cells of every (task, variant), in grid order."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell["task"], cell["variant"]), []).append(cell)
    return groups


def of_baseline(cells: list[Cell]) -> list[Cell]:
    """The first baseline of every variant that is compared, in grid order: those of specification curves are not."""
    groups = by_variant([cell for cell in cells if not cell.get("curve_only", False)]).values()
    found = [[cell for cell in group if cell["arm_settings"]["kind"] == "baseline"] for group in groups]
    return [baselines[0] for baselines in found if baselines]


def model_kind(cell: Cell) -> str:
    """The kind of a cell's model."""
    return str(cell["settings"].get("model", {}).get("kind", DEFAULT_KIND))


def orientation(cell: Cell) -> int | None:
    """The S of a noise-stability arm; None for other arms."""
    arm = cell["arm_settings"]
    return arm.get("orientation", 1) if arm["kind"] == "noise_stability" else None


def swept(cells: list[Cell]) -> list[Cell]:
    """Those with the paper's regulariser, S = 1, with whatever (rho, gamma), in grid order."""
    return [cell for cell in cells if orientation(cell) == 1]
