"""The progress line: what is done, and what is left."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from nsbench.config.base import parse
from nsbench.storage.run_folder import RunFolder, order_key
from nsbench.training.run import TrainSpec
from nsbench.workflow import progress
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from nsbench.workflow.progress import EVALUATION_SHARE, line
from nsbench.workflow.resources import train_flops
from nsbench.workflow.results_lock import HOLDER, LOCK, OccupiedError
from tests.config.test_config import TINY, overlaid, place

RUN = ("modular_addition", "tiny", "baseline", 0)


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "RESULTS", tmp_path)
    return tmp_path


def plan_of(*changes: tuple[str, Any], names: tuple[str, ...] = (TINY,)) -> Plan:
    values = overlaid(*names)
    for path, value in changes:
        values = place(values, path, value)
    return Plan(load(values))


# --- the line ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("done", "total", "begun", "elapsed", "text"),
    [
        (0, 100, 0, 5, "  0% of training and evaluation, 5 s so far"),
        (25, 100, 0, 60, " 25% of training and evaluation, 1 min 00 s so far, about 3 min 00 s left"),
        # What was done before the start says nothing of the pace: 10 in 60 s, 30 to go.
        (70, 100, 60, 60, " 70% of training and evaluation, 1 min 00 s so far, about 3 min 00 s left"),
        (60, 100, 60, 60, " 60% of training and evaluation, 1 min 00 s so far"),
        (50, 100, 0, 7265, " 50% of training and evaluation, 2 h 01 min so far, about 2 h 01 min left"),
        (100, 100, 0, 59.7, "100% of training and evaluation, 1 min 00 s so far, drawing and tracking"),
        (100, 100, 100, 0, "100% of training and evaluation, 0 s so far, drawing and tracking"),
    ],
)
def test_the_line(done: float, total: float, begun: float, elapsed: float, text: str) -> None:
    assert line(done, total, begun, elapsed) == text


# --- what is done --------------------------------------------------------------------------------------


def share_done(plan: Plan) -> float:
    expected = progress._expected(plan)
    return sum(map(progress._done, expected)) / sum(run.cost for run in expected)


def order(plan: Plan, task: str, variant: str, arm: str, seed: int) -> str:
    """The order as training makes it: from its parsed spec."""
    pack = next(name for name, seeds in plan.seeds.items() if seed in seeds)
    spec = parse(TrainSpec, json.loads(plan.train(task, variant, arm, pack)))
    return order_key(spec.model_dump(mode="json"), seed, plan.code("train", task, variant, arm))


def finish_all(plan: Plan, results: Path) -> None:
    for (task, variant, arm), cell in plan.cells.items():
        for seed in cell.seeds:
            folder = RunFolder(results / "runs", task, variant, arm, seed)
            folder.report_status(order(plan, task, variant, arm, seed), 1.0)
            (folder.path / "evaluation.parquet").touch()


def test_every_run_of_the_grid_is_expected_once(results: Path) -> None:
    expected = progress._expected(plan_of())
    assert len(expected) == len({run.folder.path for run in expected}) == (4 + 3 + 4) * 2
    assert len({run.order for run in expected}) == 22
    assert results / "runs" / "modular_addition" / "tiny" / "baseline" / "seed-0" in {r.folder.path for r in expected}
    assert share_done(plan_of()) == 0


def test_a_run_counts_by_its_cost_and_its_evaluation_by_a_tenth(results: Path) -> None:
    plan = plan_of()
    total = sum(run.cost for run in progress._expected(plan))
    part = train_flops(plan.cells[RUN[:3]]) / total
    folder = RunFolder(results / "runs", *RUN)
    folder.report_status(order(plan, *RUN), 0.5)
    assert share_done(plan) == pytest.approx(part * 0.5 * (1 - EVALUATION_SHARE))
    (folder.path / "evaluation.parquet").touch()  # an old one: the run is not finished
    assert share_done(plan) == pytest.approx(part * 0.5 * (1 - EVALUATION_SHARE))
    folder.report_status(order(plan, *RUN), 1.0)
    assert share_done(plan) == pytest.approx(part)


def test_all_done_is_all_to_the_bit(results: Path) -> None:
    """The watcher stops at `done < total`: a rounding error would keep it going."""
    for names in ((TINY,), ("workflow/config/demo.yaml",)):
        plan = plan_of(names=names)
        finish_all(plan, results)
        expected = progress._expected(plan)
        assert sum(map(progress._done, expected)) == sum(run.cost for run in expected)


@pytest.mark.parametrize(
    "change",
    [
        ("tasks.modular_addition.variants.tiny.model.d_model", 16),
        ("checkpoints.count", 2),
    ],
)
def test_the_status_of_another_order_counts_as_nothing(results: Path, change: tuple[str, Any]) -> None:
    RunFolder(results / "runs", *RUN).report_status(order(plan_of(), *RUN), 1.0)
    assert share_done(plan_of()) > 0
    assert share_done(plan_of(change)) == 0


@pytest.mark.parametrize("change", [("runs_per_pack", 1), ("seeds", [0, 1, 2]), ("device", "cpu")])
def test_a_finished_run_counts_whatever_its_pack(results: Path, change: tuple[str, Any]) -> None:
    RunFolder(results / "runs", *RUN).report_status(order(plan_of(), *RUN), 1.0)
    assert share_done(plan_of(change)) > 0


@pytest.mark.parametrize("content", ["{", '{"share": 1.0}'])
def test_a_broken_status_counts_as_nothing(results: Path, content: str) -> None:
    folder = RunFolder(results / "runs", *RUN)
    folder.path.mkdir(parents=True)
    (folder.path / "status.json").write_text(content)
    assert share_done(plan_of()) == 0


# --- what is said --------------------------------------------------------------------------------------


def test_the_start_says_what_will_run(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress.threading, "Thread", lambda **_: type("T", (), {"start": lambda self: None})())
    with contextlib.ExitStack() as held:
        progress.start(plan_of(("runs_per_pack", 1)), held)
        assert capsys.readouterr().err == "nsbench | 11 cells, 22 runs in 22 packs (demo scale)\n"
        with pytest.raises(OccupiedError, match=f"process {os.getpid()} on "):
            progress.start(plan_of(), contextlib.ExitStack())
    assert sorted(path.name for path in results.iterdir()) == [HOLDER, LOCK]


def test_the_watch_reports_until_all_is_done(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, naps = plan_of(), []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        assert len(naps) < 10, "the watch does not end"
        if len(naps) == 3:
            finish_all(plan, results)

    monkeypatch.setattr(progress.time, "sleep", nap)
    progress._watch(progress._expected(plan))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("nsbench |   0% of training and evaluation")
    assert lines[-1].startswith("nsbench | 100% of training and evaluation")


def test_the_end_names_what_was_made_and_its_scale(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("figures/b.png", "figures/a.png", "figures/a.pdf", "tables/t.csv", "tables/t.parquet"):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).touch()
    progress.finish(plan_of(), "sqlite:///x.db")
    text = capsys.readouterr().err
    assert [line.split()[3] for line in text.splitlines() if "| " in line and " figure " in line] == [
        str(results / "figures" / "a.png"),
        str(results / "figures" / "b.png"),
    ]
    assert str(results / "tables" / "t.csv") in text
    assert "sqlite:///x.db" in text
    assert "demo-scale results" in text
    progress.finish(plan_of(("scale", "paper")), "x")
    assert "-scale results" not in capsys.readouterr().err


def test_a_failure_shows_the_end_of_its_log_and_says_that_finished_work_is_kept(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = "2026-01-02 03:04:05,678 INFO parity / seed 0: finished before, kept\n"
    for name, text, age in (
        ("sound", logged, 0),
        ("silent", "", 0),
        ("told", f"{logged}nsbench train: the disk is full\n", 0),
        ("raised", f"{logged}Traceback\n  File\nValueError: no\n", 0),
        ("earlier", "nsbench train: an older failure\n", 100),
    ):
        log = results / "logs" / "train" / f"{name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text)
        os.utime(log, (time.time() - age, time.time() - age))
    progress.fail_partial(time.time() - 50)
    assert "    nsbench train: the disk is full" in capsys.readouterr().err
    progress.fail(time.time() - 50)
    said = capsys.readouterr().err
    assert "told.log ends:" in said
    assert "    nsbench train: the disk is full" in said
    assert "    ValueError: no" in said
    assert not [name for name in ("sound", "silent", "earlier") if name in said]
    assert "Finished runs are kept" in said
