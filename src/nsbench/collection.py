"""The stage `collect`: from packs to one set of records.

Here the files found meet the grid asked for: what is missing, doubled or foreign stops it with the
run's name, so that no table is ever made from whatever happened to exist. Rows stream from the packs
into the files, so that memory does not grow with the length of histories.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsbench.files import whole
from nsbench.provenance import stamp
from nsbench.records import (
    CHECKSUM,
    EVALUATION,
    FLOORS,
    HISTORY,
    OWN,
    RUNS,
    RecordError,
    _checksum,
    read_arrow,
    write_table,
)
from nsbench.statistics import RUN_KEYS, grid_runs, run_name

STREAMED = {"history": HISTORY, "evaluation": EVALUATION}
KEYS = pa.schema([HISTORY.field(name) for name in RUN_KEYS])
ROWS_AT_ONCE = 2**17
"""Rows that are gathered before they are written, as one row group: some 20 MB of a history."""

RunKey = tuple[str, str, str, int]
"""(task, variant, arm, seed)."""


class Stretch(NamedTuple):
    """Rows of one run that follow each other in a file."""

    path: Path
    start: int
    length: int


def collect(
    cells: list[dict[str, Any]],
    pack_folders: list[Path],
    floor_files: list[Path],
    out_folder: Path | str,
    spec: str,
    digest: str,
    partial: str = "",
) -> None:
    """Join `history`, `runs` and `evaluation` of all packs, in grid order, into `out_folder`, and
    `floors` of all data sets.

    Every run of the grid must be there once and complete, and no other. A diverged run needs no
    evaluation. Raises RecordError naming the first run that breaks this, or a file that cannot be
    read; nothing is written then. partial: how much of the grid `cells` are, for the files' stamp.
    Holds a pack and a row group at a time, and floors and runs whole.
    """
    floors = pa.concat_tables([FLOORS.empty_table(), *(read_arrow(path, FLOORS) for path in floor_files)])
    found = {
        name: _stretches_by_run([Path(folder) / f"{name}.parquet" for folder in pack_folders], schema)
        for name, schema in STREAMED.items()
    }
    runs = pa.concat_tables(
        [RUNS.empty_table(), *(read_arrow(Path(folder) / "runs.parquet", RUNS) for folder in pack_folders)]
    )
    run_keys = list(zip(*(runs[name].to_pylist() for name in RUN_KEYS), strict=True))
    _check(cells, runs, {"history": list(found["history"]), "runs": run_keys, "evaluation": list(found["evaluation"])})
    row_of = {key: row for row, key in enumerate(run_keys)}
    provenance = stamp(spec, digest, partial=partial)
    with contextlib.ExitStack() as written:  # No file appears before all of them are there.

        def write(name: str, tables: Iterable[pa.Table], schema: pa.Schema) -> None:
            _write(written.enter_context(whole(Path(out_folder) / f"{name}.parquet")), tables, schema, provenance)

        write("runs", [runs.take([row_of[key] for key in grid_runs(cells)])], RUNS)
        for name, schema in STREAMED.items():
            in_order = (stretch for key in grid_runs(cells) for stretch in found[name].get(key, []))
            write(name, _rows(in_order, schema), schema)
        # A variant in two blocks of the grid may have its seeds in two data sets, whose floors are the same.
        identity = [name for name in FLOORS.names if name not in ("n_targets", "accuracy", "loss")]
        unique = {tuple(row[name] for name in identity): row for row in floors.to_pylist()}
        write_table(Path(out_folder) / "floors.parquet", list(unique.values()), FLOORS, provenance)


def _stretches_by_run(paths: list[Path], schema: pa.Schema) -> dict[RunKey, list[Stretch]]:
    """Where each run's rows are, runs and rows in the order in which they are found."""
    found: dict[RunKey, list[Stretch]] = {}
    for path in paths:
        for key, start, stop in _stretches(_keys(path, schema)):
            found.setdefault(key, []).append(Stretch(path, start, stop - start))
    return found


def _keys(path: Path, schema: pa.Schema) -> pa.Table:
    """The columns of a file that say whose its rows are.

    Raises what `read_arrow` raises where they cannot be had.
    """
    with contextlib.suppress(OSError, ValueError, pa.ArrowException):
        keys = pq.ParquetFile(path, page_checksum_verification=True).read(columns=RUN_KEYS)
        if keys.schema.equals(KEYS):
            return keys
    return read_arrow(path, schema).select(RUN_KEYS)


def _stretches(keys: pa.Table) -> Iterator[tuple[RunKey, int, int]]:
    """Each stretch of rows of one run: its key, where it starts and where it stops."""
    ends = [pc.run_end_encode(column.combine_chunks()).run_ends for column in keys.columns]
    bounds = np.unique(np.concatenate([[0], *ends]))
    first_rows = keys.take(bounds[:-1]).columns
    runs = zip(*(column.to_pylist() for column in first_rows), strict=True)
    for key, (start, stop) in zip(runs, pairwise(bounds.tolist()), strict=True):
        yield key, start, stop


def _rows(stretches: Iterable[Stretch], schema: pa.Schema) -> Iterator[pa.Table]:
    """The rows of stretches; a file is read once for all that follow each other of it."""
    path, table = None, None
    for stretch in stretches:
        if stretch.path != path:
            path, table = stretch.path, read_arrow(stretch.path, schema)
        yield table.slice(stretch.start, stretch.length)


def _write(path: Path, tables: Iterable[pa.Table], schema: pa.Schema, stamp: dict[str, str]) -> None:
    """Write tables one after the other as one file, signed as `write_table` does."""
    metadata = {OWN + key: value for key, value in {**stamp, CHECKSUM: _checksum(stamp)}.items()}
    signed = schema.with_metadata(metadata)
    with pq.ParquetWriter(path, signed, compression="zstd", write_page_checksum=True) as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(pa.Table.from_arrays(table.columns, schema=signed))
            if sum(map(len, waiting)) >= ROWS_AT_ONCE:
                writer.write_table(pa.concat_tables(waiting))
                waiting.clear()
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


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
        elif status == "completed" and steps != budget[key]:
            raise RecordError(f"{run_name(*key)}: completed at step {steps:,}, but its budget is {budget[key]:,} steps")
    for name, found in keys.items():
        present = set(found) | (diverged if name == "evaluation" else set())
        missing = next((key for key in budget if key not in present), None)
        if missing:
            raise RecordError(f"{run_name(*missing)}: this run of the grid is missing in {name} of the packs")
