"""Kills anywhere: a job, Snakemake, or all at once, by SIGKILL or SIGTERM, at random moments.

After each kill the same command is given again, at the end until it is through. Then the tables must
equal an undisturbed workflow's to the bit, no run that had finished may have been trained again, an
interrupted run must have gone on from its last progress file, MLflow must have one run per key, no
temporary file may be left, and one call more must have nothing to do.

Most trials fork their processes from a warm one, which saves seconds of imports; each tenth starts
them cold, as users do, in a process group of its own that is killed as one.

    python -m tests.faults.kill --trials 500 --seed 7
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pandas as pd
from safetensors import SafetensorError, safe_open

from tests.faults.outcome import Outcome, main
from tests.warm import STAGES, Warm
from tests.workflow_clone import Clone

OVERLAY = "tests/config/faults.yaml"
TARGETS = ("results/tables/score.parquet", "results/tracked.json")
RUNS = 8
COLD_EVERY = 10
NAMES = {"job": "a job", "snakemake": "Snakemake", "all": "all"}
"""What is killed, and how the totals call it."""
AIMED, LITTLE = 0.5, 3.0
"""The share of kills that are aimed at a run in training, and how long at most they wait once there is one (s)."""
MACHINE = {"seconds"}
"""Columns that no two runs of a program share."""


class Workflow:
    """One call of Snakemake in a clone, running in the background."""

    def __init__(self, clone: Clone, cold: bool, targets: tuple[str, ...] = TARGETS) -> None:
        self.clone, self.cold = clone, cold
        self.status: int | None = None
        self.said = ""
        self.arguments = [*targets, *clone.options(OVERLAY)]
        environment = clone.environment() if cold else clone.environment(clone.root / "bin")
        if cold:
            self.log = (clone.root / "said.txt").open("w+")
            self.process = subprocess.Popen(
                [sys.executable, "-m", "snakemake", *self.arguments],
                cwd=clone.root,
                env=environment,
                stdout=self.log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.environment = environment
        self.thread = threading.Thread(target=self._wait)
        self.thread.start()

    def _wait(self) -> None:
        if self.cold:
            self.status = self.process.wait()
            self.log.seek(0)
            self.said = self.log.read()
            self.log.close()
        else:
            self.status, self.said = self.clone.warm.run("snakemake", self.arguments, self.clone.root, self.environment)

    def ended(self) -> bool:
        return not self.thread.is_alive()

    def end(self) -> int:
        self.thread.join()
        assert self.status is not None
        return self.status

    def processes(self) -> dict[int, str]:
        """Snakemake itself and its jobs, by process: `snakemake`, `nsbench STAGE` or what stands between them."""
        if not self.cold:
            return self.clone.warm.processes()
        found = {}
        for line in subprocess.run(
            ["ps", "-eo", "pid=,sid=,args="], capture_output=True, text=True
        ).stdout.splitlines():
            pid, session, command = line.split(None, 2)
            if int(session) == self.process.pid:
                stage = re.search(r"bin/nsbench stage (\w+)", command)
                found[int(pid)] = f"nsbench {stage[1]}" if stage and "bash" not in command else command
        if self.process.pid in found:
            found[self.process.pid] = "snakemake"
        return found

    def kill(self, target: str, number: signal.Signals) -> str:
        """Send a signal to `job` (one that runs, the next to come where none does), `snakemake` or `all`;
        the name of what was hit, empty where all was over."""
        while not self.ended():
            running = self.processes()
            if target == "all":
                if not any(name.startswith("snakemake") for name in running.values()):
                    time.sleep(0.005)
                    continue
                hit = list(running)
            else:
                begins = "nsbench" if target == "job" else "snakemake"
                hit = [pid for pid, name in running.items() if name.startswith(begins)][:1]
            if hit:
                if target == "all" and self.cold:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(self.process.pid, number)
                        return target
                for pid in hit:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                return running[hit[0]] if target == "job" else target
            time.sleep(0.005)
        return ""


def run(trials: int, seed: int, folder: Path) -> Outcome:
    """Kill `trials` workflows, each once to three times, and finish them; where something is lost,
    AssertionError with the seed and the trial."""
    warm = Warm((*STAGES, "mlflow", "alembic.command", "sqlalchemy.orm"))
    try:
        clone = Clone(folder / "clone", warm)
        clone.write_command()
        calm, seconds = {}, {}
        for cold in (False, True):
            began = time.monotonic()
            call = Workflow(clone, cold)
            assert call.end() == 0, call.said
            seconds[cold] = time.monotonic() - began
            found = tables(clone.root / "results")
            assert not calm or differences(calm, found) == []
            calm = found
            wipe(clone)
        totals: Counter[str] = Counter()
        for trial in range(trials):
            try:
                totals += _trial(clone, random.Random(f"{seed} {trial}"), trial % COLD_EVERY == 9, seconds, calm)
            except AssertionError as error:
                shutil.copytree(
                    clone.root / "results", folder.parent / f"nsbench-kill-{seed}-{trial}", dirs_exist_ok=True
                )
                raise AssertionError(f"seed {seed}, trial {trial} ({folder.parent}): {error}") from error
            wipe(clone)
            print(f"kill {trial + 1} of {trials}: {dict(totals)}", file=sys.stderr, flush=True)
    finally:
        warm.close()
    return Outcome(trials, totals.pop("kills"), dict(totals))


def _trial(
    clone: Clone, dice: random.Random, cold: bool, seconds: dict[bool, float], calm: dict[str, pd.DataFrame]
) -> Counter[str]:
    totals: Counter[str] = Counter()
    finished: dict[Path, tuple[int, int]] = {}
    interrupted: dict[Path, int] = {}
    orphans = False
    results = clone.root / "results"
    for _ in range(dice.randint(1, 3)):
        call = Workflow(clone, cold)
        if dice.random() < AIMED:
            while not (progress(results) or call.ended()):
                time.sleep(0.01)
            time.sleep(dice.uniform(0, LITTLE))
        else:
            time.sleep(dice.uniform(0, seconds[cold]))
        target, number = dice.choice(list(NAMES)), dice.choice([signal.SIGKILL, signal.SIGTERM])
        hit = call.kill(target, number)
        if hit:
            totals["kills"] += 1
            totals[f"{number.name} to {NAMES[target]}"] += 1
        status = call.end()
        assert "Traceback" not in call.said or number is signal.SIGTERM, call.said[-3000:]
        orphans = target == "snakemake" and number is signal.SIGKILL and bool(hit)
        if not orphans:
            _quiet(call)
        now = {path: identity(path) for path in results.rglob("run.json")}
        assert finished.items() <= now.items(), (
            f"a finished run was trained again: {set(finished.items()) - set(now.items())}"
        )
        finished, interrupted = now, {} if orphans else progress(results)
        if status == 0 and hit:
            totals["ended all the same"] += 1
    totals["runs finished before"] += len(finished)
    totals["runs in the middle"] += len(interrupted)
    call = Workflow(clone, cold)
    assert call.end() == 0, f"the last call failed: {call.said[-3000:]}"
    _quiet(call)
    again = {path: identity(path) for path in results.rglob("run.json")}
    assert len(again) == RUNS
    assert finished.items() <= again.items(), (
        f"a finished run was trained again: {set(finished.items()) - set(again.items())}"
    )
    for path, step in interrupted.items():
        seed = path.name.removeprefix("seed-")
        arm = path.parent.relative_to(results / "runs")
        (log,) = (results / "logs/train" / arm).glob("*.log")
        assert f"seed {seed}: goes on from step {step}" in log.read_text(), f"{path} did not go on from step {step}"
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


def _quiet(call: Workflow, patience: float = 120.0) -> None:
    """Wait until no process of the call is left."""
    deadline = time.monotonic() + patience
    while call.processes():
        assert time.monotonic() < deadline, f"still there: {call.processes()}"
        time.sleep(0.01)


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
    """All tables, without the columns that tell of the machine."""
    found = {}
    for path in sorted([*results.glob("collected/*.parquet"), *results.glob("tables/*.parquet")]):
        table = pd.read_parquet(path)
        found[path.name] = _without_seconds(table)
    return found


def _without_seconds(table: pd.DataFrame) -> pd.DataFrame:
    table = table.drop(columns=[name for name in table if name in MACHINE or "seconds" in name])
    for name in ("metric", "unit", "cost", "measure"):
        if name in table:
            table = table[~table[name].astype(str).str.contains("seconds")]
    return table.reset_index(drop=True)


def differences(one: dict[str, pd.DataFrame], other: dict[str, pd.DataFrame]) -> list[str]:
    """Names of the tables that are not the same to the bit."""
    names = sorted(one.keys() | other.keys())
    return [name for name in names if name not in one or name not in other or not one[name].equals(other[name])]


def wipe(clone: Clone) -> None:
    for name in ("results", ".snakemake"):
        shutil.rmtree(clone.root / name, ignore_errors=True)


if __name__ == "__main__":
    main(run, 50)
