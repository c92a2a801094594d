"""Writing files: whole or not at all, on full disks and beside writers that were killed."""

from __future__ import annotations

import errno
import math
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from nsbench.cli import parser as cli
from nsbench.data.datasets import read_dataset
from nsbench.schemas.training import HISTORY, field
from nsbench.storage import atomic
from nsbench.storage.atomic import FileError, atomic_write, lack_of_room, write_text
from nsbench.storage.parquet import RecordError, write_csv, write_table
from nsbench.storage.run_folder import Progress, RunFolder
from nsbench.storage.tensors import read_tensors, write_tensors
from tests.bad_files import spoil
from tests.conftest import write_datasets
from tests.small_disk import SmallDisk

AGAIN = r"and give the same command again: nothing that was finished is lost$"
MEGABYTE = 2**20
COLUMN = pa.schema([field("x", pa.float64(), "1", "a number")])


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# --- whole or not at all -------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [None, "old"])
def test_a_failed_write_leaves_nothing_and_keeps_the_old_file(tmp_path: Path, old: str | None) -> None:
    path = tmp_path / "result.txt"
    if old is not None:
        path.write_text(old)
    with pytest.raises(KeyboardInterrupt), atomic_write(path) as temporary:
        raise KeyboardInterrupt(temporary.write_text("half"))
    assert names(tmp_path) == ([] if old is None else ["result.txt"])
    assert old is None or path.read_text() == old


def test_nothing_is_to_be_seen_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "folder" / "result.txt"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent == path.parent  # a rename within one file system is atomic
        assert temporary.name.startswith(".")
    assert path.read_text() == "new"
    assert names(path.parent) == ["result.txt"]


@pytest.mark.parametrize("durable", [True, False])
def test_the_new_file_is_synced_before_it_takes_the_name_and_its_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    path, synced = tmp_path / "result.txt", []
    real = os.fsync

    def fsync(handle: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        synced.append(("folder" if is_folder else os.fstat(handle).st_size, path.exists()))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    write_text(path, "12345", durable)
    assert synced == ([(5, False), ("folder", True)] if durable else [])
    assert path.read_text() == "12345"


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "x")
    (tmp_path / "usual").write_text("x")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # the outer block ends last
    assert names(tmp_path) == ["result.txt"]


# --- writers that were killed --------------------------------------------------------------------------

WRITER = """
import sys, time
from pathlib import Path
from nsbench.storage.atomic import atomic_write
with atomic_write(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process in the middle of writing result.txt."""
    command = [sys.executable, "-c", WRITER, str(tmp_path / "result.txt")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        yield process
        process.kill()


def left_by(host: str, process: int, name: str = "result.txt") -> str:
    return f".{name}.{host}-{process}-abcd1234{Path(name).suffix}"


def ended_process() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.mark.parametrize("reaped", [True, False])
def test_what_a_killed_writer_left_is_removed_by_the_next_one(
    tmp_path: Path, writer: subprocess.Popen[str], reaped: bool
) -> None:
    (left,) = names(tmp_path)
    assert left.startswith(f".result.txt.{atomic.HOST}-{writer.pid}-")
    write_text(tmp_path / "result.txt", "of another")
    assert names(tmp_path) == [left, "result.txt"]  # its writer lives
    writer.send_signal(signal.SIGKILL)
    if reaped:
        writer.wait()
    else:
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)
    others = [".result.txt.backup.txt", ".result.txt.abcd1234.txt", left.replace("result", "other"), left[:-3] + "tmp"]
    for other in ("result.txt", *others):
        (tmp_path / other).write_text("of the user")
    write_text(tmp_path / "other", "x")
    assert left in names(tmp_path)
    write_text(tmp_path / "result.txt", "new")
    assert names(tmp_path) == sorted([*others, "other", "result.txt"])
    assert (tmp_path / "result.txt").read_text() == "new"


def test_of_another_machine_s_files_only_old_ones_are_removed(tmp_path: Path) -> None:
    young, old = left_by("elsewhere", ended_process()), left_by("elsewhere", os.getpid(), "other.txt")
    for name, age_s in ((young, 23 * 3600), (old, 25 * 3600)):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (time.time(), time.time() - age_s))
    write_text(tmp_path / "result.txt", "new")
    write_text(tmp_path / "other.txt", "new")
    assert names(tmp_path) == sorted([young, "other.txt", "result.txt"])


def test_containers_with_one_hostname_are_different_machines() -> None:
    say = [sys.executable, "-c", "from nsbench.storage.atomic import HOST; print(HOST)"]
    apart = ["unshare", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"]), "--pid", "--fork"]
    if not shutil.which("unshare") or subprocess.run([*apart, "true"], capture_output=True).returncode:
        pytest.skip("no PID namespace can be made here (it needs root, or user namespaces)")
    same, other = (subprocess.check_output([*before, *say], text=True).strip() for before in ([], apart))
    assert same == atomic.HOST != other


def test_a_finished_run_leaves_no_half_progress(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "t", "v", "a", 0, "key")
    folder.path.mkdir(parents=True)
    (folder.path / left_by(atomic.HOST, ended_process(), "progress.safetensors")).write_text("of a killed writer")
    folder.finish(pd.DataFrame(columns=HISTORY.names), {"run_key": "key"}, {})
    assert names(folder.path) == ["history.parquet", "run.json"]


def test_no_text_of_a_csv_file_is_a_formula(tmp_path: Path) -> None:
    """A claim, a label or a name may be a stranger's; numbers, also those in texts, stay as they are."""
    table = pd.DataFrame(
        {
            "text": ['=HYPERLINK("http://x")', "@SUM(1)", "-2+3+cmd|' /C calc'!A0", "-0.5", "+7%", "plain = -1"],
            "number": [-1.0, 2.0, math.nan, -math.inf, 1 / 7, 1e-9],
            "whole": [None, 3, None, None, -4, 5],
        }
    )
    table["whole"] = table["whole"].astype(object).where(table["whole"].notna(), None)
    write_csv(tmp_path / "t.csv", table)
    kept = pd.read_csv(tmp_path / "t.csv", dtype=str, keep_default_na=False)
    assert kept["text"].tolist() == [
        '\'=HYPERLINK("http://x")',
        "'@SUM(1)",
        "'-2+3+cmd|' /C calc'!A0",
        "-0.5",
        "'+7%",
        "plain = -1",
    ]
    # Floats have 8 digits, which another CPU's rounding does not reach.
    assert kept["number"].tolist() == ["-1", "2", "", "-inf", "0.14285714", "1e-09"]
    assert kept["whole"].tolist() == ["", "3.0", "", "", "-4.0", "5.0"]
    others = [path.name for path in (Path(__file__).parents[2] / "src").rglob("*.py") if ".to_csv(" in path.read_text()]
    assert others == ["parquet.py"]


# --- what cannot be written ----------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    try:
        made = SmallDisk(tmp_path / "disk", 2 * MEGABYTE)
    except OSError as error:
        pytest.skip(str(error))
    with made:
        yield made


NOISE = np.random.default_rng(0).random(2**17)  # a megabyte that no compression makes smaller


def table(path: Path) -> None:
    write_table(path, pd.DataFrame({"x": NOISE}), COLUMN, {"spec": "{}"})


def tensors(path: Path) -> None:
    write_tensors(path, {"x": torch.from_numpy(NOISE)}, {})


def text(path: Path) -> None:
    write_text(path, "x" * MEGABYTE)


WRITERS = {"table": table, "tensors": tensors, "text": text}


@pytest.mark.parametrize("write", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_told_and_leaves_the_old_file_alone(disk: SmallDisk, write: Callable[[Path], None]) -> None:
    path = disk.path / "deep" / "file"
    path.parent.mkdir()
    path.write_text("old")
    disk.fill(leave=5 * 4096)
    with pytest.raises(
        FileError, match=rf"deep/file: could not be written \(No space left on device\); free .*{AGAIN}"
    ):
        write(path)
    assert names(path.parent) == ["file"]
    assert path.read_text() == "old"
    # The room that the half file took is there again, so that it can be told.
    (disk.path / "log").write_bytes(b"x" * 4 * 4096)
    assert "its file system is full" in lack_of_room(disk.path)
    (disk.path / "ballast").unlink()
    write(path)
    assert path.stat().st_size > 3


def test_a_library_that_stumbles_over_a_full_disk_is_understood(tmp_path: Path) -> None:
    def stumble() -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("inconsistent state")

    with (
        pytest.raises(FileError, match=r"/f: could not be written \(No space left on device\)"),
        atomic_write(tmp_path / "f"),
    ):
        stumble()
    assert names(tmp_path) == []


def test_a_disk_that_may_not_be_written_is_told(disk: SmallDisk) -> None:
    (disk.path / "file").write_text("old")
    disk.forbid_writing()
    for path in (disk.path / "file", disk.path / "deep" / "file"):
        told = rf"{path}: could not be written \(Read-only file system\); make its folder writable {AGAIN}"
        with pytest.raises(FileError, match=told):
            write_text(path, "new")
    assert (disk.path / "file").read_text() == "old"


def test_a_stage_on_a_full_disk_ends_with_a_sentence(disk: SmallDisk, capsys: pytest.CaptureFixture[str]) -> None:
    data = '{"n":10,"k":2,"n_train":9000,"n_val":10,"n_test":10,"label_noise":0.0,"layout":"bits_cls"}'
    spec = f'{{"task":"sparse_parity","variant":"v","data":{data},"seeds":[0,1,2]}}'
    out, floors = disk.path / "a" / "d.safetensors", disk.path / "a" / "d.floors.parquet"
    command = ["stage", "dataset", "--spec", spec, "--out", str(out), "--floors", str(floors)]
    assert cli.main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [
        f"nsbench stage dataset: {out}: could not be written (No space left on device); free some space and give the "
        "same command again: nothing that was finished is lost"
    ]
    assert names(disk.path / "a") == []
    disk.resize(8 * MEGABYTE)
    assert cli.main(command) == 0
    assert names(disk.path / "a") == [".locks", "d.floors.parquet", "d.safetensors"]


@pytest.mark.parametrize(
    ("number", "advice", "of_rust"),
    [
        (errno.EDQUOT, "free some space", False),
        (errno.EACCES, "make its folder writable", False),
        (errno.EIO, "mend that", True),  # safetensors gives the system's number in its text alone
    ],
)
def test_what_the_system_says_is_passed_on(tmp_path: Path, number: int, advice: str, of_rust: bool) -> None:
    words = os.strerror(number)
    error = RuntimeError(f"I/O error: {words} (os error {number})") if of_rust else OSError(number, words)
    told = rf"/f: could not be written \({words}\); {advice} {AGAIN}"
    with pytest.raises(FileError, match=told), atomic_write(tmp_path / "f"):
        raise error
    assert names(tmp_path) == []


def test_errors_that_are_not_about_writing_pass_through(tmp_path: Path) -> None:
    unreadable = PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "input"))
    absent = FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "input"))
    for error in (ValueError("a bug"), KeyError("x"), MemoryError(), unreadable, absent, OSError("of a library")):
        with pytest.raises(type(error)) as caught, atomic_write(tmp_path / "f"):
            raise error
        assert caught.value is error
    assert names(tmp_path) == []


def test_places_where_no_file_can_be_are_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder" / "inside").mkdir(parents=True)
    for path, reason in (
        (tmp_path / "file" / "below", "File exists"),
        (tmp_path / "file" / "below" / "below", "Not a directory"),
        (tmp_path / "folder", "Is a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(FileError, match=rf"could not be written \({reason}\); mend that {AGAIN}"):
            write_text(path, "x")
    assert names(tmp_path) == ["file", "folder"]


# --- tensors -------------------------------------------------------------------------------------------

KINDS = {
    "float64": torch.rand(3, 4, dtype=torch.float64),
    "bfloat16": torch.rand(5, dtype=torch.float32).to(torch.bfloat16),
    "bool": torch.tensor([True, False]),
    "int64": torch.arange(7),
    "scalar": torch.tensor(1.5),
    "empty": torch.empty(0, 3),
    "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
    "turned": torch.arange(6).reshape(2, 3).T,
}


def test_tensors_come_back_to_the_bit(tmp_path: Path) -> None:
    path = tmp_path / "t.safetensors"
    write_tensors(path, KINDS, {"a": "ρ", "step": "7"})
    found, metadata = read_tensors(path, "thing", "run again")
    assert metadata == {"a": "ρ", "step": "7"}
    assert list(found) == sorted(KINDS)
    for name, value in KINDS.items():
        assert found[name].dtype == value.dtype
        assert found[name].shape == value.shape
        assert found[name].flatten().tolist().__repr__() == value.flatten().tolist().__repr__()
    some, _ = read_tensors(path, "thing", "run again", lambda name: name.startswith("b"))
    assert list(some) == ["bfloat16", "bool"]
    path.write_bytes(b"other")  # what was read is no view of the file
    assert found["int64"].tolist() == list(range(7))


def test_one_seed_is_read_without_the_others(tmp_path: Path) -> None:
    """A damaged seed does not keep the others from being trained, nor costs them its reading."""
    path = tmp_path / "d.safetensors"
    write_datasets("sparse_parity", {"n": 5, "k": 2, "n_train": 9, "n_val": 4, "n_test": 4}, [3, 4], path)
    good = {seed: read_dataset(path, seed).sha256 for seed in (3, 4)}
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the last tensor is seed 4's
    path.write_bytes(data)
    assert read_dataset(path, 3).sha256 == good[3]
    with pytest.raises(RecordError, match=r"d\.safetensors: is damaged, seed-4/\w+ has a wrong checksum; delete"):
        read_dataset(path, 4)


def test_the_digest_of_data_is_what_it_was(tmp_path: Path) -> None:
    """It is part of the identity of runs: how files are written must not change it."""
    path = tmp_path / "d.safetensors"
    write_datasets("modular_addition", {"modulus": 7, "n_train": 9, "n_val": 9, "n_test": 9}, [3], path)
    assert read_dataset(path, 3).sha256 == DIGEST


DIGEST = "db7fc1321818a1b47925bc2535be43ffcad12f58613b8b2248771d42ab4fe792"


# --- run folders ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "flipped"])
def test_a_bad_progress_file_is_told_and_counts_as_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    folder = RunFolder(tmp_path, "t", "v", "a", 0, "key")
    assert folder.progress() is None
    folder.save_progress(Progress(5, {"weights.a": torch.rand(20)}, {"rows": [{"loss": 0.5}], "seconds": 1.0}))
    found = folder.progress()
    assert (found.step, found.notes["rows"]) == (5, [{"loss": 0.5}])
    assert RunFolder(tmp_path, "t", "v", "a", 0, "another key").progress() is None
    assert caplog.text == ""
    spoil(folder.path / "progress.safetensors", kind)
    assert folder.progress() is None
    assert len(caplog.records) == 1
    assert "seed-0/progress.safetensors" in caplog.text
    assert "the run starts from the beginning" in caplog.text


def test_a_bad_status_counts_as_none(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path, "t", "v", "a", 0)
    folder.report_status("order", 0.25)
    assert folder.status("order") == 0.25
    assert folder.status("another order") == 0
    for bad in ("", "[]", '{"order": "order"}', '{"order": "order", "share": "x"}'):
        (folder.path / "status.json").write_text(bad)
        assert folder.status("order") == 0
