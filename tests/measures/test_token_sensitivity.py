"""Token sensitivity against enumeration, its slope identity, and noise on weights and images."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config.base import parse
from nsbench.config.shape import Shape
from nsbench.data.datasets import Dataset
from nsbench.data.tasks.token_mixture import TokenMixture
from nsbench.evaluation.run import estimates
from nsbench.measures import MEASURES, Estimate, MeasureSettings
from nsbench.measures.corruptions import CORRUPTIONS, cut
from nsbench.measures.weight_noise import SCALES, disturbed
from nsbench.training.models import MODELS
from nsbench.training.models.modules import fold

SYMBOLS, LENGTH = 3, 4
OF_IDS = ["noise_stability", "average_sensitivity", "fourier_weight"]
CPU = torch.device("cpu")


def words(fixed: bool = False) -> Dataset:
    """All sequences of the symbols; with `fixed` the last token of each is none."""
    tokens = torch.tensor(list(itertools.product(range(SYMBOLS), repeat=LENGTH)))
    if fixed:
        tokens[:, -1] = SYMBOLS
    labels = torch.zeros(len(tokens), dtype=torch.long)
    tensors = {
        f"{split}_{name}": value
        for split in ("train", "val", "test")
        for name, value in (("tokens", tokens), ("labels", labels))
    }
    return Dataset({**tensors, "symbols": torch.arange(SYMBOLS)}, SYMBOLS + 1, 2, "words")


class Named:
    """A function of tokens as a model."""

    device, causal = CPU, False

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __call__(self, tokens: Tensor) -> Tensor:
        return F.one_hot(self.answer(tokens), 3).float()


def run(name: str, model: Any, data: Dataset, **sections: Any) -> dict[str, Estimate]:
    if not hasattr(model, "stack"):
        sections["sensitivity"] = {"perturbations": [{"law": "resample"}], **sections.get("sensitivity", {})}
    settings = parse(MeasureSettings, {"noise": sections.pop("noise", {}), **sections})
    settings = settings.model_copy(update={"measures": [name]})
    return {one.reduction: one for one in estimates(model, data, settings, 0)}


def answer(tokens: Tensor) -> Tensor:
    """Three classes, of no symmetry."""
    return (tokens[:, 0] * tokens[:, 1] + 2 * (tokens[:, 2] > 0) * tokens[:, -1]) % 3


@pytest.mark.parametrize("fixed", [False, True])
def test_it_is_what_enumeration_gives(fixed: bool) -> None:
    data = words(fixed)
    tokens, table = data["train_tokens"], answer(data["train_tokens"])
    places = range(LENGTH - fixed)
    by_place = []
    for place in places:
        flips = []
        for symbol in range(SYMBOLS):
            changed = tokens.clone()
            changed[:, place] = symbol
            flips.append((answer(changed) != table).double())
        by_place.append(torch.stack(flips).mean().item())
    shares = torch.bincount(table).double() / len(table)
    differ = (1 - shares.square().sum().item()) * len(table) / (len(table) - 1)
    draws = 600
    found = run("token_sensitivity", Named(answer), data, sensitivity={"n_inputs": 1000, "n_draws": draws, "kept": []})
    error = 4.5 * 0.5 / math.sqrt(len(tokens) * draws)
    value = sum(by_place) / len(by_place)
    assert found["resample-train"].value == pytest.approx(value, abs=error)
    assert found["resample-train-normalised"].value == pytest.approx(value / differ, abs=error / differ)
    for place in range(LENGTH):
        named = f"resample-train-position{place}"
        assert (named in found) == (place in places)
        if place in places:
            assert found[named].value == pytest.approx(by_place[place], abs=2 * error)


def test_by_position_the_longer_half_of_the_inputs_counts() -> None:
    """And each position is of the same inputs."""
    data = words()
    tokens, short_N = data["train_tokens"].clone(), torch.arange(SYMBOLS**LENGTH) % 3 == 0
    tokens[:, 0] = tokens[short_N, :3] = SYMBOLS  # padding in front
    data = Dataset({**data.tensors, "train_tokens": tokens}, SYMBOLS + 1, 2, "words")
    found = run("token_sensitivity", Named(lambda x: x[:, -1]), data, sensitivity={"n_inputs": 1000, "n_draws": 300})
    by_place = [found.get(f"resample-train-position{place}") for place in range(LENGTH)]
    assert by_place[0] is None
    assert [of_place.value for of_place in by_place[1:]] == [0, 0, pytest.approx(2 / 3, abs=0.02)]
    assert {of_place.n_inputs for of_place in by_place[1:]} == {int((~short_N).sum())}


def test_where_each_token_changes_flips_are_those_of_enumeration_and_its_slope_is_s() -> None:
    """Pr[flip] = (1 - kappa) T S + O((1 - kappa)^2)."""
    data, kept = words(), [0.9, 0.5, 0.0]
    tokens, table = data["train_tokens"], answer(data["train_tokens"])
    # Each token becomes any symbol with probability 1 - kappa.
    equal = (tokens[:, None] == tokens).double()

    def exact(kappa: float) -> float:
        chances = (kappa * equal + (1 - kappa) / SYMBOLS).prod(-1)
        return (chances * (table[:, None] != table)).sum(1).mean().item()

    draws = 400
    chosen = {"n_inputs": 1000, "n_draws": draws, "kept": kept}
    found = run("token_sensitivity", Named(answer), data, sensitivity=chosen)
    for kappa in kept:
        error = 4.5 * 0.5 / math.sqrt(len(tokens) * draws)
        assert found[f"resample-train-kept{kappa:g}"].value == pytest.approx(exact(kappa), abs=error)
    epsilon = 1e-4
    assert exact(1 - epsilon) / epsilon / LENGTH == pytest.approx(found["resample-train"].value, abs=0.01)


def test_a_model_of_one_class_has_no_normalised_value() -> None:
    found = run("token_sensitivity", Named(lambda tokens: torch.zeros(len(tokens), dtype=torch.long)), words())
    assert found["resample-train"].value == 0
    assert math.isnan(found["resample-train-normalised"].value)


def test_the_normalised_error_is_that_of_fresh_inputs() -> None:
    """Against the spread over data sets of independent inputs."""
    values, errors = [], []
    for seed in range(60):
        tokens = torch.randint(SYMBOLS, (100, LENGTH), generator=torch.Generator().manual_seed(seed))
        data = words()
        data.tensors["train_tokens"] = tokens
        chosen = {"perturbations": [{"law": "resample"}], "n_draws": 1, "kept": []}
        settings = parse(MeasureSettings, {"noise": {}, "sensitivity": chosen})
        generator = torch.Generator().manual_seed(1000 + seed)
        found = {one.reduction: one for one in MEASURES["token_sensitivity"](Named(answer), data, generator, settings)}
        values.append(found["resample-train-normalised"].value)
        errors.append(found["resample-train-normalised"].standard_error)
    assert torch.tensor(values).std().item() == pytest.approx(sum(errors) / 60, rel=0.3)


IMAGES = Shape(length=4, vocabulary=0, n_classes=3, token_width=16)


def pictures(n: int = 60) -> tuple[Dataset, Any]:
    """Images, and a network in a checkpoint's place."""
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for split in ("train", "val", "test"):
        tensors[f"{split}_tokens"] = torch.rand(n, 4, 16, generator=generator) * 2 - 1
        tensors[f"{split}_labels"] = torch.randint(3, (n,), generator=generator)
    stack = MODELS["mlp"](widths=[12]).build(IMAGES, [0])
    stack.load_run(0, {name: 4 * weight for name, weight in stack.run_weights(0).items()})

    class Model(Named):
        def __init__(self) -> None:
            self.stack = stack

        @torch.no_grad()
        def __call__(self, tokens: Tensor) -> Tensor:
            return stack(tokens[None])[0]

    return Dataset(tensors, 0, 3, "pictures"), Model()


def test_patches_are_changed_by_the_laws_that_are_for_them() -> None:
    data, model = pictures()
    found = run("token_sensitivity", model, data, noise={"law": "patch_gaussian"}, sensitivity={"n_draws": 20})
    laws = {name.split("-train")[0] for name in found if "-train" in name}
    assert laws == {
        "patch_gaussian-1",
        "patch_gaussian-0.5",
        "patch_gaussian-2",
        "scattered_gaussian-1",
        "ornstein_uhlenbeck-1",
        "other_patch",
    }
    by_hand = []
    x, clean = data["train_tokens"], model(data["train_tokens"]).argmax(-1)
    generator = torch.Generator().manual_seed(5)
    for place in range(4):
        for _ in range(50):
            y = x.clone()
            y[:, place] += torch.randn(len(x), 16, generator=generator)
            by_hand.append((model(y).argmax(-1) != clean).double().mean().item())
    assert found["patch_gaussian-1-train"].value == pytest.approx(sum(by_hand) / len(by_hand), abs=0.02)
    sizes = [found[f"patch_gaussian-{sigma}-train"].value for sigma in ("0.5", "1", "2")]
    assert sizes == sorted(sizes)
    assert found["patch_gaussian-1-train-kept0.9"].value < found["patch_gaussian-1-train-kept0.25"].value


def test_noise_on_weights_has_its_size_and_leaves_them_as_they_were() -> None:
    data, model = pictures()
    before = {name: weight.clone() for name, weight in model.stack.run_weights(0).items()}
    found = run("weight_noise", model, data, sensitivity={"n_draws": 50})
    for name, weight in model.stack.run_weights(0).items():
        assert torch.equal(weight, before[name])
    assert set(found) == {f"{scale}-{of}" for scale in SCALES for of in ("logits", "flips", "loss")}
    assert 0 < found["absolute-flips"].value < 1


@pytest.mark.parametrize(("scale", "size"), SCALES.items())
def test_noise_on_weights_has_the_scale_that_it_is_named_for(scale: str, size: float) -> None:
    stack = MODELS["mlp"](widths=[3]).build(IMAGES, [0])
    before_OI = stack.run_weights(0)["1.weight"].clone()
    before_OI[0] *= 5
    stack.load_run(0, {**stack.run_weights(0), "1.weight": before_OI})
    generator, squares = torch.Generator().manual_seed(0), []
    for _ in range(200):
        with disturbed(stack, scale, size, generator):
            squares.append((stack.run_weights(0)["1.weight"] - before_OI).square())
    of_output_O = torch.stack(squares).mean((0, 2)).sqrt()
    wanted_O = {
        "absolute": torch.full((3,), size),
        "relative": size * before_OI.square().mean().sqrt().expand(3),
        "filter": size * before_OI.square().mean(1).sqrt(),
    }[scale]
    torch.testing.assert_close(of_output_O, wanted_O, rtol=0.05, atol=0)


@pytest.mark.parametrize("name", list(CORRUPTIONS))
def test_corruptions_change_images_a_bit_and_keep_their_shape(name: str) -> None:
    images = torch.rand(30, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    found = CORRUPTIONS[name](images, torch.Generator().manual_seed(1))
    assert found.shape == images.shape
    assert not torch.equal(found, images)
    flat = torch.full((2, 1, 16, 16), 0.25)
    if name in ("blur", "pixelate", "contrast"):
        torch.testing.assert_close(CORRUPTIONS[name](flat, torch.Generator()), flat)


def test_corruptions_are_scored_by_the_labels_and_patches_go_there_and_back() -> None:
    data, model = pictures()
    x = data["test_tokens"]
    assert torch.equal(cut(fold(x, IMAGES), IMAGES), x)
    data.tensors["test_labels"] = model(x).argmax(-1)
    found = run("corruptions", model, data)
    assert found["clean"].value == 1
    assert set(found) == {"clean", "mean", *CORRUPTIONS}
    assert found["mean"].value == pytest.approx(sum(found[name].value for name in CORRUPTIONS) / len(CORRUPTIONS))
    bright = cut((fold(x, IMAGES) + 0.4).clamp(-1, 1), IMAGES)
    assert found["brightness"].value == (model(bright).argmax(-1) == model(x).argmax(-1)).double().mean().item()


def test_measures_that_need_ids_say_nothing_of_images() -> None:
    data, model = pictures()
    settings = parse(
        MeasureSettings,
        {"noise": {"law": "other_patch"}, "measures": [*OF_IDS, "test_scores"]},
    )
    found = [*estimates(model, data, settings, 0)]
    assert {one.measure for one in found} == {"noise_stability", "test_accuracy", "test_loss"}
    assert all(math.isnan(one.correlation) for one in found)


def test_swapped_examples_tell_which_tokens_a_model_follows() -> None:
    task = TokenMixture(n_train=20, n_val=20, n_test=300)
    made, vocabulary, n_classes = task.make(3)
    data = Dataset({name: torch.tensor(value) for name, value in made.items()}, vocabulary, n_classes, "mixture")
    first, second = (range(task.frequent_symbols * c, task.frequent_symbols * (c + 1)) for c in (0, 1))

    def frequent(tokens: Tensor) -> Tensor:
        counts = [torch.isin(tokens, torch.tensor([*ids])).sum(1) for ids in (first, second)]
        return (counts[1] > counts[0]).long()

    assert run("swapped_accuracy", Named(frequent), data)["mean"].value == 1
    assert run("swapped_accuracy", Named(lambda tokens: 1 - frequent(tokens)), data)["mean"].value == 0
    assert run("swapped_accuracy", Named(answer), words()) == {}


def test_noise_on_the_vectors_of_ids_is_in_units_of_their_size_and_leaves_other_tokens() -> None:
    """A class for the sign of the first token's first number; the last token is padding."""
    data, table = words(fixed=True), torch.tensor([[1.0, 2.0], [-1.0, 0.5], [3.0, -1.0], [3.0, 3.0]])

    class Stack:
        def embed(self, tokens: Tensor) -> Tensor:
            return table[tokens]

    class Model(Named):
        stack = Stack()

        def __call__(self, tokens: Tensor) -> Tensor:
            x = tokens if tokens.is_floating_point() else table[tokens]
            if tokens.is_floating_point():
                assert torch.equal(x[:, -1], table[3].expand(len(x), 2))
            return F.one_hot((x[:, 0, 0] > 0).long(), 2).float()

    sigma, draws = 1.5, 300
    one = {"law": "embedding_gaussian", "sigma": sigma}
    chosen = {"perturbations": [one], "n_draws": draws, "kept": [0.5]}
    found = run("token_sensitivity", Model(None), data, sensitivity=chosen)
    size = sigma * table[data["train_tokens"]].square().mean().sqrt()
    flips = torch.special.ndtr(-table[:3, 0].abs() / size).mean().item()
    error = 4.5 * 0.5 / math.sqrt(draws * len(data["train_tokens"]))
    assert found["embedding_gaussian-1.5-train-position0"].value == pytest.approx(flips, abs=error)
    assert found["embedding_gaussian-1.5-train"].value == pytest.approx(flips / 3, abs=error)
    assert found["embedding_gaussian-1.5-train-kept0.5"].value == pytest.approx(flips / 2, abs=error)
