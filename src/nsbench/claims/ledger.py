"""The stage `claims`: from claims.yaml and what was measured to one verdict per claim."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from nsbench.claims.definitions import load_claims
from nsbench.claims.evidence import Evidence
from nsbench.claims.shown import markdown, verdict_table
from nsbench.claims.verdicts import frames, judge
from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE
from nsbench.schemas.run_states import parts
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import write_table
from nsbench.storage.provenance import stamp

__all__ = ["verdict_table", "write_claims"]


def write_claims(
    claims_file: Path | str,
    tables_folder: Path | str | None,
    collected_folder: Path | str | None,
    cells: list[dict[str, Any]],
    scale: str,
    out_folder: Path | str,
    spec: str,
    digest: str,
    theory: Path | str | None = None,
    pretrained: Path | str | None = None,
    confidence: float = 0.95,
    n_resamples: int = 9999,
    outdated: Collection[str] = (),
) -> None:
    """Write claims.parquet, .csv, .md and .txt, and claim_evidence.parquet and .csv, into `out_folder`.

    tables_folder: the tables of `analyse`; collected_folder: the records of all runs; theory: theory.parquet;
    pretrained: the folder of the tables of pretrained models; None: that part was left out, and claims that need it
    are `not run`. cells: the grid (`workflow.plan.grid_cells`). scale: paper or demo, of partial work
    with how much of it is there (nsbench.schemas.run_states.named). outdated: `theory` or `pretrained`, where what is
    there is of other settings or code and counts as not made. The same input gives the same bytes.

    Raises ConfigError for a claims file that cannot be used, RecordError for a table that is broken.
    """
    claims = load_claims(claims_file)
    evidence = Evidence(
        *(None if folder is None else Path(folder) for folder in (tables_folder, collected_folder)),
        cells,
        scale,
        *(None if path is None else Path(path) for path in (theory, pretrained)),
        confidence,
        n_resamples,
        outdated,
    )
    table, settings = frames([judge(claim, evidence) for claim in claims])
    provenance, folder = stamp(spec, digest, partial=parts(scale)[1]), Path(out_folder)
    for name, rows, schema in (("claims", table, CLAIM), ("claim_evidence", settings, CLAIM_EVIDENCE)):
        write_table(folder / f"{name}.parquet", rows, schema, provenance)
        write_text(folder / f"{name}.csv", rows.to_csv(index=False, lineterminator="\n"))
    write_text(folder / "claims.md", markdown(table))
    write_text(folder / "claims.txt", verdict_table(table))
