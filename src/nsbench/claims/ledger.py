"""The stage `claims`: one verdict per claim, as tables and as Markdown for a README."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.claims.definitions import load_claims
from nsbench.claims.evidence import Evidence
from nsbench.claims.verdicts import judge, kind_of
from nsbench.config import wording
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE, GROUPS, IN_ERROR, SEVERITIES, SOURCES, VERDICTS
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import write_csv, write_table
from nsbench.storage.provenance import stamp

NO_VERDICT = "Demo scale: small tasks, few runs and few draws; no verdict on the paper."
PARTIAL = "PARTIAL: {}; the verdicts on training may change when the others are finished."


def write_claims(claims_file: Path | str, evidence: Evidence, out_folder: Path | str, spec: str, digest: str) -> None:
    """Write claims.parquet, .csv and .md, and claim_evidence.parquet and .csv, into `out_folder`.

    The same input gives the same bytes. Raises ConfigError for a claims file that cannot be used, RecordError for a
    table that is broken.
    """
    judged = [judge(claim, evidence) for claim in load_claims(claims_file)]
    claims = pd.DataFrame([row for row, _ in judged], columns=CLAIM.names)
    settings = pd.DataFrame([row for _, rows in judged for row in rows], columns=CLAIM_EVIDENCE.names)
    provenance, folder = stamp(spec, digest, partial=evidence.partial), Path(out_folder)
    for name, table, schema in (("claims", claims, CLAIM), ("claim_evidence", settings, CLAIM_EVIDENCE)):
        for whole in {"n", "erratum"} & set(table):
            table[whole] = table[whole].astype(object).where(table[whole].notna(), None)
        write_table(folder / f"{name}.parquet", table, schema, provenance)
        write_csv(folder / f"{name}.csv", table)
    write_text(folder / "claims.md", markdown(claims))


def markdown(claims: pd.DataFrame) -> str:
    """The verdict table as one would paste it into a README: columns of CLAIM in, Markdown without HTML out.

    Claims of several papers stand under the name of each.
    """
    lines, before = _remarks(claims), ""
    for source, group, rows in _grouped(claims):
        if source != before and claims["source"].nunique() > 1:
            lines += [f"### {': '.join(SOURCES[source])}", ""]
        before = source
        lines += [f"**{group.capitalize()}**", "", "| place | claim | paper | ours | n | verdict |", "|---" * 6 + "|"]
        for row in rows:
            cells = [row["place"], row["claim"], row["paper_text"], _ours(row), counted(row), verdict_text(row)]
            cells = [" ".join(cell.split()).replace("|", "\\|").replace("<", "&lt;") for cell in cells]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, *(f"- {line}" for line in counts(claims).splitlines()), ""])


def counted(row: Mapping[str, Any]) -> str:
    """On how much a row's number rests, and of how many settings it is the first; empty where that has no meaning."""
    n = "" if pd.isna(row["n"]) else f"{int(row['n']):,} {row['n_unit']}".strip()
    several = f"the first of {row['n_settings']} settings" if row["n_settings"] > 1 else ""
    return ", ".join(filter(None, [n, several]))


def counts(claims: pd.DataFrame) -> str:
    """How many claims have each verdict, a line for each group; errors of the paper by severity, each cause once.

    One sum over all would add statements about training to misprints. With several papers each line names its own.
    """
    several, lines = claims["source"].nunique() > 1, []
    for source, group, rows in _grouped(claims):
        number = pd.Series([row["verdict"] for row in rows]).value_counts()
        order = sorted(number.index, key=lambda verdict: list(VERDICTS).index(kind_of(verdict)))
        of_demo = sum(row["scale"] == "demo" and row["verdict"] != "not run" for row in rows)
        demo = f" ({of_demo} at demo scale)" if of_demo else ""
        parts = ", ".join(f"{number[verdict]} {verdict}" for verdict in order)
        name = f"{SOURCES[source][0]}, {group}" if several else group.capitalize()
        lines.append(f"{name}{demo}: {parts}.")
    for source, errors in claims[claims["verdict"] == IN_ERROR].groupby("source"):
        causes = errors["erratum"].where(errors["erratum"].notna(), errors["id"])
        of = {severity: causes[errors["severity"] == severity].nunique() for severity in SEVERITIES}
        found = ", ".join(f"{count} {severity}" for severity, count in of.items() if count)
        whose = SOURCES[source][0] if several else "the paper"
        lines.append(f"Errors of {whose}, each cause once: {found}.")
    return "\n".join(lines)


def verdict_text(row: Mapping[str, Any]) -> str:
    """A row's verdict as it is shown: of the demo scale it says so, as it is no verdict on the paper; of partial work
    too, as it may change.

    `row`: `verdict`, `scale` and `partial` of a row of CLAIM.
    """
    remarks = [*["demo scale"] * (row["scale"] == "demo"), *["partial"] * bool(row["partial"])]
    return f"{row['verdict']} ({', '.join(remarks)})" if remarks and row["verdict"] != "not run" else row["verdict"]


def _remarks(claims: pd.DataFrame) -> list[str]:
    """What to know before reading a table, each with a blank line: that it is partial work, or of the demo's scale."""
    remarks = [PARTIAL.format(part) for part in sorted(set(claims["partial"]) - {""})]
    remarks += [NO_VERDICT] if claims["scale"].eq("demo").any() else []
    return [line for remark in remarks for line in (remark, "")]


def _grouped(claims: pd.DataFrame) -> list[tuple[str, str, list[dict[str, Any]]]]:
    """The papers and the groups that have claims, with their rows."""
    found = {part: rows.to_dict("records") for part, rows in claims.groupby(["source", "group"])}
    return [(*part, found[part]) for part in itertools.product(SOURCES, GROUPS) if part in found]


def _ours(row: Mapping[str, Any]) -> str:
    """A row's number with its interval and its unit."""
    return wording.told(row["ours"], row["ours_low"], row["ours_high"], row["unit"])
