"""Imports into MLflow that are killed, have their store deleted, start eight at once, or wait for a silent server.

After each fault the import is given again, and must end with exactly one run per key, every value of it there and the
file sound. Besides, training is timed with the store locked and free, in turns: it must take no longer.

    python -m tests.faults.tracking --trials 500 --seed 7
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from nsbench.config.canonical import canonical_json
from tests.bad_servers import serve
from tests.conftest import make_dataset, train_spec
from tests.faults.outcome import Outcome, main
from tests.tracked_results import Results, assert_whole, cells, make_tables, small_grid
from tests.warm import STAGES, Warm

AT_ONCE = 8
MOST_KILLS = 3
PAIRS, MOST_PAIRS, MOST_SLOWER = 6, 18, 1.05
STEPS = 400


def run(trials: int, seed: int, folder: Path) -> Outcome:
    """`trials` imports that are killed up to three times each, a fifth as many whose store is deleted, and the rest."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: F401  # once, before the forks

    choose = random.Random(seed)
    template = make_tables(folder / "template")
    kills = sum(_killed(choose, folder / f"kill-{trial}", template, trial, seed) for trial in range(trials))
    deleted = sum(
        _deleted(choose, folder / f"delete-{trial}", template, trial, seed) for trial in range(-(-trials // 5))
    )
    rounds = -(-trials // 50)
    waited = [_at_once(folder / f"at-once-{number}") for number in range(rounds)]
    ratio, pairs = _training_ratio(folder / "training")
    found = {
        "kills": kills,
        "deletions": deleted,
        "first imports at once": 2 * AT_ONCE * rounds,
        "of them waited": sum(waited),
        "silent server given up after": f"{_silent(folder / 'silent'):.0f} s",
        "training with the store locked / free": f"{ratio:.3f} ({pairs} pairs)",
    }
    return Outcome(trials + -(-trials // 5) + 2 * rounds + 1, kills + deleted + 1, found)


def _killed(choose: random.Random, folder: Path, template: Path, trial: int, seed: int) -> int:
    """Kill an import at random moments, then let one end; how many kills struck."""
    results = Results(folder / "results", cells())
    if choose.random() < 0.7:
        results.folder.joinpath("mlflow.db").write_bytes(template.read_bytes())
        if choose.random() < 0.5:  # then its runs are replaced
            _end(_fork(results.track, folder), folder)
            results.write(val_loss=choose.random())
    began = time.monotonic()
    longest = 2.5 if not (results.folder / "mlflow.db").exists() else 1.0
    struck = 0
    for _ in range(choose.randint(1, MOST_KILLS)):
        child = _fork(results.track, folder)
        time.sleep(choose.random() * longest)
        os.kill(child, signal.SIGKILL)
        struck += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    where = f"seed {seed}, trial {trial}, {struck} kills, {time.monotonic() - began:.1f} s"
    _check(results, folder, where)
    return struck


def _deleted(choose: random.Random, folder: Path, template: Path, trial: int, seed: int) -> int:
    """Delete the store at a random moment of an import; whether that struck before its end."""
    results = Results(folder / "results", cells())
    store = results.folder / "mlflow.db"
    store.write_bytes(template.read_bytes())
    child = _fork(results.track, folder)
    time.sleep(choose.random())
    store.unlink(missing_ok=True)
    struck = os.waitpid(child, os.WNOHANG)[0] == 0
    where = f"seed {seed}, deletion {trial}"
    if struck:
        _end(child, folder, where)
        assert_held(results, where)
    _check(results, folder, where)
    return struck


def _check(results: Results, folder: Path, where: str) -> None:
    """Import once more, and see that all is there, and that the next import has nothing to do."""
    _end(_fork(results.track, folder), folder, where)
    assert_held(results, where)
    _end(_fork(lambda: _assert_unchanged(results), folder), folder, where)
    left = {path.name for path in results.folder.iterdir()}
    known = {"collected", "tables", "mlflow.db", "mlflow.db.lock", "track.lock", "clone.json"}
    assert left == known, f"{where}: {sorted(left - known)} are left"


def assert_held(results: Results, where: str) -> None:
    from mlflow import MlflowClient

    try:
        assert results.sql("PRAGMA integrity_check") == [("ok",)]
        client = MlflowClient(tracking_uri=results.uri)
        assert_whole(client, results)
        client._tracking_client.store.engine.dispose()
    except AssertionError as error:
        raise AssertionError(f"{where}: {error}") from error


def _assert_unchanged(results: Results) -> None:
    summary = results.track()
    assert (summary.added, summary.replaced) == (0, 0), summary


def _fork(function: Callable[[], object], folder: Path) -> int:
    """Start a function in a fork, its words in a file; the process's number."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            with (folder / "said").open("a") as said:
                os.dup2(said.fileno(), 1)
                os.dup2(said.fileno(), 2)
            try:
                function()
                status = 0
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
        os._exit(status)
    return child


def _end(child: int, folder: Path, where: str = "an undisturbed import") -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"{where}: {(folder / 'said').read_text()}"


def _at_once(folder: Path) -> int:
    """Eight first imports of eight grids into a store that does not exist, then eight of one; how many had to wait."""
    uri = f"sqlite:///{folder}/shared/mlflow.db"
    grids = [small_grid(folder / str(n) / "results", uri, seeds=[n, n + 1]) for n in range(AT_ONCE)]
    same = small_grid(folder / "same/results")
    waited = 0
    for imports in (grids, [same] * AT_ONCE):
        started = [
            subprocess.Popen(results.command(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            for results in imports
        ]
        for process in started:
            said = process.communicate(timeout=900)[0]
            assert process.returncode == 0, said
            assert all("another import holds" in line for line in said.splitlines()), said
            waited += bool(said)
    for results in [*grids, same]:
        assert_held(results, f"eight at once, {results.folder}")
    return waited


def _silent(folder: Path) -> float:
    """Seconds until a server that takes every connection and never answers is given up, with the shipped patience."""
    results = small_grid(folder / "results")
    with serve("silent") as place:
        began = time.monotonic()
        environment = os.environ | {"NSBENCH_TRACKING_URI": f"http://{place}", "NO_PROXY": "*"}
        done = subprocess.run(results.command(), env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - began
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert seconds < 90, f"{seconds:.0f} s"
    return seconds


def _training_ratio(folder: Path) -> tuple[float, int]:
    """The median over pairs of training's time with the store locked over that with it free, and the pairs.

    Where the machine has other work the shortest times tell more than the median, so those count as well.
    """
    results = small_grid(folder / "results")
    store = make_tables(results.folder)
    spec = canonical_json(train_spec(training={"steps": STEPS, "eval_every_steps": 100}))
    dataset, warm = make_dataset(folder), Warm(STAGES)
    environment = os.environ | {"NSBENCH_TRACKING_URI": f"sqlite:///{store}"}
    seconds: dict[bool, list[float]] = {True: [], False: []}
    """Of training, by whether the store is locked."""

    def train(locked: bool) -> None:
        out = folder / f"{locked}-{len(seconds[locked])}"
        arguments = ["--spec", spec, "--digest", "d", "--dataset", dataset, "--device", "cpu", "--run-store", out]
        arguments += ["--history", out / "history.parquet", "--runs", out / "runs.parquet"]
        with contextlib.closing(sqlite3.connect(store)) as held:
            if locked:
                held.execute("BEGIN EXCLUSIVE")
            began = time.monotonic()
            status, said = warm.run("nsbench", ["stage", "train", *map(str, arguments)], folder, environment)
            seconds[locked].append(time.monotonic() - began)
        assert status == 0, said

    def ratios() -> tuple[float, float]:
        pairs = zip(seconds[True], seconds[False], strict=True)
        return statistics.median(a / b for a, b in pairs), min(seconds[True]) / min(seconds[False])

    try:
        while len(seconds[True]) < PAIRS or (min(ratios()) > MOST_SLOWER and len(seconds[True]) < MOST_PAIRS):
            # In turns, so that what else the machine does falls on both.
            for locked in (True, False) if len(seconds[True]) % 2 else (False, True):
                train(locked)
    finally:
        warm.close()
    median, shortest = ratios()
    assert min(median, shortest) <= MOST_SLOWER, f"{median:.3f} times as long while the store is locked"
    return median, len(seconds[True])


if __name__ == "__main__":
    main(run, 50)
