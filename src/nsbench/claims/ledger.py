"""The stage `claims`: from claims.yaml and what was measured to one verdict per claim."""

from __future__ import annotations

from pathlib import Path

from nsbench.claims.definitions import load_claims
from nsbench.claims.evidence import Evidence
from nsbench.claims.shown import markdown, verdict_table
from nsbench.claims.verdicts import frames, judge
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import write_table
from nsbench.storage.provenance import stamp


def write_claims(claims_file: Path | str, evidence: Evidence, out_folder: Path | str, spec: str, digest: str) -> None:
    """Write claims.parquet, .csv, .md and .txt, and claim_evidence.parquet and .csv, into `out_folder`.

    The same input gives the same bytes. Raises ConfigError for a claims file that cannot be used, RecordError for a
    table that is broken.
    """
    table, settings = frames([judge(claim, evidence) for claim in load_claims(claims_file)])
    provenance, folder = stamp(spec, digest, partial=evidence.partial), Path(out_folder)
    for name, rows, schema in (("claims", table, CLAIM), ("claim_evidence", settings, CLAIM_EVIDENCE)):
        write_table(folder / f"{name}.parquet", rows, schema, provenance)
        write_text(folder / f"{name}.csv", rows.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "claims.md", markdown(table))
    write_text(folder / "claims.txt", verdict_table(table))
