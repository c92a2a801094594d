"""Write and read Parquet files under a schema, with their provenance in the metadata."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from nsbench.storage.atomic import FileError, atomic_write, refuse_passing, write_text

if TYPE_CHECKING:
    import pandas as pd


class RecordError(FileError):
    """A result file that cannot be read as what it should be; the message names it and what to do."""


AGAIN = "delete it and run its stage again"
OWN = "nsbench."
"""How the keys of our metadata begin."""
CHECKSUM = "stamp_sha256"


def stamp_checksum(stamp: dict[str, str]) -> str:
    """The digest that a file carries of its stamp, under CHECKSUM."""
    return hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()


def _column(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A column as it is: NaN stays NaN, and only None becomes null."""
    # pyarrow would cut a fraction off.
    if pa.types.is_integer(kind) and any(isinstance(value, float) and not value.is_integer() for value in values):
        raise pa.ArrowInvalid("a fraction in a column of whole numbers")
    return pa.array(values, kind, from_pandas=False)


def write_table(
    path: Path | str, rows: pd.DataFrame | list[dict[str, Any]], schema: pa.Schema, stamp: dict[str, str]
) -> None:
    """Write rows as Parquet under `schema`, with `stamp` in the metadata, whole or not at all.

    Raises pyarrow.ArrowInvalid or KeyError where the rows do not fit the schema.
    """
    if isinstance(rows, list):
        values = [[row.get(field.name) for row in rows] for field in schema]
    else:
        columns = [rows[field.name] for field in schema]
        values = [
            column.to_numpy("float64") if pa.types.is_floating(field.type) else column.tolist()
            for column, field in zip(columns, schema, strict=True)
        ]
    arrays = [_column(column, field.type) for column, field in zip(values, schema, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=schema)
    # Parquet's own checksums cover the pages alone.
    signed = {**stamp, CHECKSUM: stamp_checksum(stamp)} if stamp else {}
    table = table.replace_schema_metadata({OWN + key: value for key, value in signed.items()})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def write_csv(path: Path | str, table: pd.DataFrame) -> None:
    """Write a table as CSV (`csv_text`), whole or not at all."""
    write_text(path, csv_text(table))


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV; text that a spreadsheet would run as a formula gets an apostrophe.

    Numbers have 8 digits, which are the same on all kinds of CPU; the Parquet file beside it has all.
    """
    for name, column in table.items():
        if column.dtype.kind not in "biufc":
            formulas = np.array([_is_formula(value) for value in column], bool)
            if formulas.any():
                table = table.assign(**{str(name): column.mask(formulas, "'" + column.astype(str))})
    return table.to_csv(index=False, lineterminator="\n", float_format="%.8g")


def _is_formula(value: Any) -> bool:
    if not (isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))):
        return False
    try:
        float(value)
    except ValueError:
        return True
    return False


@contextlib.contextmanager
def refused(path: Path | str, advice: str = AGAIN) -> Iterator[None]:
    """Turn pyarrow's errors in the block into RecordError about `path`, with what to do.

    Raises FileError if the error is not about the file's content, as when a network fails.
    """
    try:
        yield
    except FileError:
        raise
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; run the stage that makes it") from None
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        refuse_passing(path, error)
        reason = str(error).splitlines()[0]
        raise RecordError(f"{path}: not a whole Parquet file ({reason}); {advice}") from None


def read_arrow(path: Path | str, schema: pa.Schema) -> pa.Table:
    """Read a Parquet file that must have the columns of `schema`, of its types, without nulls where it allows none.

    Raises RecordError naming the file where it is missing, broken, damaged or of another kind; FileError where it
    could not be read at the moment.
    """
    with refused(path):
        table = pq.read_table(path, page_checksum_verification=True)
        table.validate(full=True)
        missing = [name for name in schema.names if name not in table.column_names]
    if missing:
        raise RecordError(f"{path}: lacks the columns {', '.join(missing)}; {AGAIN}")
    for wanted in schema:
        column = table[wanted.name]
        if column.type != wanted.type:
            raise RecordError(f"{path}: its column {wanted.name} holds {column.type}, not {wanted.type}; {AGAIN}")
        if column.null_count and not wanted.nullable:
            raise RecordError(f"{path}: its column {wanted.name} has {column.null_count} gaps, none may be; {AGAIN}")
    return table.select(schema.names)


def read_table(path: Path | str, schema: pa.Schema) -> pd.DataFrame:
    """`read_arrow` as a DataFrame."""
    with refused(path):
        return read_arrow(path, schema).to_pandas()


def read_stamp(path: Path | str) -> dict[str, str]:
    """The provenance in a Parquet file's metadata, empty in a file of others.

    Raises RecordError where the file is missing, broken or damaged; FileError where it could not be read at the moment.
    """
    with refused(path):
        metadata = pq.read_schema(path).metadata or {}
        stamp = {
            key.decode().removeprefix(OWN): value.decode()
            for key, value in metadata.items()
            if key.startswith(OWN.encode())
        }
    if stamp and stamp.pop(CHECKSUM, "") != stamp_checksum(stamp):
        raise RecordError(f"{path}: is damaged, what it says of its origin has a wrong checksum; {AGAIN}")
    return stamp
