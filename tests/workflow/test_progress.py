"""How long the jobs of a call take, and what is said of it."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from nsbench.config.base import parse
from nsbench.storage.run_folder import RunFolder, order_key
from nsbench.training.run import TrainSpec
from nsbench.workflow import progress
from nsbench.workflow.job_seconds import GFLOPS, OTHER_SECONDS, SECONDS, Asked, guessed
from nsbench.workflow.pace import Job, Pace
from nsbench.workflow.plan import Plan
from nsbench.workflow.resources import train_flops
from nsbench.workflow.results_lock import HOLDER, LOCK, OccupiedError
from tests.workflow.conftest import plan_of

RUN = ("modular_addition", "tiny", "baseline", 0)
PACK = dict(zip(("task", "variant", "arm", "pack"), (*RUN[:3], "seeds-0-1"), strict=True))


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(progress, "RESULTS", tmp_path)
    monkeypatch.setattr(progress, "PARTIAL", tmp_path / "partial")
    return tmp_path


# --- what jobs take ------------------------------------------------------------------------------------


def order(plan: Plan, task: str, variant: str, arm: str, seed: int) -> str:
    """The order as training makes it: from its parsed spec."""
    pack = next(name for name, seeds in plan.seeds.items() if seed in seeds)
    spec = parse(TrainSpec, json.loads(plan.train(task, variant, arm, pack)))
    return order_key(spec.model_dump(mode="json"), seed, plan.code("train", task, variant, arm))


def training(plan: Plan, results: Path, on_gpu: bool = False) -> Job:
    """The job that trains the pack of RUN."""
    (job,) = guessed(plan, [Asked(7, "train_pack", PACK, (3,), on_gpu)], results / "runs")
    assert (job.id, job.needs, job.on_gpu) == (7, (3,), on_gpu)
    return job


def test_training_takes_its_operations_and_less_what_is_done(results: Path) -> None:
    plan, start = plan_of(), SECONDS["train_pack"]
    both = 2 * train_flops(plan.cells[RUN[:3]]) / 1e9
    assert training(plan, results).seconds == pytest.approx(start + both / GFLOPS["cpu"])
    assert training(plan, results, on_gpu=True).seconds == pytest.approx(start + both / GFLOPS["cuda"])
    folder = RunFolder(results / "runs", *RUN)
    folder.report_status(order(plan, *RUN), 0.5)
    job = training(plan, results)
    assert job.seconds == pytest.approx(start + 0.75 * both / GFLOPS["cpu"])
    # Of what this call trains: nothing yet, then a third.
    assert job.share is not None
    assert job.share() == 0
    folder.report_status(order(plan, *RUN), 1.0)
    assert job.share() == pytest.approx(1 / 3)
    RunFolder(results / "runs", *RUN[:3], 1).report_status(order(plan, *RUN[:3], 1), 1.0)
    assert job.share() == 1
    assert training(plan, results).seconds == start


def test_other_jobs_take_what_they_are_known_to_and_evaluation_its_operations(results: Path) -> None:
    plan = plan_of()
    evaluate, figure, model = (
        guessed(plan, [Asked(1, rule, PACK, (), False)], results)[0].seconds
        for rule in ("evaluate_pack", "draw_figure", "measure_model")
    )
    assert evaluate > SECONDS["evaluate_pack"]
    assert figure == OTHER_SECONDS < model


@pytest.mark.parametrize(
    "change",
    [
        ("tasks.modular_addition.variants.tiny.model.d_model", 16),
        ("checkpoints.count", 2),
    ],
)
def test_the_status_of_another_order_counts_as_nothing(results: Path, change: tuple[str, Any]) -> None:
    RunFolder(results / "runs", *RUN).report_status(order(plan_of(), *RUN), 1.0)
    assert training(plan_of(change), results).share() == 0  # type: ignore[misc]
    assert training(plan_of(change), results).seconds > training(plan_of(), results).seconds


# --- what is said --------------------------------------------------------------------------------------


def test_the_start_says_what_will_run(results: Path) -> None:
    said: list[str] = []
    pace = Pace([Job(0, 60.0), Job(1, 170.0)], cores=1, gpus=1, began=0.0)
    with contextlib.ExitStack() as held:
        progress.start(plan_of(("runs_per_pack", 1)), held, pace, said.append)
        assert said == ["11 cells, 22 runs in 22 packs (demo scale); 2 jobs to do, about 4 min"]
        with pytest.raises(OccupiedError, match=f"process {os.getpid()} on "):
            progress.start(plan_of(), contextlib.ExitStack(), pace, said.append)
    assert sorted(path.name for path in results.iterdir()) == [HOLDER, LOCK]


def test_the_end_names_what_was_made_its_verdicts_and_its_scale(results: Path) -> None:
    for name in ("figures/b.png", "figures/a.png", "figures/a.pdf", "tables/t.csv", "tables/t.parquet", "tracked.json"):
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).touch()
    (results / "claims.md").write_text("| a | b |\n\n- Training: 2 undecided.\n")
    said: list[str] = []
    progress.finish(plan_of(), "sqlite:///x.db", 83.0, said.append)
    text = "\n".join(said)
    for part in (
        "done in 1 min 23 s",
        "2 figures",
        "1 tables",
        "sqlite:///x.db",
        "Training: 2 undecided.",
        "demo-scale",
    ):
        assert part in text
    assert "report" not in text  # none was made
    progress.finish(plan_of(("scale", "paper")), "x", 1.0, said.append)
    assert "-scale results" not in said[-1]


def test_the_end_of_a_failure_names_the_jobs_and_says_that_finished_work_is_kept(results: Path) -> None:
    said: list[str] = []
    progress.fail([f"train {number}" for number in range(12)], False, said.append)
    assert said[:2] == ["failed: train 0", "failed: train 1"]
    assert said[10] == "failed: 2 more"
    assert said[11].startswith("stopped before the end")
    assert "Finished runs are kept" in said[-1]
    said.clear()
    progress.fail([], True, said.append)
    assert said[0] == "interrupted."
    (results / "partial").mkdir()
    (results / "partial" / "report.html").touch()
    progress.fail_partial(said.append)
    assert "No run was touched" in said[-2]
    assert "of an earlier report, not of now: " in said[-1]
