"""A checkpoint of an nsbench run as a language model, measured on the test inputs of its run's data set."""

from __future__ import annotations

import json
import re
from dataclasses import astuple
from pathlib import Path

import torch
from torch import Tensor

from nsbench.config.base import ConfigError
from nsbench.config.shape import Shape
from nsbench.config.variant import Noise
from nsbench.data.datasets import Dataset, read_dataset
from nsbench.pretrained.inputs import Tokens
from nsbench.pretrained.models import LanguageModel, States
from nsbench.pretrained.sources import ModelError
from nsbench.storage.parquet import RecordError
from nsbench.storage.run_folder import read_checkpoint, read_summary
from nsbench.storage.tensors import read_tensors
from nsbench.training.models import Transformer, read_model

INSTEAD = "give a run's folder, or of another model its folder"


def find_checkpoint(path: Path) -> Path | None:
    """The checkpoint that a path means: itself, or the last one of a run's folder; None where it is neither.

    Raises ModelError for a run's folder without checkpoints, RecordError for another file of weights and for
    a damaged one.
    """
    if path.is_file():
        _metadata(path)
        return path
    if not ((path / "run.json").is_file() or (path / "trail").is_dir()):
        return None
    trail = sorted((path / "trail").glob("step-*.safetensors"))
    if not trail:
        raise ModelError(f"{path}: has no checkpoints; they are kept where config says checkpoints.keep: true")
    return trail[-1]


def load_checkpoint(path: Path, device: torch.device, control_seed: int | None = None) -> LanguageModel:
    """The model of a checkpoint; with a control_seed one of its shape with the initial weights of that seed.

    It has no modules for its layers and heads, so influences are of the embeddings alone. Raises RecordError for a
    file that no nsbench run wrote and for a damaged one.
    """
    metadata = _metadata(path)
    weights, _ = read_checkpoint(path, metadata["run_key"])
    settings, shape = _model(path, metadata)
    other = RecordError(f"{path}: its weights are not those of the model that it names; {INSTEAD}")
    # Before a model is built, of whatever size a file may claim.
    if settings.n_weights(shape) > sum(weight.numel() for weight in weights.values()):
        raise other
    stack = settings.build(shape, [control_seed or 0])
    if _shapes(stack.run_weights(0)) != _shapes(weights):
        raise other
    if control_seed is None:
        stack.load_run(0, weights)
    stack.to(device).eval().requires_grad_(False)

    def states(embeddings_NTC: Tensor) -> States:
        hidden_1NTC = stack.hidden(embeddings_NTC[None])
        return States(hidden_1NTC[0], stack.logits(hidden_1NTC)[0])

    embed = torch.no_grad()(lambda tokens_NT: stack.embed(tokens_NT[None])[0])

    # Position by position only without pooling; the mask alone says whether a position sees what follows it.
    kind = "causal" if (settings.mask, settings.pooling) == ("causal", "none") else "masked"
    return LanguageModel(
        kind=kind,
        architecture="TransformerStack",
        embed=embed,
        states=states,
        of_tokens=lambda tokens_NT: States(states(embed(tokens_NT)).hidden_NTC, stack(tokens_NT[None])[0]),
        layers={},
        heads={},
        n_parameters=stack.n_parameters(),
        n_layers=settings.n_layers,
        n_heads=settings.n_heads,
        d_model=settings.d_model,
        n_vocabulary=shape.vocabulary,
        values_per_token=settings.n_layers * (16 * settings.d_model + 4 * settings.hidden_width) + 3 * shape.n_classes,
        device=device,
        pooled=settings.pooling != "none",
    )


def dataset_tokens(checkpoint: Path, dataset: Path, count: int) -> Tokens:
    """The first `count` test inputs of the run's data set, with their labels.

    Raises ModelError where the checkpoint does not lie in a run's folder, RecordError for a file that is
    no data set of its task with the run's seed.
    """
    run = checkpoint.resolve().parent.parent
    seed = re.fullmatch(r"seed-(\d+)", run.name)
    if seed is None or len(run.parts) < 4:
        raise ModelError(f"{checkpoint}: does not lie in a run's folder (task/variant/arm/seed-N/trail)")
    if not dataset.is_file() or dataset.suffix != ".safetensors":
        raise ModelError(
            f"--text {dataset}: a run is measured on its data set; give its file, results/datasets/.../"
            "seeds-....safetensors"
        )
    data: Dataset = read_dataset(dataset, int(seed[1]), task=run.parts[-4])
    summary = read_summary(run / "run.json")
    if summary is not None and summary["data_sha256"] != data.sha256:
        raise ModelError(f"{dataset}: is not the data set that {run} was trained on; give that of its variant and pack")
    tokens_NT, labels = data["test_tokens"][:count], data["test_labels"][:count]
    fixed_ids = data.fixed_ids(Noise(positions="task"))
    label = data.text or f"test inputs of {run.parts[-4]}"
    return Tokens(tokens_NT, labels, data["symbols"], fixed_ids, 0, label)


def _model(path: Path, metadata: dict[str, str]) -> tuple[Transformer, Shape]:
    """The model that a checkpoint names, and what it was built for."""
    try:
        settings = read_model(metadata["model"])
        shape = Shape(**json.loads(metadata["shape"]))
        if not (all(type(size) is int for size in astuple(shape)) and min(astuple(shape)) >= 0 and shape.n_classes):
            raise ValueError
    except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise RecordError(f"{path}: does not say of which model it is a checkpoint; {INSTEAD}") from None
    if not isinstance(settings, Transformer):
        raise ModelError(f"{path}: is a model of kind '{settings.kind}'; one of kind 'transformer' can be measured")
    if shape.token_width:
        raise ModelError(f"{path}: reads patches of images; a model of token ids can be measured")
    return settings, shape


def _shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in weights.items()}


def _metadata(path: Path) -> dict[str, str]:
    """The metadata of a checkpoint's file. Raises RecordError for another file."""
    _, metadata = read_tensors(path, "checkpoint of an nsbench run", INSTEAD, wanted=lambda name: False)
    if "run_key" not in metadata or "model" not in metadata:
        raise RecordError(f"{path}: is no checkpoint of an nsbench run; {INSTEAD}")
    return metadata
