"""Locks on files: one holder at a time, waited for and told; file systems and users that have none."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import filelock
import pytest

from nsbench.cli import parser as cli
from nsbench.cli.stages import STAGES
from nsbench.storage import locks
from nsbench.storage.atomic import FileError, write_text
from nsbench.storage.locks import HeldError, locked

HOLD = (
    "import sys, time; from pathlib import Path; from nsbench.storage.locks import locked\n"
    "with locked(Path(sys.argv[1]), None): print('held', flush=True); time.sleep(600)"
)


def test_a_lock_is_refused_or_waited_for_until_its_holder_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    path, taken = tmp_path / "new" / "lock", threading.Event()
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)

    def wait() -> None:
        with locked(path, "waiting for that"):
            taken.set()

    waiting = threading.Thread(target=wait)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HeldError), locked(path, None):
            pass
        waiting.start()
        assert not taken.wait(0.3)
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
    assert taken.wait(60)
    waiting.join()
    assert caplog.messages.count("waiting for that") == 1


def test_waiting_for_a_lock_ends_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may read a lock file can hold it for ever."""
    monkeypatch.setattr(locks, "LONGEST_WAIT_SECONDS", 0.05)
    said = "lock: another process has held this lock for a week; end it and give the same"
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FileError, match=said), locked(tmp_path / "lock", "waiting for that"):
            pass


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another account")
def test_two_accounts_share_a_folder_that_both_may_write() -> None:
    """Its locks and files are both's; in one that the other may not write nothing changes, and a sentence says so."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)

        @contextlib.contextmanager
        def somebody() -> Iterator[None]:
            os.seteuid(65534)
            try:
                yield
            finally:
                os.seteuid(0)

        for number, account in enumerate((contextlib.nullcontext(), somebody(), contextlib.nullcontext())):
            with account, locked(folder / "lock", None):
                write_text(folder / "made", str(number))
                assert (folder / "made").stat().st_uid == os.geteuid()
        with locked(folder / "lock", None), somebody(), pytest.raises(HeldError), locked(folder / "lock", None):
            pass
        folder.chmod(0o755)
        with somebody(), pytest.raises(FileError, match=r"made: could not be written \(Permission denied\); make its"):
            write_text(folder / "made", "other")
        assert (folder / "made").read_text() == "2"


def test_a_file_system_without_locks_is_told_of_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(*_: object, **__: object) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(filelock.FileLock, "acquire", no_locks)
    with locked(tmp_path / "lock", None):
        pass
    assert f"{tmp_path}: this file system has no locks, so nothing stops a second process here" in caplog.text


def test_a_lock_that_cannot_be_made_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EACCES, "no", str(tmp_path / "lock"))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with (
        pytest.raises(FileError, match=r"lock: could not be written \(Permission denied"),
        locked(tmp_path / "lock", None),
    ):
        pass


def test_an_error_inside_is_not_taken_for_the_lock_s(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="other") as caught, locked(tmp_path / "lock", None):
        raise OSError(errno.EIO, "other")
    assert not isinstance(caught.value, FileError)
    with locked(tmp_path / "lock", None):
        pass


def test_a_job_that_outlives_its_workflow_is_waited_for_and_the_newer_one_writes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """By the command line, of a stage that is slow: else the older job's numbers would stay, of older settings."""
    caplog.set_level(logging.INFO)
    out = tmp_path / "text.parquet"
    begun, go_on = threading.Event(), threading.Event()

    def slow(options: object) -> None:
        if options.digest == "older":
            begun.set()
            assert go_on.wait(60)
        out.write_text(options.digest)

    monkeypatch.setitem(STAGES, "text", STAGES["text"]._replace(run=slow))
    command = ["stage", "text", "--spec", json.dumps({}), "--out", str(out), "--digest"]
    jobs = [threading.Thread(target=cli.main, args=([*command, digest],)) for digest in ("older", "newer")]
    jobs[0].start()
    assert begun.wait(60)
    jobs[1].start()
    while f"another process makes {out}; waiting for that" not in caplog.text:
        assert jobs[1].is_alive()
    go_on.set()
    for job in jobs:
        job.join()
    assert out.read_text() == "newer"
