"""The report's first sections: the verdict table, and each claim with its numbers, its rule and its figure."""

from __future__ import annotations

import base64
import itertools
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.claims.ledger import counted, verdict_text
from nsbench.claims.verdicts import kind_of
from nsbench.config.wording import amount, direction, interval
from nsbench.figures import caption
from nsbench.report.pictures import Pictures
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE, NO_EFFECT, SOURCES, VERDICTS
from nsbench.storage.parquet import csv_text, read_table

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


def section(folder: Path | None, pictures: Pictures, with_curves: Collection[tuple[str, str]] = ()) -> dict[str, Any]:
    """The claims of a ledger's folder as texts, in its order, with counts by verdict, paper and group; empty without
    any.

    with_curves: (task, variant) that claims can link to. Each picture is taken by the first claim that names it, except
    those that have sections of their own. Raises RecordError for a missing table.
    """
    if folder is None:
        return {}
    claims = read_table(folder / "claims.parquet", CLAIM)
    evidence = read_table(folder / "claim_evidence.parquet", CLAIM_EVIDENCE)
    if claims.empty:
        return {}
    rows = [_claim(row, evidence, pictures, with_curves) for row in claims.to_dict("records")]
    shown = sorted(claims["verdict"].unique(), key=_rank)
    verdicts = {name: f"v{_rank(name)}" for name in shown}
    papers = {name: f"p{at}" for at, name in enumerate(name for name in SOURCES if name in set(claims["source"]))}
    groups = {name: f"g{at}" for at, name in enumerate(claims["group"].unique())}
    picks = [claims["verdict"].map(verdicts), claims["source"].map(papers), claims["group"].map(groups)]
    there = set(zip(*picks, strict=True))
    choices = [["", *keys.values()] for keys in (verdicts, papers if len(papers) > 1 else {}, groups)]

    def some(*picked: str) -> bool:
        return any(all(key in ("", own) for key, own in zip(picked, keys, strict=True)) for keys in there)

    for row in rows:
        row["paper_key"] = papers[row["source"]]
        row["source"] = SOURCES[row["source"]][0] if len(papers) > 1 else ""
    return {
        "rows": rows,
        "verdicts": [
            {"key": key, "name": name, "sign": SIGNS[kind_of(name)], "count": int((claims["verdict"] == name).sum())}
            for name, key in verdicts.items()
        ],
        "meanings": [(SIGNS[verdict], verdict, meaning) for verdict, meaning in VERDICTS.items()],
        "papers": [
            {"key": key, "name": SOURCES[name][0], "title": SOURCES[name][1], "count": int((picks[1] == key).sum())}
            for name, key in papers.items()
        ],
        "groups": [{"key": key, "name": name, "count": int((picks[2] == key).sum())} for name, key in groups.items()],
        "empty": [
            [key for key in chosen if key]
            for chosen in itertools.product(*choices)
            if not some(*chosen) and all(some(*chosen[:at], "", *chosen[at + 1 :]) for at in range(3) if chosen[at])
        ],
        "n_demo": int((claims["scale"] == "demo").sum()),
        "n_formulas": int(((claims["scale"] == "none") & (claims["verdict"] != "not run")).sum()),
    }


def _claim(
    row: dict[str, Any], evidence: pd.DataFrame, pictures: Pictures, with_curves: Collection[tuple[str, str]]
) -> dict[str, Any]:
    """A row of CLAIM as texts, with its evidence, its runs and its picture, or a link to it."""
    figure, own_evidence = row["figure"], evidence[evidence["id"] == row["id"]]
    parts = own_evidence.to_dict("records")
    own = [] if figure in ELSEWHERE or figure.startswith(CURVE) else pictures.take(figure)
    common = {name: row[name] for name in ("unit", "scale", "partial")}
    number = amount(row["paper"], _short(row["unit"]))
    runs = list(dict.fromkeys((part["task"], part["variant"]) for part in parts if part["task"]))
    name, conditions = rule_parts(row["rule"])
    shown = [_shown(part | common) for part in parts]
    for part in shown:  # what the claim says of itself is not told again
        part["reason"] = "" if part["reason"].rstrip(".") in row["reason"] else part["reason"]
        part["note"] = "" if part["note"] in row["note"] else part["note"]
    return {
        **_shown(row),
        "rank": _rank(row["verdict"]),
        "paper": row["paper_text"] or number,
        "paper_number": number if row["paper_text"] else "",
        "erratum": "" if pd.isna(row["erratum"]) else int(row["erratum"]),
        "rule_name": name,
        "conditions": conditions,
        "evidence": shown,
        "csv": base64.b64encode(csv_text(own_evidence).encode()).decode() if parts else "",
        "runs": [(task, f"params.variant = '{variant}'" if variant else "", variant) for task, variant in runs],
        "curves": next((f"{task}/{variant}" for task, variant in runs if (task, variant) in with_curves), ""),
        "figures": own,
        "link": figure if figure in pictures.names and not own else "",
        "link_title": caption(figure)[0],
    }


def rule_parts(rule: str) -> tuple[str, list[tuple[str, str]]]:
    """The name of a rule that claims share, or nothing, and its verdicts with their conditions
    (`nsbench.claims.definitions.Claim.rule_text`)."""
    name, colon, rest = rule.partition(": ")
    if not colon or " if " in name:
        name, rest = "", rule
    parts = [part.partition(" if ") for part in rest.split("; ")]
    return name, [(verdict, condition) for verdict, _, condition in parts]


def _short(unit: str) -> str:
    """The unit where it stands beside a number: one of several words stands below it, unless it gives a direction."""
    return unit if direction(unit) or " " not in unit else "1"


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    """A row with our number, its interval and count, and the verdict as texts."""
    unit, verdict = row["unit"], row["verdict"]
    ours, low, high = (row[f"ours{end}"] for end in ("", "_low", "_high"))
    return row | {
        "ours": amount(ours, _short(unit)),
        "of": "" if _short(unit) == unit or math.isnan(ours) else unit,
        "interval": "" if low == high else interval(low, high, _short(unit), ours),
        "n": counted({"n_settings": 1, **row}),
        "key": f"v{_rank(verdict)}",
        "sign": SIGNS[kind_of(verdict)],
        "remark": verdict_text(row).removeprefix(verdict).strip(),
    }


def _rank(verdict: str) -> int:
    """The place of a verdict among all."""
    return list(VERDICTS).index(kind_of(verdict))
