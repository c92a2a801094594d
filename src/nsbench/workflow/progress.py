"""What a user sees of a call of the workflow: what is to be done and how long it takes, and where results are."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from nsbench.schemas.training import FINISHED, RUN_STATE
from nsbench.storage.atomic import lack_of_room
from nsbench.storage.parquet import read_table
from nsbench.workflow.pace import Pace, duration
from nsbench.workflow.plan import Plan
from nsbench.workflow.results_lock import occupied

RESULTS = Path("results")
PARTIAL = RESULTS / "partial"
MADE = ("figures", "tables", "claims.md")
NAMED = 10
"""So many jobs that failed are named in the end."""
Say = Callable[[str], None]


def start(plan: Plan, held: contextlib.ExitStack, pace: Pace, say: Say) -> None:
    """Take the results folder for this workflow, and say what will run.

    The folder is taken until `held` closes. Raises OccupiedError where another workflow works there, FileError
    where nothing can be written.
    """
    held.enter_context(occupied(RESULTS))
    n_runs = sum(len(plan.seeds[pack]) for *_, pack in plan.packs)
    n_recorded = sum(map(len, plan.recorded.values()))
    say(
        f"{len(plan.cells)} cells, {n_runs} runs in {len(plan.packs)} packs ({plan.config.scale} scale)"
        + (f", {n_recorded} more from records" if n_recorded else "")
        + f"; {pace.n_jobs} jobs to do, about {duration(pace.total, coarse=True)}"
    )


def start_partial(held: contextlib.ExitStack, say: Say) -> None:
    """Take the folder of partial results for this workflow; one that trains may work beside it.

    Raises as `start` does.
    """
    held.enter_context(occupied(PARTIAL))
    say("looking at what is finished so far; nothing is trained")


def finish_partial(say: Say) -> None:
    """Name the partial report, what it is made from, and what is missing."""
    states = read_table(PARTIAL / "finished.parquet", RUN_STATE)["state"]
    say(
        f"partial report on {(states == FINISHED).sum():,} of {len(states):,} runs: {PARTIAL / 'report.html'}; what is "
        f"missing: {PARTIAL / 'missing.csv'}"
    )
    say(f"figures, tables and verdicts of these runs: {', '.join(str(PARTIAL / name) for name in MADE)}")


def fail_partial(say: Say) -> None:
    """Say that nothing that is finished was touched, and what is left of an earlier report."""
    say(f"no partial report: see the messages above and {RESULTS / 'logs' / 'partial'}. No run was touched.")
    if (PARTIAL / "missing.csv").exists():
        say(f"what is missing: {PARTIAL / 'missing.csv'}")
    if old := [str(PARTIAL / name) for name in ("report.html", *MADE) if (PARTIAL / name).exists()]:
        say(f"of an earlier report, not of now: {', '.join(old)}")
    _say_lack_of_room(say)


def finish(plan: Plan, tracking_uri: str, seconds: float, say: Say) -> None:
    """Name what was made, and count the verdicts.

    seconds: what the call took.
    """
    say(f"done in {duration(seconds)}")
    figures, tables = RESULTS / "figures", RESULTS / "tables"
    for path, text in (
        (RESULTS / "report.html", "report: open it first"),
        (figures, f"{len(list(figures.glob('*.png')))} figures, each as PNG and PDF"),
        (tables, f"{len(list(tables.glob('*.csv')))} tables, each as CSV and Parquet"),
        (RESULTS / "tracked.json", f"runs in MLflow: make ui (the store is {tracking_uri})"),
        (RESULTS / "claims.md", "verdicts, also as CSV and Parquet"),
    ):
        if path.exists():
            say(f"  {path!s:<21} {text}")
    with contextlib.suppress(OSError):
        for line in (RESULTS / "claims.md").read_text(encoding="utf-8").splitlines():
            if line.startswith("- "):
                say(f"    {line[2:]}")
    if plan.config.scale != "paper":
        say(f"These are {plan.config.scale}-scale results: they show the workflow, and are no verdict on the paper.")


def fail(failed: Sequence[str], stopped: bool, say: Say) -> None:
    """Name the jobs that failed, and say that work is kept; stopped: whether a user ended the call."""
    for job in failed[:NAMED]:
        say(f"failed: {job}")
    if len(failed) > NAMED:
        say(f"failed: {len(failed) - NAMED} more")
    say("interrupted." if stopped and not failed else "stopped before the end: see above and results/logs/.")
    # A log on a full disk may be empty.
    _say_lack_of_room(say)
    say("Finished runs are kept and interrupted ones resume: give the same command again.")


def _say_lack_of_room(say: Say) -> None:
    if full := lack_of_room(RESULTS):
        say(full)
