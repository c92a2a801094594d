"""The Parquet files that stages hand to each other: schemas, writer, readers.

Every column's unit and meaning stands in its field's metadata; every file carries its provenance
(`nsbench.provenance.stamp`) in the schema's metadata.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nsbench.files import FileError, refuse_passing, whole


class RecordError(FileError):
    """A result file that cannot be read as what it should be; the message names it and what to do."""


AGAIN = "delete it and run its stage again"
OWN = "nsbench."
"""How the keys of our metadata begin."""
CHECKSUM = "stamp_sha256"


TARGETS = {"all": "", "unpadded": "_unpadded", "known": "_known"}
"""Kinds of targets that scores count, and how each one's columns of HISTORY end."""
LEFT_OUT = {"all": (), "unpadded": ("padding",), "known": ("padding", "unknown")}
"""Kind of targets -> the tensors of a data set whose ids are not counted."""


def field(name: str, kind: pa.DataType, unit: str, meaning: str, nullable: bool = False) -> pa.Field:
    """A column of a schema, its unit and meaning in the metadata."""
    return pa.field(name, kind, nullable=nullable, metadata={"unit": unit, "meaning": meaning})


CELL = [
    field("task", pa.string(), "name", "task"),
    field("variant", pa.string(), "name", "setting of the task's open choices"),
    field("arm", pa.string(), "name", "what regularises the run"),
]
RUN = [*CELL, field("seed", pa.int64(), "1", "replicate; arms share it")]

HISTORY = pa.schema(
    [
        *RUN,
        field("step", pa.int64(), "optimiser steps", "steps done when evaluated"),
        field("epoch", pa.float64(), "passes over the training set", "step x batch size / training examples"),
        field(
            "train_loss",
            pa.float64(),
            "nats",
            "mean cross entropy of the batches since the last row, in training mode; NaN at step 0",
        ),
        field("train_accuracy", pa.float64(), "1", "share right in the batches since the last row; NaN at step 0"),
        field("val_loss", pa.float64(), "nats", "mean cross entropy on validation data"),
        field("val_accuracy", pa.float64(), "1", "share right on validation data"),
        field("val_loss_unpadded", pa.float64(), "nats", "val_loss without targets that are padding"),
        field("val_accuracy_unpadded", pa.float64(), "1", "val_accuracy without targets that are padding"),
        field("val_loss_known", pa.float64(), "nats", "val_loss without padding and unknown words as targets"),
        field("val_accuracy_known", pa.float64(), "1", "val_accuracy without padding and unknown words as targets"),
        field(
            "stability", pa.float64(), "1", "mean over validation data of <M(X), M(Y)> of Definition 6.1 at rho = 1/2"
        ),
        field("stability_cosine", pa.float64(), "1", "the same with <M(X), M(Y)> divided by both norms"),
        field("decision_agreement", pa.float64(), "1", "share of the same outputs, clean and noisy, with equal argmax"),
        field(
            "decision_agreement_corrected",
            pa.float64(),
            "1",
            "that share beyond chance (Cohen's kappa): 0 where decisions are independent; NaN where all are the same",
        ),
        field("output_entropy", pa.float64(), "nats", "mean entropy of softmax outputs on clean validation data"),
        field("weight_norm", pa.float64(), "1", "Euclidean norm of all trainable weights"),
        field("learning_rate", pa.float64(), "1", "learning rate of the next step"),
        field("seconds", pa.float64(), "s", "time in training steps so far, per run of the stack"),
        field("flops", pa.float64(), "FLOP", "matrix-product operations in training steps so far"),
    ]
)

RUNS = pa.schema(
    [
        *RUN,
        field(
            "status",
            pa.string(),
            "name",
            "completed (to the budget), stopped (by training.stop, its target held) or diverged",
        ),
        field("steps", pa.int64(), "optimiser steps", "steps done"),
        field("n_parameters", pa.int64(), "1", "trainable parameters of one model"),
        field("seconds", pa.float64(), "s", "time in training steps, per run of the stack"),
        field("flops", pa.float64(), "FLOP", "matrix-product operations in training steps"),
        field("device", pa.string(), "name", "device that trained the run"),
        field("run_key", pa.string(), "sha256", "identity: settings, seed, data and training code"),
        field("history_sha256", pa.string(), "sha256", "digest of the run's history without its seconds"),
        field("data_sha256", pa.string(), "sha256", "digest of the run's data set"),
        field("commit", pa.string(), "git", "commit of the code that trained the run"),
        field("source_digest", pa.string(), "sha256", "digest of that code"),
        field("secret", pa.list_(pa.int64()), "positions", "sparse parity: the secret set", nullable=True),
        field("text", pa.string(), "name", "the text that the data were cut from; empty for tasks without one"),
    ]
)

COLLECTED_RUNS = pa.schema(
    [
        *RUNS,
        field("record", pa.string(), "path", "file of the record that the run came in; empty: trained in this folder"),
        field("older_code", pa.string(), "name", "of a record: what other code made (data, training, measures)"),
        field("no_evaluation", pa.string(), "text", "why the run has no measures; empty where it has"),
    ]
)

FLOORS = pa.schema(
    [
        field("task", pa.string(), "name", "task"),
        field("variant", pa.string(), "name", "setting of the task's open choices"),
        field("seed", pa.int64(), "1", "replicate; arms share its data"),
        field(
            "predictor",
            pa.string(),
            "name",
            "commonest (always that target), bigram (a table of the last token) or lookup (of training's inputs)",
        ),
        field("split", pa.string(), "name", "val or test"),
        field("targets", pa.string(), "name", "all, unpadded (no padding) or known (no padding, no unknown word)"),
        field("n_targets", pa.int64(), "1", "targets counted"),
        field("accuracy", pa.float64(), "1", "share right; NaN without targets", nullable=True),
        field("loss", pa.float64(), "nats", "mean cross entropy; NaN without targets, and of lookup", nullable=True),
        field("seen", pa.float64(), "1", "lookup: share of the targets whose input training has", nullable=True),
    ]
)

TEXT = pa.schema(
    [
        field("split", pa.string(), "name", "train, val or test"),
        field("line", pa.string(), "text", "a line of the text: words apart by spaces; blank lines are kept"),
    ]
)

EVALUATION = pa.schema(
    [
        *RUN,
        field("step", pa.int64(), "optimiser steps", "checkpoint"),
        field("measure", pa.string(), "name", "noise_stability, average_sensitivity, test_accuracy or test_loss"),
        field(
            "reduction",
            pa.string(),
            "name",
            "probability_dot, probability_cosine or decision; of test scores the targets: all, unpadded or known",
        ),
        field("rho", pa.float64(), "1", "Definition 6.1's rho; NaN for the other measures", nullable=True),
        field(
            "correlation",
            pa.float64(),
            "1",
            "correlation of the kept symbol that rho really gives; NaN where it has no meaning",
            nullable=True,
        ),
        field("value", pa.float64(), "1", "estimate"),
        field("standard_error", pa.float64(), "1", "standard error over inputs"),
        field(
            "target_value",
            pa.float64(),
            "1",
            "closed form for the task's target function; NaN where none is known",
            nullable=True,
        ),
        field("n_inputs", pa.int64(), "1", "test inputs used"),
        field("n_draws", pa.int64(), "1", "noisy copies per input"),
    ]
)

TIME_TO_TARGET = pa.schema(
    [
        *RUN,
        field("arm_kind", pa.string(), "name", "kind of the arm"),
        field("rho", pa.float64(), "1", "the arm's rho; NaN for the baseline", nullable=True),
        field("gamma", pa.float64(), "1", "the arm's gamma; NaN for the baseline", nullable=True),
        field("orientation", pa.float64(), "1", "the arm's S; NaN for the baseline", nullable=True),
        field("metric", pa.string(), "name", "metric of the target"),
        field("threshold", pa.float64(), "of the metric", "target value"),
        field("hold_evaluations", pa.int64(), "evaluations", "evaluations in a row that must reach it"),
        field("hold_steps", pa.int64(), "optimiser steps", "steps that must pass while they do"),
        field("budget_steps", pa.int64(), "optimiser steps", "steps after which a run is censored"),
        field("status", pa.string(), "name", "completed, stopped (its target held) or diverged"),
        field("reached", pa.bool_(), "1", "whether the target was reached and held"),
        field("step", pa.float64(), "optimiser steps", "time to target; NaN where censored", nullable=True),
        field("flops", pa.float64(), "FLOP", "cost to target; NaN where censored", nullable=True),
        field("seconds", pa.float64(), "s", "seconds to target; NaN where censored", nullable=True),
        field("text", pa.string(), "name", "the text that the data were cut from; empty for tasks without one"),
    ]
)


def history_digest(rows: pd.DataFrame) -> str:
    """A digest of a history's numbers, exact to the bit, without its seconds, in the columns that it has."""
    digest = hashlib.sha256()
    for name in HISTORY.names:
        if name in rows and name not in ("seconds", "task", "variant", "arm"):
            digest.update(rows[name].to_numpy(dtype="float64").tobytes())
    return digest.hexdigest()


def write_table(
    path: Path | str, rows: pd.DataFrame | list[dict[str, Any]], schema: pa.Schema, stamp: dict[str, str]
) -> None:
    """Write rows as Parquet under `schema`, with `stamp` in the metadata, whole or not at all.

    Raises pyarrow.ArrowInvalid or KeyError where the rows do not fit the schema.
    """
    if isinstance(rows, pd.DataFrame):
        table = pa.Table.from_arrays([_column(rows[field.name], field.type) for field in schema], schema=schema)
    else:
        for field in schema:
            _refuse_fractions([row.get(field.name) for row in rows], field.type)
        table = pa.Table.from_pylist(rows, schema=schema)
    # Parquet's own checksums cover the pages alone.
    signed = {**stamp, CHECKSUM: stamp_checksum(stamp)} if stamp else {}
    table = table.replace_schema_metadata({OWN + key: value for key, value in signed.items()})
    with whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def stamp_checksum(stamp: dict[str, str]) -> str:
    """The digest that a file carries of its stamp, under CHECKSUM."""
    return hashlib.sha256(json.dumps(stamp, sort_keys=True).encode()).hexdigest()


def _column(values: pd.Series, kind: pa.DataType) -> pa.Array:
    """A column as it is: NaN stays NaN, and only None becomes null."""
    if pa.types.is_floating(kind):
        return pa.array(values.to_numpy("float64"), kind, from_pandas=False)
    _refuse_fractions(values.tolist(), kind)
    return pa.array(values.tolist(), kind)


def _refuse_fractions(values: list[Any], kind: pa.DataType) -> None:
    """Raise pyarrow.ArrowInvalid for a fraction in a column of whole numbers; pyarrow would cut it off."""
    if pa.types.is_integer(kind):
        for value in values:
            if isinstance(value, float) and not value.is_integer():
                raise pa.ArrowInvalid(f"{value} is no whole number")


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


@contextlib.contextmanager
def refused(path: Path | str, advice: str = AGAIN) -> Iterator[None]:
    """Make RecordError about `path`, with what to do, of whatever pyarrow says of a file that it cannot read.

    FileError where that says nothing of the file: pyarrow's errors about contents carry no number.
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
