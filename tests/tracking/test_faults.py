"""A store that is away, full, deleted or replaced: no run is lost, and one sentence, without a password, tells it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nsbench.config.canonical import canonical_json
from nsbench.storage.atomic import FileError
from nsbench.tracking import importer, stores
from nsbench.tracking.stores import TrackingError
from tests.bad_servers import serve
from tests.conftest import make_dataset, train_spec
from tests.own_mounts import Disk, on_a_disk
from tests.tracked_results import LIBRARIES_WARN, Results, assert_whole, cells, lend_tables, small_grid

pytestmark = [pytest.mark.filterwarnings(warning) for warning in LIBRARIES_WARN]
MEGABYTE = 2**20


def during(patch: pytest.MonkeyPatch, call: int, strike: Callable[[], None], method: str = "log_batch") -> list[int]:
    """Do something just before a call of an import, counted from 1; the calls so far."""
    from mlflow import MlflowClient

    calls, real = [], getattr(MlflowClient, method)

    def struck(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            strike()
        return real(self, *args, **kwargs)

    patch.setattr(MlflowClient, method, struck)
    return calls


# --- a file that is deleted or replaced ----------------------------------------------------------------


@pytest.mark.parametrize(("method", "call"), [("log_batch", 8), ("search_runs", 3)])
def test_a_store_deleted_in_the_middle_is_filled_again(
    results: Results,
    tables: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
    call: int,
) -> None:
    """The third search looks at what was written: the file is gone, but this process could still read it."""
    caplog.set_level("INFO")
    monkeypatch.setattr(stores, "make_sqlite", lambda path: lend_tables(tables, path))
    calls = during(monkeypatch, call, (results.folder / "mlflow.db").unlink, method)
    summary = results.track()
    assert len(calls) > call
    assert (summary.added, summary.replaced, summary.unchanged) == (5, 0, 0)
    assert_whole(results.client(), results)
    assert "was changed by somebody else meanwhile; importing again" in caplog.text


def test_a_store_that_is_deleted_again_and_again_is_given_up(
    results: Results, monkeypatch: pytest.MonkeyPatch, tables: Path
) -> None:
    store = results.folder / "mlflow.db"
    monkeypatch.setattr(importer, "_write", lambda *arguments: store.unlink(missing_ok=True))
    monkeypatch.setattr(stores, "make_sqlite", lambda path: lend_tables(tables, path))
    with pytest.raises(TrackingError, match=r"changes whenever it is written; .* end what else writes") as caught:
        results.track()
    assert "\n" not in str(caught.value)


def test_garbage_written_into_the_store_in_the_middle_is_told(
    results: Results, monkeypatch: pytest.MonkeyPatch, tables: Path
) -> None:
    store = results.folder / "mlflow.db"
    monkeypatch.setattr(stores, "make_sqlite", lambda path: lend_tables(tables, path))

    def spoil() -> None:
        with store.open("r+b") as file:
            file.write(b"no database " * 500)

    during(monkeypatch, 8, spoil)
    with pytest.raises(
        TrackingError, match=r"\(.*not a database.*move its file away .*give the same command again"
    ) as caught:
        results.track()
    assert "\n" not in str(caught.value)
    store.unlink()
    assert results.track().added == 5
    assert_whole(results.client(), results)


def test_a_run_that_somebody_deletes_in_the_middle_is_made_again(
    results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    def delete() -> None:
        other = results.client()
        for experiment in other.search_experiments():
            for run in other.search_runs([experiment.experiment_id]):
                other.delete_run(run.info.run_id)

    during(monkeypatch, 8, delete)
    results.track()
    assert_whole(results.client(), results)


def test_the_journal_of_a_deleted_store_does_not_spoil_the_next(results: Results) -> None:
    results.track()
    store, journal = results.folder / "mlflow.db", results.folder / "mlflow.db-journal"
    # A writer is killed in the middle of a transaction that has reached the disk: its journal stays.
    program = (
        "import os, sqlite3, sys\n"
        "database = sqlite3.connect(sys.argv[1])\n"
        "database.execute('PRAGMA cache_size = 1')\n"
        "database.execute('UPDATE metrics SET value = 7')\n"
        "database.execute('UPDATE tags SET value = 7')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(store)])
    assert journal.stat().st_size > 0
    store.unlink()
    assert results.track().added == 5
    assert not journal.exists()
    assert_whole(results.client(), results)
    assert results.sql("PRAGMA integrity_check") == [("ok",)]


def test_tables_are_made_whole_or_not_at_all(results: Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mlflow.store.db import utils

    folder = tmp_path / "new"
    uri = f"sqlite:///{folder}/mlflow.db"

    def killed(engine: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(utils, "_upgrade_db", killed)
        with pytest.raises(KeyboardInterrupt):
            results.track(uri=uri)
    assert [path.name for path in folder.iterdir()] == ["mlflow.db.lock"]
    assert results.track(uri=uri).added == 5


# --- a file system that is full or read-only -----------------------------------------------------------


@pytest.mark.parametrize("leave", [40, 900])
def test_a_full_disk_is_told_and_the_next_import_is_whole(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch, leave: int
) -> None:
    def check(disk: Disk) -> None:
        results = Results(disk.path / "results", cells())
        if leave < 900:  # else it is full while the tables are made
            lend_tables(tables, disk.path / "results/mlflow.db")
        disk.fill(leave * 1024)
        with pytest.raises((TrackingError, FileError), match=r"; .*free some space") as caught:
            results.track()
        assert str(disk.path) in str(caught.value)
        assert "\n" not in str(caught.value)
        (disk.path / "ballast").unlink()
        monkeypatch.setattr(stores, "make_sqlite", lambda path: lend_tables(tables, path))
        results.track()
        assert_whole(results.client(), results)

    on_a_disk(tmp_path / "disk", 8 * MEGABYTE, check)


def test_a_read_only_store_is_told(tmp_path: Path, tables: Path) -> None:
    def check(disk: Disk) -> None:
        store = disk.path / "mlflow.db"
        results = Results(tmp_path / "results", cells(), f"sqlite:///{store}")
        lend_tables(tables, store)
        results.track()
        disk.remount("ro")
        before = store.read_bytes()
        with pytest.raises((TrackingError, FileError), match=r"\(.*[Rr]ead-only.*make .*its folder writable"):
            results.track()
        assert store.read_bytes() == before
        disk.remount("rw")
        assert results.track().unchanged == 5

    on_a_disk(tmp_path / "disk", 8 * MEGABYTE, check)


# --- a server that does not answer ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["silent", "wants a password", "is no MLflow"])
def test_a_server_that_is_no_help_is_told_in_one_sentence_without_the_password(
    results: Results, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], kind: str
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")
    monkeypatch.setenv("NO_PROXY", "*")
    with serve(kind) as place:
        began = time.monotonic()
        with pytest.raises(TrackingError, match=r"then give the same command again$") as caught:
            results.track(uri=f"http://alice:S3cret-Word@{place}")
        assert time.monotonic() - began < 10
    said = f"{caught.value}{''.join(capfd.readouterr())}"
    assert said.startswith(f"http://alice:***@{place}: MLflow's store cannot be used (")
    assert len(said.splitlines()) == 1
    assert "S3cret-Word" not in said


def test_a_missing_driver_is_named(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    class Missing:
        """What looks for modules before all others, and finds no driver."""

        @staticmethod
        def find_spec(name: str, *_: Any) -> None:
            if name == "psycopg2":
                raise ModuleNotFoundError("No module named 'psycopg2'")

    monkeypatch.delitem(sys.modules, "psycopg2", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    with pytest.raises(TrackingError, match=r"psycopg2.*pip install psycopg2-binary"):
        results.track(uri="postgresql://alice:S3cret-Word@127.0.0.1:9/runs")


# --- what is written ------------------------------------------------------------------------------------


def test_no_password_reaches_a_file_or_a_message(
    tmp_path: Path, tables: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from nsbench.cli.parser import main

    secrets = {name: f"S3cret-{name}" for name in ("HF_TOKEN", "PGPASSWORD", "MLFLOW_TRACKING_PASSWORD", "PW")}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    results = small_grid(tmp_path / "results")
    lend_tables(tables, results.folder / "mlflow.db")
    monkeypatch.setenv("NSBENCH_TRACKING_URI", f"sqlite:///{results.folder}/mlflow.db?timeout=5")
    assert main(results.arguments()) == 0
    assert json.loads((results.folder / "tracked.json").read_text())["uri"].endswith("?timeout=***")
    assert_whole(results.client(), results)
    monkeypatch.setenv("NSBENCH_TRACKING_URI", f"http://alice:{secrets['PW']}@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main(results.arguments()) == 2
    said = "".join(capfd.readouterr())
    assert "http://alice:***@127.0.0.1:9" in said
    assert "S3cret" not in said
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 6
    assert [path for path in files if b"S3cret" in path.read_bytes()] == []


# --- training knows nothing of it ------------------------------------------------------------------------

WATCHED = """
import json, os, sys
seen = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "sqlite3.connect"):
        seen.append(event)
    if event == "open" and "mlflow.db" in str(arguments[0]):
        seen.append(str(arguments[0]))
sys.addaudithook(watch)
from nsbench.cli.parser import main
status = main(sys.argv[1:])
libraries = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([status, sorted(libraries & {"mlflow", "sqlalchemy", "alembic", "psycopg2"}), seen]))
"""


def test_training_never_touches_mlflow(results: Results, tmp_path: Path) -> None:
    results.track()
    spec, dataset = train_spec(), make_dataset(tmp_path)
    out = results.folder / "packs"
    arguments = ["--spec", canonical_json(spec), "--dataset", dataset, "--device", "cpu"]
    arguments += ["--run-store", results.folder / "runs", "--history", out / "h.parquet", "--runs", out / "r.parquet"]
    held = sqlite3.connect(results.folder / "mlflow.db")
    held.execute("BEGIN EXCLUSIVE")
    command = [sys.executable, "-c", WATCHED, "stage", "train", *map(str, arguments)]
    environment = os.environ | {"NSBENCH_TRACKING_URI": "http://127.0.0.1:9"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    held.close()
    assert json.loads(done.stdout.splitlines()[-1]) == [0, [], []], done.stderr
    assert (out / "r.parquet").exists()
