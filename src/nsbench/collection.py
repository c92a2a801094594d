"""The stage `collect`: from packs to one set of records.

Here the files found meet the grid asked for: what is missing, doubled or foreign stops it with the
run's name, so that no table is ever made from whatever happened to exist.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nsbench.provenance import stamp
from nsbench.records import EVALUATION, FLOORS, HISTORY, RUNS, RecordError, read_arrow, write_table
from nsbench.statistics import RUN_KEYS, grid_runs, run_name

COLLECTED = {"history": HISTORY, "runs": RUNS, "evaluation": EVALUATION}

RunKey = tuple[str, str, str, int]
"""(task, variant, arm, seed)."""


def collect(
    cells: list[dict[str, Any]],
    pack_folders: list[Path],
    floor_files: list[Path],
    out_folder: Path | str,
    spec: str,
    digest: str,
) -> None:
    """Join `history`, `runs` and `evaluation` of all packs, in grid order, into `out_folder`, and
    `floors` of all data sets.

    Every run of the grid must be there once and complete, and no other. A diverged run needs no
    evaluation. Raises RecordError naming the first run that breaks this; nothing is written then.
    """
    floors = pa.concat_tables([FLOORS.empty_table(), *(read_arrow(path, FLOORS) for path in floor_files)])
    tables = {
        name: pa.concat_tables(
            [schema.empty_table(), *(read_arrow(Path(folder) / f"{name}.parquet", schema) for folder in pack_folders)]
        )
        for name, schema in COLLECTED.items()
    }
    keys = {name: _keys(table) for name, table in tables.items()}
    _check(cells, tables["runs"], keys)
    order = {key: place for place, key in enumerate(grid_runs(cells))}
    provenance = stamp(spec, digest)
    for name, schema in COLLECTED.items():
        places = np.argsort([order[key] for key in keys[name]], kind="stable")
        # Through rows, not pandas: so null and NaN stay apart.
        rows = tables[name].take(pa.array(places)).to_pylist()
        write_table(Path(out_folder) / f"{name}.parquet", rows, schema, provenance)
    # A variant in two blocks of the grid may have its seeds in two data sets, whose floors are the same.
    identity = [name for name in FLOORS.names if name not in ("n_targets", "accuracy", "loss")]
    unique = {tuple(row[name] for name in identity): row for row in floors.to_pylist()}
    write_table(Path(out_folder) / "floors.parquet", list(unique.values()), FLOORS, provenance)


def _check(cells: list[dict[str, Any]], runs: pa.Table, keys: dict[str, list[RunKey]]) -> None:
    """Raise ValueError naming the first run that is missing, doubled, foreign or incomplete."""
    budget = {key: cell["budget_steps"] for cell in cells for key in grid_runs([cell])}
    doubled = next((key for key, count in Counter(keys["runs"]).items() if count > 1), None)
    if doubled:
        raise RecordError(f"{run_name(*doubled)}: this run is in two packs; delete one of them")
    for name, found in keys.items():
        foreign = next((key for key in found if key not in budget), None)
        if foreign:
            raise RecordError(f"{run_name(*foreign)}: this run, found in {name}, is not in the grid")
    diverged = set()
    for key, status, steps in zip(keys["runs"], *(runs[name].to_pylist() for name in ("status", "steps")), strict=True):
        if status == "diverged":
            diverged.add(key)
        elif steps != budget[key]:
            raise RecordError(f"{run_name(*key)}: completed at step {steps:,}, but its budget is {budget[key]:,} steps")
    for name, found in keys.items():
        present = set(found) | (diverged if name == "evaluation" else set())
        missing = next((key for key in budget if key not in present), None)
        if missing:
            raise RecordError(f"{run_name(*missing)}: this run of the grid is missing in {name} of the packs")


def _keys(table: pa.Table) -> list[RunKey]:
    return list(zip(*(table[name].to_pylist() for name in RUN_KEYS), strict=True))
