"""The arm that rewards low sensitivity: against its definition, and against noise stability where the two meet."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nsbench.arms import describe
from nsbench.storage.philox import Stream, random_words, run_keys
from nsbench.training.step import TrainingStep
from tests.conftest import train_spec
from tests.training.test_networks import IMAGES, SETTINGS, WORDS, dataset, model_of

LAWS = {"patch_gaussian": IMAGES, "ornstein_uhlenbeck": IMAGES, "other_patch": IMAGES, "resample": WORDS}
ARM = {"kind": "sensitivity", "gamma": 0.7}
MODEL = "mlp of embeddings"


def stepped(law: str, arms: list[dict[str, Any]], steps: int) -> TrainingStep:
    """The step of a stack with one arm a run, all of seed 3, after some steps."""
    noise = {"law": law, "sigma": 0.5}
    specs = [train_spec(arm_settings=arm, model=SETTINGS[MODEL], noise=noise, seeds=[3]) for arm in arms]
    stack = model_of(MODEL).build(LAWS[law], [3] * len(arms))
    step = TrainingStep(stack, specs, [3] * len(arms), [dataset(LAWS[law], 3)] * len(arms))
    for number in range(steps):
        step(number)
    return step


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("rho", "divergence"), [(None, "mse_logits"), (0.2, "mse_logits"), (None, "agreement")])
def test_the_loss_is_its_definition(law: str, rho: float | None, divergence: str) -> None:
    step = stepped(law, [{**ARM, "rho": rho, "divergence": divergence}], 2)
    step.batches.load(2, 1)
    step.number.fill_(2)
    tokens, labels = step.batches(0)
    loss, _, term = step.losses(tokens, labels)
    noisy = step.noisy_copy(
        tokens, random_words(run_keys([3]), step.noisy_copy.n_words(tokens.shape[1:]), 2, Stream.NOISE)
    )
    changed = (noisy != tokens).view(*tokens.shape[:3], -1).any(-1)
    assert changed.any()
    if rho is None:
        # A redraw may give the same id again.
        assert (changed.sum(-1) == 1).all() if law != "resample" else (changed.sum(-1) <= 1).all()
    clean_logits, noisy_logits = step.stack(tokens)[0], step.stack(noisy)[0]
    p, q = clean_logits.softmax(-1), noisy_logits.softmax(-1)
    by_hand = {
        "mse_logits": F.mse_loss(noisy_logits, clean_logits),
        "agreement": -(p * q).sum(-1).mean(),
    }[divergence]
    torch.testing.assert_close(term[0], 0.7 * by_hand)
    torch.testing.assert_close(loss[0], F.cross_entropy(clean_logits, labels[0]))


@pytest.mark.parametrize("law", LAWS)
def test_agreement_of_all_tokens_is_noise_stability_to_the_bit(law: str) -> None:
    one = stepped(law, [{**ARM, "rho": 0.3, "divergence": "agreement"}], 4)
    other = stepped(law, [{"kind": "noise_stability", "rho": 0.3, "gamma": 0.7, "orientation": 1}], 4)
    assert torch.equal(one.optimizer.weights_RP, other.optimizer.weights_RP)
    assert not torch.equal(one.optimizer.weights_RP, stepped(law, [ARM], 4).optimizer.weights_RP)


@pytest.mark.parametrize("kind", ["sensitivity", "augmentation"])
def test_runs_with_one_token_and_with_all_share_a_stack(kind: str) -> None:
    arms = [{"kind": kind, "gamma": 0.7, "rho": rho} for rho in (None, 0.3)]
    both = stepped("patch_gaussian", arms, 3).optimizer.weights_RP
    for run, arm in enumerate(arms):
        torch.testing.assert_close(stepped("patch_gaussian", [arm], 3).optimizer.weights_RP[0], both[run])
    assert not torch.allclose(both[0], both[1])


def test_it_is_told_in_words() -> None:
    assert describe(ARM) == "one token, γ = 0.7, MSE of logits"
    assert describe({**ARM, "rho": 0.5, "divergence": "agreement"}) == "ρ = 0.5, γ = 0.7, −⟨p, q⟩"
