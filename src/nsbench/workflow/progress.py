"""What a user sees while the workflow runs: how much is done, the time left, and where results are."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from nsbench.schemas.run_states import FINISHED, RUN_STATE
from nsbench.storage.atomic import lack_of_room
from nsbench.storage.parquet import read_table
from nsbench.storage.run_folder import RunFolder, order_key
from nsbench.workflow.plan import Plan
from nsbench.workflow.resources import train_flops
from nsbench.workflow.results_lock import occupied

RESULTS = Path("results")
PARTIAL = RESULTS / "partial"
MADE = ("figures", "tables", "claims.md")
EVERY_SECONDS = 10.0
LOGS_SHOWN, LINES_SHOWN = 3, 4
LOGGED = re.compile(r"\d{4}-\d\d-\d\d [\d:,]+ [A-Z]+ ")
"""How a line of logging begins; a job that failed ends its log with something else."""
EVALUATION_SHARE = 0.1
"""The part of a run's cost that its evaluation is guessed to take."""


@dataclass
class _Expected:
    """A run of the grid: its folder, what was ordered, and its guessed cost (no unit)."""

    folder: RunFolder
    order: str
    cost: float


def start(plan: Plan, held: contextlib.ExitStack) -> None:
    """Take the results folder for this workflow, say what will run, and begin to report on it in the background.

    The folder is taken until `held` closes. Raises OccupiedError where another workflow works there, FileError
    where nothing can be written.
    """
    held.enter_context(occupied(RESULTS))
    expected = _expected(plan)
    n_recorded = sum(map(len, plan.recorded.values()))
    _say(
        f"{len(plan.cells)} cells, {len(expected)} runs in {len(plan.packs)} packs ({plan.config.scale} scale)"
        + (f", {n_recorded} more from records" if n_recorded else "")
    )
    threading.Thread(target=_watch, args=(expected,), daemon=True).start()


def start_partial(held: contextlib.ExitStack) -> None:
    """Take the folder of partial results for this workflow; one that trains may work beside it.

    Raises as `start` does.
    """
    held.enter_context(occupied(PARTIAL))
    _say("looking at what is finished so far; nothing is trained")


def finish_partial() -> None:
    """Name the partial report, what it is made from, and what is missing."""
    states = read_table(PARTIAL / "finished.parquet", RUN_STATE)["state"]
    _say(
        f"partial report on {(states == FINISHED).sum():,} of {len(states):,} runs: {PARTIAL / 'report.html'}; what is "
        f"missing: {PARTIAL / 'missing.csv'}"
    )
    _say(f"figures, tables and verdicts of these runs: {', '.join(str(PARTIAL / name) for name in MADE)}")


def fail_partial(since: float) -> None:
    """As `fail`; say that nothing that is finished was touched, and what is left of an earlier report."""
    _say_failed(since)
    _say(f"no partial report: see the messages above and {RESULTS / 'logs' / 'partial'}. No run was touched.")
    if (PARTIAL / "missing.csv").exists():
        _say(f"what is missing: {PARTIAL / 'missing.csv'}")
    if old := [str(PARTIAL / name) for name in ("report.html", *MADE) if (PARTIAL / name).exists()]:
        _say(f"of an earlier report, not of now: {', '.join(old)}")
    _say_lack_of_room()


def finish(plan: Plan, tracking_uri: str) -> None:
    """Name what was made, and show the verdicts."""
    figures = sorted((RESULTS / "figures").glob("*.png"))
    lines = [
        "done. What was made:",
        *(f"  figure   {path}  (and .pdf)" for path in figures),
        *(f"  table    {path}  (and .parquet)" for path in sorted((RESULTS / "tables").glob("*.csv"))),
        f"  claims   {RESULTS / 'claims.md'}  (and .csv, .parquet)",
        f"  report   {RESULTS / 'report.html'}",
        f"  MLflow   make ui  (the store is {tracking_uri})",
    ]
    if plan.config.scale != "paper":
        lines.append(f"These are {plan.config.scale}-scale results: they show the workflow, not the paper's setting.")
    for line in lines:
        _say(line)
    with contextlib.suppress(OSError):
        print(f"\n{(RESULTS / 'claims.txt').read_text(encoding='utf-8')}", file=sys.stderr, flush=True)


def fail(since: float) -> None:
    """Show the end of the logs of jobs that failed since a time (seconds of the clock), and say that work is kept."""
    _say_failed(since)
    _say("stopped before the end: see the messages above and results/logs/.")
    # A log on a full disk may be empty.
    _say_lack_of_room()
    _say("Finished runs are kept and interrupted ones resume: give the same command again.")


def _say_failed(since: float) -> None:
    """Snakemake shows the logs of failed jobs as well, but not where it is told to be quiet about rules, as by make."""
    for log in _failed(since)[:LOGS_SHOWN]:
        _say(f"{log} ends:")
        for text in log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:]:
            print(f"    {text[:300]}", file=sys.stderr)


def _failed(since: float) -> list[Path]:
    """Logs written since a time that end in something else than a line of logging: a sentence or a traceback."""
    logs = [path for path in (RESULTS / "logs").rglob("*.log") if path.stat().st_mtime >= since]
    ends = {log: log.read_text(encoding="utf-8", errors="replace").rstrip().rpartition("\n")[2] for log in logs}
    return sorted(log for log, end in ends.items() if end and not LOGGED.match(end))


def line(done: float, total: float, begun: float, elapsed: float) -> str:
    """The progress line: share done, and the time left at the pace since the start.

    done, total, begun: cost done now, in all, and at the start; elapsed: seconds since the start.
    """
    text = f"{100 * done / total:3.0f}% of training and evaluation, {_duration(elapsed)} so far"
    if done >= total:
        return text + ", drawing and tracking"
    if done > begun:
        text += f", about {_duration((total - done) * elapsed / (done - begun))} left"
    return text


def _expected(plan: Plan) -> list[_Expected]:
    found = []
    for task, variant, arm, pack in plan.packs:
        spec = json.loads(plan.train(task, variant, arm, pack))
        code = plan.code("train", task, variant, arm)
        cost = train_flops(plan.cells[task, variant, arm])
        for seed in plan.seeds[pack]:
            folder = RunFolder(RESULTS / "runs", task, variant, arm, seed)
            found.append(_Expected(folder, order_key(spec, seed, code), cost))
    return found


def _done(run: _Expected) -> float:
    share = run.folder.status(run.order)
    evaluated = share == 1 and (run.folder.path / "evaluation.parquet").exists()
    return run.cost * (share * (1 - EVALUATION_SHARE) + EVALUATION_SHARE * evaluated)


def _watch(expected: list[_Expected]) -> None:
    began = time.monotonic()
    total = sum(run.cost for run in expected)
    begun = done = sum(map(_done, expected))
    while done < total:
        looked = time.monotonic()
        time.sleep(EVERY_SECONDS)
        done = sum(map(_done, expected))
        _say(line(done, total, begun, time.monotonic() - began))
        # With thousands of runs a look takes a while: then look less often.
        time.sleep(20 * max(0.0, time.monotonic() - looked - EVERY_SECONDS))


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def _say_lack_of_room() -> None:
    if full := lack_of_room(RESULTS):
        _say(full)


def _say(text: str) -> None:
    print(f"nsbench | {text}", file=sys.stderr, flush=True)
