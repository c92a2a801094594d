"""The parts of the regulariser, and R-Drop: arms that ask something of dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nsbench.config.base import ConfigError
from nsbench.training.models.stack import DropoutMasks
from nsbench.training.run import TrainSpec, may_share
from tests.conftest import BASELINE, arm, train, train_spec
from tests.training.test_step import OTHERS, OnMeta, build, built, gap
from tests.training.test_training import COST, numbers, same

PARTS = {name: {**arm(), "kind": "noise_stability_part", "part": name} for name in ("y_equals_x", "y_differs")}
R_DROP = {"kind": "r_drop", "gamma": 0.75}
QUIET = {"model": {"dropout": 0.0}}
SHARED = {"model": {"dropout": 0.5}, "noise": {"dropout_masks": "shared"}}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "r_drop": (R_DROP, {"model": {"dropout": 0.5}}),
    **{f"{name}, no dropout": (settings, QUIET) for name, settings in PARTS.items()},
    **{f"{name}, shared masks": (settings, SHARED) for name, settings in PARTS.items()},
}


def spec_of(name: str, task: str = "modular_addition", **changes: Any) -> TrainSpec:
    settings, sections = CASES[name]
    return train_spec(task, {**settings, **changes}, **sections)


@pytest.mark.parametrize("gradient", ["both", "clean", "noisy"])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("task", ["modular_addition", "sparse_parity", "next_token"])
def test_the_parts_are_the_agreement_where_y_is_x_and_where_it_is_not(
    tmp_path: Path, device: torch.device, task: str, dropout: float, gradient: str
) -> None:
    """Told apart by the outputs in training, by the tokens here: of a causal model, those up to an output."""
    sections = {"model": {"dropout": dropout}, "noise": {"dropout_masks": "shared", "gradient": gradient}}
    rho = 0.25 if task == "modular_addition" else 0.8  # so that both parts have some of each batch
    for name, settings in PARTS.items():
        _, step = build(train_spec(task, {**settings, "rho": rho}, **sections), tmp_path, device)
        step(0)
        step(1)
        tokens, labels = step.batches(0)
        found, noisy = step.losses(tokens, labels)[2], step.noisy_tokens(tokens, 0)
        equal = (tokens == noisy).cumprod(-1).bool()
        equal = equal if labels.ndim == 3 else equal[..., -1]
        assert 0 < equal.double().mean() < 1
        p, q = (step._logits(ids, step._masks()).softmax(-1) for ids in (tokens, noisy))
        kept = equal if name == "y_equals_x" else ~equal
        torch.testing.assert_close(found, -0.75 * ((p * q).sum(-1) * kept).flatten(1).mean(1))


def test_r_drop_is_the_symmetric_divergence_of_two_masks(tmp_path: Path, device: torch.device) -> None:
    _, step = build(spec_of("r_drop"), tmp_path, device)
    step(0)
    for weight in step.stack.parameters():
        weight.detach().mul_(20)
    batch = step.batches(0)
    found = step.losses(*batch)[2]
    logs = [step.stack(batch[0], DropoutMasks(bits, 0.5)).log_softmax(-1) for bits in step.bits]
    pairs = [F.kl_div(one, other, reduction="none", log_target=True).sum(-1) for one, other in (logs, logs[::-1])]
    assert (found > 0.01).all()
    torch.testing.assert_close(found, 0.75 * (pairs[0] + pairs[1]).mean(1) / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["y_equals_x, no dropout", "y_differs, shared masks"])
def test_without_strength_it_equals_the_baseline_to_the_bit(tmp_path: Path, name: str) -> None:
    of_baseline = {"task": "modular_addition", "arm_settings": BASELINE, **CASES[name][1]}
    baseline, zero, some = (
        np.delete(numbers(train(tmp_path / folder, spec)[0]), COST, 1)
        for folder, spec in (
            ("baseline", train_spec(**of_baseline)),
            ("zero", spec_of(name, gamma=0.0)),
            ("some", spec_of(name)),
        )
    )
    assert same(baseline, zero)
    assert not same(baseline, some)


@pytest.mark.parametrize("name", CASES)
def test_a_mixed_stack_does_what_separate_stacks_do(tmp_path: Path, device: torch.device, name: str) -> None:
    one = spec_of(name)
    per_run = {field: OTHERS[field] for field in one.arm_settings.per_run}
    specs = [one, spec_of(name, **per_run)]
    assert all(may_share(one, spec_of(name, **{field: value})) for field, value in per_run.items())
    assert may_share(*specs)
    together, step = built(specs, [3, 3], tmp_path, device)
    for number in range(4):
        step(number)
    for run, spec in enumerate(specs):
        alone, single = built([spec], [3], tmp_path, device)
        for number in range(4):
            single(number)
        assert gap(together, run, alone, 0) < 2e-5
    assert gap(together, 0, together, 1) > 1e-4


def test_parts_share_no_stack_with_each_other_nor_with_the_whole() -> None:
    equal, differs = (train_spec(arm_settings=settings, **QUIET) for settings in PARTS.values())
    assert not may_share(equal, differs)
    assert not may_share(equal, train_spec(arm_settings=arm(), **QUIET))


@pytest.mark.parametrize("name", CASES)
def test_a_step_needs_no_value_of_a_tensor(tmp_path: Path, name: str) -> None:
    for task in ("modular_addition", "next_token"):
        _, step = build(spec_of(name, task), tmp_path, torch.device("meta"))
        with OnMeta():
            step._run((True,))


@pytest.mark.parametrize(
    ("settings", "sections", "told"),
    [
        (R_DROP, QUIET, "r_drop' compares two dropout masks, but the variant has a dropout of 0 and"),
        (R_DROP, SHARED, "a dropout of 0.5 and noise.dropout_masks = 'shared'; a dropout above 0 and 'independent'"),
        (
            PARTS["y_differs"],
            {"model": {"dropout": 0.1}},
            "'y_differs' does not go with dropout masks of",
        ),
        (PARTS["y_differs"], {**QUIET, "training": {"precision": "bfloat16"}}, "float32 and tf32 are allowed"),
    ],
)
def test_what_hides_or_removes_the_difference_is_refused(settings: Any, sections: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        train_spec(arm_settings=settings, **sections)
