"""Shares of a specification curve, from the tables of the curves: one finding per task, curve and arm."""

from __future__ import annotations

import math

import pandas as pd

from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import enough, is_swept, joined


@claim_quantity(
    "specification_share",
    *("share_hurts", "share_open", "coverage", "confidence", "share_possible_high"),
    all_needed=True,
)
def _specifications(evidence: Evidence, tasks: list[str]) -> list[Finding]:
    """Share of the specifications that count in which the paper's arm settles to help; one finding per curve.

    tasks: each must have a curve.
    `coverage` is that of the fewest pairs of a counted specification; `share_possible_high` the upper end of Wilson's
    interval for the share that helps or may yet turn out to.
    """
    table, singles, found = evidence.table("specification_share"), evidence.table("specification"), []
    for task in tasks:
        names = {cell["arm"] for cell in evidence.cells if cell["task"] == task and is_swept(cell)}
        rows = table[(table["task"] == task) & table["arm"].isin(names)]
        if rows.empty:
            found.append(Finding(task, status=MISSING, why="the grid has no specification curve of it"))
        for _, row in rows.iterrows():
            counted = int(row["n_counted"])
            found.append(
                Finding(
                    f"{task} / {row['curve']} / {row['arm']}",
                    float(row["share_helps"]),
                    float(row["share_helps_low"]),
                    float(row["share_helps_high"]),
                    n=counted,
                    n_unit="specifications",
                    extras=_extras(row, singles),
                    status=COUNTS if counted else ASIDE,
                    why="" if counted else "in no specification the baseline reached the target",
                    text=row["text"],
                    note=joined(row["note"], f"leak: {row['leaks']}" if row["leaks"] else ""),
                )
            )
    return found


def _extras(row: pd.Series, singles: pd.DataFrame) -> dict[str, float]:
    """The extras of a row of SPECIFICATION_SHARE; `singles` is SPECIFICATION."""
    # Here, because it takes a second that all who need a schema alone would wait for.
    from scipy import stats

    curve = ["task", "curve", "arm"]
    here = singles["counts"].astype(bool) & (singles[curve] == row[curve]).all(axis=1)
    counted, confidence = int(row["n_counted"]), float(row["confidence"])
    possible = math.nan
    if counted:
        may_help = int(row["n_helps"] + row["n_open"])
        possible = float(stats.binomtest(may_help, counted).proportion_ci(confidence, "wilson").high)
    shares = {name: float(row[name]) for name in ("share_hurts", "share_open")}
    fewest = enough(int(singles.loc[here, "n_pairs"].min()) if here.any() else 0, confidence)
    return {**shares, **fewest, "share_possible_high": possible}
