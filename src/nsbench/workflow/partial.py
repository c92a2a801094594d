"""The part of a grid that partial results are about: its finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.schemas.run_states import FINISHED, RUN_STATE, STATES
from nsbench.storage.parquet import RecordError, read_table


def read_states(path: Path | str, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """The state of every run of the grid `cells`: columns of RUN_STATE.

    Raises RecordError where the file is missing, broken, of another grid, or has no finished run.
    """
    states = read_table(path, RUN_STATE)
    keys = list(states[["task", "variant", "arm", "seed"]].itertuples(index=False, name=None))
    wanted = [(cell["task"], cell["variant"], cell["arm"], seed) for cell in cells for seed in cell["seeds"]]
    if keys != wanted or not set(states["state"]) <= set(STATES):
        raise RecordError(f"{path}: is about other runs than this grid's; delete it and run its stage again")
    if not (states["state"] == FINISHED).any():
        counts = states["state"].value_counts()
        told = "; ".join(f"{counts[state]:,} {state}" for state in STATES if state in counts)
        raise RecordError(f"no run of the grid can be reported on yet ({told}); try again when more is finished")
    return states


def restricted(cells: list[dict[str, Any]], states: pd.DataFrame) -> list[dict[str, Any]]:
    """The cells of a grid with their finished seeds alone, those without any left out.

    `partial` of each says how much of the whole grid is finished; empty: all of it.
    """
    finished = states[states["state"] == FINISHED]
    part = "" if len(finished) == len(states) else f"{len(finished):,} of {len(states):,} runs"
    seeds = finished.groupby(["task", "variant", "arm"], sort=False)["seed"].agg(set).to_dict()
    found = []
    for cell in cells:
        here = seeds.get((cell["task"], cell["variant"], cell["arm"]), set())
        if here:
            found.append({**cell, "seeds": [seed for seed in cell["seeds"] if seed in here], "partial": part})
    return found
