"""One step of a stack against torch's plain loop, on every device that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from nsbench.arms.regularizers import agreement
from nsbench.data.datasets import read_dataset
from nsbench.storage.seeding import torch_stream
from nsbench.training.loop import TrainSpec
from nsbench.training.model import TransformerStack, ffn_width
from nsbench.training.step import TrainingStep
from tests.conftest import arm, make_dataset, train_spec

BATCH = 10


def build(spec: TrainSpec, root: Path, device: torch.device) -> tuple[TransformerStack, TrainingStep]:
    data = read_dataset(make_dataset(root, spec.task), 3)
    stack = TransformerStack(spec.model, data.vocabulary, data.n_classes, spec.seeds).to(device)
    step = TrainingStep(stack, spec.seeds, spec.arm_settings, spec.model, spec.optimizer, spec.noise, data, BATCH)
    return stack, step


def batches(n_runs: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.randint(7, (n_runs, BATCH, 2), generator=generator),
            torch.randint(7, (n_runs, BATCH), generator=generator),
        )
        for _ in range(count)
    ]


def gap(one: TransformerStack, run: int, other: TransformerStack, other_run: int) -> float:
    pairs = zip(one.run_weights(run).values(), other.run_weights(other_run).values(), strict=True)
    return max((a.cpu() - b.cpu()).abs().max().item() for a, b in pairs)


@pytest.mark.parametrize("convention", ["times_lr", "per_step", "l2"])
@pytest.mark.parametrize("arm_settings", [{"kind": "baseline"}, arm(), arm(orientation=0)])
def test_agrees_with_a_plain_torch_loop(
    tmp_path: Path, device: torch.device, convention: str, arm_settings: dict[str, Any]
) -> None:
    decay = 0.05
    spec = train_spec(
        arm_settings=arm_settings,
        seeds=[3],
        model={"dropout": 0.0},
        optimizer={"weight_decay": decay, "weight_decay_convention": convention},
    )
    stack, step = build(spec, tmp_path, device)
    # On the same device: Adam with L2 decay blows rounding up wherever a gradient is next to nothing.
    plain = TransformerStack(spec.model, 12, 7, [3]).to(device)
    rate = spec.optimizer.learning_rate
    if convention == "l2":
        optimizer = torch.optim.Adam(plain.parameters(), lr=rate, weight_decay=decay)
    else:
        # "per step" is torch's convention with the decay divided by the learning rate.
        per_rate = decay / rate if convention == "per_step" else decay
        optimizer = torch.optim.AdamW(plain.parameters(), lr=rate, weight_decay=per_rate)
    for number, (tokens, labels) in enumerate(batches(1, 5)):
        step(tokens, labels, number)
        logits = plain(tokens.to(device))[0]
        loss = F.cross_entropy(logits, labels[0].to(device))
        if step.term is not None:
            noisy = step.resample(tokens[0], torch_stream(3, "noise", number)).to(device)
            sign = -1 if arm_settings["orientation"] == 1 else 1
            loss = loss + sign * arm_settings["gamma"] * agreement(logits, plain(noisy[None])[0]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert gap(stack, 0, plain, 0) < 2e-5


@pytest.mark.parametrize("arm_settings", [{"kind": "baseline"}, arm()])
def test_targets_at_every_position_agree_with_a_loop_over_them(
    tmp_path: Path, device: torch.device, arm_settings: dict[str, Any]
) -> None:
    spec = train_spec("next_token", arm_settings, seeds=[3], model={"dropout": 0.0}, optimizer={"weight_decay": 0.0})
    stack, step = build(spec, tmp_path, device)
    data = read_dataset(tmp_path / "next_token.safetensors", 3)
    plain = TransformerStack(spec.model, data.vocabulary, data.n_classes, [3])
    optimizer = torch.optim.AdamW(plain.parameters(), lr=spec.optimizer.learning_rate, weight_decay=0.0)
    seen = 0.0
    for number in range(4):
        tokens, labels = (data[f"train_{what}"][number * BATCH :][:BATCH] for what in ("tokens", "labels"))
        step(tokens[None], labels[None], number)
        logits, terms, losses = plain(tokens[None])[0], [], []
        if step.term is not None:
            noisy = plain(step.resample(tokens, torch_stream(3, "noise", number))[None])[0].softmax(-1)
        for example in range(BATCH):
            for place in range(tokens.shape[1]):
                p = logits[example, place].softmax(-1)
                losses.append(-p[labels[example, place]].log())
                if step.term is not None:
                    terms.append(-arm_settings["gamma"] * (p * noisy[example, place]).sum())
        loss = torch.stack(losses).mean()
        optimizer.zero_grad()
        (loss + (torch.stack(terms).mean() if terms else 0.0)).backward()
        optimizer.step()
        seen += loss.item()
    assert gap(stack, 0, plain, 0) < 2e-5
    assert step.loss_sum_R[0].item() == pytest.approx(seen, rel=1e-5)


@pytest.mark.parametrize("arm_settings", [{"kind": "baseline"}, arm()])
def test_a_stack_agrees_with_its_runs_alone(tmp_path: Path, device: torch.device, arm_settings: dict[str, Any]) -> None:
    together, step = build(train_spec(arm_settings=arm_settings, seeds=[3, 4, 5]), tmp_path, device)
    data = batches(3, 5)
    for number, (tokens, labels) in enumerate(data):
        step(tokens, labels, number)
    for run, seed in enumerate([3, 4, 5]):
        alone, single = build(train_spec(arm_settings=arm_settings, seeds=[seed]), tmp_path, device)
        for number, (tokens, labels) in enumerate(data):
            single(tokens[run : run + 1], labels[run : run + 1], number)
        assert gap(together, run, alone, 0) < 2e-5
        assert step.loss_sum_R[run].item() == pytest.approx(single.loss_sum_R[0].item(), rel=1e-5)


def test_reset_undoes_steps_as_capture_needs(tmp_path: Path, device: torch.device) -> None:
    """Capturing warms up by real steps; `_reset` must leave no trace of them."""
    spec = train_spec(arm_settings=arm())
    stack, step = build(spec, tmp_path, device)
    fresh = [weight.detach().clone() for weight in stack.parameters()]
    data = batches(2, 4)
    after = []
    for _ in range(2):
        for number, (tokens, labels) in enumerate(data):
            step(tokens, labels, number)
        after.append([weight.detach().clone() for weight in stack.parameters()])
        step._reset(fresh)
        assert not step.loss_sum_R.any()
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))


def test_state_carries_a_run_into_another_process(tmp_path: Path, device: torch.device) -> None:
    spec = train_spec(arm_settings=arm(), seeds=[3])
    stack, step = build(spec, tmp_path, device)
    data = batches(1, 6)
    for number in range(3):
        step(*data[number], number)
    later_stack, later = build(spec, tmp_path, device)
    later_stack.load_run(0, stack.run_weights(0))
    later.load_state(0, step.state(0))
    for number in range(3, 6):
        step(*data[number], number)
        later(*data[number], number)
    assert gap(stack, 0, later_stack, 0) == 0
    assert torch.equal(step.loss_sum_R, later.loss_sum_R)


def test_flops_are_the_matrix_products(tmp_path: Path, device: torch.device) -> None:
    """Forward: 2 FLOP per weight and token, and two T x T products per head; backward: twice that."""

    def measured(**sections: Any) -> float:
        _, step = build(train_spec(**sections), tmp_path, device)
        step(*batches(2, 1)[0], 0)
        return step.flops_after(1)

    settings = train_spec().model
    d, length = settings.d_model, 2
    tokens = BATCH * length
    layer = 2 * tokens * (4 * d * d + 2 * d * ffn_width(settings)) + 4 * BATCH * length * length * d
    forward = settings.n_layers * layer + 2 * BATCH * d * 7
    assert measured() == pytest.approx(3 * forward)
    assert measured(arm_settings=arm()) == pytest.approx(6 * forward)
    assert measured(arm_settings=arm(), noise={"n_draws": 3}) == pytest.approx(12 * forward)
    assert measured(arm_settings=arm(), noise={"gradient": "clean"}) == pytest.approx(4 * forward)


@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_noisy_pass_has_dropout_masks_of_its_own_or_shares_them(
    tmp_path: Path, device: torch.device, masks: str
) -> None:
    """With rho = 1 both passes see the same tokens, so only the masks can tell them apart."""
    spec = train_spec(arm_settings=arm(rho=1.0), model={"dropout": 0.5}, noise={"dropout_masks": masks})
    _, step = build(spec, tmp_path, device)
    step(*batches(2, 1)[0], 0)
    for weight in step.stack.parameters():
        weight.detach().mul_(20)
    _, _, penalty_R = step._losses()
    logits = step.stack(step.tokens_RBT, _masks(step))
    same = -0.75 * logits.softmax(-1).square().sum(-1).mean(1)
    assert torch.allclose(penalty_R, same, rtol=1e-5) == (masks == "shared")


def _masks(step: TrainingStep) -> Any:
    from nsbench.training.model import DropoutMasks

    return DropoutMasks(step.bits_RN, step.dropout_rate)
