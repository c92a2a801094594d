"""The report's section on what is wrong in the paper: the list of docs/errata.md, kept equal to it by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.report.tables import Column, table

ENTRIES = Path(__file__).with_suffix(".json")
DOES = {
    "values": "changes values",
    "proof": "slip in a proof",
    "unsupported": "claim unsupported",
    "reading": "reading",
}
"""What an entry does, as the list and as the page say it."""
COLUMNS = [Column("no.", "{number}"), *(Column(name, f"{{{name}}}", "") for name in ("place", "what", "does"))]


def section(claims: pd.DataFrame | None) -> dict[str, Any]:
    """The entries, how many do what, and the claims that the ledger finds in error (schema CLAIM, or None)."""
    entries = pd.read_json(ENTRIES, lines=True).replace({"does": DOES})
    return {
        "counts": ", ".join(f"{count} {does}" for does, count in entries["does"].value_counts().items()),
        "entries": table(COLUMNS, entries.to_dict("records")),
        "claims": [] if claims is None else claims[claims["verdict"] == "paper in error"].to_dict("records"),
    }
