"""Records: the part of finished runs that travels; a Parquet row for each run, with its own checksum.

A record has a run's settings, history, summary, evaluation and provenance, and no checkpoints: some kilobytes.
`records:` in config.yaml takes those that fit a cell of the grid as finished runs (`workflow.recorded_runs`);
`nsbench.records` has the commands.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from nsbench.config.target import held_until
from nsbench.schemas.training import EVALUATION, FLOORS, HISTORY, RUN, RUNS
from nsbench.schemas.training import field as column
from nsbench.storage.atomic import atomic_write
from nsbench.storage.parquet import RecordError, refused
from nsbench.storage.run_folder import history_digest

if TYPE_CHECKING:
    import pandas as pd

GET_IT_AGAIN = "get the file again from where it came from"
NO_EVALUATION = "its record has no measures"
MOST_VALUES = 50_000_000
"""In a file of records; a run has about 6,000."""
KEYS = [entry.name for entry in RUN]


def _inner(schema: pa.Schema, *left_out: str) -> pa.DataType:
    """A row of a table as one value, without the columns that the record has itself."""
    return pa.struct([pa.field(entry.name, entry.type) for entry in schema if entry.name not in (*KEYS, *left_out)])


RUN_RECORD = pa.schema(
    [
        *RUN,
        column("settings", pa.string(), "JSON", "all that the run's numbers depend on, but for its seed and the code"),
        column(
            "evaluation_settings", pa.string(), "JSON", "how its checkpoints were measured; null: they were not", True
        ),
        column("provenance", pa.string(), "JSON", "commit, source digest, versions, device and CPU of its training"),
        column("evaluation_provenance", pa.string(), "JSON", "the same of its evaluation; null: none was made", True),
        column("summary", _inner(RUNS), "row", "the run's row of the runs table"),
        column("history", pa.list_(_inner(HISTORY)), "rows", "the run's rows of the history table"),
        column("evaluation", pa.list_(_inner(EVALUATION)), "rows", "rows of the evaluation table; null: none", True),
        column("floors", pa.list_(_inner(FLOORS)), "rows", "rows of the floors table of the run's data set"),
        column("sha256", pa.string(), "sha256", "digest of the row"),
    ]
)
IDENTITY = [*KEYS, "settings", "evaluation_settings", "summary"]
"""What is read of a file of records to know what is in it."""


def _leaves(name: str, kind: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """The columns of numbers or text that Parquet makes of a column."""
    if pa.types.is_list(kind):
        yield from _leaves(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for entry in kind:
            yield from _leaves(f"{name}.{entry.name}", entry.type)
    else:
        yield name, kind


_LEAVES = [leaf for entry in RUN_RECORD for leaf in _leaves(entry.name, entry.type)]
_PACKED = {
    "write_statistics": False,
    "use_byte_stream_split": [name for name, kind in _LEAVES if pa.types.is_floating(kind)],
    "use_dictionary": [name for name, kind in _LEAVES if not pa.types.is_floating(kind)],
}
"""How Parquet takes least room for curves of a few runs."""


@dataclass(frozen=True)
class Record:
    """The record of one run; `row` as of RUN_RECORD, without its checksum."""

    row: dict[str, Any]
    path: Path | None = field(default=None, compare=False)
    """The file that it was read from."""

    @property
    def name(self) -> str:
        return " / ".join((self.row["task"], self.row["variant"], self.row["arm"], f"seed {self.row['seed']}"))

    @property
    def seed(self) -> int:
        return self.row["seed"]

    @property
    def settings(self) -> str:
        return self.row["settings"]

    @cached_property
    def provenance(self) -> dict[str, str]:
        return json.loads(self.row["provenance"])

    @cached_property
    def measured_by(self) -> dict[str, str]:
        """The provenance of its measures; empty where there are none."""
        return json.loads(self.row["evaluation_provenance"] or "{}")

    @cached_property
    def sha256(self) -> str:
        """A digest of all that the record says, exact to the bit; fields that are null are no part of it."""
        text = json.dumps({name: _plain(self.row[name]) for name in RUN_RECORD.names[:-1]}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def numbers(self) -> str:
        """A digest of what must be the same in every record of this run: its history without its seconds."""
        return self.row["summary"]["history_sha256"]

    def table(self, name: str, schema: pa.Schema) -> pa.Table:
        """The record's rows of `history`, `evaluation`, `floors`, or its one row of `summary`, as that table.

        A number that a record of older code lacks is NaN.
        """
        rows = [self.row["summary"]] if name == "summary" else self.row[name]
        keys = {key: self.row[key] for key in KEYS if key in schema.names}
        arrays = []
        for entry in schema:
            values = [{**row, **keys}.get(entry.name) for row in rows]
            if pa.types.is_floating(entry.type):
                values = [math.nan if value is None else value for value in values]
            arrays.append(pa.array(values, entry.type))
        table = pa.Table.from_arrays(arrays, schema=schema)
        table.validate(full=True)
        return table


class Recorded(NamedTuple):
    """Where the record of a run is, and what a grid cannot take of it."""

    path: Path
    settings: str
    evaluation_settings: str | None
    summary: dict[str, Any]
    """The run's row of the runs table, without its name."""

    def is_of(self, record: Record) -> bool:
        """Whether a record is this one."""
        return record.settings == self.settings and record.numbers == self.summary["history_sha256"]

    @property
    def no_evaluation(self) -> str:
        """Why the record has no measures; empty where it has."""
        return NO_EVALUATION if self.evaluation_settings is None else ""

    def better(self, other: Recorded, wanted: str) -> bool:
        """Whether the measures of the record are nearer than another's to the settings that are asked for."""
        mine, theirs = (
            (one.evaluation_settings is not None, one.evaluation_settings == wanted) for one in (self, other)
        )
        return mine > theirs


def write_records(path: Path | str, records: Iterable[Record]) -> None:
    """Write records as one file, in the order of their names, settings and seeds; whole or not at all.

    Raises RecordError for a record with fields that this code does not know.
    """
    ordered = sorted(
        records, key=lambda record: [record.row[key] for key in KEYS[:-1]] + [record.settings, record.seed]
    )
    table = pa.Table.from_pylist([{**record.row, "sha256": record.sha256} for record in ordered], schema=RUN_RECORD)
    for record, row in zip(ordered, table.drop_columns("sha256").to_pylist(), strict=True):
        if Record(row).sha256 != record.sha256:
            raise RecordError(f"{record.path}: the record of {record.name} is of newer code; update nsbench")
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", compression_level=19, write_page_checksum=True, **_PACKED)


def read_records(path: Path | str) -> list[Record]:
    """The records in a file.

    Raises RecordError naming the file, and the run where it is one, where it is missing, damaged or of another kind.
    """
    records = []
    for record, damage in checked_records(path):
        if damage:
            raise RecordError(damage)
        records.append(record)
    return records


def checked_records(path: Path | str) -> list[tuple[Record, str]]:
    """The records in a file, each with what is wrong with it; empty where nothing is. Raises as `read_records`."""
    found = []
    for row in _read(path, RUN_RECORD.names).to_pylist():
        told = row.pop("sha256")
        record = Record(row, Path(path))
        damage = f"{path}: the record of {record.name} is damaged (wrong checksum); {GET_IT_AGAIN}"
        try:
            whole = record.sha256 == told and _holds(record)
        except (KeyError, TypeError, ValueError, IndexError, RecursionError):  # pyarrow's errors are ValueErrors
            whole = False
        found.append((record, "" if whole else damage))
    return found


def _holds(record: Record) -> bool:
    """Whether what a record says is of the right form, and its summary matches its history: its numbers, in the columns
    that it has, and its end.
    """
    told = [record.provenance, record.measured_by, json.loads(record.row["evaluation_settings"] or "{}")]
    if not all(isinstance(text, dict) for text in told):
        return False
    for name, schema in (("summary", RUNS), ("evaluation", EVALUATION), ("floors", FLOORS)):
        if record.row[name] is not None:
            record.table(name, schema)
    rows, summary = record.table("history", HISTORY).to_pandas(), record.row["summary"]
    lacking = [
        name for name in rows if name not in KEYS and all(row.get(name) is None for row in record.row["history"])
    ]
    last = record.row["history"][-1]
    return (
        history_digest(rows.drop(columns=lacking)) == record.numbers
        and (summary["steps"], summary["seconds"], summary["flops"]) == (last["step"], last["seconds"], last["flops"])
        and _ended_as_recorded(summary["status"], rows, json.loads(record.settings))
    )


def _ended_as_recorded(status: str, rows: pd.DataFrame, settings: dict[str, Any]) -> bool:
    """Whether a history can have ended so: at the budget, after its target, or anywhere for want of finite numbers."""
    if status == "completed":
        return bool(rows["step"].iloc[-1] == settings["training"]["steps"])
    if status == "stopped":
        target = settings.get("target")
        return target is not None and held_until(rows[target["metric"]], rows["step"].tolist(), target) is not None
    return status == "diverged"


def read_identities(path: Path | str) -> list[dict[str, Any]]:
    """The columns IDENTITY of each record in a file, in order; numbers are not looked at. Raises as `read_records`."""
    rows = _read(path, IDENTITY).to_pylist()
    if not all((row["summary"] or {}).get("history_sha256") for row in rows):
        raise RecordError(f"{path}: has a record without a summary of its run; {GET_IT_AGAIN}")
    return rows


def record_files(paths: Iterable[Path | str]) -> Iterator[Path]:
    """The files of records that paths name: files, and the Parquet files in folders, at any depth, in order.

    Raises RecordError for a path that is neither, and for a folder without any.
    """
    for path in map(Path, paths):
        if path.is_dir():
            files = sorted(file for file in path.rglob("*.parquet") if not file.name.startswith("."))
            if not files:
                raise RecordError(f"{path}: has no file of records; a folder with Parquet files of them is allowed")
            yield from files
        elif path.exists():
            yield path
        else:
            raise RecordError(f"{path}: no such file or folder of records; name one that is there")


def _read(path: Path | str, names: list[str]) -> pa.Table:
    """Columns of a file of records; fields that other code's records have inside their rows are no fault."""
    with refused(path, GET_IT_AGAIN):
        about = pq.read_metadata(path)
        there = about.schema.to_arrow_schema().names
        if missing := [name for name in names if name not in there]:
            raise RecordError(f"{path}: is no file of records, it lacks {', '.join(missing)}; name one that is")
        # A few kilobytes can say billions of equal numbers.
        groups = [about.row_group(group) for group in range(about.num_row_groups)]
        held = sum(group.column(place).num_values for group in groups for place in range(about.num_columns))
        if held > MOST_VALUES or sum(group.total_byte_size for group in groups) > 8 * MOST_VALUES:
            raise RecordError(f"{path}: says {held:,} values, at most {MOST_VALUES:,} are allowed; split the file")
        table = pq.read_table(path, columns=names, page_checksum_verification=True)
        table.validate(full=True)
    for name in names:
        if not _fits(found := table.schema.field(name).type, RUN_RECORD.field(name).type):
            raise RecordError(f"{path}: is no file of records, its {name} holds {found}; name one that is")
        if table[name].null_count and not RUN_RECORD.field(name).nullable:
            raise RecordError(f"{path}: has a record without {name}; {GET_IT_AGAIN}")
    return table.select(names)


def _fits(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether a column has the type that is wanted; rows within it may have more fields, or fewer."""
    if pa.types.is_struct(wanted):
        there = {entry.name: entry.type for entry in found} if pa.types.is_struct(found) else None
        return there is not None and all(_fits(there.get(entry.name, entry.type), entry.type) for entry in wanted)
    if pa.types.is_list(wanted):
        return pa.types.is_list(found) and _fits(found.value_type, wanted.value_type)
    return found == wanted


def _plain(value: Any) -> Any:
    """A value without what JSON knows in several ways."""
    if isinstance(value, float) and math.isnan(value):
        return "NaN"
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items() if part is not None}
    return [_plain(part) for part in value] if isinstance(value, list) else value
