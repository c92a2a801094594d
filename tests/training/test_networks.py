"""The architectures that transformers are compared with, against torch.nn's modules in a plain loop."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.config.base import ConfigError, parse
from nsbench.config.shape import Shape
from nsbench.data.datasets import Dataset, EpochOrder
from nsbench.training.models import MODELS, Model
from nsbench.training.models.modules import fold
from nsbench.training.step import TrainingStep
from nsbench.workflow.config import variant_model
from tests.conftest import train_spec

IMAGES = Shape(length=16, vocabulary=0, n_classes=4, token_width=9)
WORDS = Shape(length=6, vocabulary=11, n_classes=3)
TRANSFORMER = {"kind": "transformer", "d_model": 8, "n_heads": 2, "n_layers": 1, "dropout": 0.0}
SETTINGS: dict[str, dict[str, Any]] = {
    "mlp": {"kind": "mlp", "widths": [7, 5]},
    "mlp of embeddings": {"kind": "mlp", "widths": [7, 5], "embedding_width": 3},
    "cnn": {"kind": "cnn", "width": 4},
    "cnn without pooling": {"kind": "cnn", "width": 3, "pooling": "flatten", "norm": "none"},
    "convmixer": {"kind": "convmixer", "width": 6, "depth": 2},
    "resnet": {"kind": "resnet", "width": 3, "blocks": [1, 2]},
    "lstm": {"kind": "lstm", "width": 5, "depth": 2},
    "lstm, mean": {"kind": "lstm", "width": 5, "depth": 1, "readout": "mean"},
    "transformer": TRANSFORMER,
    "transformer without positions": {**TRANSFORMER, "position_encoding": "none", "embedding_scale": "none"},
}
OF_WORDS = [name for name in SETTINGS if name.startswith(("mlp of", "lstm", "transformer"))]
CASES = [(name, IMAGES) for name in SETTINGS] + [(name, WORDS) for name in OF_WORDS]
ALL = pytest.mark.parametrize(("name", "shape"), CASES, ids=[f"{name}, {shape.length}" for name, shape in CASES])


def model_of(name: str) -> Model:
    settings = SETTINGS[name]
    return parse(MODELS[settings["kind"]], settings)


def inputs(shape: Shape, *axes: int) -> Tensor:
    size = (*axes, shape.length)
    return torch.randn(*size, shape.token_width) if shape.token_width else torch.randint(shape.vocabulary, size)


def dataset(shape: Shape, seed: int) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for split in ("train", "val", "test"):
        size = (30, shape.length)
        if shape.token_width:
            tensors[f"{split}_tokens"] = torch.randn(*size, shape.token_width, generator=generator)
        else:
            tensors[f"{split}_tokens"] = torch.randint(shape.vocabulary, size, generator=generator)
        tensors[f"{split}_labels"] = torch.randint(shape.n_classes, (30,), generator=generator)
    if shape.vocabulary:
        tensors["symbols"] = torch.arange(shape.vocabulary)
    return Dataset(tensors, shape.vocabulary, shape.n_classes, f"{seed}")


def test_the_shape_of_a_data_set_is_what_models_are_built_for() -> None:
    for shape in (IMAGES, WORDS):
        assert dataset(shape, 0).shape == shape


@ALL
def test_weights_are_counted(name: str, shape: Shape) -> None:
    """All but biases, norms, and what planning leaves out."""
    model = model_of(name)
    counted = model.n_weights(shape)
    assert 0.6 * model.build(shape, [0]).n_parameters() <= counted <= model.build(shape, [0]).n_parameters()
    assert model.multiplications(shape) > 0
    assert model.activations(2, shape) > 0


@ALL
def test_a_stack_computes_what_its_networks_compute_alone(name: str, shape: Shape) -> None:
    model, tokens = model_of(name), inputs(shape, 3, 5)
    stack = model.build(shape, [4, 5, 6])
    logits = stack(tokens)
    assert logits.shape == (3, 5, shape.n_classes)
    for run in range(3):
        alone = model.build(shape, [4 + run])
        for key, weight in alone.run_weights(0).items():
            assert torch.equal(weight, stack.run_weights(run)[key])
        torch.testing.assert_close(alone(tokens[run : run + 1])[0], logits[run])
        other = model.build(shape, [9])
        other.load_run(0, stack.run_weights(run))
        torch.testing.assert_close(other(tokens[run : run + 1])[0], logits[run])
    assert not torch.allclose(logits[0], stack(tokens[:1].expand_as(tokens))[1])
    if not name.startswith("transformer"):
        stack.__dict__["_convolves"] = False  # as on a GPU: at once
        torch.testing.assert_close(stack(tokens), logits)


@pytest.mark.parametrize("n_runs", [1, 3])
@pytest.mark.parametrize(("name", "shape"), [case for case in CASES if not case[0].startswith("transformer")])
def test_training_is_that_of_torch_nns_own_module_in_a_plain_loop(name: str, shape: Shape, n_runs: int) -> None:
    model, seeds = model_of(name), [3, 4, 5][:n_runs]
    spec = train_spec(model=SETTINGS[name], seeds=seeds, noise={"law": "resample"})
    datasets = [dataset(shape, seed) for seed in seeds]
    stack = model.build(shape, seeds)
    modules = [model.network(shape) for _ in seeds]
    for run, module in enumerate(modules):
        module.load_state_dict(stack.run_weights(run))
        assert not list(module.buffers())
    step = TrainingStep(stack, [spec] * n_runs, seeds, datasets)
    for number in range(4):
        step(number)
    size, decay = spec.training.batch_size, spec.optimizer.weight_decay
    for run, (seed, data, module) in enumerate(zip(seeds, datasets, modules, strict=True)):
        optimizer = torch.optim.AdamW(module.parameters(), lr=spec.optimizer.learning_rate, weight_decay=decay)
        for number in range(4):
            rows = EpochOrder(seed, 30).rows(number * size, size)
            optimizer.zero_grad()
            F.cross_entropy(module(data["train_tokens"][rows]), data["train_labels"][rows]).backward()
            optimizer.step()
        for key, weight in module.state_dict().items():
            torch.testing.assert_close(stack.run_weights(run)[key], weight, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize("name", OF_WORDS)
@pytest.mark.parametrize("n_runs", [1, 2])
def test_the_vectors_of_ids_stand_for_them(name: str, n_runs: int) -> None:
    stack, tokens = model_of(name).build(WORDS, [0, 1][:n_runs]), inputs(WORDS, n_runs, 5)
    vectors = stack.embed(tokens)
    assert vectors.shape[:3] == tokens.shape
    torch.testing.assert_close(stack(vectors), stack(tokens))
    assert not torch.allclose(stack(vectors.flip(-1)), stack(tokens))


def test_patches_fold_to_the_image_that_they_were_cut_from() -> None:
    for channels in (1, 3):
        image = torch.randn(2, 12, 12, channels)
        cut = image.view(2, 4, 3, 4, 3, channels).transpose(2, 3).reshape(2, 16, 9 * channels)
        assert torch.equal(fold(cut, Shape(16, 0, 2, 9 * channels)), image.permute(0, 3, 1, 2))


def test_a_transformer_without_positions_sees_no_order() -> None:
    for name, sees in (("transformer", True), ("transformer without positions", False)):
        for shape in (IMAGES, WORDS):
            stack, tokens = model_of(name).build(shape, [0]), inputs(shape, 1, 4)
            turned = tokens.roll(1, 2)
            assert torch.allclose(stack(tokens), stack(turned), atol=1e-6) != sees


@pytest.mark.parametrize(
    ("task", "model", "noise", "told"),
    [
        (
            "fashion_mnist",
            {"kind": "mlp"},
            {},
            "noise.law = 'resample' does not fit the task's tokens, which are patches",
        ),
        ("modular_addition", TRANSFORMER, {"law": "other_patch"}, "noise.law = 'other_patch' does not fit the task's"),
        (
            "modular_addition",
            {"kind": "cnn"},
            {},
            "model.kind = 'cnn' reads patches, and the task's tokens are ids",
        ),
        ("modular_addition", {"kind": "mlp"}, {}, "model.embedding_width = null with a task whose tokens are ids"),
    ],
)
def test_what_does_not_fit_a_task_is_refused(task: str, model: Any, noise: Any, told: str) -> None:
    from nsbench.data.tasks import TASKS

    with pytest.raises(ConfigError, match=re.escape(told)):
        parse(variant_model(TASKS[task]), {"data": {}, "model": model, "noise": noise})
