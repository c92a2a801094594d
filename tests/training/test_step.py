"""One step of a stack against a plain loop that says what each arm means, on every device that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.arms.noise import resample_tokens
from nsbench.config.base import ConfigError
from nsbench.config.variant import Noise
from nsbench.data.datasets import Dataset, read_dataset
from nsbench.storage.seeding import torch_stream
from nsbench.training.models.stack import DropoutMasks, Stack
from nsbench.training.run import TrainSpec
from nsbench.training.step import TrainingStep
from tests.conftest import BASELINE, arm, make_dataset, train_spec

BATCH = 10
CHEAP = {**arm(), "kind": "cheap_noise_stability"}
ARMS: dict[str, dict[str, Any]] = {
    "noise_stability": arm(),
    "every 3rd": {**CHEAP, "every": 3},
    "a share": {**CHEAP, "share": 0.25},
    "noisy branch": {**CHEAP, "branch": "noisy", "orientation": 0},
    "combined": {**CHEAP, "every": 2, "share": 0.25, "branch": "clean"},
    "augmentation": {"kind": "augmentation", "rho": 0.25, "gamma": 0.75},
    "entropy": {"kind": "entropy", "gamma": 0.75},
    "grokfast": {"kind": "grokfast", "alpha": 0.9, "lamb": 2.0},
    "weight_decay": {"kind": "weight_decay", "value": 0.3},
}


def build(spec: TrainSpec, root: Path, device: torch.device) -> tuple[Stack, TrainingStep]:
    data = read_dataset(make_dataset(root, spec.task), 3)
    stack = spec.model.build(data.vocabulary, data.n_classes, spec.seeds).to(device)
    step = TrainingStep(stack, spec.seeds, spec.arm_settings, spec.model, spec.optimizer, spec.noise, data, BATCH)
    return stack, step


def batches(n_runs: int, count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((n_runs, BATCH, 2), (n_runs, BATCH))
    return [tuple(torch.randint(7, shape, generator=generator) for shape in shapes) for _ in range(count)]


def gap(one: Stack, run: int, other: Stack, other_run: int) -> float:
    pairs = zip(one.run_weights(run).values(), other.run_weights(other_run).values(), strict=True)
    return max((a.cpu() - b.cpu()).abs().max().item() for a, b in pairs)


def added(settings: dict[str, Any], model: Any, tokens: Tensor, labels: Tensor, step: int, noise: Any) -> Any:
    """What an arm adds to the loss of one run's batch, example by example, from its definition alone."""
    kind, gamma = settings["kind"], settings.get("gamma")
    if kind == "entropy":
        p = model(tokens).softmax(-1).flatten(0, -2)
        return gamma * torch.stack([torch.distributions.Categorical(probs=row).entropy() for row in p]).mean()
    every, share, branch = (
        settings.get(name, default) for name, default in (("every", 1), ("share", 1), ("branch", ""))
    )
    if kind not in ("augmentation", "noise_stability", "cheap_noise_stability") or step % every:
        return 0.0
    rows = next(count for count in range(1, BATCH + 1) if count >= share * BATCH)
    generator, total = torch_stream(3, "noise", step), 0.0
    for _ in range(noise.n_draws):
        noisy = model(resample_tokens(tokens[:rows], settings["rho"], noise.symbols, generator))
        if kind == "augmentation":
            total = total + gamma * F.cross_entropy(noisy.flatten(0, -2), labels.flatten())
            continue
        clean = model(tokens)[:rows]
        clean, noisy = clean.detach() if branch == "noisy" else clean, noisy.detach() if branch == "clean" else noisy
        factor = (-1) ** settings["orientation"] * gamma * every * (2 if branch in ("clean", "noisy") else 1)
        dots = [(p * q).sum() for p, q in zip(*(x.softmax(-1).flatten(0, -2) for x in (clean, noisy)), strict=True)]
        total = total + factor * torch.stack(dots).mean()
    return total / noise.n_draws


class Plain:
    """A plain loop over one run's batches: autograd, torch's optimiser, and the arm by its definition."""

    def __init__(self, spec: TrainSpec, data: Dataset, settings: dict[str, Any], device: Any = "cpu") -> None:
        self.settings, self.n_draws, self.device = settings, spec.noise.n_draws, device
        self.symbols = data.noise_symbols(spec.noise)
        # On the same device: Adam with L2 decay blows rounding up wherever a gradient is next to nothing.
        self.stack = spec.model.build(data.vocabulary, data.n_classes, [3]).to(device)
        rate, convention = spec.optimizer.learning_rate, spec.optimizer.weight_decay_convention
        decay = settings["value"] if settings["kind"] == "weight_decay" else spec.optimizer.weight_decay
        # "per step" is torch's convention with the decay divided by the learning rate.
        decay = decay / rate if convention == "per_step" else decay
        kind = torch.optim.Adam if convention == "l2" else torch.optim.AdamW
        self.optimizer = kind(self.stack.parameters(), lr=rate, weight_decay=decay)
        self.gradients: list[list[Tensor]] = []
        self.seen = 0.0

    def model(self, tokens: Tensor) -> Tensor:
        return self.stack(tokens[None].to(self.device))[0]

    def __call__(self, tokens: Tensor, labels: Tensor, step: int) -> None:
        labels = labels.to(self.device)
        loss = F.cross_entropy(self.model(tokens).flatten(0, -2), labels.flatten())
        self.seen += loss.item()
        self.optimizer.zero_grad()
        (loss + added(self.settings, self.model, tokens, labels, step, self)).backward()
        if self.settings["kind"] == "grokfast":
            self.amplify(self.settings["alpha"], self.settings["lamb"])
        self.optimizer.step()

    def amplify(self, alpha: float, lamb: float) -> None:
        """g + lamb x mu, mu summed up from all gradients so far: the first counts as if it had been there forever."""
        self.gradients.append([weight.grad.clone() for weight in self.stack.parameters()])
        last = len(self.gradients) - 1
        for place, weight in enumerate(self.stack.parameters()):
            slow = alpha**last * self.gradients[0][place]
            for at in range(1, last + 1):
                slow = slow + (1 - alpha) * alpha ** (last - at) * self.gradients[at][place]
            weight.grad += lamb * slow


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize(("task", "n_draws"), [("modular_addition", 1), ("next_token", 2)])
def test_agrees_with_a_plain_loop(tmp_path: Path, device: torch.device, task: str, n_draws: int, name: str) -> None:
    quiet = {"model": {"dropout": 0.0}, "noise": {"n_draws": n_draws}}
    spec = train_spec(task, ARMS[name], seeds=[3], optimizer={"weight_decay": 0.05}, **quiet)
    stack, step = build(spec, tmp_path, device)
    data = read_dataset(tmp_path / f"{task}.safetensors", 3)
    plain, other = Plain(spec, data, ARMS[name], device), Plain(spec, data, BASELINE, device)
    for number in range(4):
        chosen = torch.arange(number * BATCH, (number + 1) * BATCH) % len(data["train_labels"])
        tokens, labels = data["train_tokens"][chosen], data["train_labels"][chosen]
        step(tokens[None], labels[None], number)
        plain(tokens, labels, number)
        other(tokens, labels, number)
    assert gap(stack, 0, plain.stack, 0) < 3e-5
    assert gap(stack, 0, other.stack, 0) > 2e-4  # the arm does something
    assert step.loss_sum_R[0].item() == pytest.approx(plain.seen, rel=1e-5)


@pytest.mark.parametrize("convention", ["times_lr", "per_step", "l2"])
def test_each_convention_of_decay_is_torch_s(
    tmp_path: Path, device: torch.device, convention: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A key's bias has a gradient of rounding alone, and Adam with L2 decay makes steps of it.
    monkeypatch.setattr("nsbench.training.models.transformer_stack.has_numba", lambda: False)
    optimizer = {"weight_decay": 0.05, "weight_decay_convention": convention}
    spec = train_spec(seeds=[3], model={"dropout": 0.0}, optimizer=optimizer)
    stack, step = build(spec, tmp_path, device)
    plain = Plain(spec, read_dataset(tmp_path / "modular_addition.safetensors", 3), BASELINE, device)
    for number, (tokens, labels) in enumerate(batches(1, 5)):
        step(tokens, labels, number)
        plain(tokens[0], labels[0], number)
    assert gap(stack, 0, plain.stack, 0) < 2e-5


def test_the_added_term_is_the_definition_s_number(tmp_path: Path, device: torch.device) -> None:
    data = read_dataset(make_dataset(tmp_path), 3)
    for settings in ARMS.values():
        spec = train_spec(arm_settings=settings, seeds=[3], model={"dropout": 0.0}, optimizer={"learning_rate": 0.05})
        stack, step = build(spec, tmp_path, device)
        tokens, labels = data["train_tokens"][:BATCH], data["train_labels"][:BATCH]
        for number in range(4):  # away from the even odds of untrained weights
            step(tokens[None], labels[None], number)
        step(tokens[None], labels[None], 6)
        noise = Plain(spec, data, settings)
        here = lambda ids, stack=stack: stack(ids.to(device)[None])[0].cpu()  # noqa: E731
        with torch.no_grad():
            expected = float(added(settings, here, tokens, labels, 6, noise))
            found = float(step._losses(step._regularised(6))[2])
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-7)
        assert (expected == 0) == (settings["kind"] in ("grokfast", "weight_decay"))


@pytest.mark.parametrize("share", [1.0, 0.3])
@pytest.mark.parametrize("masks", ["independent", "shared"])
def test_a_noisy_pass_has_dropout_masks_of_its_own_or_shares_those_of_its_examples(
    tmp_path: Path, device: torch.device, masks: str, share: float
) -> None:
    """With rho = 1 both passes see the same tokens, so only the masks can tell them apart."""
    settings = {**CHEAP, "rho": 1.0, "share": share}
    for task in ("modular_addition", "next_token"):
        spec = train_spec(task, settings, seeds=[3, 4], model={"dropout": 0.5}, noise={"dropout_masks": masks})
        _, step = build(spec, tmp_path, device)
        data = read_dataset(tmp_path / f"{task}.safetensors", 3)
        step(*(data[f"train_{what}"][: 2 * BATCH].unflatten(0, (2, BATCH)) for what in ("tokens", "labels")), 0)
        for weight in step.stack.parameters():
            weight.detach().mul_(20)
        logits = step.stack(step.tokens_RBT, DropoutMasks(step.bits_RN, 0.5))[:, : step.rows]
        same = -0.75 * logits.softmax(-1).square().sum(-1).flatten(1).mean(1)
        assert torch.allclose(step._losses()[2], same, rtol=1e-5) == (masks == "shared")


@pytest.mark.parametrize("name", [*ARMS, "dropout"])
def test_a_stack_agrees_with_its_runs_alone(tmp_path: Path, device: torch.device, name: str) -> None:
    settings = {**ARMS, "dropout": {"kind": "dropout", "rate": 0.4}}[name]
    together, step = build(train_spec(arm_settings=settings, seeds=[3, 4, 5]), tmp_path, device)
    data = batches(3, 4)
    for number, (tokens, labels) in enumerate(data):
        step(tokens, labels, number)
    for run, seed in enumerate([3, 4, 5]):
        alone, single = build(train_spec(arm_settings=settings, seeds=[seed]), tmp_path, device)
        for number, (tokens, labels) in enumerate(data):
            single(tokens[run : run + 1], labels[run : run + 1], number)
        assert gap(together, run, alone, 0) < 2e-5
        assert step.loss_sum_R[run].item() == pytest.approx(single.loss_sum_R[0].item(), rel=1e-5)
    assert step.flops_after(7) == pytest.approx(single.flops_after(7))


@pytest.mark.parametrize("name", ["noise_stability", "grokfast", "combined"])
def test_reset_undoes_steps_as_capture_needs(tmp_path: Path, device: torch.device, name: str) -> None:
    """Capturing warms up by real steps; `_reset` must leave no trace of them."""
    stack, step = build(train_spec(arm_settings=ARMS[name]), tmp_path, device)
    fresh = [weight.detach().clone() for weight in stack.parameters()]
    after = []
    for _ in range(2):
        for number, (tokens, labels) in enumerate(batches(2, 3)):
            step(tokens, labels, number)
        after.append([weight.detach().clone() for weight in stack.parameters()])
        step._reset(fresh)
        assert not step.loss_sum_R.any()
        assert not any(slow.any() for slow in step._filter_state())
    assert all(torch.equal(a, b) for a, b in zip(*after, strict=True))


@pytest.mark.parametrize("name", ["noise_stability", "grokfast", "combined"])
def test_state_carries_a_run_into_another_process(tmp_path: Path, device: torch.device, name: str) -> None:
    spec = train_spec(arm_settings=ARMS[name], seeds=[3])
    stack, step = build(spec, tmp_path, device)
    data = batches(1, 7)
    for number in range(3):
        step(*data[number], number)
    later_stack, later = build(spec, tmp_path, device)
    later_stack.load_run(0, stack.run_weights(0))
    later.load_state(0, step.state(0))
    for number in range(3, 7):
        step(*data[number], number)
        later(*data[number], number)
    assert gap(stack, 0, later_stack, 0) == 0
    assert torch.equal(step.loss_sum_R, later.loss_sum_R)


FLOPS: dict[str, tuple[dict[str, Any], dict[str, Any], list[float]]] = {
    # FLOPs of steps 0, 1, 2 in forward passes; a backward pass costs two.
    "baseline": (BASELINE, {}, [3, 3, 3]),
    "noise_stability": (arm(), {}, [6, 6, 6]),
    "three draws": (arm(), {"n_draws": 3}, [12, 12, 12]),
    "every 2nd": ({**CHEAP, "every": 2}, {}, [6, 3, 6]),
    "a fifth": ({**CHEAP, "share": 0.2}, {}, [3.6, 3.6, 3.6]),
    "clean gradient": (arm(), {"gradient": "clean"}, [4, 4, 4]),
    "noisy branch": (ARMS["noisy branch"], {}, [6, 6, 6]),
    "combined": ({**CHEAP, "every": 2, "share": 0.2, "branch": "clean"}, {}, [3.2, 3, 3.2]),
    "grokfast": (ARMS["grokfast"], {}, [3, 3, 3]),
}


@pytest.mark.parametrize("name", FLOPS)
def test_flops_are_the_matrix_products_of_the_steps_that_were_done(
    tmp_path: Path, device: torch.device, name: str
) -> None:
    """Forward: 2 FLOP per weight and token, and two T x T products per head."""
    settings, noise, costs = FLOPS[name]
    spec = train_spec(arm_settings=settings, seeds=[3], noise=noise)
    d, length, tokens = spec.model.d_model, 2, BATCH * 2
    layer = 2 * tokens * (4 * d * d + 2 * d * spec.model.hidden_width) + 4 * BATCH * length * length * d
    forward = spec.model.n_layers * layer + 2 * BATCH * d * 7
    _, step = build(spec, tmp_path, device)
    assert step.flops_after(0) == 0.0
    for number, batch in enumerate(batches(1, 3)):
        step(*batch, number)
        assert step.flops_after(number + 1) == pytest.approx(forward * sum(costs[: number + 1]), rel=1e-9)


def test_a_branch_that_the_noise_settings_contradict_is_refused() -> None:
    with pytest.raises(ConfigError, match="'noisy' does not go with the variant's"):
        train_spec(arm_settings=ARMS["noisy branch"], noise={"gradient": "clean"})
    both = train_spec(arm_settings=CHEAP).arm_settings.loss_term(Noise(gradient="noisy"))
    assert both.gradient == "noisy"


def test_replaced_dropout_reads_the_same_bits(tmp_path: Path, device: torch.device) -> None:
    """What a lower rate drops a higher one drops too."""
    spec = train_spec(arm_settings={"kind": "dropout", "rate": 0.4}, seeds=[3], model={"dropout": 0.1})
    _, more = build(spec, tmp_path, device)
    _, less = build(train_spec(seeds=[3], model={"dropout": 0.1}), tmp_path, device)
    for step in (more, less):
        step(*batches(1, 1)[0], 5)
    assert torch.equal(more.bits_RN, less.bits_RN)
    assert more.model.dropout == more.dropout_rate == 0.4
    size = torch.Size((1, 500))
    kept = [DropoutMasks(step.bits_RN, step.dropout_rate).next(size) > 0 for step in (more, less)]
    assert bool((kept[1] | ~kept[0]).all())
    assert kept[0].float().mean().item() == pytest.approx(0.6, abs=0.1)
