"""The report's first sections: the verdict table, and each claim with its numbers, its rule and its figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.claims.ledger import counted, verdict_text
from nsbench.claims.verdicts import kind_of
from nsbench.figures import caption
from nsbench.report.pictures import Pictures
from nsbench.report.tables import NONE, digits
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE, NO_EFFECT, VERDICTS
from nsbench.storage.parquet import read_table

SIGNS = {
    "reproduced": "✓",
    "in the paper's direction": "↗",
    "partly": "◐",
    NO_EFFECT: "=",
    "not reproduced": "✗",
    "opposite": "↘",
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


def section(folder: Path | None, pictures: Pictures) -> dict[str, Any]:
    """The claims of a ledger's folder as texts, in its order, with counts by verdict and by group; empty without any.

    Each picture is taken by the first claim that names it, except those that have sections of their own. Raises
    RecordError for a missing table.
    """
    if folder is None:
        return {}
    claims = read_table(folder / "claims.parquet", CLAIM)
    evidence = read_table(folder / "claim_evidence.parquet", CLAIM_EVIDENCE)
    if claims.empty:
        return {}
    rows = [_claim(row, evidence, pictures) for row in claims.to_dict("records")]
    shown = sorted(claims["verdict"].unique(), key=_rank)
    verdicts = {name: f"v{_rank(name)}" for name in shown}
    groups = {name: f"g{at}" for at, name in enumerate(claims["group"].unique())}
    there = set(zip(claims["verdict"], claims["group"], strict=True))
    return {
        "rows": rows,
        "verdicts": [
            {"key": key, "name": name, "sign": SIGNS[kind_of(name)], "count": int((claims["verdict"] == name).sum())}
            for name, key in verdicts.items()
        ],
        "meanings": [(SIGNS[verdict], verdict, meaning) for verdict, meaning in VERDICTS.items()],
        "groups": [
            {"key": key, "name": name, "count": int((claims["group"] == name).sum())} for name, key in groups.items()
        ],
        "empty": [
            (verdicts[verdict], groups[group])
            for verdict in verdicts
            for group in groups
            if (verdict, group) not in there
        ],
        "n_demo": int((claims["scale"] == "demo").sum()),
        "n_formulas": int(((claims["scale"] == "none") & (claims["verdict"] != "not run")).sum()),
    }


def _claim(row: dict[str, Any], evidence: pd.DataFrame, pictures: Pictures) -> dict[str, Any]:
    """A row of CLAIM as texts, with its evidence and its picture, or a link to it."""
    figure, parts = row["figure"], evidence[evidence["id"] == row["id"]].to_dict("records")
    own = [] if figure in ELSEWHERE or figure.startswith(CURVE) else pictures.take(figure)
    common = {name: row[name] for name in ("unit", "scale", "partial")}
    number = quantity(row["paper"], row["unit"])
    return {
        **_shown(row),
        "rank": _rank(row["verdict"]),
        "paper": row["paper_text"] or number,
        "paper_number": number if row["paper_text"] else "",
        "evidence": [_shown(part | common) for part in parts],
        "figures": own,
        "link": figure if figure in pictures.names and not own else "",
        "link_title": caption(figure)[0],
    }


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row with our number, its interval and count, and the verdict as texts."""
    unit, verdict = row["unit"], row["verdict"]
    ends = f"{digits(row['ours_low'])} to {digits(row['ours_high'])}"
    return row | {
        "ours": quantity(row["ours"], unit),
        "of": unit if " " in unit and pd.notna(row["ours"]) else "",
        "interval": "" if ends == f"{NONE} to {NONE}" else ends + ("%" if unit == "%" else ""),
        "n": counted({"n_settings": 1, **row}),
        "key": f"v{_rank(verdict)}",
        "sign": SIGNS[kind_of(verdict)],
        "remark": verdict_text(row).removeprefix(verdict).strip(),
    }


def _rank(verdict: str) -> int:
    """The place of a verdict among all."""
    return list(VERDICTS).index(kind_of(verdict))


def quantity(value: float | None, unit: str) -> str:
    """A number with its unit if that is a word, three digits; a dash for None and NaN."""
    if value is None or math.isnan(value):
        return NONE
    return digits(value) + ("" if unit in ("", "1") or " " in unit else unit if unit == "%" else f" {unit}")
