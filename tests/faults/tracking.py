"""Imports into MLflow that are killed, or have their store deleted under them, at random moments.

After each fault the import is given again, and must end with exactly one run per key, every value of it there and the
file sound.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.faults import Outcome
from tests.tracked_results import Results, assert_whole, cells, make_tables

MOST_KILLS = 3
KNOWN = {"collected", "tables", "mlflow.db", "mlflow.db.lock", "track.lock", "clone.json"}
"""What an import leaves in a results folder."""


def run(trials: int, seed: int, folder: Path) -> Outcome:
    """`trials` imports that are killed up to three times each, and a fifth as many whose store is deleted."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    import mlflow  # noqa: F401  # once, before the forks

    dice = random.Random(seed)
    template = make_tables(folder / "template")
    struck = {"kills": 0, "deletions": 0}
    for name, trial, count in (("kills", _kill, trials), ("deletions", _delete, -(-trials // 5))):
        for number in range(count):
            results = Results(folder / f"{name}-{number}" / "results", cells())
            try:
                struck[name] += trial(dice, results, template)
                _check(results)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {name}, trial {number}: {error}") from error
    return Outcome(trials + -(-trials // 5), sum(struck.values()), struck)


def _kill(dice: random.Random, results: Results, template: Path) -> int:
    """Kill imports at random moments; how many kills struck."""
    store = results.folder / "mlflow.db"
    if dice.random() < 0.7:
        store.write_bytes(template.read_bytes())
        if dice.random() < 0.5:  # then its runs are replaced
            _end(_fork(results.track, results), results)
            results.write(val_loss=dice.random())
    longest = 1.0 if store.exists() else 2.5
    struck = 0
    for _ in range(dice.randint(1, MOST_KILLS)):
        child = _fork(results.track, results)
        time.sleep(dice.random() * longest)
        os.kill(child, signal.SIGKILL)
        struck += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return struck


def _delete(dice: random.Random, results: Results, template: Path) -> int:
    """Delete the store at a random moment of an import; whether that struck before its end."""
    store = results.folder / "mlflow.db"
    store.write_bytes(template.read_bytes())
    child = _fork(results.track, results)
    time.sleep(dice.random())
    store.unlink(missing_ok=True)
    struck = os.waitpid(child, os.WNOHANG)[0] == 0
    if struck:
        _end(child, results)
        _assert_held(results)
    return struck


def _check(results: Results) -> None:
    """Import once more, and see that all is there, and that the next import has nothing to do."""
    _end(_fork(results.track, results), results)
    _assert_held(results)
    _end(_fork(lambda: _assert_unchanged(results), results), results)
    left = {path.name for path in results.folder.iterdir()}
    assert left == KNOWN, f"{sorted(left - KNOWN)} are left"


def _assert_held(results: Results) -> None:
    from mlflow import MlflowClient

    assert results.sql("PRAGMA integrity_check") == [("ok",)]
    client = MlflowClient(tracking_uri=results.uri)
    assert_whole(client, results)
    client._tracking_client.store.engine.dispose()


def _assert_unchanged(results: Results) -> None:
    summary = results.track()
    assert (summary.added, summary.replaced) == (0, 0), summary


def _fork(function: Callable[[], object], results: Results) -> int:
    """Start a function in a fork, its words in a file beside the results; the process's number."""
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException), (results.folder.parent / "said").open("a") as said:
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


def _end(child: int, results: Results) -> None:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, (results.folder.parent / "said").read_text()
