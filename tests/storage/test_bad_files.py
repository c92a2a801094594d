"""Bad files, as every stage meets them: named, with what to do, and nothing reads past them."""

from __future__ import annotations

import ast
import contextlib
import errno
import functools
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from nsbench.claims.definitions import load_claims
from nsbench.cli import code
from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.data.datasets import read_dataset
from nsbench.data.text import Text, read_text_file, write_text_file
from nsbench.pretrained import gguf, sources
from nsbench.report.pictures import Pictures
from nsbench.schemas.training import HISTORY
from nsbench.storage import atomic, code_digest, run_folder, tensors
from nsbench.storage.atomic import FileError, write_text
from nsbench.storage.parquet import RecordError, read_arrow, read_stamp, read_table, write_table
from nsbench.storage.run_folder import RunFolder, read_checkpoint, read_summary
from nsbench.storage.tensors import read_tensors, write_tensors
from nsbench.tracking.clones import identify
from tests.bad_files import KINDS, spoil
from tests.conftest import train, train_spec, write_datasets
from tests.tiny_results import ARMS, TASK, Stage, make

PROJECT = Path(__file__).parents[2]


# --- readers -------------------------------------------------------------------------------------------


def history_rows() -> list[dict[str, Any]]:
    values = {pa.string(): "x", pa.int64(): 1, pa.float64(): 0.5}
    return [{column.name: values[column.type] for column in HISTORY} | {"step": step} for step in range(9)]


def make_table(path: Path) -> None:
    write_table(path, history_rows(), HISTORY, {"spec": "{}", "run_key": "key"})


def make_text(path: Path) -> None:
    write_text_file(path, Text("a label", ("a b",) * 50, ("c",), ("d",)), {"spec": "{}"})


def make_dataset(path: Path) -> None:
    write_datasets("sparse_parity", {"n": 5, "k": 2, "n_train": 9, "n_val": 4, "n_test": 4}, [3], path)


def make_tensors(path: Path) -> None:
    write_tensors(path, {"a": torch.rand(9)}, {"run_key": "key", "model": "{}", "step": "3"})


def make_summary(path: Path) -> None:
    folder = RunFolder(path.parent, "t", "v", "a", 0, "key")
    row = {"run_key": "key", "steps": 9, "history_sha256": "h", "data_sha256": "d"}
    folder.finish(pd.DataFrame(history_rows()), row, {})
    (folder.path / "run.json").rename(path)


def make_picture(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 20), np.uint8)).save(path)


def make_claims(path: Path) -> None:
    values = yaml.safe_load((PROJECT / "claims.yaml").read_text(encoding="utf-8"))
    entry = next(entry for entry in values["claims"] if not isinstance(entry.get("rule"), str))
    path.write_text(yaml.safe_dump({"claims": [entry]}), encoding="utf-8")


ADVICE = ("; delete", "; run the stage", "; make it again", "; give", "; save", "allowed", "meant")
READERS: dict[str, tuple[str, Callable[[Path], None], Callable[[Path], Any]]] = {
    "read_table": ("h.parquet", make_table, lambda path: read_table(path, HISTORY)),
    "read_text_file": ("t.parquet", make_text, read_text_file),
    "read_dataset": ("d.safetensors", make_dataset, lambda path: read_dataset(path, 3, "sparse_parity")),
    "read_checkpoint": ("c.safetensors", make_tensors, lambda path: read_checkpoint(path, "key")),
    "read_summary": ("run.json", make_summary, read_summary),
    "pictures": ("figure_01.png", make_picture, lambda path: Pictures([path]).rest()),
    "claims": ("claims.yaml", make_claims, load_claims),
}
"""Reader -> a file's name, what makes a good one, what reads it."""
UNSEEN = {("read_summary", "missing"), ("claims", "truncated"), ("claims", "flipped")}
"""No fault: a run that has not finished has no summary. Text of others without checksums: only its form is checked."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_reader_names_a_bad_file_and_says_what_to_do(tmp_path: Path, reader: str, kind: str) -> None:
    name, make_one, read = READERS[reader]
    path = tmp_path / name
    make_one(path)
    read(path)
    if (reader, kind) in UNSEEN:
        return
    spoil(path, kind)
    read_text_file.cache_clear()
    with pytest.raises((FileError, ConfigError)) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < 500
    assert any(words in said for words in ADVICE)


def test_columns_of_another_type_or_with_gaps_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"
    table = pa.Table.from_pylist(history_rows())
    good = table.cast(pa.schema([column.with_nullable(True) for column in HISTORY]))
    pq.write_table(good, path)
    assert read_table(path, HISTORY)["step"].tolist() == list(range(9))
    place = good.column_names.index("step")
    for column, told in (
        (pa.array([str(step) for step in range(9)]), "its column step holds string, not int64"),
        (pa.array([float(step) for step in range(9)]), "its column step holds double, not int64"),
        (pa.array([None, *range(8)], pa.int64()), "its column step has 1 gaps, none may be"),
    ):
        pq.write_table(good.set_column(place, "step", column), path)
        with pytest.raises(RecordError, match=rf"h\.parquet: {told}; delete it and run its stage again"):
            read_table(path, HISTORY)


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path) -> None:
    """Each bit of a file counts or is refused: none gives other numbers or another origin."""
    table, tensors = tmp_path / "h.parquet", tmp_path / "t.safetensors"
    make_table(table)
    make_tensors(tensors)
    generator = np.random.default_rng(0)
    for path, read in (
        (table, lambda: (read_arrow(table, HISTORY).to_pylist(), read_stamp(table))),
        (tensors, lambda: [value.tolist() for value in read_tensors(tensors, "", "")[0].values()]),
    ):
        good, data = read(), path.read_bytes()
        seen = {"same": 0, "refused": 0}
        for bit in generator.choice(8 * len(data), 100, replace=False):
            path.write_bytes(data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :])
            try:
                assert read() == good, f"bit {bit} of {path.name}"
                seen["same"] += 1
            except RecordError:
                seen["refused"] += 1
        assert seen["refused"] > 50


LOW_LEVEL = {
    "storage/parquet.py": {"read_table", "read_schema"},
    "storage/records.py": {"read_table", "read_metadata"},  # rows within rows, of which older ones may lack some
    **{name: {"read_table"} for name in ("data/text_sources.py", "data/images.py", "data/tasks/glue.py")},  # of the hub
    "storage/tensors.py": {"safe_open"},
    "analysis/collect.py": {"ParquetWriter"},
    "pretrained/sources.py": {"safe_open"},  # the names of what a stranger's file holds, for a refusal
}
"""Where files of tables and tensors are opened: all else reads through these."""


def test_tables_and_tensors_are_read_by_one_room_each() -> None:
    for path in (PROJECT / "src").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
        opened = {node.attr for node in called if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "pq"}
        opened |= {node.id for node in called if isinstance(node, ast.Name) and node.id in ("safe_open", "load_file")}
        assert opened - {"write_table"} == LOW_LEVEL.get(str(path.relative_to(PROJECT / "src/nsbench")), set()), path


# --- stages --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory, made: Path) -> dict[str, Stage]:
    """Every stage with its files, each one run once and well."""
    return make(tmp_path_factory.mktemp("results"), made)


def contents(folder: Path) -> dict[Path, tuple[int, int]]:
    files = (path for path in folder.rglob("*") if path.is_file() and ".locks" not in path.parts)
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


@pytest.fixture
def spoiled(tmp_path: Path) -> Iterator[Callable[[Path, str], None]]:
    """Makes a file bad, and good again after the test."""
    kept: dict[Path, Path] = {}

    def spoil_it(path: Path, kind: str) -> None:
        if path not in kept:
            kept[path] = Path(shutil.copy2(path, tmp_path / f"{len(kept)}"))
        spoil(path, kind)

    yield spoil_it
    for path, copy in kept.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(copy, path)


STAGES = {
    "dataset": "truncated",
    "train baseline": "flipped",
    "evaluate noise_stability": "garbage",
    "collect": "foreign",
    "analyse": "missing",
    "figure time_to_target": "empty",
    "theory": "flipped",
    "figure figure_09": "missing",
    "pretrained": "garbage",
    "pretrained-tables": "truncated",
    "figure figure_01": "flipped",
    "claims": "empty",
    "report": "truncated",
}
"""Stage -> how its first and its last file are made bad; the readers' own test has every way for each."""


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_ends_with_a_sentence_about_a_bad_file_and_writes_nothing(
    stages: dict[str, Stage], spoiled: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str], name: str
) -> None:
    stage, kind = stages[name], STAGES[name]
    for path in {stage.inputs[0], stage.inputs[-1]}:
        good = path.read_bytes()
        for old in stage.before:
            old.unlink(missing_ok=True)
        before = contents(stage.root)
        spoiled(path, kind)
        read_text_file.cache_clear()
        assert stage.run() == 2, path
        said = [line for line in capsys.readouterr().err.splitlines() if " INFO " not in line]
        assert len(said) == 1, path
        assert said[0].startswith(f"nsbench stage {name.partition(' ')[0]}: ")
        assert str(path) in said[0]
        path.write_bytes(good)
        after = contents(stage.root)
        changed = {other for other in before.keys() | after.keys() if before.get(other) != after.get(other)}
        assert changed <= {path, *stage.before}, path


@pytest.mark.parametrize("name", ["train baseline", "figure time_to_target", "report"])
def test_a_stage_is_held_to_the_code_that_was_planned_when_it_begins_and_when_it_writes(
    stages: dict[str, Stage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    stage, source, before = stages[name], tmp_path / "source.py", contents(stages[name].root)
    source.touch()
    monkeypatch.setattr(code_digest, "source_files", lambda: [("source.py", source)])

    @contextlib.contextmanager
    def edited_meanwhile(condition: Callable[[], None]) -> Iterator[None]:
        os.utime(source, (1, 1))
        monkeypatch.setattr(code_digest, "_known", functools.cache(dict))
        monkeypatch.setattr(code, "stage_code", lambda *_: "1" * 16)
        with atomic.only_if(condition):
            yield

    planned = ["--digest", "0" * 16]
    for command in ([*stage.command, *planned], stage.command):
        assert cli.main(command) == 2
        (said,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("nsbench "))
        assert said.startswith(
            f"nsbench stage {name.partition(' ')[0]}: its code is not what the workflow planned with ("
        )
        after = contents(stage.root)
        assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= {*stage.before}
        monkeypatch.setattr(code_digest, "only_if", edited_meanwhile)


@pytest.mark.parametrize(
    ("file", "kind"), [("run.json", "missing"), ("run.json", "flipped"), ("history.parquet", "truncated")]
)
def test_a_finished_run_that_is_damaged_is_trained_again_and_says_so(
    stages: dict[str, Stage],
    spoiled: Callable[[Path, str], None],
    caplog: pytest.LogCaptureFixture,
    file: str,
    kind: str,
) -> None:
    stage = stages[f"train {ARMS[0]}"]
    run = stage.root / "runs" / TASK / "tiny" / ARMS[0] / "seed-0"
    joined = Path(stage.command[stage.command.index("--history") + 1])
    before = read_table(joined, HISTORY).drop(columns="seconds")
    spoiled(run / file, kind)
    with caplog.at_level(logging.WARNING):
        assert stage.run() == 0
    told = "is trained again, since a file of it is bad:" in caplog.text and str(run / file) in caplog.text
    assert told == ((file, kind) != ("run.json", "missing"))
    assert read_table(joined, HISTORY).drop(columns="seconds").equals(before)
    assert read_table(run / "history.parquet", HISTORY)["seed"].tolist() == [0] * (before["seed"] == 0).sum()
    caplog.clear()
    assert stage.run() == 0
    assert caplog.text == ""


PASSING = {
    "broken": OSError(errno.EIO, "Input/output error"),
    "too many": OSError(errno.EMFILE, "Too many open files"),
    "memory": MemoryError("malloc of size 64 failed"),
    "arrow's memory": pa.ArrowMemoryError("malloc of size 64 failed"),
    "rust": OSError("Stale file handle (os error 116)"),
    "torch": RuntimeError("unable to mmap 64 bytes from file </x>: Cannot allocate memory (12)"),
    "hidden": FileNotFoundError("No such file or directory: /x"),
}
"""What a read may say that says nothing of the file."""
OPENERS: dict[str, tuple[tuple[Any, str], tuple[str, ...]]] = {
    "run.json": ((Path, "open"), ("broken",)),
    "history.parquet": ((pq, "read_table"), ("too many", "arrow's memory")),
    "progress.safetensors stat": ((Path, "stat"), ("broken",)),
    "progress.safetensors": ((Path, "open"), ("too many",)),
    "progress.safetensors tensors": ((safetensors, "safe_open"), ("memory", "rust", "torch", "hidden")),
}
"""A run's file -> what opens it, and what that may say."""


def break_reading(monkeypatch: pytest.MonkeyPatch, file: str, passing: str) -> None:
    (owner, name), _ = OPENERS[file]
    real = getattr(owner, name)

    def opened(path: Any, *rest: Any, **named: Any) -> Any:
        if Path(path).name == file.partition(" ")[0]:
            raise PASSING[passing]
        return real(path, *rest, **named)

    monkeypatch.setattr(owner, name, opened)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where `train` has trained one run."""
    root = tmp_path_factory.mktemp("trained")
    train(root, train_spec(seeds=[3]))
    return root


@pytest.mark.parametrize(
    ("file", "passing"), [(file, passing) for file, (_, all_of_it) in OPENERS.items() for passing in all_of_it]
)
def test_a_read_that_fails_ends_training_and_costs_nothing(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, passing: str
) -> None:
    """A run that counts as damaged is cleared, and hours of training with it."""
    root, spec = shutil.copytree(trained, tmp_path / "copy"), train_spec(seeds=[3])
    (run,) = (path.parent for path in root.rglob("run.json"))
    if "progress" in file:  # one that is not finished
        (run / "run.json").unlink()
        make_tensors(run / "progress.safetensors")
    before = contents(run)
    name = file.partition(" ")[0]
    with monkeypatch.context() as broken:
        break_reading(broken, file, passing)
        with pytest.raises(FileError, match=rf"/{name}: could not be .*; .* and give the same command again") as caught:
            train(root, spec)
    assert not isinstance(caught.value, RecordError)
    assert "\n" not in str(caught.value)
    assert contents(run) == before
    if "progress" not in file:
        train(root, spec)
        assert contents(run) == before


@pytest.mark.parametrize("kind", ["missing", "flipped"])
def test_an_evaluation_that_is_damaged_is_made_again_and_says_so(
    stages: dict[str, Stage], spoiled: Callable[[Path, str], None], caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    stage = stages["evaluate baseline"]
    out = Path(stage.command[stage.command.index("--out") + 1])
    assert stage.run() == 0
    before = out.read_bytes()
    spoiled(stage.before[0], kind)
    with caplog.at_level(logging.WARNING):
        assert stage.run() == 0
    assert ("evaluated again, since it cannot be used" in caplog.text) == (kind != "missing")
    assert out.read_bytes() == before


def test_a_checkpoint_that_is_gone_is_missed(
    stages: dict[str, Stage], spoiled: Callable[[Path, str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Fewer checkpoints would be a shorter curve, and nobody would know."""
    stage = stages["evaluate baseline"]
    run = stage.root / "runs" / TASK / "tiny" / "baseline" / "seed-0"
    last = sorted((run / "trail").iterdir())[-1]
    (run / "evaluation.parquet").unlink()
    spoiled(last, "missing")
    assert stage.run() == 2
    assert f"{run}/trail: {last.name} is gone; delete the run's folder and its pack's" in capsys.readouterr().err


# --- models and texts of users -------------------------------------------------------------------------


def measure(model: Path, text: Path, out: Path) -> int:
    sizes = ["--n-tokens", "8", "--n-sequences", "2", "--rho", "0.5", "--device", "cpu", "--no-control"]
    return cli.main(["measure", str(model), "--text", str(text), "--out", str(out), *sizes])


@pytest.mark.parametrize(
    ("file", "kind"),
    [("model.safetensors", "truncated"), ("tokenizer.json", "foreign")],
)
def test_a_model_with_a_bad_file_is_refused(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, kind: str
) -> None:
    folder = shutil.copytree(made / "causal", tmp_path / "model")
    spoil(folder / file, kind)
    assert measure(folder, made / "text.txt", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert said[0].startswith("nsbench measure: model: ")
    assert str(folder) in said[0]
    assert not list((tmp_path / "out").glob("*.parquet"))


@pytest.mark.parametrize("damage", ["flipped", "left behind"])
def test_a_converted_model_that_is_damaged_is_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """And what a conversion that was killed left, as large as a model, goes."""
    calls = []

    def convert(source: Path, folder: Path) -> None:
        calls.append(source)
        (folder / "config.json").write_text("{}")
        save_file({"a": torch.arange(99.0)}, folder / "model.safetensors")

    monkeypatch.setattr(gguf, "convert", convert)
    given = ("mine", "weights.gguf", [tmp_path / "weights.gguf"], "0" * 64, tmp_path)
    folder = sources._converted(*given)
    assert sources._converted(*given) == folder
    assert len(calls) == 1
    good = (folder / "model.safetensors").read_bytes()
    left = folder.parent / f".{folder.name}.abcd1234"
    if damage == "left behind":
        shutil.copytree(folder, left)
        (folder / "config.json").unlink()
    else:
        spoil(folder / "model.safetensors", damage)
    assert sources._converted(*given) == folder
    assert len(calls) == 2
    assert (folder / "model.safetensors").read_bytes() == good
    assert not left.exists()


def test_whole_files_in_the_wrong_place_are_told(tmp_path: Path) -> None:
    dataset, summary = tmp_path / "d.safetensors", tmp_path / "run.json"
    make_dataset(dataset)
    make_summary(summary)
    with pytest.raises(RecordError, match="has no data for seed 7; delete it and run its stage again"):
        read_dataset(dataset, 7)
    with pytest.raises(RecordError, match=f"is a data set of sparse_parity, not of {TASK}; give the right file"):
        read_dataset(dataset, 3, TASK)
    write_text(summary, json.dumps(json.loads(summary.read_text()) | {"steps": 11}))
    with pytest.raises(RecordError, match=r"run\.json: not a whole summary of a run \(wrong checksum\)"):
        read_summary(summary)


# --- files of strangers: their checksums are right, what they say is not -------------------------------

NESTED = "[" * 100_000


@pytest.mark.parametrize("lacking", ["run_key", "history_sha256", "data_sha256", "trail"])
def test_a_signed_summary_without_what_readers_need_is_told(tmp_path: Path, lacking: str) -> None:
    path = tmp_path / "run.json"
    make_summary(path)
    row = {name: value for name, value in json.loads(path.read_text()).items() if name not in (lacking, "sha256")}
    write_text(path, json.dumps({**row, "sha256": run_folder._row_digest(row)}))
    with pytest.raises(RecordError, match=rf"run\.json: not a whole summary of a run \(without {lacking}\); delete"):
        read_summary(path)


@pytest.mark.parametrize("digests", [None, NESTED, "3", "[1]"])
def test_signed_tensors_without_digests_are_told(tmp_path: Path, digests: str | None) -> None:
    metadata = {"run_key": "key", **({} if digests is None else {"digests": digests})}
    save_file({"a": torch.rand(9)}, tmp_path / "c", {**metadata, "sha256": tensors._metadata_digest(metadata)})
    with pytest.raises(RecordError, match="c: is no checkpoint, it has no digests of its tensors; delete the run's"):
        read_checkpoint(tmp_path / "c", "key")


def test_nested_json_is_told(tmp_path: Path) -> None:
    for name, read in (("run.json", read_summary), ("clone.json", lambda path: identify(path.parent))):
        (tmp_path / name).write_text(NESTED)
        with pytest.raises(RecordError, match=rf"{name}: not "):
            read(tmp_path / name)


def test_a_picture_that_claims_a_billion_pixels_or_texts_is_told(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    zeros = zlib.compress(bytes(10**8))
    for side, chunks in ((100_000, []), (8, [(b"zTXt", b"a\0\0" + zeros)]), (8, [(b"iCCP", b"a\0\0" + zeros)])):
        header = side.to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
        parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(72))), (b"IEND", b"")]
        path = tmp_path / "figure_01.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts))
        with pytest.raises(RecordError, match="not a whole PNG; delete it"):
            Pictures([path]).rest()


def test_a_file_of_terabytes_is_told(tmp_path: Path) -> None:
    """Of nothing but a header that claims them, and of holes that it stands before."""
    path, n = tmp_path / "c", 800_000_000_000
    metadata = {"digests": json.dumps({"a": ""})}
    metadata["sha256"] = tensors._metadata_digest(metadata)
    claims = {"__metadata__": metadata, "a": {"dtype": "F32", "shape": [n], "data_offsets": [0, 4 * n]}}
    header = json.dumps(claims).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(RecordError, match=r"c: not a whole checkpoint \(.*\); delete the run's folder"):
        read_checkpoint(path, "key")
    with contextlib.suppress(OSError):  # Some file systems hold no such file.
        os.truncate(path, 8 + len(header) + 4 * n)
        with pytest.raises(FileError, match="c: could not be read"):
            read_checkpoint(path, "key")
