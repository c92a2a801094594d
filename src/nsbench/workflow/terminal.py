"""What the terminal shows while the workflow runs: a line for each job that ended, and one bar over all of them.

Snakemake tells what happens by records of logging with an `event`. `Terminal` stands in the place of the handler that
would print several lines for each; Snakemake is not imported, and its log file is as it was. A display that the user
chose (`--logger`), or details that the user asked for (`--verbose`, `--printshellcmds`), are left alone.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nsbench.workflow.pace import Pace, duration

NAME = "nsbench | "
BESIDE = ("verbose", "printshellcmds", "debug_dag", "dryrun")
"""Options of Snakemake with which its own lines stay."""
SILENT = {"workflow_started", "run_info", "resources_info", "job_started", "shellcmd", "group_info", "progress"}
SILENT |= {"rulegraph", "group_error"}
"""Events that are told otherwise, or not worth a line."""
NOISE = (
    "Building DAG of jobs",
    "Complete log(s)",
    "Conda environments: ignored",
    "Config file ",
    "Assuming unrestricted shared filesystem",
    "Elapsed time",
    "Execute ",
    "Exiting because a job execution failed",
    "Removing output files of failed job",
    "Select jobs to execute",
    "Using shell",
)
"""How messages begin that say nothing to a user of this workflow."""
TOLD = ("CalledProcessError", "At least one job did not complete")
"""What is in errors that a line on the job that failed tells better: the first has its whole command in it."""
STOPPED = ("Terminating processes on user request", "Will exit after finishing")
"""How messages begin that say that a user ends the call."""
LINES_SHOWN, LOGS_SHOWN = 4, 2
"""Of the logs of a job that failed."""
REDRAW_SECONDS, LOOK_SECONDS, QUIET_SECONDS = 1.0, 5.0, 120.0
"""Between two drawings of the bar; between two looks at running jobs; without a line, until one is due in a file."""
BAR = 24


def take_over(logger: logging.Logger, settings: Any) -> Terminal | None:
    """Put a `Terminal` in the place of Snakemake's handler; None where that stays, or is not there.

    logger, settings: Snakemake's logger and its settings of output.
    """
    quiet = {choice.name.lower() for choice in settings.quiet or ()}
    if "all" in quiet or any(getattr(settings, option, False) for option in BESIDE):
        return None
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            terminal = Terminal(handler, lines=not quiet & {"rules", "progress"}, colour=not settings.nocolor)
            logger.removeHandler(handler)
            logger.addHandler(terminal)
            return terminal
    return None


class Terminal(logging.Handler):
    """A handler of Snakemake's records.

    other: the handler for all that this one has no words for. lines: whether jobs that ended well get one.
    """

    def __init__(self, other: Any, lines: bool = True, colour: bool = True) -> None:
        super().__init__()
        self.other, self.stream, self.lines = other, other.stream, lines
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        """Whether the bar can be drawn anew in its place."""
        self.colour = colour and self.live
        self.pace: Pace | None = None
        self.running: dict[int, tuple[str, float]] = {}
        """Jobs by their ids: what each does, and since when."""
        self.failed: list[str] = []
        self.stopped = False
        """Whether a user ends the call: what ends now did not fail."""
        self.drawn = False
        self.said_at = time.time()
        self.over = threading.Event()

    def begin(self, pace: Pace) -> None:
        """Count these jobs from now on, and draw the bar until `end`."""
        self.pace, self.said_at = pace, time.time()
        threading.Thread(target=self._tick, daemon=True).start()

    def end(self) -> None:
        """Remove the bar."""
        self.over.set()
        with self.lock or threading.RLock():
            self._clear()
            self.pace = None

    def close(self) -> None:
        self.end()
        self.other.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._emit(record)
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)

    def _emit(self, record: logging.LogRecord) -> None:
        event, text = str(getattr(record, "event", None) or ""), record.getMessage() if record.msg else ""
        told: dict[str, Callable[[Any], None]] = {
            "job_info": self._start,
            "job_finished": self._finish,
            "job_error": self._fail,
        }
        if event in told:
            told[event](record)
        elif event in SILENT or (record.levelno <= logging.INFO and text.startswith(NOISE)):
            return
        elif text.startswith(STOPPED):
            self.stopped = True
            self._say(f"{NAME}stopping: jobs save their progress")
        elif text.startswith(NAME):
            self._say(text)
        elif not (event == "error" and any(known in text for known in TOLD)):
            self._clear()
            self.other.handle(record)

    def _start(self, record: Any) -> None:
        if self.pace is not None and record.jobid not in self.pace:
            return  # a rule that makes nothing
        self.running[record.jobid] = describe(record.rule_msg, record.rule_name, record.wildcards), record.created
        if self.pace is not None:
            self.pace.start(record.jobid, record.created)
            self._draw()

    def _finish(self, record: Any) -> None:
        if record.job_id not in self.running:
            return
        text, since = self.running.pop(record.job_id)
        count = ""
        if self.pace is not None:
            self.pace.finish(record.job_id, record.created)
            count = f"{self.pace.n_done}/{self.pace.n_jobs} "
        if self.lines:
            self._say(f"{NAME}{count}{text}, {duration(record.created - since)}{self._aside()}")

    def _fail(self, record: Any) -> None:
        text, _ = self.running.pop(record.jobid, (describe(None, record.rule_name, {}), 0.0))
        if self.pace is not None:
            self.pace.stop(record.jobid, record.created)
        if self.stopped:
            self._say(f"{NAME}interrupted: {text}")
            return
        self.failed.append(text)
        self._say(f"{NAME}failed: {text}", red=True)
        for log in record.log[:LOGS_SHOWN]:
            for line in ending(Path(log.removesuffix(" (check log file(s) for error details)"))):
                self._say(line)

    def _aside(self) -> str:
        """How far all is, behind a job's line where there is no bar."""
        if self.live or self.pace is None or self.pace.n_done == self.pace.n_jobs:
            return ""
        share, left = self.pace.look(time.time())
        return f"  ({100 * share:.0f}%, about {duration(left, coarse=True)} left)"

    def _say(self, text: str, red: bool = False) -> None:
        self._clear()
        self.stream.write(f"\033[31m{text}\033[0m\n" if red and self.colour else f"{text}\n")
        self.said_at = time.time()
        self._draw()

    def _tick(self) -> None:
        while not self.over.wait(REDRAW_SECONDS if self.live else LOOK_SECONDS):
            with self.lock or threading.RLock():
                if self.pace is None:
                    return
                elapsed = time.time() - self.pace.began
                if self.live:
                    self._draw()
                elif time.time() - self.said_at > max(QUIET_SECONDS, elapsed / 20):
                    share, left = self.pace.look(time.time())
                    self._say(f"{NAME}{100 * share:.0f}%, about {duration(left, coarse=True)} left; now: {self._now()}")

    def _now(self) -> str:
        first = next((text for text, _ in self.running.values()), "waiting")
        return first + (f" and {len(self.running) - 1} more" if len(self.running) > 1 else "")

    def _draw(self) -> None:
        if self.live and self.pace is not None:
            share, left = self.pace.look(time.time())
            bar, count = _bar(share, self.stream.encoding), f"{self.pace.n_done}/{self.pace.n_jobs} jobs"
            text = f"{NAME}{bar} {100 * share:3.0f}%  {count}, about {duration(left, coarse=True)} left  {self._now()}"
            # The cursor goes back, so that what others print begins at the left.
            self.stream.write(f"\r\033[K{text[: shutil.get_terminal_size().columns - 1]}\r")
            self.drawn = True
        self.stream.flush()

    def _clear(self) -> None:
        if self.drawn:
            self.stream.write("\r\033[K")
            self.drawn = False


def describe(message: str | None, rule: str, wildcards: dict[str, str]) -> str:
    """What a job does, in words: its rule's message, else its rule's name and wildcards."""
    text = message or " ".join([rule.replace("_", " "), *wildcards.values()])
    # The name of a pack of other than consecutive seeds ends with a digest.
    return re.sub(r"\bseeds-(\d+)-(\d+)(?:-[0-9a-f]{8})?\b", _seeds, text)


def _seeds(match: re.Match[str]) -> str:
    first, last = int(match[1]), int(match[2])
    if first == last:
        return f"seed {first}"
    return f"seeds {first} and {last}" if last == first + 1 else f"seeds {first} to {last}"


def ending(log: Path) -> list[str]:
    """The last lines of a log, with a line that names it; nothing where it has none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-LINES_SHOWN:]
    except OSError:
        return []
    return [f"{NAME}{log} ends:", *(f"    {line[:300]}" for line in lines)] if lines else []


def _bar(share: float, encoding: str | None) -> str:
    full, empty = ("█", "░") if (encoding or "").lower().replace("-", "") == "utf8" else ("#", ".")
    n = round(BAR * share)
    return full * n + empty * (BAR - n)
