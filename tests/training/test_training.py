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

from nsbench.arms import LossTerm
from nsbench.config.canonical import canonical_json
from nsbench.config.variant import Training
from nsbench.data.datasets import read_dataset
from nsbench.data.text import write_text_file
from nsbench.schemas.training import HISTORY, RUNS
from nsbench.storage.device import use_device
from nsbench.storage.locks import locked
from nsbench.storage.parquet import read_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import LOCK, RunFolder, read_checkpoint
from nsbench.training import loop, pack
from nsbench.training.batches import Batches
from nsbench.training.loop import StackTraining
from nsbench.training.models import read_model
from nsbench.training.pack import train_pack
from nsbench.training.run import Run, TrainSpec, companions
from nsbench.training.step import steps_at_once
from nsbench.training.validation import checkpoint_steps, evaluation_steps
from tests.conftest import BASELINE, DATA, arm, make_dataset, small_text, train, train_spec, write_datasets
from tests.training.test_step import ARMS, CHEAP

NUMBERS = [name for name in HISTORY.names if name not in ("seconds", "task", "variant", "arm")]


def numbers(history: Path, seed: int | None = None) -> np.ndarray:
    """All numbers of a history but its seconds, for one seed or all."""
    rows = read_table(history, HISTORY)
    return rows[rows["seed"] == seed][NUMBERS].to_numpy() if seed is not None else rows[NUMBERS].to_numpy()


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Equal to the bit, NaN included."""
    return one.shape == other.shape and one.tobytes() == other.tobytes()


COST = NUMBERS.index("flops")
SHORT = {"training": {"steps": 12}, "model": {"dropout": 0.1}, "optimizer": {"weight_decay": 0.05}}
"""With dropout and decay of a known size, which two controls replace."""


def trained(root: Path, settings: dict[str, Any], **sections: Any) -> np.ndarray:
    """The numbers of seed 3's history, or of the seeds asked for."""
    history, _ = train(root, train_spec(arm_settings=settings, **{**SHORT, "seeds": [3], **sections}))
    return numbers(history)


def trained_stack(
    root: Path, spec: TrainSpec, device: torch.device | str = "cpu", poison: bool = False, at_once: int = 1
) -> list[Run]:
    """The runs of seeds 3 and 4 after their training as one stack, as on a GPU; poison: the first diverges."""
    dataset, made_by = make_dataset(root), stamp("{}", "digest")
    runs = [
        Run(spec, s, read_dataset(dataset, s), RunFolder(root / "folders", "t", "v", "a", s, "key"), "order", made_by)
        for s in (3, 4)
    ]
    stack = StackTraining(runs, torch.device(device))
    if at_once > 1:
        stack.step.at_once = at_once
        stack.step.batches = Batches([3, 4], [run.data for run in runs], 10, at_once, stack.device)
    if poison:
        stack.stack.run_weights(0)["embedding"].fill_(math.nan)
    stack.train(3600.0)
    return runs


def test_gamma_zero_equals_baseline_to_the_bit(tmp_path: Path) -> None:
    baseline, _ = train(tmp_path / "baseline", train_spec("next_token"))
    zero, _ = train(tmp_path / "zero", train_spec("next_token", arm(gamma=0.0)))
    some, _ = train(tmp_path / "some", train_spec("next_token", arm(gamma=0.5)))
    for other, equal in ((zero, True), (some, False)):
        assert same(np.delete(numbers(baseline), COST, 1), np.delete(numbers(other), COST, 1)) == equal
    # The control pays for its second pass: it differs in cost alone.
    assert numbers(zero)[-1, COST] == 2 * numbers(baseline)[-1, COST]


def test_an_arm_without_strength_equals_the_baseline_to_the_bit(tmp_path: Path) -> None:
    baseline = np.delete(trained(tmp_path / "baseline", BASELINE), COST, 1)
    without = {
        "noise_stability": arm(gamma=0.0),
        "every": {**CHEAP, "gamma": 0.0, "every": 3, "share": 0.3, "branch": "clean"},
        "augmentation": {"kind": "augmentation", "rho": 0.25, "gamma": 0.0},
        "entropy": {"kind": "entropy", "gamma": 0.0},
        "label_smoothing": {"kind": "label_smoothing", "epsilon": 0.0},
        "r_drop": {"kind": "r_drop", "gamma": 0.0},
        "consistency": {"kind": "consistency", "gamma": 0.0},
        "grokfast": {"kind": "grokfast", "alpha": 0.9, "lamb": 0.0},
        "dropout": {"kind": "dropout", "rate": 0.1},
        "weight_decay": {"kind": "weight_decay", "value": 0.05},
    }
    for name, settings in without.items():
        assert same(baseline, np.delete(trained(tmp_path / name, settings), COST, 1)), name


def test_a_replacing_arm_equals_the_variant_with_that_value_to_the_bit(tmp_path: Path) -> None:
    for convention in ("times_lr", "per_step", "l2"):
        rules = {"weight_decay_convention": convention}
        variant = trained(tmp_path / f"v {convention}", BASELINE, optimizer={**rules, "weight_decay": 0.3})
        replaced = trained(
            tmp_path / f"a {convention}", ARMS["weight_decay"], optimizer={**rules, "weight_decay": 0.05}
        )
        assert same(variant, replaced)
    variant = trained(tmp_path / "v", BASELINE, model={"dropout": 0.4})
    for before in (0.0, 0.1):
        replaced = trained(tmp_path / f"{before}", {"kind": "dropout", "rate": 0.4}, model={"dropout": before})
        assert same(variant, replaced)


def test_arms_share_data_weights_batches_and_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a seed: what the model is at step 0, and what each step is given."""
    original = loop.TrainingStep.__call__
    given: dict[int, list[torch.Tensor]] = {}

    def noted(self: Any, step: int, count: int) -> None:
        original(self, step, count)
        given.setdefault(step, []).extend((*self.batches(0), self.bits[0].clone()))

    monkeypatch.setattr(loop.TrainingStep, "__call__", noted)
    firsts, inputs = [], []
    for place, settings in enumerate([BASELINE, *ARMS.values(), {"kind": "dropout", "rate": 0.4}]):
        given = {}
        values = trained(tmp_path / str(place), settings, training={"steps": 4})
        firsts.append(values[0])
        inputs.append([part for step in sorted(given) for part in given[step]])
    assert all(same(first, firsts[0]) for first in firsts)
    for parts in inputs[1:]:
        assert len(parts) == 12
        assert all(torch.equal(one, other) for one, other in zip(parts, inputs[0], strict=True))


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


@pytest.mark.parametrize(
    ("task", "name"),
    [("modular_addition", "noise_stability"), ("next_token", "combined"), ("sparse_parity", "grokfast")],
)
def test_a_run_alone_equals_itself_in_a_pack_in_any_order(tmp_path: Path, task: str, name: str) -> None:
    together, _ = train(tmp_path / "a", train_spec(task, ARMS[name], seeds=[3, 4, 5]))
    turned, _ = train(tmp_path / "b", train_spec(task, ARMS[name], seeds=[5, 3]))
    alone, _ = train(tmp_path / "c", train_spec(task, ARMS[name], seeds=[5]))
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


@pytest.mark.parametrize(
    ("name", "kill_at", "optimizer"),
    [
        ("noise_stability", 5, {"scheduler": "plateau", "scheduler_patience": 0, "scheduler_factor": 0.5}),
        ("noise_stability", 23, {}),
        ("every 20th", 10, {}),  # FLOPs of a kind of step that is not done again
        ("combined", 4, {}),
        ("grokfast", 10, {}),
    ],
)
def test_an_interrupted_run_equals_an_undisturbed_one_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kill_at: int, optimizer: dict[str, Any]
) -> None:
    settings = {**ARMS, "every 20th": {**CHEAP, "every": 20}}[name]
    spec = train_spec(arm_settings=settings, optimizer=optimizer)
    calm, calm_runs = train(tmp_path / "calm", spec)
    original = loop.TrainingStep.__call__
    steps = []

    def dies(self: Any, step: int, count: int) -> None:
        if step == kill_at and self.seeds == [4]:
            raise Killed
        original(self, step, count)

    def counted(self: Any, step: int, count: int) -> None:
        steps.append((self.seeds, step))
        original(self, step, count)

    monkeypatch.setattr(loop.TrainingStep, "__call__", dies)
    with pytest.raises(Killed):
        train(tmp_path / "stormy", spec, progress_every_seconds=0.0)
    monkeypatch.setattr(loop.TrainingStep, "__call__", counted)
    stormy, stormy_runs = train(tmp_path / "stormy", spec)
    assert same(numbers(calm), numbers(stormy))
    assert list(read_table(calm_runs, RUNS)["history_sha256"]) == list(read_table(stormy_runs, RUNS)["history_sha256"])
    # Seed 3 had finished and is not trained again; seed 4 goes on from its last progress file,
    # here one after each step.
    assert steps[0] == ([4], kill_at)
    assert {tuple(seeds) for seeds, _ in steps} == {(4,)}


def test_cells_that_differ_in_rho_and_strength_are_trained_as_one_stack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a sweep on a GPU; their packs then find the runs finished, each with its own name and numbers."""
    monkeypatch.setattr(pack, "stack_size", lambda runs, device: len(runs))
    specs = [
        train_spec(arm_settings=arm(rho, gamma)).model_copy(update={"arm": name})
        for name, rho, gamma in (("a", 0.25, 0.75), ("b", -0.5, 0.1), ("c", 1.0, 0.0))
    ]
    steps: list[list[int]] = []
    original = loop.TrainingStep.__call__

    def counted(self: Any, step: int, count: int) -> None:
        steps.append(self.seeds)
        original(self, step, count)

    monkeypatch.setattr(loop.TrainingStep, "__call__", counted)
    other = train_spec(arm_settings=CHEAP).model_copy(update={"arm": "of-an-older-plan"})
    arms = {spec.arm: spec.arm_settings for spec in [*specs, other]}
    planned = tmp_path / "stacks.json"
    planned.write_text(canonical_json({"n_gpus": 1, "stacks": [[other.task, other.variant, other.seeds, arms]]}))
    found = []
    for spec in specs:
        history, runs = train(tmp_path, spec, stacks=planned)
        assert steps[:24] == [[3, 4] * 3] * 24
        assert set(read_table(history, HISTORY)["arm"]) == {spec.arm}
        assert read_table(runs, RUNS)["status"].tolist() == ["completed"] * 2
        found.append(numbers(history))
        alone, _ = train(tmp_path / f"alone {spec.arm}", spec)
        assert found[-1] == pytest.approx(numbers(alone), rel=1e-4, nan_ok=True)
    assert len(steps) == 24 * 4
    assert not same(found[0], found[1])
    planned.write_text(canonical_json({"n_gpus": 2, "stacks": [[other.task, other.variant, other.seeds, arms]]}))
    taken = {spec.arm: [one.arm for one in companions(spec, planned)] for spec in specs}
    assert taken == {"a": ["c"], "b": [], "c": ["a"]}
    monkeypatch.setattr("nsbench.training.run.MOST_TOGETHER", 2)
    planned.write_text(canonical_json({"n_gpus": 1, "stacks": [[other.task, other.variant, other.seeds, arms]]}))
    taken = {spec.arm: [one.arm for one in companions(spec, planned)] for spec in specs}
    assert taken["a"] == ["b"]
    assert taken["b"] == ["c"]


def test_a_run_of_another_cell_that_is_in_training_is_left_to_its_own_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [train_spec(arm_settings=arm(0.25, gamma)).model_copy(update={"arm": f"g{gamma}"}) for gamma in (0.5, 0.7)]
    planned = tmp_path / "stacks.json"
    arms = {spec.arm: spec.arm_settings for spec in specs}
    stack = [specs[0].task, specs[0].variant, specs[0].seeds, arms]
    planned.write_text(canonical_json({"n_gpus": 1, "stacks": [stack]}))
    train(tmp_path / "before", specs[1])
    (folder,) = (tmp_path / "before" / "runs").glob("**/seed-3")
    held = tmp_path / "runs" / folder.relative_to(tmp_path / "before" / "runs")
    with locked(held / LOCK, None):
        train(tmp_path, specs[0], stacks=planned)
        assert not list(held.glob("*.parquet"))
    assert {path.parent.parent.name for path in (tmp_path / "runs").glob("**/history.parquet")} >= {specs[0].arm}
    history, _ = train(tmp_path, specs[1])
    assert same(numbers(history), numbers(tmp_path / "before" / "history.parquet"))


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


@pytest.mark.parametrize("name", ["noise_stability", "grokfast"])
def test_a_diverged_neighbour_touches_no_bit(tmp_path: Path, device: torch.device, name: str) -> None:
    spec = train_spec(arm_settings=ARMS[name], seeds=[3, 4])
    calm = trained_stack(tmp_path / "calm", spec, device)
    beside = trained_stack(tmp_path / "beside", spec, device, poison=True)
    assert [run.status for run in beside] == ["diverged", "completed"]
    pd.testing.assert_frame_equal(*(history(runs[1]) for runs in (calm, beside)), check_exact=True)


def history(run: Run, count: int | None = None) -> pd.DataFrame:
    """The first rows of a run's history, without seconds."""
    return pd.DataFrame(run.rows[:count]).drop(columns="seconds")


@pytest.mark.parametrize("unit", ["epoch", "evaluation"])
def test_steps_that_are_done_together_are_the_steps_one_by_one(tmp_path: Path, unit: str) -> None:
    """As a graph does them: none is passed over at which a run is evaluated, or an epoch ends."""
    optimizer = {"scheduler": "plateau", "scheduler_patience": 0, "scheduler_unit": unit, "learning_rate": 0.1}
    settings = {**CHEAP, "every": 2}
    spec = train_spec(arm_settings=settings, optimizer=optimizer, training={"steps": 22, "eval_every_steps": 8})
    alone = trained_stack(tmp_path / "alone", spec)
    together = trained_stack(tmp_path / "together", spec, at_once=4)
    for one, other in zip(alone, together, strict=True):
        pd.testing.assert_frame_equal(history(one), history(other), check_exact=True)


@pytest.mark.parametrize(
    ("eval_every", "every", "count"), [(100, 1, 20), (50, 1, 10), (100, 10, 20), (100, 50, 10), (7, 3, 1)]
)
def test_a_graph_s_steps_divide_those_between_evaluations(eval_every: int, every: int, count: int) -> None:
    term = LossTerm(torch.sub, every=every)
    assert steps_at_once(Training(steps=1000, eval_every_steps=eval_every), term) == count


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


def test_trail_holds_the_weights_of_its_steps(tmp_path: Path) -> None:
    _, runs = train(tmp_path, train_spec(arm_settings={"kind": "dropout", "rate": 0.4}))
    key = read_table(runs, RUNS).set_index("seed").loc[3, "run_key"]
    folder = RunFolder(tmp_path / "runs", "modular_addition", "tiny", "arm", 3, key)
    assert [path.name for path in folder.trail()] == [f"step-{step:08d}.safetensors" for step in (0, 12, 24)]
    first, metadata = read_checkpoint(folder.trail()[0], key)
    last, _ = read_checkpoint(folder.trail()[-1], key)
    assert metadata["step"] == "0"
    assert read_model(metadata["model"]).dropout == 0.4
    assert any(not torch.equal(first[name], last[name]) for name in first)


def test_checkpoints_are_evaluated_steps_first_and_last_included() -> None:
    for steps, every, count, expected in ((10, 4, 99, [0, 4, 8, 10]), (8, 4, 2, [0, 8]), (100, 10, 3, [0, 50, 100])):
        settings = Training(steps=steps, eval_every_steps=every)
        assert checkpoint_steps(settings, count) == expected
        assert set(expected) <= set(evaluation_steps(settings))


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
    whole = trained_stack(tmp_path / "whole", train_spec())
    best = [min(row["val_loss"] for row in run.rows) for run in whole]
    first, last = np.argsort(best)  # a threshold that the first comes to and the last never
    target = {"metric": "val_loss", "threshold": (best[first] + best[last]) / 2, "hold_evaluations": 1}
    spec = train_spec(training={"stop": "after_target", "margin_evaluations": 0}, target=target)
    runs = trained_stack(tmp_path / "stopped", spec)
    assert runs[first].status == "stopped"
    assert len(runs[first].rows) < len(runs[last].rows)
    for run, other in zip(runs, whole, strict=True):
        pd.testing.assert_frame_equal(history(run), history(other, len(run.rows)), check_exact=True)
