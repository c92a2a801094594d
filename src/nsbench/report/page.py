"""The page itself: what it reads, and the order of its sections.

No script, nothing loaded from elsewhere, no date: the same results give the same page.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

import nsbench.report.claims as claims
import nsbench.report.effects as effects
import nsbench.report.errata as errata
import nsbench.report.origin as origin
import nsbench.report.partial as partial
import nsbench.report.pretrained as pretrained
import nsbench.report.specifications as specifications
import nsbench.report.theory as theory
import nsbench.report.training as training
from nsbench.report.pictures import Pictures
from nsbench.report.split import Split
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


def write_report(
    out: Path | str,
    figures: list[Path],
    tables_folder: Path | str,
    collected_folder: Path | str,
    cells: list[dict[str, Any]],
    scale: str,
    spec: str,
    digest: str,
    theory_table: Path | str | None = None,
    pretrained_tables: Path | str | None = None,
    claims_folder: Path | str | None = None,
    states: pd.DataFrame | None = None,
    outdated: Collection[str] = (),
    not_drawn: Collection[str] = (),
) -> None:
    """Write the page to `out`, whole or not at all, with each of the PNG `figures` once.

    Reads TABLES, `history` and `runs` of the collected records, and where they are given the theory's table, the
    folder with the tables of pretrained models, and the one with `claims` and `claim_evidence`. A figure stands
    with the first claim that names it, else in its own section. Raises records.RecordError for a missing table,
    or figure, and for one that is damaged.

    states: of partial work the state of every run of the grid (nsbench.schemas.run_states.RUN_STATE), for the section
    that says what is missing; `cells` are then those of the finished part.
    outdated: `theory` or `pretrained`, left out of partial work since what is there is of other settings or code.
    not_drawn: figures of partial work that could not be drawn.
    """
    collected, folder = Path(collected_folder), Path(tables_folder)
    tables = {name: read_table(folder / f"{name}.parquet", schema) for name, schema in TABLES.items()}
    runs = read_table(collected / "runs.parquet", COLLECTED_RUNS)
    history = read_table(collected / "history.parquet", HISTORY)
    ledger, evidence = claims.read(claims_folder)
    files = {"collected records": collected / "runs.parquet", "tables": folder / "paired_effect.parquet"}
    if claims_folder is not None:
        files["claims"] = Path(claims_folder) / "claims.parquet"
    if theory_table is not None:
        files["theory"] = Path(theory_table)
    if pretrained_tables is not None:
        files["pretrained models"] = Path(pretrained_tables) / "pretrained_measured.parquet"
    split = Split(cells, tables["selection"])
    pictures = Pictures(figures)
    # In the page's order: each takes the pictures that are left.
    parts = {
        "partial": partial.section(states, runs, outdated, not_drawn),
        "claims": claims.section(ledger, evidence, pictures),
        "specifications": specifications.section(
            tables["specification_share"], tables["specification"], cells, pictures
        ),
        "effects": effects.section(tables, split, pictures),
        **training.section(tables, split),
        "theory": theory.section(theory_table, pictures),
        "pretrained": pretrained.section(pretrained_tables, pictures),
        "figures": pictures.rest(),
        "index": pictures.index(),
        "errata": errata.section(ledger),
        "origin": origin.section(cells, runs, split, files, spec, digest),
    }
    part = cells[0].get("partial", "") if cells else ""
    page = _environment(scale, part).get_template("page.html.j2")
    n_runs = None if states is None else len(states)
    write_text(out, page.render(parts | {"overview": _overview(cells, runs, history, n_runs), "spec": spec}))


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
