"""The report's section on partial work: how much of the grid it is made from, and what is missing and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from nsbench.schemas.run_states import FINISHED
from nsbench.schemas.training import CELL

SHOWN, REASONS = 30, 12
"""Cells, and reasons, that are shown; the other cells are folded away, missing.csv has all reasons."""
PARTS = {"theory": "the theory", "pretrained": "pretrained models"}
"""What is made apart from runs."""


def section(
    states: pd.DataFrame | None, runs: pd.DataFrame, outdated: Collection[str] = (), not_drawn: Collection[str] = ()
) -> dict[str, Any]:
    """The section as texts; empty for a whole grid.

    states: rows of RUN_STATE; runs: rows of RUNS of those that are finished; outdated: PARTS that are there of other
    settings or code; not_drawn: names of figures that could not be drawn.
    """
    if states is None:
        return {}
    left = states[states["state"] != FINISHED]
    reasons = left[["state", "reason"]].value_counts()
    groups = states.groupby([field.name for field in CELL], sort=False)
    cells = [
        {
            **dict(zip(("task", "variant", "arm"), names, strict=True)),
            "finished": f"{(cell['state'] == FINISHED).sum()} of {len(cell)}",
            "share": f"{100 * cell['share_trained'].mean():.0f}%",
        }
        for names, cell in groups
        if (cell["state"] != FINISHED).any()
    ]
    return {
        "n_finished": f"{len(states) - len(left):,}",
        "n_runs": f"{len(states):,}",
        "n_missing": f"{len(left):,}",
        "n_diverged": f"{int((runs['status'] == 'diverged').sum()):,}",
        "n_stopped": int((runs["status"] == "stopped").sum()),
        "n_whole": f"{len(groups) - len(cells):,}",
        "n_cells": f"{len(groups):,}",
        "reasons": [(*names, f"{count:,}") for names, count in reasons.head(REASONS).items()],
        "n_further": max(0, len(reasons) - REASONS),
        "shown": cells[:SHOWN],
        "folded": cells[SHOWN:],
        "outdated": [PARTS[name] for name in outdated],
        "not_drawn": list(not_drawn),
    }
