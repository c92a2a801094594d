"""Parquet files: NaN kept apart from null, bad files named, every column explained."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nsbench.schemas.training import EVALUATION, HISTORY, RUNS, TIME_TO_TARGET, field
from nsbench.storage import provenance
from nsbench.storage.parquet import RecordError, read_arrow, read_stamp, read_table, write_table

SMALL = pa.schema(
    [
        field("name", pa.string(), "name", "a name"),
        field("count", pa.int64(), "1", "a count"),
        field("loss", pa.float64(), "nats", "a loss", nullable=True),
        field("secret", pa.list_(pa.int64()), "positions", "a list", nullable=True),
    ]
)
ROWS: list[dict[str, Any]] = [
    {"name": "a", "count": 1, "loss": 0.5, "secret": [1, 2]},
    {"name": "b", "count": 2, "loss": math.nan, "secret": None},
    {"name": "c", "count": 3, "loss": math.inf, "secret": []},
]
AS = {"rows": lambda rows: rows, "frame": pd.DataFrame}


# --- tables --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", AS)
def test_nan_stays_nan_and_is_not_null(tmp_path: Path, form: str) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, AS[form](ROWS), SMALL, {})
    table = read_arrow(path, SMALL)
    assert table["loss"].null_count == 0
    assert [repr(value) for value in table["loss"].to_pylist()] == ["0.5", "nan", "inf"]
    assert table["secret"].to_pylist() == [[1, 2], None, []]
    frame = read_table(path, SMALL)
    assert frame["count"].tolist() == [1, 2, 3]
    assert math.isnan(frame["loss"][1])


def test_none_is_null_in_rows(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, [ROWS[0] | {"loss": None}], SMALL, {})
    assert read_arrow(path, SMALL)["loss"].null_count == 1


BAD_ROWS = {
    "text for a number": ROWS[0] | {"count": "many"},
    "a fraction for a count": ROWS[0] | {"count": 1.5},
    "null where a value must be": ROWS[0] | {"name": None},
    "a column too few": {key: value for key, value in ROWS[0].items() if key != "count"},
}


@pytest.mark.parametrize("form", AS)
@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS)
def test_rows_that_do_not_fit_are_refused_and_the_old_file_stays(
    tmp_path: Path, form: str, row: dict[str, Any]
) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, ROWS, SMALL, {})
    before = path.read_bytes()
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError, KeyError)):
        write_table(path, AS[form]([row]), SMALL, {})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["t.parquet"]


# --- bad files -----------------------------------------------------------------------------------------


def test_a_file_of_another_kind_is_named_with_what_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, ROWS, SMALL, {})
    with pytest.raises(RecordError, match=r"t\.parquet: lacks the columns task, variant, arm, seed, step, ") as caught:
        read_table(path, HISTORY)
    assert "name" not in str(caught.value).split("columns")[1].split(";")[0].split(", ")


def test_a_file_with_more_columns_gives_those_of_the_schema(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, ROWS, SMALL, {})
    part = pa.schema([SMALL.field("loss"), SMALL.field("name")])
    assert read_arrow(path, part).column_names == ["loss", "name"]


# --- what files say of themselves ----------------------------------------------------------------------


def test_the_stamp_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    stamp = provenance.stamp('{"ρ":0.5}', "0123456789abcdef", "cuda") | {"run_key": "k" * 64}
    write_table(path, ROWS, SMALL, stamp)
    assert read_stamp(path) == stamp
    assert {"spec", "source_digest", "commit", "device", "python", "version_torch", "version_numpy"} <= set(stamp)


@pytest.mark.parametrize("schema", [HISTORY, RUNS, EVALUATION, TIME_TO_TARGET])
def test_units_and_meanings_are_in_the_file(tmp_path: Path, schema: pa.Schema) -> None:
    write_table(tmp_path / "t.parquet", [], schema, {"spec": "{}"})
    for column in pq.read_schema(tmp_path / "t.parquet"):
        assert all(column.metadata[key].strip() for key in (b"unit", b"meaning")), column.name
        assert schema.field(column.name).metadata.items() <= column.metadata.items()


def test_the_commit_says_whether_files_differ_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cli.py").write_text("x = 1")
    monkeypatch.setattr(provenance, "SOURCE_FOLDER", tmp_path)
    commit = provenance.commit.__wrapped__
    assert commit() == "unknown"  # outside git
    git = ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    assert commit() == head
    (tmp_path / "cli.py").write_text("")
    assert commit() == f"{head}+changes"
