"""Which variants and arms of the grid a claim about training is judged in, and which of them count.

A variant counts where more than half of its baseline's runs reached the target, as in the specification curve, and, of
a claim about the regularised arm's course, more than half of that arm's: what training that does not succeed looks like
says nothing about the claim. Effects on times have bounds for such runs and count all (`training`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

import pandas as pd
from pydantic import Field

from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding, Missing
from nsbench.claims.registry import Parameters
from nsbench.config.cells import orientation

BY_OUTCOME = "they ended by their outcome, and what is left would be selected by it"
"""Why there is no number where runs were stopped or diverged."""


class OfTask(Parameters):
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


class OfOneArm(OfTask):
    """The runs of the baseline, or of the arm of the paper."""

    arm: Literal["baseline", "regularised"] = "baseline"
    """Which runs."""
    rho: float = math.nan
    """Of the regularised arm."""
    gamma: float = math.nan
    """Of the regularised arm."""


def asks_for_arm(of: OfTask | None) -> bool:
    """Whether a number is of the arm of the paper, and not of the baseline alone."""
    return isinstance(of, OfArm) or (isinstance(of, OfOneArm) and of.arm == "regularised")


class Variant(NamedTuple):
    """A variant of the grid, its cells and whether it counts."""

    name: str
    cells: list[dict[str, Any]]
    status: str
    why: str

    def finding(self, what: str = "", ends: Iterable[float] = (), stopped: str = "", **found: Any) -> Finding:
        """A finding of `what` of this variant: a value with the ends of its interval; leaks go into the note.

        stopped: which runs that it needs were left out because they were stopped early; if any, it has no number.
        """
        found |= dict(zip(("value", "low", "high"), map(float, ends), strict=False))
        if stopped:
            found = {"text": found["text"], "note": found["note"], "status": MISSING, "why": f"{stopped}; {BY_OUTCOME}"}
        leak = "; ".join(self.cells[0]["leaks"]) if self.cells else ""
        note = joined(found.pop("note", ""), f"leak: {leak}" if leak else "")
        setting = f"{self.name} / {what}" if what else self.name
        runs = {"task": self.cells[0]["task"], "variant": self.name} if self.cells else {}
        return Finding(setting, **{"status": self.status, "why": self.why} | runs | found, note=note)

    @property
    def spacing(self) -> float:
        """Steps from one evaluation to the next."""
        return float(self.cells[0]["settings"]["training"]["eval_every_steps"])

    def arm(self, of: OfTask | None = None) -> str | None:
        """The arm that is asked for, the baseline unless it is the paper's; None where the grid has none."""
        for cell in self.cells:
            arm = cell["arm_settings"]
            if not asks_for_arm(of):
                fits = arm["kind"] == "baseline"
            else:
                fits = orientation(cell) == 1 and (arm["rho"], arm["gamma"]) == (of.rho, of.gamma)
            if fits:
                return str(cell["arm"])
        return None


def variants(evidence: Evidence, of: OfTask) -> list[Variant]:
    """The variants of a task that a claim is judged in, in grid order; listed ones that are not in the grid at the end.

    Variants that are in the grid for their specification curve alone are left out, its base excepted. One without the
    arm that is asked for is MISSING. Raises Missing where the grid has no run of the task.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for cell in evidence.cells:
        of_curve = cell.get("curve_only", False) and cell["variant"] != cell.get("curve")
        if cell["task"] == of.task and not of_curve:
            groups.setdefault(cell["variant"], []).append(cell)
    if not groups:
        raise Missing(f"no run of {of.task} is in the grid of the configuration", "training")
    # What a sweep over its settings makes of a variant counts with it.
    made_of = {one: [name for name in groups if name == one or name.startswith(f"{one}-")] for one in of.variants}
    listed = [name for name in groups if any(name in names for names in made_of.values())]
    found = []
    for name in listed or groups:
        one = Variant(name, groups[name], COUNTS, "")
        if asks_for_arm(of) and one.arm(of) is None:
            why = f"no arm with rho = {of.rho:g}, gamma = {of.gamma:g}, S = 1 is in the grid"
            found.append(one._replace(status=MISSING, why=why))
            continue
        status, why = _counts(evidence, groups[name], "baseline", one.arm())
        if status == COUNTS and asks_for_arm(of):
            status, why = _counts(evidence, groups[name], "arm", one.arm(of))
        one = one._replace(status=status, why=why)
        found.append(one)
    absent = [one for one, names in made_of.items() if listed and not names]
    return found + [Variant(name, [], MISSING, "this variant is not in the grid") for name in absent]


def each(evidence: Evidence, of: OfTask, find: Callable[[Variant], list[Finding]]) -> list[Finding]:
    """What `find` finds in each variant that is in the grid, and that the others are missing."""
    found = []
    for variant in variants(evidence, of):
        found += [variant.finding()] if variant.status == MISSING else find(variant)
    return found


def of_rows(
    evidence: Evidence,
    of: OfTask,
    table: str,
    make: Callable[[Variant, pd.Series], Finding],
    why: str = "",
    **where: Any,
) -> list[Finding]:
    """One finding per variant: what `make` makes of its row of a table, the one with the values `where`.

    where: none given: the arm that is asked for. why: why there is no number where there is no such row.
    """

    def find(variant: Variant) -> list[Finding]:
        values = {"task": of.task, "variant": variant.name, **(where or {"arm": variant.arm(of)})}
        row = row_of(evidence.table(table), **values)
        if row is None:
            return [variant.finding(status=MISSING, why=why or f"the table {table} has no row of it")]
        return [make(variant, row)]

    return each(evidence, of, find)


def row_of(table: pd.DataFrame, **where: Any) -> pd.Series | None:
    """The first row with these values; None where there is none."""
    found = table[(table[list(where)] == pd.Series(where)).all(axis=1)]
    return None if found.empty else found.iloc[0]


def joined(*notes: str) -> str:
    """Notes as one, those that are empty left out."""
    return "; ".join(note for note in notes if note)


def _counts(evidence: Evidence, cells: list[dict[str, Any]], what: str, arm: str | None) -> tuple[str, str]:
    """Whether a variant counts by one of its arms, as status and why not; what: how the arm is called."""
    if arm is None:
        return ASIDE, f"the grid has no {what} of it"
    row = row_of(evidence.table("cells"), task=cells[0]["task"], variant=cells[0]["variant"], arm=arm)
    if row is None:
        return ASIDE, f"the table of cells has no row of its {what}"
    if 2 * row["n_reached"] > row["n_seeds"]:
        return COUNTS, ""
    reached, budget = f"{row['n_reached']} of {row['n_seeds']} runs", f"{int(row['budget_steps']):,}"
    return ASIDE, f"the {what} reached the target in {reached} within {budget} steps"
