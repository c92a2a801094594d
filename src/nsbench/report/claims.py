"""The report's first sections: the verdict table, and each claim with its numbers, its rule and its figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.claims.ledger import verdict_text
from nsbench.figures import caption
from nsbench.report.pictures import Pictures
from nsbench.report.tables import NONE, digits
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE, VERDICTS
from nsbench.storage.parquet import read_table

SIGNS = {
    "reproduced": "✓",
    "partly": "◐",
    "not reproduced": "✗",
    "not testable as stated": "?",
    "paper in error": "!",
    "undecided": "≈",
    "not run": "○",
}
"""Verdict -> what stands before it, so that verdicts do not differ by colour alone."""
ELSEWHERE = ("time_to_target", "arms")
"""Figures of sections of their own; so are all specification curves. Claims link to them."""
CURVE = "specification_curve_"
"""How the names of specification curves begin."""


def read(folder: Path | str | None) -> tuple[pd.DataFrame | None, pd.DataFrame | None]:
    """The claims and their evidence in `folder`; None for both where the claims were not run.

    Raises RecordError for a missing table.
    """
    if folder is None:
        return None, None
    return (
        read_table(Path(folder) / "claims.parquet", CLAIM),
        read_table(Path(folder) / "claim_evidence.parquet", CLAIM_EVIDENCE),
    )


def section(claims: pd.DataFrame | None, evidence: pd.DataFrame | None, pictures: Pictures) -> dict[str, Any]:
    """The claims as texts, in the ledger's order, with counts by verdict and by group; empty where there are none.

    Each picture is taken by the first claim that names it, except those that have sections of their own.
    """
    if claims is None or evidence is None or claims.empty:
        return {}
    rows = [_claim(place, row, evidence, pictures) for place, row in enumerate(claims.to_dict("records"))]
    groups = list(dict.fromkeys(row["group"] for row in rows))
    used = [name for name in VERDICTS if any(row["verdict"] == name for row in rows)]
    return {
        "rows": rows,
        "verdicts": [_choice(f"v{VERDICTS.index(name)}", name, rows, "verdict") for name in used],
        "groups": [_choice(f"g{at}", name, rows, "group") for at, name in enumerate(groups)],
        "empty": [
            (f"v{VERDICTS.index(verdict)}", f"g{at}")
            for verdict in used
            for at, group in enumerate(groups)
            if not any(row["verdict"] == verdict and row["group"] == group for row in rows)
        ],
        "n_demo": sum(row["demo"] for row in rows),
        "n_formulas": sum(row["scale"] == "none" and row["verdict"] != "not run" for row in rows),
    }


def _choice(key: str, name: str, rows: list[dict[str, Any]], field: str) -> dict[str, Any]:
    """A verdict or a group that rows can be filtered by; `key` marks its rows."""
    count = sum(row[field] == name for row in rows)
    return {"key": key, "name": name, "sign": SIGNS.get(name, ""), "count": count, "share": 100 * count / len(rows)}


def _claim(place: int, row: dict[str, Any], evidence: pd.DataFrame, pictures: Pictures) -> dict[str, Any]:
    """A row of CLAIM as texts, with its evidence and its picture, or a link to it."""
    groups = evidence[evidence["id"] == row["id"]].to_dict("records")
    own = [] if row["figure"] in ELSEWHERE or row["figure"].startswith(CURVE) else pictures.take(row["figure"])
    paper = row["paper_text"] or quantity(row["paper"], row["unit"])
    return {
        **{name: row[name] for name in ("id", "place", "group", "claim", "reason", "rule", "settings", "text", "note")},
        **_answer(row),
        "order": place,
        "rank": VERDICTS.index(row["verdict"]),
        "paper": paper,
        "paper_number": quantity(row["paper"], row["unit"]) if row["paper_text"] else "",
        "scale": row["scale"],
        "demo": row["scale"] == "demo",
        "part": row["partial"],
        "evidence": [_part(part | {name: row[name] for name in ("unit", "scale", "partial")}) for part in groups],
        "figures": own,
        "link": row["figure"] if row["figure"] in pictures.names and not own else "",
        "link_title": caption(row["figure"])[0],
    }


def _part(row: dict[str, Any]) -> dict[str, Any]:
    """A row of CLAIM_EVIDENCE, with its claim's unit and scale, as texts."""
    return {**_answer(row), **{name: row[name] for name in ("setting", "reason", "note")}}


def _answer(row: dict[str, Any]) -> dict[str, Any]:
    """Our number with its interval and count, and the verdict, as texts."""
    count = row["n"]
    text = verdict_text(row)
    return {
        "ours": quantity(row["ours"], row["unit"]),
        "of": row["unit"] if " " in row["unit"] and pd.notna(row["ours"]) else "",
        "interval": _interval(row["ours_low"], row["ours_high"], row["unit"]),
        "n": "" if pd.isna(count) else f"{count:,.0f} {row['n_unit']}".strip(),
        "verdict": row["verdict"],
        "key": f"v{VERDICTS.index(row['verdict'])}",
        "sign": SIGNS[row["verdict"]],
        "remark": text.removeprefix(row["verdict"]).strip(),
    }


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit if that is a word, three digits; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return NONE
    return digits(value) + ("" if unit in ("", "1") or " " in unit else unit if unit == "%" else f" {unit}")


def _interval(low: float | None, high: float | None, unit: str) -> str:
    ends = f"{digits(low)} to {digits(high)}"
    return "" if ends == f"{NONE} to {NONE}" else ends + ("%" if unit == "%" else "")
