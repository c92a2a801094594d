"""Arms: what may be registered, how settings are told, and what fits a variant."""

from __future__ import annotations

import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from pydantic import TypeAdapter

from nsbench import arms
from nsbench.config.base import ConfigError
from nsbench.config.variant import Noise, Optimizer
from nsbench.workflow.grid import load
from tests.config.test_config import ROOT

CHEAP = {"kind": "cheap_noise_stability", "rho": 0.25, "gamma": 0.75}
PART = {**CHEAP, "kind": "noise_stability_part"}
NAMES = {
    "every_10th": {"kind": "cheap_noise_stability", "every": 10, "share": 1.0, "branch": "both"},
    "tenth_of_batch": {"kind": "cheap_noise_stability", "every": 1, "share": 0.1, "branch": "both"},
    "one_branch": {"kind": "cheap_noise_stability", "every": 1, "share": 1.0, "branch": "clean"},
    "augmentation": {"kind": "augmentation", "gamma": 1.0},
    "entropy": {"kind": "entropy", "orientation": 1},
    "label_smoothing": {"kind": "label_smoothing", "epsilon": 0.1},
    "negative_label_smoothing": {"kind": "label_smoothing", "epsilon": -0.1},
    "r_drop": {"kind": "r_drop"},
    "consistency": {"kind": "consistency"},
    "y_equals_x": {"kind": "noise_stability_part", "part": "y_equals_x", "orientation": 1},
    "y_differs": {"kind": "noise_stability_part", "part": "y_differs", "orientation": 1},
    "grokfast": {"kind": "grokfast", "alpha": 0.98, "lamb": 2.0},
    "more_dropout": {"kind": "dropout"},
    "more_weight_decay": {"kind": "weight_decay"},
}


def made(**settings: Any) -> arms.Arm:
    return TypeAdapter(arms.AnyArm).validate_python(settings)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kind": "baseline"}, ""),
        ({"kind": "noise_stability", "rho": 0.05, "gamma": 1, "orientation": 0}, "ρ = 0.05, γ = 1, S = 0"),
        (CHEAP, "ρ = 0.25, γ = 0.75, S = 1"),
        ({**CHEAP, "every": 10}, "ρ = 0.25, γ = 0.75, S = 1, every 10th step"),
        ({**CHEAP, "every": 2, "share": 0.125}, "ρ = 0.25, γ = 0.75, S = 1, every 2nd step, 12.5% of the batch"),
        ({**CHEAP, "every": 112}, "ρ = 0.25, γ = 0.75, S = 1, every 112th step"),
        ({**CHEAP, "every": 21}, "ρ = 0.25, γ = 0.75, S = 1, every 21st step"),
        ({**CHEAP, "branch": "clean"}, "ρ = 0.25, γ = 0.75, S = 1, gradient through M(X) alone"),
        ({**CHEAP, "branch": "noisy"}, "ρ = 0.25, γ = 0.75, S = 1, gradient through M(Y) alone"),
        ({"kind": "augmentation", "rho": 0.25, "gamma": 1}, "ρ = 0.25, γ = 1"),
        ({"kind": "entropy", "gamma": 0.75}, "γ = 0.75, entropy punished"),
        ({"kind": "entropy", "gamma": 0.75, "orientation": 0}, "γ = 0.75, entropy rewarded"),
        ({"kind": "label_smoothing", "epsilon": -0.1}, "ε = -0.1"),
        ({"kind": "r_drop", "gamma": 0.75}, "γ = 0.75"),
        ({"kind": "consistency", "gamma": 0.75}, "γ = 0.75"),
        ({**PART, "part": "y_equals_x"}, "ρ = 0.25, γ = 0.75, S = 1, where Y = X alone"),
        ({**PART, "part": "y_differs", "orientation": 0}, "ρ = 0.25, γ = 0.75, S = 0, where Y ≠ X alone"),
        ({"kind": "grokfast", "alpha": 0.98, "lamb": 2}, "α = 0.98, λ = 2"),
        ({"kind": "dropout", "rate": 0.3}, "dropout = 0.3"),
        ({"kind": "weight_decay", "value": 0.003}, "weight decay = 0.003"),
    ],
)
def test_settings_are_told_in_words(settings: dict[str, Any], text: str) -> None:
    assert arms.describe(settings) == text


def test_every_built_in_kind_has_a_family() -> None:
    families = {kind: cls.family for kind, cls in arms.ARMS.items() if cls.__module__.startswith("nsbench.")}
    assert [kind for kind, family in families.items() if family == "paper"] == [
        "baseline",
        "noise_stability",
        "sensitivity",
    ]
    assert [kind for kind, family in families.items() if family == "cheaper"] == ["cheap_noise_stability"]
    assert "own" not in families.values()


def test_an_arm_keeps_its_class_and_all_its_settings_through_json() -> None:
    for settings in (CHEAP, {"kind": "grokfast", "alpha": 0.9, "lamb": 2}, {"kind": "baseline"}):
        arm = made(**settings)
        assert type(arm) is arms.ARMS.find(settings["kind"])
        values = TypeAdapter(dict[str, arms.AnyArm]).dump_python({"a": arm}, mode="json")["a"]
        assert set(values) == set(type(arm).model_fields)
        assert made(**values) == arm


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown kind of arm 'grokfst', did you mean 'grokfast'\?; allowed: .*baseline"
    ):
        arms.describe({"kind": "grokfst"})


class Plain(arms.Arm):
    """An arm without settings."""


class Noisy(arms.Arm):
    """One that cannot know its rho."""

    draws_noise = True


@pytest.mark.parametrize(
    ("kind", "cls", "told"),
    [
        (
            "entropy",
            Plain,
            "the kind of arm 'entropy' is taken by nsbench.arms.controls.Entropy; allowed: a name",
        ),
        ("My-Arm", Plain, "'My-Arm' is no kind of arm; allowed: at most 50 of a-z"),
        ("noisy", Noisy, "'noisy' draws noise and has no rho; a field `rho: Rho` is needed"),
        ("number", int, "'number' registers <class 'int'>; a subclass of nsbench.Arm is allowed"),
    ],
)
def test_what_cannot_be_registered_is_refused(kind: str, cls: Any, told: str) -> None:
    before = dict(arms.ARMS)
    with pytest.raises(ConfigError, match=re.escape(told)):
        arms.arm(kind)(cls)
    assert before == arms.ARMS


def variant(**sections: Any) -> Any:
    """A variant's sections as an arm looks at them."""
    return SimpleNamespace(**{"noise": Noise(), "optimizer": Optimizer(), "model": SimpleNamespace(), **sections})


@pytest.mark.parametrize("gradient", ["both", "clean"])
@pytest.mark.parametrize("branch", ["both", "noisy"])
def test_a_branch_goes_with_gradients_through_both(branch: str, gradient: str) -> None:
    arm, settings = made(**CHEAP, branch=branch), variant(noise=Noise(gradient=gradient))
    if "both" in (branch, gradient):
        arms.check(arm, settings)
        return
    with pytest.raises(ConfigError) as caught:
        arms.check(arm, settings, "grid[0] (one_branch)")
    assert str(caught.value) == (
        f"grid[0] (one_branch): branch = '{branch}' does not go with the variant's noise.gradient = '{gradient}'; "
        "one of the two must be 'both'"
    )


def test_a_decay_that_erases_the_weights_is_refused() -> None:
    for convention, value in (("per_step", 0.9), ("times_lr", 3.0)):
        optimizer = Optimizer(weight_decay_convention=convention)
        arms.check(made(kind="weight_decay", value=value), variant(optimizer=optimizer))
    optimizer = Optimizer(weight_decay_convention="per_step")
    with pytest.raises(ConfigError, match="value = 1 per step would erase the weights; below 1 is allowed"):
        arms.check(made(kind="weight_decay", value=1.0), variant(optimizer=optimizer))


def test_the_published_grid_names_all_arms_with_the_task_s_values() -> None:
    config = load(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))
    for name, task in config.tasks:
        if task is None:
            continue
        found = {arm: settings.model_dump() for arm, settings in task.arms.items()}
        paper = found["noise_stability"]
        for arm, wanted in NAMES.items():
            assert found[arm].items() >= wanted.items(), (name, arm)
            for key in {"rho", "gamma"} & found[arm].keys() - wanted.keys():
                assert found[arm][key] == paper[key], (name, arm)
        for variant in task.variants.values():
            assert found["more_dropout"]["rate"] > variant.model.dropout
            assert found["more_weight_decay"]["value"] >= variant.optimizer.weight_decay
            for arm, settings in task.arms.items():
                try:
                    arms.check(settings, variant)
                except ConfigError:
                    # It asks for dropout masks of its own, or for none.
                    assert (arm == "r_drop") == (variant.model.dropout == 0)
                    assert arm in ("r_drop", "y_equals_x", "y_differs")


def test_the_guessed_cost_of_a_step() -> None:
    passes = {
        1.0: [{"kind": "baseline"}, {"kind": "entropy", "gamma": 1}, {"kind": "consistency", "gamma": 1}],
        3.0: [
            {**CHEAP, "kind": "noise_stability"},
            CHEAP,
            {"kind": "augmentation", "rho": 0, "gamma": 1},
            {"kind": "r_drop", "gamma": 1},
            {**PART, "part": "y_differs"},
        ],
        1.2: [{**CHEAP, "every": 10}, {**CHEAP, "share": 0.1}],
        5 / 3: [{**CHEAP, "branch": "clean"}],
    }
    for expected, settings in passes.items():
        assert [made(**one).passes(n_draws=2) for one in settings] == pytest.approx([expected] * len(settings))


# --- controls -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("orientation", "sign"), [(1, 1), (0, -1)])
def test_entropy_is_shannon_s_in_nats(orientation: int, sign: int) -> None:
    """Even odds have log C, certainty none; log 2 in between where two classes are even."""
    logits = torch.tensor([[0.0, 0, 0, 0], [200, 0, 0, 0], [50, 50, 0, 0]])
    term = arms.ARMS["entropy"](gamma=0.75, orientation=orientation).loss_term(None)
    found = term.strength * term.penalty(logits, None, None)
    assert torch.allclose(found, sign * 0.75 * torch.tensor([math.log(4), 0.0, math.log(2)]), atol=1e-6)


def test_augmentation_keeps_the_label() -> None:
    logits, labels = torch.randn(2, 3, 4), torch.tensor([[0, 1, 2], [3, 0, 1]])
    term = arms.ARMS["augmentation"](rho=0.25, gamma=0.5).loss_term(None)
    found = term.strength * term.penalty(-logits, logits, labels)
    assert found.shape == (2, 3)
    assert found[1, 0].item() == pytest.approx(-0.5 * logits[1, 0].log_softmax(0)[3].item())
