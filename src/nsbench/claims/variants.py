"""Which variants and arms of the grid a claim about training is judged in, and which of them count.

A variant counts where more than half of its baseline's runs reached the target, as in the specification curve: what an
arm changes in training that does not succeed says nothing about the claim.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pandas as pd
from pydantic import Field

from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding, Missing
from nsbench.config.base import Closed
from nsbench.config.settled import coverage_of_range

BY_OUTCOME = "they ended by their outcome, and what is left would be selected by it: train with stop: never"
"""Why there is no number where `training.stop` left runs out."""


class OfTask(Closed):
    """A task and the variants that a claim is judged in."""

    task: str
    variants: list[str] = Field(default_factory=list)
    """Variants that count, with what a sweep makes of them; none, or none of them in the grid: all of the grid."""


class OfArm(OfTask):
    """The arm of the paper in a task."""

    rho: float
    """Its rho, as the paper has it."""
    gamma: float
    """Its gamma."""


class Variant(NamedTuple):
    """A variant of the grid, its cells and whether it counts."""

    name: str
    cells: list[dict[str, Any]]
    status: str
    why: str

    def finding(self, stopped: str = "", **found: Any) -> Finding:
        """A finding of this variant; `setting` is its name unless given, and leaks go into the note.

        stopped: which runs that it needs were left out because they were stopped early; if any, it has no number.
        """
        if stopped:
            found = {name: found[name] for name in ("setting", "text", "note")}
            found |= {"status": MISSING, "why": f"{stopped}; {BY_OUTCOME}"}
        leak = "; ".join(self.cells[0]["leaks"]) if self.cells else ""
        notes = [found.pop("note", ""), f"leak: {leak}" if leak else ""]
        found = {"setting": self.name, "status": self.status, "why": self.why} | found
        return Finding(**found, note="; ".join(note for note in notes if note))

    @property
    def resolution(self) -> str:
        """How closely times of this variant are known, in words."""
        return f"times are known to {self.cells[0]['settings']['training']['eval_every_steps']:,} steps"

    @property
    def baseline(self) -> dict[str, Any]:
        return next(cell for cell in self.cells if cell["arm_settings"]["kind"] == "baseline")


def variants(evidence: Evidence, of: OfTask) -> list[Variant]:
    """The variants of a task that a claim is judged in, in grid order; listed ones that are not in the grid at the end.

    Variants that are in the grid for their specification curve alone are left out, its base excepted. Raises Missing
    where the grid has no run of the task.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in evidence.cells:
        of_curve = cell.get("curve_only", False) and cell["variant"] != cell.get("curve")
        if cell["task"] == of.task and not of_curve:
            groups.setdefault(cell["variant"], []).append(cell)
    if not groups:
        raise Missing(f"no run of {of.task} is in the grid of the configuration", "training")
    listed = [name for name in groups if any(_made_of(name, variant) for variant in of.variants)]
    found = [Variant(name, groups[name], *_counts(evidence, groups[name])) for name in listed or groups]
    absent = [one for one in of.variants if listed and not any(_made_of(name, one) for name in listed)]
    return found + [Variant(name, [], MISSING, "this variant is not in the grid") for name in absent]


def paper_arm(variant: Variant, rho: float, gamma: float) -> str | None:
    """The arm of a variant that has the paper's settings; None where the grid has none."""
    for cell in variant.cells:
        arm = cell["arm_settings"]
        if arm["kind"] == "noise_stability" and (arm["rho"], arm["gamma"], arm["orientation"]) == (rho, gamma, 1):
            return str(cell["arm"])
    return None


def enough(n: float, confidence: float) -> dict[str, float]:
    """The extras `coverage` and `confidence`: what the full range of n pairs covers, and what is asked for."""
    return {"coverage": coverage_of_range(int(n)) if n >= 1 else 0.0, "confidence": confidence}


def row_of(table: pd.DataFrame, **where: Any) -> pd.Series | None:
    """The one row with these values; None where there is none."""
    here = pd.Series(True, index=table.index)
    for column, value in where.items():
        here &= table[column] == value
    return table[here].iloc[0] if here.any() else None


def _made_of(name: str, variant: str) -> bool:
    """Whether a variant of the grid is this one, or what a sweep over its settings makes of it."""
    return name == variant or name.startswith(f"{variant}-")


def _counts(evidence: Evidence, cells: list[dict[str, Any]]) -> tuple[str, str]:
    """Whether a variant counts, as status and why not."""
    baseline = next((cell for cell in cells if cell["arm_settings"]["kind"] == "baseline"), None)
    if baseline is None:
        return ASIDE, "the grid has no baseline of it"
    row = row_of(evidence.table("cells"), **{key: baseline[key] for key in ("task", "variant", "arm")})
    if row is None:
        return ASIDE, "the table of cells has no row of its baseline"
    if 2 * row["n_reached"] > row["n_seeds"]:
        return COUNTS, ""
    budget = f"{int(row['budget_steps']):,}"
    return (
        ASIDE,
        f"the baseline reached the target in {row['n_reached']} of {row['n_seeds']} runs within {budget} steps",
    )


def with_arm(evidence: Evidence, of: OfArm) -> Iterator[tuple[Variant, str]]:
    """Variants with the paper's arm; without one they are MISSING, with an empty arm."""
    for variant in variants(evidence, of):
        arm = paper_arm(variant, of.rho, of.gamma) if variant.cells else None
        if variant.status != MISSING and arm is None:
            why = f"no arm with rho = {of.rho:g}, gamma = {of.gamma:g}, S = 1 is in the grid"
            variant = variant._replace(status=MISSING, why=why)
        yield variant, arm or ""
