"""The ledger as text: a Markdown table for a README, and a plain one for a terminal of 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from nsbench.claims.verdicts import show_ours
from nsbench.schemas.claims import GROUPS, VERDICTS

NO_VERDICT = "Demo scale: small tasks, few runs and few draws; no verdict on the paper."
PARTIAL = "PARTIAL: {}; the verdicts on training may change when the others are finished."
WIDTH = 100
_COLUMNS = {"place": 19, "claim": 41, "ours": 19, "verdict": 18}
"""Column of the terminal's table -> its width; with blanks between them WIDTH. The paper's number is in its claim."""


def markdown(claims: pd.DataFrame) -> str:
    """The verdict table as one would paste it into a README: columns of CLAIM in, Markdown out."""
    lines = _remarks(claims)
    for group, rows in _grouped(claims):
        lines += [
            f"**{group.capitalize()}**",
            "",
            "| place | claim | paper | ours | n | verdict |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_markdown_row(row) for row in rows]
        lines.append("")
    return "\n".join([*lines, counts(claims), ""])


def verdict_table(claims: pd.DataFrame) -> str:
    """The verdict table as plain text of at most 100 columns, by group, the counts at its end.

    `claims`: rows of CLAIM, in the order in which they are shown.
    """
    lines = _remarks(claims)
    lines += [*_cells({name: name for name in _COLUMNS}), "-" * WIDTH]
    for group, rows in _grouped(claims):
        lines += [group.upper()]
        for row in rows:
            shown = {"place": row["place"], "claim": row["claim"], "ours": _ours(row, 9)}
            lines += _cells(shown | {"verdict": verdict_text(row)})
        lines.append("")
    return "\n".join([*lines, *textwrap.wrap(counts(claims), WIDTH), ""])


def counts(claims: pd.DataFrame) -> str:
    """How many claims have each verdict, in one sentence."""
    number = claims["verdict"].value_counts()
    parts = [f"{number[verdict]} {verdict}" for verdict in VERDICTS if verdict in number]
    of_demo = int((claims["scale"].eq("demo") & (claims["verdict"] != "not run")).sum())
    demo = f" ({of_demo} of them at demo scale)" if of_demo else ""
    return f"{len(claims)} claims{demo}: {', '.join(parts)}."


def verdict_text(row: Mapping[str, Any]) -> str:
    """A row's verdict as it is shown: of the demo scale it says so, as it is no verdict on the paper; of partial work
    too, as it may change.

    `row`: `verdict`, `scale` and `partial` of a row of CLAIM.
    """
    remarks = [*(["demo scale"] if row["scale"] == "demo" else []), *(["partial"] if row["partial"] else [])]
    return f"{row['verdict']} ({', '.join(remarks)})" if remarks and row["verdict"] != "not run" else row["verdict"]


def _remarks(claims: pd.DataFrame) -> list[str]:
    """What to know before reading a table, each with a blank line: that it is partial work, or of the demo's scale."""
    told = [PARTIAL.format(part) for part in sorted(set(claims["partial"]) - {""})]
    told += [NO_VERDICT] if claims["scale"].eq("demo").any() else []
    return [line for remark in told for line in (remark, "")]


def _grouped(claims: pd.DataFrame) -> Iterable[tuple[str, list[Mapping[str, Any]]]]:
    for group in GROUPS:
        rows = claims[claims["group"] == group].to_dict("records")
        if rows:
            yield group, rows


def _ours(row: Mapping[str, Any], longest_unit: int = WIDTH) -> str:
    unit = row["unit"] if len(row["unit"]) <= longest_unit else "1"
    shown = show_ours(row["ours"], row["ours_low"], row["ours_high"], unit)
    return "–" if shown.startswith("–") else shown


def _n(row: Mapping[str, Any]) -> str:
    return "" if row["n"] is None or pd.isna(row["n"]) else f"{int(row['n']):,} {row['n_unit']}".strip()


def _markdown_row(row: Mapping[str, Any]) -> str:
    cells = [row["place"], row["claim"], row["paper_text"], _ours(row), _n(row), verdict_text(row)]
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _cells(texts: Mapping[str, str]) -> list[str]:
    """One row of the terminal's table: every text wrapped to its column."""
    wrapped = {name: textwrap.wrap(texts[name], width) or [""] for name, width in _COLUMNS.items()}
    height = max(map(len, wrapped.values()))
    padded = {name: lines + [""] * (height - len(lines)) for name, lines in wrapped.items()}
    rows = zip(*padded.values(), strict=True)
    return [
        " ".join(text.ljust(width) for text, width in zip(row, _COLUMNS.values(), strict=True)).rstrip() for row in rows
    ]
