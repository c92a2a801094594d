"""Rank correlations of sensitivity and of noise stability over runs, from the table on them (`schemas.matched`)."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from nsbench.claims.architectures import NOT_MEASURED, Cells, OfTasks, of_tasks
from nsbench.claims.evidence import BESIDE, COUNTS, MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import joined, row_of
from nsbench.schemas.matched import MATCHINGS


class Rank(OfTasks):
    """A correlation of RANK_AGREEMENT."""

    statistic: Literal["tau", "rho", "partial"]
    of: Literal["sensitivity", "flips"] = "sensitivity"
    kept: list[float] = Field(default_factory=list)
    """Of flips: chances that a token is kept; a setting each."""
    against: str
    law: str = ""
    """Scale of the noise on weights, for what is ranked beside that."""
    column: Literal["rank", "beyond"] = "rank"
    """The correlation, or by how much it is beyond that of sensitivity."""


@claim_quantity("rank_correlation", "rank_of_medians", all_needed=True)
def _rank(evidence: Evidence, of: Rank) -> list[Finding]:
    """A rank correlation over baselines of all variants at the end of training, under the first law on training inputs.

    `beyond`: that of flips less that of sensitivity. `rank_of_medians`: of tau, that of the variants' medians over
    seeds, which the noise of few flips moves less. All arms, other laws, inputs and matchings stand beside.
    """

    def find(task: str, cells: Cells) -> list[Finding]:
        table = evidence.table("rank_agreement")
        table = table[(table["task"] == task) & (table["quantity"] == of.of) & (table["statistic"] == of.statistic)]
        rows = table[table["against"] == of.against]
        rows = rows if of.statistic == "tau" else rows[rows["against_law"] == of.law]
        asked = of.kept or [math.nan]
        if rows.empty:
            return [Finding(task, status=MISSING, why=f"{NOT_MEASURED}, or there are too few runs to rank")]
        chosen = {"law": rows["law"].iloc[0], "split": "train", "matching": "end", "group": "baselines"}
        found = []
        for row in rows.to_dict("records"):
            other = [name for name, value in chosen.items() if row[name] != value]
            is_asked = any(row["kept"] == kept or math.isnan(kept) for kept in asked)
            if len(other) > 1 or (other and not is_asked):
                continue
            kept = "" if math.isnan(row["kept"]) else f", {100 * row['kept']:g}% kept"
            decides = not other and is_asked
            found.append(
                Finding(
                    f"{task}{kept}" + (f" / {row[other[0]]}" if other else ""),
                    *(row[f"{of.column}{end}"] for end in ("", "_low", "_high")),
                    n=row["n_runs"],
                    n_unit="runs",
                    extras={"rank_of_medians": row["rank_of_medians"]},
                    status=COUNTS if decides else BESIDE,
                    text=row["text"],
                    note=joined(f"{row['law']}, {row['split']} inputs, {MATCHINGS[row['matching']]}", row["note"]),
                    task=task,
                )
            )
        missing = [kept for kept in of.kept if row_of(rows, kept=kept) is None]
        return found + [Finding(f"{task}, {100 * kept:g}% kept", status=MISSING, why=NOT_MEASURED) for kept in missing]

    return of_tasks(evidence, of, find)
