"""What the terminal shows of Snakemake's records. The records here have the fields that Snakemake gives them."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nsbench.workflow.pace import Job, Pace
from nsbench.workflow.terminal import Terminal, describe, take_over


class Screen(io.StringIO):
    """A stream that is a terminal or is not."""

    encoding = "utf-8"

    def __init__(self, live: bool) -> None:
        super().__init__()
        self.live = live

    def isatty(self) -> bool:
        return self.live


class Call:
    """A logger as Snakemake sets one up, with the terminal in its place."""

    def __init__(self, live: bool = False, **settings: Any) -> None:
        self.screen = Screen(live)
        handler = logging.StreamHandler(self.screen)
        handler.name = "DefaultStreamHandler"
        self.logger = logging.Logger("snakemake of a test")
        self.logger.addHandler(handler)
        self.terminal = take_over(self.logger, SimpleNamespace(**{"quiet": None, "nocolor": False, **settings}))

    def tell(self, event: str | None, text: str | None = None, level: int = logging.INFO, **fields: Any) -> None:
        self.logger.log(level, text, extra={**({"event": event} if event else {}), **fields})

    def start(self, job: int, message: str | None = "train addition demo, baseline, seeds-0-1") -> None:
        fields = {"jobid": job, "rule_msg": message, "rule_name": "train_pack", "wildcards": {"task": "addition"}}
        self.tell("job_info", **fields)

    @property
    def lines(self) -> list[str]:
        return self.screen.getvalue().splitlines()


@pytest.fixture
def call() -> Call:
    return Call()


def begin(call: Call, *jobs: Job) -> None:
    assert call.terminal is not None
    call.terminal.begin(Pace(jobs, cores=1, gpus=1, began=0.0))


def test_a_job_is_one_line_when_it_ends(call: Call) -> None:
    begin(call, Job(4, 30.0), Job(5, 10.0))
    for event in ("job_started", "shellcmd", "run_info", "resources_info", "progress", "workflow_started"):
        call.tell(event, "noise")
    for text in ("Select jobs to execute...", "Execute 1 jobs...", "Building DAG of jobs...", "Using shell: bash"):
        call.tell(None, text)
    call.start(4)
    call.start(99)  # the target, which makes nothing
    assert call.lines == []
    call.tell("job_finished", "Finished jobid: 4 (Rule: train_pack)", job_id=4)
    call.tell("job_finished", "Finished jobid: 99 (Rule: all)", job_id=99)
    assert len(call.lines) == 1
    assert call.lines[0].startswith("nsbench | 1/2 train addition demo, baseline, seeds 0 and 1, 0 s  (75%, about ")
    call.start(5, None)
    call.tell("job_finished", job_id=5)
    assert call.lines[1:] == ["nsbench | 2/2 train pack addition, 0 s"]


def test_a_failure_names_its_job_and_shows_the_end_of_its_log(call: Call, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_text("".join(f"line {number}\n" for number in range(9)) + "nsbench stage train: the disk is full\n")
    begin(call, Job(4, 30.0), Job(5, 10.0, needs=(4,)))
    call.start(4)
    call.tell("error", "RuleException:\nCalledProcessError in file ...", logging.ERROR, exception="RuleException")
    call.tell(
        "job_error",
        "Error in rule",
        logging.ERROR,
        jobid=4,
        rule_name="train_pack",
        log=[str(log), str(tmp_path / "no")],
    )
    call.tell("error", "WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR)
    assert call.lines == [
        "nsbench | failed: train addition demo, baseline, seeds 0 and 1",
        f"nsbench | {log} ends:",
        *(f"    line {number}" for number in (6, 7, 8)),
        "    nsbench stage train: the disk is full",
    ]
    assert call.terminal is not None
    assert call.terminal.failed == ["train addition demo, baseline, seeds 0 and 1"]


def test_a_job_that_a_user_interrupts_did_not_fail(call: Call, tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text("line\n")
    begin(call, Job(4, 30.0))
    call.start(4)
    call.tell(None, "Terminating processes on user request, this might take some time.")
    call.tell("job_error", "Error", logging.ERROR, jobid=4, rule_name="train_pack", log=[str(tmp_path / "train.log")])
    assert call.lines == [
        "nsbench | stopping: jobs save their progress",
        "nsbench | interrupted: train addition demo, baseline, seeds 0 and 1",
    ]
    assert call.terminal is not None
    assert (call.terminal.failed, call.terminal.stopped) == ([], True)


def test_what_it_has_no_words_for_is_passed_on(call: Call) -> None:
    call.tell(None, "Nothing to be done (all requested files are present and up to date).")
    call.tell(None, "Select jobs to execute, a warning", logging.WARNING)
    call.tell("error", "WorkflowError:\nthe configuration cannot be used.", logging.ERROR)
    call.tell(None, "nsbench | done in 5 s")
    assert [line[:14] for line in call.lines] == [
        "Nothing to be ", "Select jobs to", "WorkflowError:", "the configurat", "nsbench | done"
    ]  # fmt: skip


def test_the_bar_is_drawn_in_its_place_and_is_gone_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    call = Call(live=True)
    begin(call, Job(4, 30.0), Job(5, 10.0))
    call.start(4)
    call.tell("job_finished", job_id=4)
    call.start(5)
    assert call.terminal is not None
    call.terminal.end()
    text = call.screen.getvalue()
    drawn = [part.removeprefix("\x1b[K") for part in text.split("\r") if "jobs, about" in part]
    assert max(map(len, drawn)) < 60
    assert drawn[-1].startswith("nsbench | " + "█" * 18 + "░" * 6 + "  75%  1/2 jobs, about")
    assert "\x1b[Knsbench | 1/2 train addition demo, baseline, seeds 0 and 1, 0 s\n" in text
    assert text.endswith("\r\x1b[K")


def test_a_file_gets_a_line_when_nothing_ended_for_long(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbench.workflow.terminal.LOOK_SECONDS", 0.005)
    monkeypatch.setattr("nsbench.workflow.terminal.QUIET_SECONDS", 0.01)
    terminal = call.terminal
    assert terminal is not None
    said, say = [], terminal._say

    def one(text: str) -> None:
        say(text)
        said.append(text)
        terminal.over.set()

    monkeypatch.setattr(terminal, "_say", one)
    for job in (4, 5):
        call.start(job)
    terminal.begin(Pace([Job(4, 1e9), Job(5, 1e9)], cores=1, gpus=1, began=terminal.said_at))
    assert terminal.over.wait(20)
    (line,) = said
    assert line.startswith("nsbench | 0%, about ")
    assert line.endswith(" left; now: train addition demo, baseline, seeds 0 and 1 and 1 more")


def test_with_quiet_jobs_that_end_well_have_no_line() -> None:
    call = Call(quiet=[SimpleNamespace(name="RULES"), SimpleNamespace(name="HOST")])
    begin(call, Job(4, 30.0))
    call.start(4)
    call.tell("job_finished", job_id=4)
    assert call.lines == []
    call.start(4)
    call.tell("job_error", "Error in rule", logging.ERROR, jobid=4, rule_name="train_pack", log=[])
    assert len(call.lines) == 1


@pytest.mark.parametrize(
    "settings",
    [{"verbose": True}, {"printshellcmds": True}, {"dryrun": True}, {"quiet": [SimpleNamespace(name="ALL")]}],
)
def test_details_that_were_asked_for_and_a_dry_run_are_left_to_snakemake(settings: dict[str, Any]) -> None:
    call = Call(**settings)
    assert call.terminal is None
    call.tell(None, "Select jobs to execute...")
    assert call.lines == ["Select jobs to execute..."]


def test_another_display_is_left_alone() -> None:
    logger = logging.Logger("with a plug-in")
    logger.addHandler(logging.NullHandler())
    assert take_over(logger, SimpleNamespace(quiet=None, nocolor=False)) is None
    assert not any(isinstance(handler, Terminal) for handler in logger.handlers)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ("train a b, c, seeds-0-0", "train a b, c, seed 0"),
        ("train a b, c, seeds-0-9", "train a b, c, seeds 0 to 9"),
        ("train a b, c, seeds-0-9-0a1b2c3d", "train a b, c, seeds 0 to 9"),
        (None, "draw figure figure_05"),
    ],
)
def test_a_job_in_words(message: str | None, text: str) -> None:
    assert describe(message, "draw_figure", {"figure": "figure_05"}) == text
