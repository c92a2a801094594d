"""The queue: overlays of config.yaml that are run one after the other in the background, and what is left of them.

Each overlay is a grid. Its finished runs are exported to a folder of records while it runs, and runs with a record are
not trained again: so the queue can be stopped at any moment, and started on another machine from its records alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd

from nsbench.config.base import ConfigError
from nsbench.records.exchange import export_records
from nsbench.storage.atomic import FileError
from nsbench.storage.device import gpus_per_job
from nsbench.storage.locks import HeldError, locked
from nsbench.storage.parquet import RecordError
from nsbench.storage.run_folder import RunFolder
from nsbench.workflow.grid import Cell, load_files
from nsbench.workflow.plan import Plan
from nsbench.workflow.recorded_runs import index
from nsbench.workflow.resources import train_flops

LOOK_SECONDS = 1.0
GRACE_SECONDS = 120.0
"""What jobs have to save their progress when the queue is stopped. Afterwards they are killed, which loses a minute."""


@dataclass(frozen=True)
class Queue:
    """Where a queue's parts are."""

    overlays: Path
    """Folder of overlays, run in the order of their names; or one file, which may be `base` itself."""
    records: Path
    """Folder of records that they export to and begin from."""
    results: Path = Path("results")
    base: Path = Path("config.yaml")

    def files(self) -> list[Path]:
        """The overlays in order. Raises ConfigError where there is none."""
        found = [self.overlays] if self.overlays.is_file() else sorted(self.overlays.glob("*.yaml"))
        if not found:
            raise ConfigError(f"{self.overlays}: has no overlay; a folder with .yaml files is allowed")
        return found

    def plan(self, overlay: Path) -> Plan:
        """The grid of an overlay, its recorded runs left out of the packs. Raises ConfigError or RecordError."""
        config = load_files([self.base, overlay])
        config = config.model_copy(update={"records": self.known()})
        return Plan(config, index(config))

    def known(self) -> list[str]:
        """The folder of records, where it has any."""
        return [str(self.records)] if any(self.records.rglob("*.parquet")) else []


def run(queue: Queue, cores: int, gpus: int, export_every: float) -> None:
    """Work through the overlays in order; SIGINT or SIGTERM ends it, with all that is finished exported.

    A run that fails stops no other: the next overlay begins, and the next call tries it again. Raises RecordError in
    the end where runs failed, ConfigError where another queue is at work.
    """
    os.nice(19 - os.nice(0))
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(locked(queue.results / ".queue.lock", None))
        except HeldError:
            raise ConfigError(f"{queue.results}: another queue is at work in this folder; wait until it ends") from None
        stopped = held.enter_context(_stopping())
        failed: list[str] = []
        for overlay in queue.files():
            plan = queue.plan(overlay)
            left, waiting = _left(plan)
            if waiting:
                device = "CPU" if _on_gpu(plan) else "GPU"
                _say(
                    f"{overlay.name}: {len(waiting)} runs wait for a {device}, as the other half of their pairs had one"
                )
            elif not left:
                _say(f"{overlay.name}: all runs are recorded")
            if not left:
                continue
            _say(f"{overlay.name}: {len(left)} runs to do")
            status = _work(queue, overlay, cores, gpus, export_every, stopped)
            _export(queue, overlay)
            if stopped:
                _say("stopped; what was in training goes on from its last progress file here, or from step 0 elsewhere")
                raise SystemExit(128 + stopped[0])
            if status:
                failed.append(overlay.name)
                _say(f"{overlay.name}: some runs failed, see the messages above; going on with the next overlay")
    if failed:
        raise RecordError(f"{', '.join(failed)}: runs failed; see results/logs, and give the same command again")


def status(queue: Queue) -> list[dict[str, Any]]:
    """One row for each overlay: runs, how many are recorded, and the hours that the others take at the pace so far.

    The pace is that of recorded runs from the kind of device that the overlay's are trained on here: of the same cell,
    or else by operations, of the same task. It counts seconds in training, as one process has them, and no evaluation.
    """
    plans = {overlay: queue.plan(overlay) for overlay in queue.files()}
    paces = {on_gpu: _Pace(plans.values(), on_gpu) for on_gpu in (False, True)}
    rows = []
    for overlay, plan in plans.items():
        done = [record for cell in plan.recorded.values() for record in cell.values()]
        left, waiting = _left(plan)
        finished = sum((_folder(queue, cell, seed) / "run.json").exists() for cell, seed in left)
        pace = paces[_on_gpu(plan)]
        hours = [pace.seconds(plan, cell) / 3600 for cell, _ in left]
        rows.append(
            {
                "overlay": overlay.stem,
                "runs": len(done) + len(left) + len(waiting),
                "recorded": len(done),
                "finished here": finished,
                "left": len(left) - finished,
                "wait for a CPU": len(waiting) * pace.on_gpu,
                "wait for a GPU": len(waiting) * (not pace.on_gpu),
                "hours spent": sum(record.summary["seconds"] for record in done) / 3600,
                "hours left": sum(hours) * (1 - finished / len(left)) if left else 0.0,
            }
        )
    return rows


def status_lines(rows: list[dict[str, Any]]) -> list[str]:
    """`status` as a table of text, with a line of sums."""
    frame = pd.DataFrame(rows)
    total = pd.DataFrame([{"overlay": "all", **{name: frame[name].sum() for name in frame.columns[1:]}}])
    return pd.concat([frame, total]).to_string(index=False, float_format="{:.1f}".format).splitlines()


class _Pace:
    """How long a run takes, by the recorded runs of the same kind of device; one that may stop, to its budget."""

    def __init__(self, plans: Iterable[Plan], on_gpu: bool) -> None:
        self.on_gpu = on_gpu
        self.sums: Counter[tuple[str, str]] = Counter()
        """(task, seconds or flops) -> sum over recorded runs."""
        for plan in plans:
            for key in plan.recorded:
                for done in self._summaries(plan, key):
                    self.sums.update({(key[0], name): done[name] for name in ("seconds", "flops")})

    def _summaries(self, plan: Plan, key: tuple[str, str, str]) -> list[dict[str, Any]]:
        summaries = [record.summary for record in plan.recorded[key].values()]
        return [done for done in summaries if (done["device"] != "cpu") == self.on_gpu]

    def seconds(self, plan: Plan, cell: Cell) -> float:
        """Seconds that a run of a cell takes in training: those of its recorded runs; else by operations, at the rate
        of its task's runs or of `cluster.gflops`."""
        if same := self._summaries(plan, (cell.task, cell.variant, cell.arm)):
            return fmean(done["seconds"] for done in same)
        if flops := self.sums[cell.task, "flops"]:
            return train_flops(cell) * self.sums[cell.task, "seconds"] / flops
        gflops = plan.config.cluster.gflops
        return train_flops(cell) / (1e9 * (gflops.cuda if self.on_gpu else gflops.cpu))


def _on_gpu(plan: Plan) -> bool:
    return bool(gpus_per_job(plan.config.device))


def _left(plan: Plan) -> tuple[list[tuple[Cell, int]], list[tuple[Cell, int]]]:
    """The runs, cell and seed, without a record: what to train here, and what waits for another kind of device."""
    here = set(plan.packs_for("cuda" if _on_gpu(plan) else "cpu"))
    runs: dict[bool, list[tuple[Cell, int]]] = {True: [], False: []}
    for pack in plan.packs:
        runs[pack in here] += [(plan.cells[pack[:3]], seed) for seed in plan.seeds[pack[-1]]]
    return runs[True], runs[False]


def _folder(queue: Queue, cell: Cell, seed: int) -> Path:
    return RunFolder(queue.results / "runs", cell.task, cell.variant, cell.arm, seed).path


def _work(queue: Queue, overlay: Path, cores: int, gpus: int, export_every: float, stopped: list[int]) -> int:
    """Run an overlay's packs, exporting now and then; Snakemake's exit status."""
    command = ["snakemake", "runs", "--cores", str(cores), "--resources", f"gpu={gpus}", "--keep-going"]
    command += ["--configfile", str(overlay)]
    if queue.known():
        command += ["--config", f"records={json.dumps(queue.known())}"]
    # In a group of its own: a Ctrl-C reaches this process alone, which passes it on to Snakemake and its jobs once.
    process = subprocess.Popen(command, process_group=0)
    exported = time.monotonic()
    try:
        while process.poll() is None and not stopped:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(LOOK_SECONDS)
            if time.monotonic() - exported > export_every:
                _export(queue, overlay)
                exported = time.monotonic()
    finally:
        if process.poll() is None:
            # Jobs save their progress. Snakemake may wait on SIGTERM for all that runs, and on SIGINT does not.
            os.killpg(process.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return process.returncode


def _export(queue: Queue, overlay: Path) -> None:
    try:
        outcome = export_records(queue.plan(overlay), queue.results, queue.records)
    except (ConfigError, FileError) as error:
        _say(f"{overlay.name}: nothing exported now: {error}")
        return
    if outcome.added or outcome.refused:
        for line in outcome.lines():
            _say(f"{overlay.name}: {line}")


@contextlib.contextmanager
def _stopping() -> Iterator[list[int]]:
    """A list that gets the number of the signal that asks this process to end."""
    asked: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda *args: asked.append(args[0])) for number in signals}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(text: str) -> None:
    # Over the bar of the workflow that runs (`workflow.terminal`), where there is one.
    start = "\r\033[K" if sys.stderr.isatty() else ""
    print(f"{start}nsbench | queue: {text}", file=sys.stderr, flush=True)
