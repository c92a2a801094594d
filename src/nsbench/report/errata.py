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


def section(claims: list[dict[str, Any]]) -> dict[str, Any]:
    """The entries, how many do what, and those of the ledger's claims that are found in error."""
    entries = pd.read_json(ENTRIES, lines=True).replace({"does": DOES})
    return {
        "counts": ", ".join(f"{count} {does}" for does, count in entries["does"].value_counts().items()),
        "entries": table(COLUMNS, entries.to_dict("records")),
        "claims": [claim for claim in claims if claim["verdict"] == "paper in error"],
    }
