"""The stage `collect`: from packs and records to one set of tables.

Here the files found meet the grid asked for: what is missing, doubled or foreign stops it with the
run's name, so that no table is ever made from whatever happened to exist. Rows stream from packs and records
into the files, so that memory does not grow with the length of histories.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Container, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from nsbench.analysis.statistics.times import RUN_KEYS, RunKey, grid_runs, run_name
from nsbench.schemas.training import COLLECTED_RUNS, EVALUATION, FLOORS, HISTORY, RUNS, TEXT_LABELS
from nsbench.storage.atomic import atomic_write
from nsbench.storage.parquet import CHECKSUM, OWN, RecordError, read_arrow, stamp_checksum, write_table
from nsbench.storage.provenance import stamp
from nsbench.storage.records import Record, Recorded, read_records

STREAMED = {"history": HISTORY, "evaluation": EVALUATION}
ROWS_AT_ONCE = 2**17
"""Rows that are gathered before they are written, as one row group: some 20 MB of a history."""
OF_NOISE = ("stability", "stability_cosine", "decision_agreement", "decision_agreement_corrected")
"""Columns of a history that depend on the variant's `noise`."""


class Sources(NamedTuple):
    """Where the runs of a grid are."""

    packs: list[Path]
    """Folders of packs."""
    floors: list[Path]
    """Files of the floors of their data sets."""
    records: Mapping[RunKey, Recorded] = MappingProxyType({})
    """The runs that come from records instead."""
    evaluation_settings: str = ""
    """What measures are to be made with; a record of others is marked."""
    code: Mapping[tuple[str, str, str, str], tuple[str, ...]] = MappingProxyType({})
    """(stage, task, variant, arm) -> the digests of this code."""


def collect(
    cells: list[dict[str, Any]], sources: Sources, out_folder: Path | str, spec: str, digest: str, partial: str = ""
) -> None:
    """Join `history`, `runs` (COLLECTED_RUNS) and `evaluation` of packs and records, in grid order, into `out_folder`,
    and `floors` of all data sets.

    Every run of the grid must be there once and complete, and no other. A diverged run needs no evaluation, and for a
    record that has none the row of `runs` says why. A run that a cell shares (`workflow.grid.Cell.shares`) appears
    under both names. Raises RecordError naming the first run that breaks this, or a file that cannot be read; no
    file is written then, though an empty folder may be left. partial: how much of the grid `cells` are, for the files'
    stamp. Holds a file and a row group at a time, and floors and runs whole.
    """
    shares = {
        (cell["task"], cell["variant"], cell["arm"], seed): (cell["task"], cell["shares"], cell["arm"], seed)
        for cell in cells
        if cell.get("shares")
        for seed in cell["seeds"]
    }
    for cached in (_records, _table):  # of an earlier call, whose files may have changed
        cached.cache_clear()
    found = _found(sources)
    _check(cells, shares, found, sources.records)
    floors = [FLOORS.empty_table(), *(read_arrow(path, FLOORS) for path in sources.floors)]
    runs = []
    provenance, out_folder = stamp(spec, digest, partial=partial), Path(out_folder)
    with contextlib.ExitStack() as written:  # No file appears before all of them are there.
        out = {
            name: written.enter_context(atomic_write(out_folder / f"{name}.parquet")) for name in (*STREAMED, "runs")
        }
        with contextlib.ExitStack() as open_files:
            files = {name: open_files.enter_context(_Rows(out[name], STREAMED[name], provenance)) for name in STREAMED}
            for key in grid_runs(cells):
                origin = shares.get(key, key)
                tables = _from_pack(origin, *found[origin]) if origin in found else _from_record(origin, sources)
                runs.append(_with_values(tables.pop("runs"), _named(key)))
                data_set = tables.pop("floors")
                floors += [_with_values(data_set, _named(origin))] * (key == origin)
                for name, table in tables.items():
                    files[name].add(_with_values(table if key == origin else _shared(table, name), _named(key)))
        joined = pa.concat_tables([COLLECTED_RUNS.empty_table(), *runs])
        _check_data(joined)
        with _Rows(out["runs"], COLLECTED_RUNS, provenance) as file:
            file.add(joined)
        rows = _floors(pa.concat_tables(floors).to_pylist(), shares)
        write_table(out_folder / "floors.parquet", rows, FLOORS, provenance)


def _floors(rows: list[dict[str, Any]], shares: Mapping[RunKey, RunKey]) -> list[dict[str, Any]]:
    """Each floor once, and those of shared runs under both names, since their data are the same."""
    identity = [name for name in FLOORS.names if name not in ("n_targets", "accuracy", "loss", "seen")]
    # A variant in two blocks of the grid may have its seeds in two data sets, whose floors are the same.
    unique = {tuple(row[name] for name in identity): row for row in rows}
    of_data: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for row in unique.values():
        of_data.setdefault((row["task"], row["variant"], row["seed"]), []).append(row)
    for (task, variant, _, seed), (_, twin, _, _) in shares.items():
        for row in of_data.get((task, twin, seed), []):
            named = {**row, "variant": variant}
            unique.setdefault(tuple(named[name] for name in identity), named)
    return list(unique.values())


def _found(sources: Sources) -> dict[RunKey, tuple[Path, pa.Table]]:
    """The pack of each run, and its row of `runs`."""
    found: dict[RunKey, tuple[Path, pa.Table]] = {}
    for pack in sources.packs:
        table = read_arrow(pack / "runs.parquet", RUNS)
        for row, key in enumerate(zip(*(table[name].to_pylist() for name in RUN_KEYS), strict=True)):
            if key in found or key in sources.records:
                raise RecordError(f"{run_name(*key)}: this run is in two packs; delete one of them")
            found[key] = pack, table.slice(row, 1)
    return found


def _of_run(table: pa.Table, key: RunKey) -> pa.Table:
    """The rows of a run."""
    return table.filter(functools.reduce(pc.and_, map(pc.equal, (table[name] for name in RUN_KEYS), key)))


def _from_pack(key: RunKey, pack: Path, run: pa.Table) -> dict[str, pa.Table]:
    """A run's rows of `history`, `evaluation` and `runs`, and none of `floors`."""
    tables = {name: _of_run(_table(pack / f"{name}.parquet", name), key) for name in STREAMED}
    for name, table in tables.items():
        if not len(table) and (name == "history" or run["status"][0].as_py() != "diverged"):
            raise _missing(key, name)
    return {**tables, "runs": _with_origin(run, "", "", ""), "floors": FLOORS.empty_table()}


def _from_record(key: RunKey, sources: Sources) -> dict[str, pa.Table]:
    """A run's rows of `history`, `evaluation`, `runs` and `floors`."""
    at = sources.records[key]
    record = next((found for found in _records(at.path) if found.seed == key[-1] and at.is_of(found)), None)
    if record is None:
        raise RecordError(f"{at.path}: its record of {run_name(*key)} changed meanwhile; give the same command again")
    otherwise = {"measures"} if at.evaluation_settings != sources.evaluation_settings else set()
    made_by = {
        "data": ("dataset", record.provenance.get("data_digest")),
        "training": ("train", record.provenance.get("source_digest")),
        "measures": ("evaluate", record.measured_by.get("source_digest")),
    }
    older = [
        what
        for what, (stage, told) in made_by.items()
        if (told not in sources.code.get((stage, *key[:3]), ()) or what in otherwise)
        and not (at.no_evaluation and what == "measures")
    ]
    return {
        "history": record.table("history", HISTORY),
        "evaluation": EVALUATION.empty_table() if at.no_evaluation else record.table("evaluation", EVALUATION),
        "runs": _with_origin(record.table("summary", RUNS), str(at.path), ", ".join(older), at.no_evaluation),
        "floors": record.table("floors", FLOORS),
    }


@functools.lru_cache(maxsize=2)
def _records(path: Path) -> list[Record]:
    """A file's records; the runs of a cell are mostly of one file."""
    return read_records(path)


@functools.lru_cache(maxsize=2)
def _table(path: Path, name: str) -> pa.Table:
    """A pack's file; its runs follow each other."""
    return read_arrow(path, STREAMED[name])


def _with_origin(runs: pa.Table, *origin: str) -> pa.Table:
    """Rows of RUNS as rows of COLLECTED_RUNS; origin: their further columns."""
    return pa.Table.from_arrays(
        [*runs.columns, *(pa.repeat(text, len(runs)) for text in origin)], schema=COLLECTED_RUNS
    )


def _named(key: RunKey) -> dict[str, Any]:
    """The columns with the name that the grid has for a run."""
    return dict(zip(RUN_KEYS, key, strict=True))


def _with_values(table: pa.Table, values: Mapping[str, Any]) -> pa.Table:
    """A table with one value in all rows of each of these columns that it has."""
    for place, field in enumerate(table.schema):
        if field.name in values:
            table = table.set_column(place, field, pa.repeat(values[field.name], len(table)).cast(field.type))
    return table


def _shared(table: pa.Table, name: str) -> pa.Table:
    """What of a run's rows holds under other noise: all but what they say of outputs under noise.

    Average sensitivity holds too; under other noise its random draws would be others.
    """
    if name == "evaluation":
        return table.filter(pc.is_null(table["rho"], nan_is_null=True))
    return _with_values(table, dict.fromkeys(OF_NOISE, math.nan))


class _Rows:
    """A file that tables are added to, one after the other, signed as `write_table` does."""

    def __init__(self, path: Path, schema: pa.Schema, stamp: dict[str, str]) -> None:
        metadata = {OWN + key: value for key, value in {**stamp, CHECKSUM: stamp_checksum(stamp)}.items()}
        self.schema = schema.with_metadata(metadata)
        self.writer = pq.ParquetWriter(path, self.schema, compression="zstd", write_page_checksum=True)
        self.waiting: list[pa.Table] = []

    def add(self, table: pa.Table) -> None:
        self.waiting.append(pa.Table.from_arrays(table.columns, schema=self.schema))
        if sum(map(len, self.waiting)) >= ROWS_AT_ONCE:
            self._write()

    def _write(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.concat_tables(self.waiting).combine_chunks())
            self.waiting.clear()

    def __enter__(self) -> _Rows:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._write()
        self.writer.close()


def _check(
    cells: list[dict[str, Any]],
    shares: Mapping[RunKey, RunKey],
    found: Mapping[RunKey, tuple[Path, pa.Table]],
    recorded: Container[RunKey],
) -> None:
    """Raise RecordError naming the first run that is foreign, of another budget or missing.

    shares: the runs of the grid that are other runs under another name, and which. recorded: the runs of records.
    """
    budget = {shares.get(key, key): cell["budget_steps"] for cell in cells for key in grid_runs([cell])}
    for key, (_, run) in found.items():
        if key not in budget:
            raise RecordError(f"{run_name(*key)}: this run is not in the grid")
        steps = run["steps"][0].as_py()
        if run["status"][0].as_py() == "completed" and steps != budget[key]:
            raise RecordError(f"{run_name(*key)}: completed at step {steps:,}, but its budget is {budget[key]:,} steps")
    for key in budget:
        if key not in found and key not in recorded:
            raise _missing(key, "runs")


def _missing(key: RunKey, name: str) -> RecordError:
    return RecordError(f"{run_name(*key)}: this run of the grid is missing in {name} of the packs")


def _check_data(runs: pa.Table) -> None:
    """Raise RecordError where arms are compared on other data, or data are cut from several texts."""
    data: dict[tuple[str, str, int], tuple[str, RunKey]] = {}
    texts: dict[str, RunKey] = {}
    columns = (runs[name].to_pylist() for name in ("data_sha256", "text"))
    keys = zip(*(runs[name].to_pylist() for name in RUN_KEYS), strict=True)
    for key, sha256, text in zip(keys, *columns, strict=True):
        first, other = data.setdefault((key[0], key[1], key[3]), (sha256, key))
        if first != sha256:
            raise RecordError(
                f"{run_name(*key)}: was trained on other data than {run_name(*other)}; arms are compared on the same "
                "data, so leave one's record out and train it here"
            )
        if not text.startswith(TEXT_LABELS):
            continue
        if other := next((of for name, of in texts.items() if name != text), None):
            raise RecordError(
                f"{run_name(*key)}: its text is {text!r}, that of {run_name(*other)} another; one text is allowed for "
                "the whole grid"
            )
        texts[text] = key
