"""One step of a stack against a plain loop that says what each arm means, on every device that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nsbench.arms import LossTerm
from nsbench.config.base import ConfigError
from nsbench.config.variant import Noise
from nsbench.data.datasets import Dataset, EpochOrder, read_dataset
from nsbench.storage.philox import Stream, random_words, run_keys
from nsbench.training.models.stack import DropoutMasks, Stack
from nsbench.training.run import TrainSpec, may_share
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
    "label_smoothing": {"kind": "label_smoothing", "epsilon": 0.3},
    "consistency": {"kind": "consistency", "gamma": 0.75},
    "grokfast": {"kind": "grokfast", "alpha": 0.9, "lamb": 2.0},
    "weight_decay": {"kind": "weight_decay", "value": 0.3},
}

ARMS_BY_KIND = {settings["kind"]: settings for settings in ARMS.values()}
ARMS_BY_KIND |= {"baseline": BASELINE, "dropout": {"kind": "dropout", "rate": 0.4}}


def build(spec: TrainSpec, root: Path, device: torch.device) -> tuple[Stack, TrainingStep]:
    return built([spec] * len(spec.seeds), spec.seeds, root, device)


def built(specs: list[TrainSpec], seeds: list[int], root: Path, device: Any) -> tuple[Stack, TrainingStep]:
    """A stack of runs, each with settings of its own, and its step."""
    path = make_dataset(root, specs[0].task)
    datasets = [read_dataset(path, seed) for seed in seeds]
    stack = specs[0].model.build(datasets[0].shape, seeds).to(device)
    return stack, TrainingStep(stack, specs, seeds, datasets)


def batch_of(data: Dataset, step: int, seed: int = 3) -> tuple[Tensor, Tensor]:
    """The batch of a run's step."""
    rows = EpochOrder(seed, len(data["train_labels"])).rows(step * BATCH, BATCH)
    return data["train_tokens"][rows], data["train_labels"][rows]


def redrawn(tokens: Tensor, rho: float, symbols: list[int], step: int, draw: int) -> Tensor:
    """The noisy copy of seed 3's batch, token by token from its definition."""
    chance, choice = random_words(run_keys([3]), 2 * tokens.numel(), step, Stream.NOISE, draw).view(2, -1).tolist()
    old = tokens.flatten().tolist()
    new = [
        token if a / 2**32 < (1 + rho) / 2 else symbols[int(b * len(symbols) / 2**32)]
        for token, a, b in zip(old, chance, choice, strict=True)
    ]
    return torch.tensor(new).view(tokens.shape)


def gap(one: Stack, run: int, other: Stack, other_run: int) -> float:
    pairs = zip(one.run_weights(run).values(), other.run_weights(other_run).values(), strict=True)
    return max((a.cpu() - b.cpu()).abs().max().item() for a, b in pairs)


def added(settings: dict[str, Any], model: Any, tokens: Tensor, labels: Tensor, step: int, noise: Any) -> Any:
    """What an arm adds to the loss of one run's batch, example by example, from its definition alone."""
    kind, gamma = settings["kind"], settings.get("gamma")
    if kind == "entropy":
        p = model(tokens).softmax(-1).flatten(0, -2)
        return gamma * torch.stack([torch.distributions.Categorical(probs=row).entropy() for row in p]).mean()
    if kind == "label_smoothing":
        flat = model(tokens).flatten(0, -2), labels.flatten()
        return F.cross_entropy(*flat, label_smoothing=settings["epsilon"]) - F.cross_entropy(*flat)
    if kind == "consistency":
        p, answers = model(tokens).softmax(-1).flatten(0, -2), labels.flatten().tolist()
        total = 0.0
        for at, answer in enumerate(answers):
            others = [p[at] @ p[place] for place, other in enumerate(answers) if other == answer and place != at]
            total = total + (sum(others) / len(others) if others else 0.0)
        return -gamma * total / len(answers)
    every, share, branch = (
        settings.get(name, default) for name, default in (("every", 1), ("share", 1), ("branch", ""))
    )
    if kind not in ("augmentation", "noise_stability", "cheap_noise_stability") or step % every:
        return 0.0
    rows = next(count for count in range(1, BATCH + 1) if count >= share * BATCH)
    total = 0.0
    for draw in range(noise.n_draws):
        noisy = model(redrawn(tokens[:rows], settings["rho"], noise.symbols, step, draw))
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
        self.symbols = data.noise_symbols(spec.noise).tolist()
        # On the same device: Adam with L2 decay blows rounding up wherever a gradient is next to nothing.
        self.stack = spec.model.build(data.shape, [3]).to(device)
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
        tokens, labels = batch_of(data, number)
        step(number)
        plain(tokens, labels, number)
        other(tokens, labels, number)
    assert gap(stack, 0, plain.stack, 0) < 3e-5
    assert gap(stack, 0, other.stack, 0) > 2e-4  # the arm does something
    assert step.sums_3R[0].item() == pytest.approx(plain.seen, rel=1e-5)


def test_the_added_term_is_the_definition_s_number(tmp_path: Path, device: torch.device) -> None:
    data = read_dataset(make_dataset(tmp_path), 3)
    for settings in ARMS.values():
        spec = train_spec(arm_settings=settings, seeds=[3], model={"dropout": 0.0}, optimizer={"learning_rate": 0.05})
        stack, step = build(spec, tmp_path, device)
        for number in range(5):  # away from the even odds of untrained weights
            step(number)
        step.number.fill_(6)
        tokens, labels = batch_of(data, 6)
        noise = Plain(spec, data, settings)
        here = lambda ids, stack=stack: stack(ids.to(device)[None])[0].cpu()  # noqa: E731
        with torch.no_grad():
            expected = float(added(settings, here, tokens, labels, 6, noise))
            found = float(step.losses(tokens.to(device)[None], labels.to(device)[None], step._regularised(6))[2])
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
        step(0)
        for weight in step.stack.parameters():
            weight.detach().mul_(20)
        batch = step.batches(0)
        found = step.losses(*batch)[2]
        logits = step.stack(batch[0], DropoutMasks(step.bits[0], 0.5))[:, : step.rows]
        same = -0.75 * logits.softmax(-1).square().sum(-1).flatten(1).mean(1)
        assert torch.allclose(found, same, rtol=1e-5) == (masks == "shared")


OTHERS = {"rho": -0.5, "gamma": 0.2, "orientation": 0, "value": 0.01, "every": 4, "share": 0.5, "branch": "noisy"}
OTHERS |= {"rate": 0.2, "alpha": 0.5, "lamb": 1.0, "epsilon": -0.2}
"""Another value of each field of an arm."""


@pytest.mark.parametrize("kind", ARMS_BY_KIND)
def test_runs_that_differ_as_their_arm_allows_share_a_stack_and_no_others(
    tmp_path: Path, device: torch.device, kind: str
) -> None:
    """Each field of each kind of arm: where it may differ, a mixed stack does what separate stacks do."""
    settings = {**ARMS_BY_KIND[kind], "kind": kind}
    one = train_spec(arm_settings=settings)
    assert may_share(one, train_spec(arm_settings=settings, seeds=[7]))
    fields = set(type(one.arm_settings).model_fields) - {"kind"}
    for field in fields:
        other = train_spec(arm_settings={**settings, field: OTHERS[field]})
        assert may_share(one, other) == (field in one.arm_settings.per_run), field
    per_run = {field: OTHERS[field] for field in one.arm_settings.per_run}
    specs = [one, train_spec(arm_settings={**settings, **per_run}), one]
    together, step = built(specs, [3, 3, 4], tmp_path, device)
    for number in range(4):
        step(number)
    for run, (spec, seed) in enumerate(zip(specs, [3, 3, 4], strict=True)):
        alone, single = built([spec], [seed], tmp_path, device)
        for number in range(4):
            single(number)
        assert gap(together, run, alone, 0) < 2e-5
        assert step.sums_3R[0, run].item() == pytest.approx(single.sums_3R[0, 0].item(), rel=1e-5)
    assert step.flops_after(7) == pytest.approx(single.flops_after(7))
    assert (gap(together, 0, together, 1) > 1e-4) == bool(per_run)


def test_other_settings_and_kinds_share_no_stack() -> None:
    one = train_spec(arm_settings=arm())
    for other in (
        train_spec(arm_settings=CHEAP),
        train_spec(),
        train_spec(arm_settings=arm(), noise={"n_draws": 2}),
        train_spec(arm_settings=arm(), training={"precision": "tf32"}),
        train_spec(arm_settings=arm(), optimizer={"learning_rate": 0.1}),
        train_spec("sparse_parity", arm()),
    ):
        assert not may_share(one, other)


def test_a_derived_arm_with_work_of_its_own_shares_a_stack_where_it_says_so() -> None:
    class Inherited(type(train_spec(arm_settings=arm()).arm_settings)):
        pass

    class Own(Inherited):
        def loss_term(self, noise: Any) -> LossTerm:
            return LossTerm(lambda clean, noisy, labels: self.gamma * clean.sum(-1))

    class Said(Own):
        per_run = frozenset({"rho"})

    values = {**arm(), "rho": 0.5}
    kept = {kind: set(kind(**values).stacked()) & {"rho", "gamma"} for kind in (Inherited, Own, Said)}
    assert kept == {Inherited: set(), Own: {"rho", "gamma"}, Said: {"gamma"}}


def test_a_run_within_seven_has_its_own_numbers_and_batches_to_the_bit(tmp_path: Path, device: torch.device) -> None:
    seeds = [3, 4, 5, 5, 3, 4, 5]
    spec = train_spec(arm_settings={**arm(), "rho": 0.0}, noise={"n_draws": 2, "same_symbol": False})
    _, together = built([spec] * 7, seeds, tmp_path, device)
    together(11)
    for run, seed in enumerate(seeds):
        _, alone = built([spec], [seed], tmp_path, device)
        alone(11)
        for one, other in zip(together.batches(0), alone.batches(0), strict=True):
            assert torch.equal(one[run], other[0])
        for one, other in zip(together.bits, alone.bits, strict=True):
            assert torch.equal(one[run], other[0])
        for draw in range(2):
            noisy = [step.noisy_tokens(step.batches(0)[0], draw) for step in (together, alone)]
            assert torch.equal(noisy[0][run], noisy[1][0])
            assert not torch.equal(noisy[1], alone.batches(0)[0])


@pytest.mark.parametrize("name", ["noise_stability", "grokfast", "combined"])
def test_reset_undoes_steps_as_capture_needs(tmp_path: Path, device: torch.device, name: str) -> None:
    """Capturing warms up by real steps; `_reset` must leave no trace of them."""
    _, step = build(train_spec(arm_settings=ARMS[name]), tmp_path, device)
    fresh = {key: value.clone() for key, value in step.state.items()}
    after = []
    for _ in range(2):
        for number in range(3):
            step(number)
        after.append({key: value.clone() for key, value in step.state.items()})
        step._reset(fresh["weights"])
        assert all(torch.equal(value, fresh[key]) for key, value in step.state.items())
    assert all(torch.equal(value, after[1][key]) for key, value in after[0].items())


@pytest.mark.parametrize("name", ["noise_stability", "grokfast", "combined"])
def test_state_carries_a_run_into_another_process(tmp_path: Path, device: torch.device, name: str) -> None:
    spec = train_spec(arm_settings=ARMS[name], seeds=[3])
    _, step = build(spec, tmp_path, device)
    for number in range(3):
        step(number)
    _, later = build(spec, tmp_path, device)
    for key, value in later.state.items():
        value[0] = step.state[key][0]
    for number in range(3, 7):
        step(number)
        later(number)
    assert all(torch.equal(value, step.state[key]) for key, value in later.state.items())


@pytest.mark.parametrize("settings", [*ARMS_BY_KIND.values(), ARMS["noisy branch"]], ids=str)
def test_a_step_needs_no_value_and_no_tensor_of_the_cpu(tmp_path: Path, settings: dict[str, Any]) -> None:
    """On torch's meta device, which has neither: as a CUDA graph needs it."""
    for task in ("modular_addition", "next_token"):
        noise = {"n_draws": 2, "same_symbol": False, "positions": "task"}
        stack, step = build(train_spec(task, settings, noise=noise), tmp_path, torch.device("meta"))
        with OnMeta():
            for number in range(2):
                step._run((step._regularised(number),))
            step.optimizer.schedule(step.sums_3R[0])
        assert {value.device.type for value in (*step.state.values(), *stack.parameters())} == {"meta"}


class OnMeta(TorchDispatchMode):
    """Refuses operations on tensors elsewhere."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if isinstance(leaf, Tensor)]
        assert all(tensor.device.type == "meta" for tensor in tensors), func
        return found


@pytest.mark.parametrize("name", ["baseline", "noise_stability"])
def test_precision_is_of_matrix_products_alone(tmp_path: Path, name: str) -> None:
    settings, found = {"baseline": BASELINE, **ARMS}[name], {}
    for precision in ("float32", "tf32", "bfloat16"):
        spec = train_spec("next_token", settings, seeds=[3], training={"precision": precision})
        _, step = build(spec, tmp_path, torch.device("cpu"))
        step(0)
        assert {value.dtype for value in step.state.values()} == {torch.float32, torch.float64}
        found[precision] = step.optimizer.gradients_RP.clone()
    assert torch.equal(found["float32"], found["tf32"])
    apart = (found["float32"] - found["bfloat16"]).norm() / found["float32"].norm()
    assert 1e-4 < apart < 0.02
    assert not torch.backends.cuda.matmul.allow_tf32


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
    "consistency": (ARMS["consistency"], {}, [3, 3, 3]),
    "r_drop": ({"kind": "r_drop", "gamma": 0.75}, {}, [6, 6, 6]),
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
    for number in range(3):
        step(number)
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
        step(5)
    assert torch.equal(more.bits[0], less.bits[0])
    assert more.model.dropout == 0.4
    size = torch.Size((1, 500))
    kept = [DropoutMasks(step.bits[0], step.model.dropout_rate).next(size) > 0 for step in (more, less)]
    assert bool((kept[1] | ~kept[0]).all())
    assert kept[0].float().mean().item() == pytest.approx(0.6, abs=0.1)
