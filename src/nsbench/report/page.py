"""The page itself: what it reads, and the order of its sections.

Nothing loaded from elsewhere, no date: the same results give the same page. All but the curves and the search works
without scripts.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from nsbench.report import (
    claims,
    curves,
    effects,
    origin,
    partial,
    pretrained,
    sensitivity,
    specifications,
    theory,
    training,
)
from nsbench.report.pictures import Pictures
from nsbench.report.tables import Split
from nsbench.schemas import analysis
from nsbench.schemas.training import COLLECTED_RUNS, HISTORY, TIME_TO_TARGET
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import read_table
from nsbench.storage.provenance import stamp

FOLDER = Path(__file__).parent
TABLES = {
    name: analysis.TABLES[name]
    for name in (
        *("cells", "paired_effect", "power"),
        *("specification", "specification_curve", "specification_choice"),
        *("score", "score_effect", "measure", "selection", "lead_lag", "early_rank"),
        *("matched_effect", "rank_agreement"),
    )
}
"""The tables that the page reads, and their schemas."""


@dataclass(frozen=True)
class Results:
    """What a page is made from."""

    tables: Path
    """Folder of TABLES."""
    collected: Path
    """Folder of the collected records."""
    cells: list[dict[str, Any]]
    """Of the grid, or of its finished part."""
    scale: str
    figures: list[Path]
    """PNG files. One stands with the first claim that names it, else in its own section."""
    theory: Path | None = None
    """The theory's table."""
    pretrained: Path | None = None
    """Folder with the tables of pretrained models."""
    claims: Path | None = None
    """Folder with `claims` and `claim_evidence`."""
    states: pd.DataFrame | None = None
    """Of partial work the state of every run of the grid (nsbench.schemas.training.RUN_STATE)."""
    outdated: Collection[str] = ()
    """`theory` or `pretrained`: left out of partial work since what is there is of other settings or code."""
    not_drawn: Collection[str] = ()
    """Figures of partial work that could not be drawn."""


def write_report(results: Results, out: Path | str, spec: str, digest: str) -> None:
    """Write the page to `out`, whole or not at all, with each figure once.

    Raises RecordError for a table or figure that is missing or damaged.
    """
    cells, states = results.cells, results.states
    tables = {name: read_table(results.tables / f"{name}.parquet", schema) for name, schema in TABLES.items()}
    runs = read_table(results.collected / "runs.parquet", COLLECTED_RUNS)
    history = read_table(results.collected / "history.parquet", HISTORY)
    times = read_table(results.tables / "time_to_target.parquet", TIME_TO_TARGET)
    files = {
        "collected records": results.collected / "runs.parquet",
        "tables": results.tables / "paired_effect.parquet",
        "claims": results.claims and results.claims / "claims.parquet",
        "theory": results.theory,
        "pretrained models": results.pretrained and results.pretrained / "pretrained_measured.parquet",
    }
    split, pictures = Split(cells, tables["selection"]), Pictures(results.figures)
    # In the page's order: each takes the pictures that are left.
    drawn = curves.section(cells, history, times, tables["selection"])
    parts = {
        "partial": partial.section(states, runs, results.outdated, results.not_drawn),
        "claims": claims.section(results.claims, pictures, set(drawn.get("names", []))),
        "curves": drawn,
        "specifications": specifications.section(tables, cells, pictures),
        "effects": effects.section(tables, split, pictures),
        **training.section(tables, split),
        "sensitivity": sensitivity.section(tables, cells, pictures),
        "theory": theory.section(results.theory, pictures),
        "pretrained": pretrained.section(results.pretrained, pictures),
        "figures": pictures.rest(),
        "index": pictures.index(),
        "origin": origin.section(cells, runs, split, files, stamp(spec, digest)),
        "overview": origin.overview(cells, runs, len(history), None if states is None else len(states)),
    }
    part = cells[0].get("partial", "") if cells else ""
    page = environment().get_template("page.html.j2")
    write_text(out, page.render(parts, spec=spec, scale=results.scale, part=part))


def environment() -> jinja2.Environment:
    """Templates of this folder; text is escaped, and a name that is not there is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
