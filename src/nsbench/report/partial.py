"""The report's section on partial work: how much of the grid it is made from, and what is missing and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from nsbench.report.tables import ARM, Column, Table, table
from nsbench.schemas.training import CELL, FINISHED

SHOWN, N_REASONS = 30, 12
"""Cells, and reasons, that are shown; the other cells are folded away, missing.csv has all reasons."""
PARTS = {"theory": "the theory", "pretrained": "pretrained models"}
"""What is made apart from runs."""
REASONS = [Column("state", "{state}", "name", True), Column("why", "{reason}", "why"), Column("runs", "{count}")]
CELLS = [ARM, Column("finished|of runs", "{n_finished} of {n_runs}"), Column("training done", "{share:.0%}")]


def section(
    states: pd.DataFrame | None, runs: pd.DataFrame, outdated: Collection[str] = (), not_drawn: Collection[str] = ()
) -> dict[str, Any]:
    """The section as texts; empty for a whole grid.

    states: rows of RUN_STATE; runs: rows of RUNS of those that are finished; outdated: PARTS that are there of other
    settings or code; not_drawn: names of figures that could not be drawn.
    """
    if states is None:
        return {}
    finished = states["state"] == FINISHED
    reasons = states.loc[~finished, ["state", "reason"]].value_counts().reset_index()
    cells = (
        states.assign(finished=finished)
        .groupby([field.name for field in CELL], sort=False)
        .agg(n_finished=("finished", "sum"), n_runs=("finished", "size"), share=("share_trained", "mean"))
        .reset_index()
    )
    lacking = table(CELLS, cells[cells["n_finished"] < cells["n_runs"]].to_dict("records"))
    return {
        "n_finished": f"{finished.sum():,}",
        "n_runs": f"{len(states):,}",
        "n_missing": f"{(~finished).sum():,}",
        "n_diverged": f"{(runs['status'] == 'diverged').sum():,}",
        "n_stopped": int((runs["status"] == "stopped").sum()),
        "n_whole": f"{len(cells) - len(lacking.rows):,}",
        "n_cells": f"{len(cells):,}",
        "reasons": table(REASONS, reasons.head(N_REASONS).to_dict("records")),
        "n_further": max(0, len(reasons) - N_REASONS),
        "cells": Table(CELLS, lacking.rows[:SHOWN], lacking.rows[SHOWN:], "cells"),
        "outdated": [PARTS[name] for name in outdated],
        "not_drawn": list(not_drawn),
    }
