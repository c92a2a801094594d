"""The report's section on partial work: how much of the grid it is made from, and what is missing and why."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

from nsbench.schemas.run_states import FINISHED, STATES
from nsbench.schemas.training import CELL

SHOWN = 30
"""Cells that stand open; the others are folded away."""
NAMED = 10
"""Files that are bad, by name."""
PARTS = {"theory": "the theory", "pretrained": "pretrained models"}
"""What is made apart from runs."""


def section(
    states: pd.DataFrame | None, runs: pd.DataFrame, outdated: Collection[str] = (), not_drawn: Collection[str] = ()
) -> dict[str, Any]:
    """The section as texts; empty for a whole grid.

    states: rows of partial.RUN_STATE; runs: records.RUNS of those that are finished; outdated: PARTS that are there of
    other settings or code; not_drawn: names of figures that could not be drawn.
    """
    if states is None:
        return {}
    left = states[states["state"] != FINISHED]
    found = [state for state in STATES if (left["state"] == state).any()]
    groups = states.groupby([field.name for field in CELL], sort=False)
    rows = [_cell(names, cell, found) for names, cell in groups if (cell["state"] != FINISHED).any()]
    sentences = list(dict.fromkeys(left.loc[left["reason"] != "", "reason"]))
    return {
        "n_finished": f"{len(states) - len(left):,}",
        "n_runs": f"{len(states):,}",
        "n_missing": f"{len(left):,}",
        "n_diverged": f"{int((runs['status'] == 'diverged').sum()):,}",
        "n_stopped": int((runs["status"] == "stopped").sum()),
        "n_whole": f"{len(groups) - len(rows):,}",
        "n_cells": f"{len(groups):,}",
        "reasons": [(state, f"{int((left['state'] == state).sum()):,}", STATES[state]) for state in found],
        "states": found,
        "shown": rows[:SHOWN],
        "folded": rows[SHOWN:],
        "sentences": sentences[:NAMED],
        "outdated": [PARTS[name] for name in outdated],
        "not_drawn": list(not_drawn),
        "n_further": max(0, len(sentences) - NAMED),
    }


def _cell(names: tuple[str, str, str], cell: pd.DataFrame, found: list[str]) -> dict[str, Any]:
    """A cell that is not whole: its name, how much of it is finished, and how many runs are in each state."""
    counts = cell["state"].value_counts()
    task, variant, arm = names
    return {
        "task": task,
        "variant": variant,
        "arm": arm,
        "finished": f"{counts.get(FINISHED, 0)} of {len(cell)}",
        "counts": [str(counts[state]) if state in counts else "" for state in found],
        "share": f"{100 * cell['share_trained'].mean():.0f}%",
    }
