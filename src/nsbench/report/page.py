"""The page itself: what it reads, and the order of its sections.

No script, nothing loaded from elsewhere, no date: the same results give the same page.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from nsbench.report import claims, effects, errata, origin, partial, pretrained, specifications, theory, training
from nsbench.report.pictures import Pictures
from nsbench.report.tables import Split
from nsbench.schemas.analysis import (
    EARLY_RANK,
    LEAD_LAG,
    MEASURE,
    SCORE,
    SCORE_EFFECT,
    SELECTION,
    SPECIFICATION,
    SPECIFICATION_SHARE,
)
from nsbench.schemas.statistics import CELL_SUMMARY, KAPLAN_MEIER, PAIRED_EFFECT, POWER
from nsbench.schemas.training import COLLECTED_RUNS, HISTORY
from nsbench.storage.atomic import write_text
from nsbench.storage.parquet import read_table
from nsbench.storage.provenance import stamp

FOLDER = Path(__file__).parent
TABLES = {
    "cells": CELL_SUMMARY,
    "paired_effect": PAIRED_EFFECT,
    "kaplan_meier": KAPLAN_MEIER,
    "power": POWER,
    "specification": SPECIFICATION,
    "specification_share": SPECIFICATION_SHARE,
    "score": SCORE,
    "score_effect": SCORE_EFFECT,
    "measure": MEASURE,
    "selection": SELECTION,
    "lead_lag": LEAD_LAG,
    "early_rank": EARLY_RANK,
}
"""The tables that the page reads, and their schemas."""
SECTIONS = {
    "partial": "What is missing",
    "verdicts": "The verdicts",
    "claims": "Claim by claim",
    "specifications": "Open choices",
    "effects": "Effects",
    "costs": "Costs",
    "times": "Time to target",
    "power": "Seeds needed",
    "scores": "Scores and floors",
    "measures": "Measures",
    "sweep": "The sweep",
    "onsets": "Does stability move first?",
    "theory": "The theory",
    "pretrained": "Pretrained models",
    "figures": "Figures",
    "errata": "Errata",
    "grid": "What was run",
    "rules": "Rules",
    "provenance": "Provenance",
    "mlflow": "MLflow",
}
"""The page's sections in order, as its contents name them."""


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
    """Of partial work the state of every run of the grid (nsbench.schemas.run_states.RUN_STATE)."""
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
    ledger, evidence = claims.read(results.claims)
    files = {
        "collected records": results.collected / "runs.parquet",
        "tables": results.tables / "paired_effect.parquet",
        "claims": results.claims and results.claims / "claims.parquet",
        "theory": results.theory,
        "pretrained models": results.pretrained and results.pretrained / "pretrained_measured.parquet",
    }
    split = Split(cells, tables["selection"])
    pictures = Pictures(results.figures)
    shares, single = tables["specification_share"], tables["specification"]
    made_of = {name: path for name, path in files.items() if path is not None}
    # In the page's order: each takes the pictures that are left.
    parts = {
        "partial": partial.section(states, runs, results.outdated, results.not_drawn),
        "claims": claims.section(ledger, evidence, pictures),
        "specifications": specifications.section(shares, single, cells, pictures),
        "effects": effects.section(tables, split, pictures),
        **training.section(tables, split),
        "theory": theory.section(results.theory, pictures),
        "pretrained": pretrained.section(results.pretrained, pictures),
        "figures": pictures.rest(),
        "index": pictures.index(),
        "errata": errata.section(ledger),
        "origin": origin.section(cells, runs, split, made_of, stamp(spec, digest)),
        "overview": _overview(cells, runs, history, None if states is None else len(states)),
        "spec": spec,
    }
    part = cells[0].get("partial", "") if cells else ""
    page = _environment(results.scale, part).get_template("page.html.j2")
    write_text(out, page.render(parts | {"titles": SECTIONS}))


def _environment(scale: str, part: str = "") -> jinja2.Environment:
    """Templates of this folder; text is escaped, and a name that is not there is an error."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"scale": scale, "part": part}
    return environment


def _overview(
    cells: list[dict[str, Any]], runs: pd.DataFrame, history: pd.DataFrame, n_runs: int | None
) -> list[tuple[str, str]]:
    """The page's key numbers: (number, what it counts); n_runs: of partial work the runs of the whole grid."""
    n_stopped = int((runs["status"] == "stopped").sum())
    counted = "runs in the grid" if n_runs is None else f"runs finished, of {n_runs:,} in the grid"
    return [
        (f"{len({(cell['task'], cell['variant']) for cell in cells})}", "variants of tasks"),
        (f"{len(cells)}", "cells (task × variant × arm)"),
        (f"{sum(len(cell['seeds']) for cell in cells)}", counted),
        (f"{int((runs['status'] == 'diverged').sum())}", "of them diverged"),
        *([(f"{n_stopped}", "of them stopped at their target")] if n_stopped else []),
        (f"{len(history):,}", "evaluations"),
        (origin.duration(origin.own_runs(cells, runs)["seconds"].sum()), "in training steps, over all runs"),
    ]
