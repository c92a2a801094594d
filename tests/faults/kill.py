"""Kills anywhere: a job, Snakemake, or all at once, by SIGKILL or SIGTERM, at random moments.

After each kill the same command is given again, at the end until it is through. Then the tables must equal an
undisturbed workflow's to the bit, no run that had finished may have been trained again, an interrupted run must have
gone on from its last progress file, MLflow must have one run per key, no temporary file may be left, and one call more
must have nothing to do. Processes are forks of a warm one, which saves seconds of imports.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, safe_open

from tests.faults import Outcome
from tests.warm import STAGES, Warm
from tests.workflow_clone import Clone

OVERLAY = "tests/config/faults.yaml"
TARGETS = ("results/tables/score.parquet", "results/tracked.json")
RUNS = 8
NAMES = {"job": "a job", "snakemake": "Snakemake", "all": "all"}
"""What is killed, and how the totals call it."""
AIMED, LITTLE = 0.5, 3.0
"""The share of kills that are aimed at a run in training, and how long at most they wait once there is one (s)."""
OTHERWISE = ("--cores", "1", "--config", "runs_per_pack=1", "progress_every_seconds=1e-6")
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
"""One core, packs of one, progress after each step, two threads asked for: no number may be another."""


class Workflow:
    """One call of Snakemake in a clone, running in the background."""

    def __init__(
        self, clone: Clone, targets: tuple[str, ...] = TARGETS, options: tuple[str, ...] = (), **variables: str
    ) -> None:
        self.clone, self.status, self.said = clone, -1, ""
        self.arguments = [*targets, *clone.options(OVERLAY), *options]
        self.environment = clone.environment(clone.root / "bin") | variables
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        self.status, self.said = self.clone.warm.run("snakemake", self.arguments, self.clone.root, self.environment)

    def ended(self) -> bool:
        return not self.thread.is_alive()

    def end(self) -> int:
        self.thread.join()
        return self.status

    def kill(self, target: str, number: signal.Signals) -> str:
        """Send a signal to `job` (one that runs, the next to come where none does), `snakemake` or `all`;
        the name of what was hit, empty where all was over."""
        while not self.ended():
            running = self.clone.warm.processes()
            if target == "all":
                hit = list(running) if any(name.startswith("snakemake") for name in running.values()) else []
            else:
                begins = "nsbench" if target == "job" else "snakemake"
                hit = [pid for pid, name in running.items() if name.startswith(begins)][:1]
            for pid in hit:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            if hit:
                return running[hit[0]] if target == "job" else target
            time.sleep(0.005)
        return ""

    def wait(self, patience: float = 120.0) -> None:
        """Wait until no process of the call is left."""
        deadline = time.monotonic() + patience
        while self.clone.warm.processes():
            assert time.monotonic() < deadline, f"still there: {self.clone.warm.processes()}"
            time.sleep(0.01)


def run(trials: int, seed: int, folder: Path) -> Outcome:
    """Kill `trials` workflows, each once to three times, and finish them."""
    with contextlib.closing(Warm((*STAGES, "mlflow", "alembic.command", "sqlalchemy.orm"))) as warm:
        clone = Clone(folder / "clone", warm)
        clone.write_command()
        began = time.monotonic()
        calm, seconds = _undisturbed(clone), time.monotonic() - began
        other = _undisturbed(clone, OTHERWISE, PYTHONHASHSEED="12345", **THREADS)
        assert differences(calm, other) == [], "other numbers with other cores, threads, packs and hashes"
        totals: Counter[str] = Counter()
        for trial in range(trials):
            try:
                totals += _trial(clone, random.Random(f"{seed} {trial}"), seconds, calm)
            except AssertionError as error:
                kept = folder.parent / f"nsbench-kill-{seed}-{trial}"
                shutil.copytree(clone.root / "results", kept, dirs_exist_ok=True)
                raise AssertionError(f"seed {seed}, trial {trial} ({kept}): {error}") from error
            _wipe(clone)
            print(f"kill {trial + 1} of {trials}: {dict(totals)}", file=sys.stderr, flush=True)
    return Outcome(trials, totals.pop("kills"), dict(totals))


def _undisturbed(clone: Clone, options: tuple[str, ...] = (), **variables: str) -> dict[str, pd.DataFrame]:
    call = Workflow(clone, TARGETS, options, **variables)
    assert call.end() == 0, call.said
    found = tables(clone.root / "results")
    _wipe(clone)
    return found


def _trial(clone: Clone, dice: random.Random, seconds: float, calm: dict[str, pd.DataFrame]) -> Counter[str]:
    totals: Counter[str] = Counter()
    finished: dict[Path, tuple[int, int]] = {}
    interrupted: dict[Path, int] = {}
    orphans = False
    results = clone.root / "results"
    for _ in range(dice.randint(1, 3)):
        call = Workflow(clone)
        if dice.random() < AIMED:
            while not (progress(results) or call.ended()):
                time.sleep(0.01)
            time.sleep(dice.uniform(0, LITTLE))
        else:
            time.sleep(dice.uniform(0, seconds))
        target, number = dice.choice(list(NAMES)), dice.choice([signal.SIGKILL, signal.SIGTERM])
        hit = call.kill(target, number)
        status = call.end()
        assert "Traceback" not in call.said or number is signal.SIGTERM, call.said[-3000:]
        orphans = target == "snakemake" and number is signal.SIGKILL and bool(hit)
        if not orphans:
            call.wait()
        finished = _still_there(finished, results)
        interrupted = {} if orphans else progress(results)
        if hit:
            totals.update({"kills": 1, f"{number.name} to {NAMES[target]}": 1, "ended all the same": int(status == 0)})
    totals.update({"runs finished before": len(finished), "runs in the middle": len(interrupted)})
    call = Workflow(clone)
    assert call.end() == 0, f"the last call failed: {call.said[-3000:]}"
    call.wait()
    assert len(_still_there(finished, results)) == RUNS
    for path, step in interrupted.items():
        (log,) = (results / "logs/train" / path.parent.relative_to(results / "runs")).glob("*.log")
        told = f"seed {path.name.removeprefix('seed-')}: goes on from step {step}"
        assert told in log.read_text(), f"{path} did not go on from step {step}"
    assert differences(calm, tables(results)) == [], "the tables are not those of an undisturbed workflow"
    with contextlib.closing(sqlite3.connect(results / "mlflow.db")) as database:
        names = [row[0] for row in database.execute("SELECT value FROM tags WHERE key = 'nsbench.run'")]
    assert sorted(Counter(names).values()) == [1] * RUNS, f"MLflow has {Counter(names)}"
    left = [path for path in results.rglob(".*") if path.is_file() and not path.name.endswith((".lock", ".json"))]
    assert not left, f"temporary files were left: {left}"
    if not orphans:
        status, said = clone.snakemake("--dry-run", *TARGETS, overlay=OVERLAY)
        assert status == 0, said[-2000:]
        assert "Nothing to be done" in said, f"a further call would do something: {said[-2000:]}"
    return totals


def _still_there(finished: dict[Path, tuple[int, int]], results: Path) -> dict[Path, tuple[int, int]]:
    """The runs that have finished by now, by their summaries; those that had before are not written again."""
    now = {path: identity(path) for path in results.rglob("run.json")}
    assert finished.items() <= now.items(), f"trained again: {set(finished.items()) - set(now.items())}"
    return now


def identity(path: Path) -> tuple[int, int]:
    """Other once a file was written again."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns


def progress(results: Path) -> dict[Path, int]:
    """The step that each run in the middle has saved, by its folder."""
    found = {}
    for path in results.rglob("progress.safetensors"):
        if not (path.parent / "run.json").exists():
            with contextlib.suppress(OSError, SafetensorError), safe_open(path, "pt") as file:
                found[path.parent] = int(file.metadata()["step"])
    return found


def tables(results: Path) -> dict[str, pd.DataFrame]:
    """All tables, without the columns and rows that tell of seconds."""
    found = {}
    for path in sorted([*results.glob("collected/*.parquet"), *results.glob("tables/*.parquet")]):
        table = pd.read_parquet(path)
        table = table.drop(columns=[name for name in table if "seconds" in name])
        for name in {"metric", "unit", "cost", "measure"} & {*table}:
            table = table[~table[name].astype(str).str.contains("seconds")]
        found[path.name] = table.reset_index(drop=True)
    return found


def differences(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> list[str]:
    """Names of the tables that are not the same to the bit."""
    names = sorted(one.keys() | other.keys())
    return [name for name in names if name not in one or name not in other or not one[name].equals(other[name])]


def _wipe(clone: Clone) -> None:
    for name in ("results", ".snakemake"):
        shutil.rmtree(clone.root / name, ignore_errors=True)
