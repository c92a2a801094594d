"""The contracts of training for every arm: pairing, packs, interruption, cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nsbench.config.variant import Model
from nsbench.data.datasets import read_dataset
from nsbench.schemas.training import RUNS
from nsbench.storage.parquet import read_table
from nsbench.storage.provenance import stamp
from nsbench.storage.run_folder import RunFolder, read_checkpoint
from nsbench.training import loop
from tests.conftest import BASELINE, arm, make_dataset, train, train_spec
from tests.training.test_arm_steps import ARMS, CHEAP
from tests.training.test_training import NUMBERS, Killed, numbers, same

COST = NUMBERS.index("flops")
SHORT = {"training": {"steps": 12}, "model": {"dropout": 0.1}, "optimizer": {"weight_decay": 0.05}}
"""With dropout and decay of a known size, which two controls replace."""


def trained(root: Path, settings: dict[str, Any], **sections: Any) -> np.ndarray:
    """The numbers of seed 3's history, or of the seeds asked for."""
    history, _ = train(root, train_spec(arm_settings=settings, **{**SHORT, "seeds": [3], **sections}))
    return numbers(history)


@pytest.mark.parametrize("noise", [{}, {"n_draws": 2, "gradient": "clean", "dropout_masks": "shared"}])
def test_a_cheap_arm_that_saves_nothing_equals_the_paper_s_to_the_bit(tmp_path: Path, noise: dict[str, Any]) -> None:
    paper, cheap = (trained(tmp_path / s["kind"], s, noise=noise) for s in (arm(), CHEAP))
    assert same(paper, cheap)


def test_an_arm_without_strength_equals_the_baseline_to_the_bit(tmp_path: Path) -> None:
    baseline = np.delete(trained(tmp_path / "baseline", BASELINE), COST, 1)
    without = {
        "every": {**CHEAP, "gamma": 0.0, "every": 3},
        "share": {**CHEAP, "gamma": 0.0, "share": 0.3, "branch": "clean"},
        "augmentation": {"kind": "augmentation", "rho": 0.25, "gamma": 0.0},
        "entropy": {"kind": "entropy", "gamma": 0.0},
        "grokfast": {"kind": "grokfast", "alpha": 0.9, "lamb": 0.0},
        "dropout": {"kind": "dropout", "rate": 0.1},
        "weight_decay": {"kind": "weight_decay", "value": 0.05},
    }
    for name, settings in without.items():
        assert same(baseline, np.delete(trained(tmp_path / name, settings), COST, 1)), name


@pytest.mark.parametrize("convention", ["times_lr", "per_step", "l2"])
def test_a_replacing_arm_equals_the_variant_with_that_value_to_the_bit(tmp_path: Path, convention: str) -> None:
    rules = {"weight_decay_convention": convention}
    variant = trained(tmp_path / "variant", BASELINE, optimizer={**rules, "weight_decay": 0.3})
    replaced = trained(tmp_path / "arm", ARMS["weight_decay"], optimizer={**rules, "weight_decay": 0.05})
    other = trained(tmp_path / "other", BASELINE, optimizer={**rules, "weight_decay": 0.05})
    assert same(variant, replaced)
    assert not same(variant, other)


def test_replaced_dropout_equals_the_variant_with_that_rate_to_the_bit(tmp_path: Path) -> None:
    variant = trained(tmp_path / "v", BASELINE, model={"dropout": 0.4})
    for before in (0.0, 0.1):
        replaced = trained(tmp_path / f"{before}", {"kind": "dropout", "rate": 0.4}, model={"dropout": before})
        assert same(variant, replaced)


def test_a_trail_names_the_dropout_that_was_used(tmp_path: Path) -> None:
    _, runs = train(tmp_path, train_spec(arm_settings={"kind": "dropout", "rate": 0.4}, seeds=[3], **SHORT))
    key = read_table(runs, RUNS)["run_key"].iloc[0]
    folder = RunFolder(tmp_path / "runs", "modular_addition", "tiny", "arm", 3, key)
    _, metadata = read_checkpoint(folder.trail()[0], key)
    assert Model.model_validate_json(metadata["model"]).dropout == 0.4


def test_arms_share_data_weights_batches_and_masks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a seed: what the model is at step 0, and what each step is given."""
    original = loop.TrainingStep.__call__
    given: dict[int, list[torch.Tensor]] = {}

    def noted(self: Any, tokens: Any, labels: Any, step: int) -> None:
        original(self, tokens, labels, step)
        given.setdefault(step, []).extend((tokens, labels, self.bits_RN.clone()))

    monkeypatch.setattr(loop.TrainingStep, "__call__", noted)
    firsts, inputs = [], []
    for place, settings in enumerate([BASELINE, arm(), *ARMS.values(), {"kind": "dropout", "rate": 0.4}]):
        given = {}
        values = trained(tmp_path / str(place), settings, seeds=[3], training={"steps": 4})
        firsts.append(values[0])
        inputs.append([part for step in sorted(given) for part in given[step]])
    assert all(same(first, firsts[0]) for first in firsts)
    for parts in inputs[1:]:
        assert len(parts) == 12
        assert all(torch.equal(one, other) for one, other in zip(parts, inputs[0], strict=True))


@pytest.mark.parametrize("name", ARMS)
def test_a_run_alone_equals_itself_in_a_pack_to_the_bit(tmp_path: Path, name: str) -> None:
    together, _ = train(tmp_path / "a", train_spec(arm_settings=ARMS[name], seeds=[3, 5], **SHORT))
    alone = trained(tmp_path / "b", ARMS[name], seeds=[5])
    assert same(numbers(together, 5), alone)
    assert not same(numbers(together, 5)[:, 1:], numbers(together, 3)[:, 1:])


@pytest.mark.parametrize("kill_at", [4, 10])
@pytest.mark.parametrize("name", ["every 3rd", "every 20th", "combined", "augmentation", "entropy", "grokfast"])
def test_an_interrupted_run_equals_an_undisturbed_one_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kill_at: int
) -> None:
    """FLOPs included, those of a kind of step that is not done again too (every 20th: step 0 alone)."""
    settings = {**ARMS, "every 20th": {**CHEAP, "every": 20}}[name]
    calm = trained(tmp_path / "calm", settings, seeds=[4])
    original = loop.TrainingStep.__call__

    def dies(self: Any, tokens: Any, labels: Any, step: int) -> None:
        if step == kill_at:
            raise Killed
        original(self, tokens, labels, step)

    spec = train_spec(arm_settings=settings, seeds=[4], **SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(loop.TrainingStep, "__call__", dies)
        with pytest.raises(Killed):
            train(tmp_path / "stormy", spec, progress_every_seconds=0.0)
    starts: list[int] = []

    def counted(self: Any, tokens: Any, labels: Any, step: int) -> None:
        starts.append(step)
        original(self, tokens, labels, step)

    monkeypatch.setattr(loop.TrainingStep, "__call__", counted)
    stormy, _ = train(tmp_path / "stormy", spec)
    assert starts[0] == kill_at
    assert same(calm, numbers(stormy))


def test_cost_is_exact_at_every_step(tmp_path: Path) -> None:
    spec = train_spec(arm_settings={**CHEAP, "every": 5}, seeds=[3], training={"steps": 7, "eval_every_steps": 1})
    history, _ = train(tmp_path, spec)
    flops = numbers(history)[:, COST]
    with_it, without = flops[1], flops[2] - flops[1]
    assert flops.tolist() == [0.0, *np.cumsum([with_it, *[without] * 4, with_it, without])]
    assert with_it == 2 * without


def test_cheap_arms_cost_what_they_say(tmp_path: Path) -> None:
    """In FLOPs of whole runs against the baseline's."""
    sections = {"seeds": [3], "training": {"steps": 40, "eval_every_steps": 20}}
    settings = {
        "baseline": BASELINE,
        "both": arm(),
        "every_10th": {**CHEAP, "every": 10},
        "tenth_of_batch": {**CHEAP, "share": 0.1},
        "one_branch": {**CHEAP, "branch": "clean"},
    }
    cost = {name: trained(tmp_path / name, chosen, **sections)[-1, COST] for name, chosen in settings.items()}
    assert 1.0 < cost["every_10th"] / cost["baseline"] < 1.15
    assert 1.0 < cost["tenth_of_batch"] / cost["baseline"] < 1.15
    assert 1.2 < cost["one_branch"] / cost["baseline"] < 1.4 < cost["both"] / cost["baseline"]


def test_a_diverged_neighbour_touches_no_bit_of_the_slow_gradient(tmp_path: Path, device: torch.device) -> None:
    dataset = make_dataset(tmp_path)
    spec = train_spec(arm_settings=ARMS["grokfast"], seeds=[3, 4], **SHORT)

    def losses(name: str, poison: bool) -> list[float]:
        folders = [RunFolder(tmp_path / name, "t", "v", "a", seed, "key") for seed in (3, 4)]
        runs = [
            loop.Run(seed, read_dataset(dataset, seed), folder, "order", None)
            for seed, folder in zip((3, 4), folders, strict=True)
        ]
        stack = loop.StackTraining(spec, runs, device, stamp("{}", "digest"))
        if poison:
            stack.stack.run_weights(0)["embedding"].fill_(np.nan)
        stack.train(3600.0)
        assert (runs[0].status == "diverged") == poison
        return [row["val_loss"] for row in runs[1].rows]

    assert losses("calm", False) == losses("beside", True)
