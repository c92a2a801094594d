"""The contracts of training: pairing, packs, interruption, divergence, schedule, trail."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nsbench.config.variant import Training
from nsbench.data.datasets import read_dataset
from nsbench.data.text import write_text_file
from nsbench.schemas.training import HISTORY, RUNS
from nsbench.storage.device import use_device
from nsbench.storage.parquet import read_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import RunFolder, read_checkpoint
from nsbench.training import loop
from nsbench.training.loop import Run, StackTraining, TrainSpec
from nsbench.training.pack import train_pack
from nsbench.training.validation import checkpoint_steps, evaluation_steps
from tests.conftest import DATA, arm, make_dataset, small_text, train, train_spec, write_datasets

NUMBERS = [name for name in HISTORY.names if name not in ("seconds", "task", "variant", "arm")]


def numbers(history: Path, seed: int | None = None) -> np.ndarray:
    """All numbers of a history but its seconds, for one seed or all."""
    rows = read_table(history, HISTORY)
    return rows[rows["seed"] == seed][NUMBERS].to_numpy() if seed is not None else rows[NUMBERS].to_numpy()


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal to the bit, NaN included."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


@pytest.mark.parametrize("task", ["modular_addition", "sparse_parity", "next_token"])
def test_gamma_zero_equals_baseline_to_the_bit(tmp_path: Path, task: str) -> None:
    baseline, _ = train(tmp_path / "baseline", train_spec(task))
    zero, _ = train(tmp_path / "zero", train_spec(task, arm(gamma=0.0)))
    some, _ = train(tmp_path / "some", train_spec(task, arm(gamma=0.5)))
    costs = NUMBERS.index("flops")
    for other, equal in ((zero, True), (some, False)):
        assert same(np.delete(numbers(baseline), costs, 1), np.delete(numbers(other), costs, 1)) == equal
    # The control pays for its second pass: it differs in cost alone.
    assert numbers(zero)[-1, costs] == 2 * numbers(baseline)[-1, costs]


def test_a_finished_run_bears_the_name_that_its_text_has_now(tmp_path: Path) -> None:
    spec = train_spec("next_token", seeds=[3])
    _, runs = train(tmp_path, spec)
    assert read_table(runs, RUNS)["text"].tolist() == [small_text().label]
    first = read_table(runs, RUNS)["run_key"].tolist()
    renamed = dataclasses.replace(small_text(), label="the same under another name")
    write_text_file(tmp_path / "other.parquet", renamed, {})
    write_datasets("next_token", DATA["next_token"], [3], tmp_path / "renamed", text=tmp_path / "other.parquet")
    files = (tmp_path / "renamed", tmp_path / "runs", tmp_path / "history.parquet", runs)
    train_pack(spec, "digest", *files, torch.device("cpu"), 3600.0)
    found = read_table(runs, RUNS)
    assert (found["text"].tolist(), found["run_key"].tolist()) == (["the same under another name"], first)


@pytest.mark.parametrize("task", ["modular_addition", "next_token"])
def test_a_run_alone_equals_itself_in_a_pack_in_any_order(tmp_path: Path, task: str) -> None:
    together, _ = train(tmp_path / "a", train_spec(task, arm(), seeds=[3, 4, 5]))
    turned, _ = train(tmp_path / "b", train_spec(task, arm(), seeds=[5, 3]))
    alone, _ = train(tmp_path / "c", train_spec(task, arm(), seeds=[5]))
    assert same(numbers(together, 5), numbers(alone, 5))
    assert same(numbers(turned, 5), numbers(alone, 5))
    assert not same(numbers(together, 5)[:, 1:], numbers(together, 4)[:, 1:])


def test_the_number_of_cores_changes_nothing(tmp_path: Path) -> None:
    """Kernels on two threads round differently, so every stage's process is held to one."""
    one, _ = train(tmp_path / "one", train_spec())
    torch.set_num_threads(2)
    with use_device("cpu") as device:
        two, _ = train(tmp_path / "two", train_spec(), device)
    assert same(numbers(one), numbers(two))


class Killed(Exception):
    pass


@pytest.mark.parametrize("optimizer", [{}, {"scheduler": "plateau", "scheduler_patience": 0, "scheduler_factor": 0.5}])
@pytest.mark.parametrize("kill_at", [5, 12, 23])
def test_an_interrupted_run_equals_an_undisturbed_one_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kill_at: int, optimizer: dict[str, Any]
) -> None:
    spec = train_spec(arm_settings=arm(), optimizer=optimizer)
    calm, calm_runs = train(tmp_path / "calm", spec)
    original = loop.TrainingStep.__call__

    def dies(self: Any, tokens: Any, labels: Any, step: int) -> None:
        if step == kill_at and self.seeds == [4]:
            raise Killed
        original(self, tokens, labels, step)

    monkeypatch.setattr(loop.TrainingStep, "__call__", dies)
    with pytest.raises(Killed):
        train(tmp_path / "stormy", spec, progress_every_seconds=0.0)
    steps = []

    def counted(self: Any, tokens: Any, labels: Any, step: int) -> None:
        steps.append((self.seeds, step))
        original(self, tokens, labels, step)

    monkeypatch.setattr(loop.TrainingStep, "__call__", counted)
    stormy, stormy_runs = train(tmp_path / "stormy", spec)
    assert same(numbers(calm), numbers(stormy))
    assert list(read_table(calm_runs, RUNS)["history_sha256"]) == list(read_table(stormy_runs, RUNS)["history_sha256"])
    # Seed 3 had finished and is not trained again; seed 4 goes on from its last progress file,
    # here one after each step.
    assert {tuple(seeds) for seeds, _ in steps} == {(4,)}
    assert steps[0][1] == kill_at


def test_another_seed_trains_that_seed_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(tmp_path, train_spec(seeds=[3, 4]))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/run.json")}
    caplog.clear()
    history, _ = train(tmp_path, train_spec(seeds=[3, 4, 5]))
    assert caplog.text.count("kept") == 2
    assert caplog.text.count("completed") == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert sorted(read_table(history, HISTORY)["seed"].unique()) == [3, 4, 5]


def test_other_settings_train_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(tmp_path, train_spec())
    caplog.clear()
    train(tmp_path, train_spec(optimizer={"learning_rate": 0.004}))
    assert caplog.text.count("completed") == 2


def test_divergence_is_a_row_and_ends_the_run(tmp_path: Path) -> None:
    history, runs = train(tmp_path, train_spec(optimizer={"learning_rate": 1e38}))
    rows = read_table(runs, RUNS)
    assert list(rows["status"]) == ["diverged", "diverged"]
    assert (rows["steps"] < 24).all()
    last = read_table(history, HISTORY).groupby("seed").last()
    assert not np.isfinite(last[["train_loss", "val_loss"]].to_numpy()).all()


def test_a_diverged_neighbour_touches_no_bit(tmp_path: Path, device: torch.device) -> None:
    dataset = make_dataset(tmp_path)
    spec = train_spec(arm_settings=arm(), seeds=[3, 4])

    def rows(name: str, poison: bool) -> tuple[pd.DataFrame, list[Run]]:
        runs = [
            Run(s, read_dataset(dataset, s), RunFolder(tmp_path / name, "t", "v", "a", s, "key"), "order", None)
            for s in (3, 4)
        ]
        stack = StackTraining(spec, runs, device, stamp("{}", "digest"))
        if poison:
            stack.stack.run_weights(0)["embedding"].fill_(math.nan)
        stack.train(3600.0)
        return pd.DataFrame(runs[1].rows).drop(columns="seconds"), runs

    calm, _ = rows("calm", poison=False)
    beside, runs = rows("beside", poison=True)
    assert [run.status for run in runs] == ["diverged", "completed"]
    pd.testing.assert_frame_equal(calm, beside, check_exact=True)


def test_plateau_scheduler_acts_on_each_run(tmp_path: Path) -> None:
    optimizer = {"learning_rate": 0.1, "scheduler": "plateau", "scheduler_patience": 0, "scheduler_factor": 0.5}
    for unit, changes_at_most in (("epoch", 24 // 3), ("evaluation", 24 // 4)):
        history, _ = train(tmp_path / unit, train_spec(optimizer={**optimizer, "scheduler_unit": unit}))
        rates = read_table(history, HISTORY).groupby("seed")["learning_rate"].last()
        halvings = np.log2(0.1 / rates.to_numpy())
        assert np.allclose(halvings, halvings.round())
        assert (halvings >= 1).all()
        assert (halvings <= changes_at_most).all()


def test_history_says_what_it_should(tmp_path: Path) -> None:
    spec = train_spec(training={"steps": 10, "eval_every_steps": 4})
    history, runs = train(tmp_path, spec)
    rows = read_table(history, HISTORY)
    one = rows[rows["seed"] == 3]
    assert list(one["step"]) == [0, 4, 8, 10]
    assert one["epoch"].iloc[-1] == pytest.approx(10 * 10 / 25)
    assert math.isnan(one["train_loss"].iloc[0])
    # Untrained, every class has a chance of about 1/7: so have the loss and the stability.
    assert one["val_loss"].iloc[0] == pytest.approx(math.log(7), rel=0.02)
    assert one["stability"].iloc[0] == pytest.approx(1 / 7, rel=0.02)
    assert (one["flops"].diff().dropna() > 0).all()
    summary = read_table(runs, RUNS).set_index("seed").loc[3]
    assert summary["flops"] == one["flops"].iloc[-1]
    assert summary["status"] == "completed"


def test_a_run_learns(tmp_path: Path) -> None:
    history, _ = train(tmp_path, train_spec("sparse_parity", training={"steps": 120, "batch_size": 32}))
    rows = read_table(history, HISTORY)
    assert rows["train_loss"].iloc[-1] < 0.9 * rows["train_loss"].iloc[1]


def test_trail_holds_the_weights_of_its_steps(tmp_path: Path) -> None:
    _, runs = train(tmp_path, train_spec())
    key = read_table(runs, RUNS).set_index("seed").loc[3, "run_key"]
    folder = RunFolder(tmp_path / "runs", "modular_addition", "tiny", "arm", 3, key)
    assert [path.name for path in folder.trail()] == [f"step-{step:08d}.safetensors" for step in (0, 12, 24)]
    first, metadata = read_checkpoint(folder.trail()[0], key)
    last, _ = read_checkpoint(folder.trail()[-1], key)
    assert metadata["step"] == "0"
    assert any(not torch.equal(first[name], last[name]) for name in first)


@pytest.mark.parametrize(
    ("steps", "every", "count", "expected"),
    [(10, 4, 99, [0, 4, 8, 10]), (8, 4, 2, [0, 8]), (100, 10, 3, [0, 50, 100]), (5, 5, 2, [0, 5])],
)
def test_checkpoints_are_evaluated_steps_first_and_last_included(
    steps: int, every: int, count: int, expected: list[int]
) -> None:
    settings = Training(steps=steps, eval_every_steps=every)
    found = checkpoint_steps(settings, count)
    assert found == expected
    assert set(found) <= set(evaluation_steps(settings))


def test_same_curve_as_ever(tmp_path: Path) -> None:
    """A stored curve: a change of the loop, the model or a stream that moves numbers shows here."""
    history, _ = train(tmp_path, train_spec(arm_settings=arm(), seeds=[3]))
    rows = read_table(history, HISTORY)
    assert rows["val_loss"].tolist() == pytest.approx(STORED_VAL_LOSS, abs=2e-4)
    assert rows["stability"].tolist() == pytest.approx(STORED_STABILITY, abs=2e-4)


STORED_VAL_LOSS = [1.94946, 1.96198, 1.97313, 1.98469, 1.99761, 2.01045, 2.02554]
STORED_STABILITY = [0.14298, 0.14313, 0.14341, 0.14385, 0.14448, 0.1453, 0.14627]


def test_a_run_that_may_stop_does_so_at_its_target_and_is_the_beginning_of_the_whole_one(tmp_path: Path) -> None:
    target = {"metric": "val_loss", "threshold": 3.0, "hold_evaluations": 2, "hold_steps": 5}  # reached from step 0
    whole, _ = train(tmp_path / "whole", train_spec(training={"steps": 24, "eval_every_steps": 4}))
    history, runs = train(
        tmp_path / "stopped",
        train_spec(training={"stop": "after_target", "margin_evaluations": 1}, target=target),
    )
    rows = read_table(runs, RUNS).set_index("seed")
    # Held from step 0 to step 8, since 4 are not 5 steps; then one evaluation more.
    assert rows["status"].to_dict() == {3: "stopped", 4: "stopped"}
    assert rows["steps"].to_dict() == {3: 12, 4: 12}
    for seed in (3, 4):
        assert same(numbers(history, seed), numbers(whole, seed)[:4])
        folder = RunFolder(tmp_path / "stopped/runs", "modular_addition", "tiny", "arm", seed, rows["run_key"][seed])
        assert [path.name for path in folder.trail()] == ["step-00000000.safetensors", "step-00000012.safetensors"]
        assert folder.lost_checkpoints() == []


def test_a_target_that_is_not_held_stops_no_run(tmp_path: Path) -> None:
    target = {"metric": "val_accuracy", "threshold": 1.0}
    _, runs = train(tmp_path, train_spec(training={"stop": "after_target", "margin_evaluations": 0}, target=target))
    assert set(read_table(runs, RUNS)["status"]) == {"completed"}


def test_a_stopped_neighbour_touches_no_bit_of_a_stack(tmp_path: Path) -> None:
    """Seeds 3 and 4 stop at different evaluations, as a GPU would train them: side by side."""
    dataset = make_dataset(tmp_path)

    def trained(name: str, spec: TrainSpec) -> list[Run]:
        runs = [
            Run(s, read_dataset(dataset, s), RunFolder(tmp_path / name, "t", "v", "a", s, "key"), "order", None)
            for s in (3, 4)
        ]
        StackTraining(spec, runs, torch.device("cpu"), stamp("{}", "digest")).train(3600.0)
        return runs

    whole = trained("whole", train_spec())
    best = [min(row["val_loss"] for row in run.rows) for run in whole]
    first, last = np.argsort(best)  # a threshold that the first comes to and the last never
    threshold = (best[first] + best[last]) / 2
    target = {"metric": "val_loss", "threshold": threshold, "hold_evaluations": 1}
    runs = trained("stopped", train_spec(training={"stop": "after_target", "margin_evaluations": 0}, target=target))
    assert runs[first].status == "stopped"
    assert len(runs[first].rows) < len(runs[last].rows)
    for run, other in zip(runs, whole, strict=True):
        kept = [pd.DataFrame(found.rows[: len(run.rows)]).drop(columns="seconds") for found in (run, other)]
        pd.testing.assert_frame_equal(*kept, check_exact=True)
