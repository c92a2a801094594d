"""The data sets of a pack: one file, one set per seed, made by its task and read by training.

A data set is a dict of tensors: `train_tokens`, `val_tokens`, `test_tokens` (N, T) and
`train_labels`, ... (N), or (N, T) with a target at each position, all int64; `symbols` (U), the ids
that noise redraws from; where there are any, `padding` and `unknown`, the ids that mean no token and
an unknown word; and whatever the task adds (sparse parity: `secret`). Of images, tokens are patches of
P numbers: (N, T, P), uint8 in the file, float32 in [-1, 1] once read; the vocabulary is 0, and there
are no symbols. The file's metadata holds vocabulary size, number of classes, what the data were cut
from, and provenance.
"""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nsbench.config.shape import Shape
from nsbench.config.variant import Noise
from nsbench.perturbations import Law, PatchLaw
from nsbench.perturbations.patches import PatchChange, StackPatchNoise, change_patches
from nsbench.perturbations.tokens import StackNoise, resample_tokens
from nsbench.schemas.metrics import LEFT_OUT
from nsbench.storage.parquet import RecordError
from nsbench.storage.seeding import stream
from nsbench.storage.tensors import read_tensors

AGAIN = "delete it and run its stage again"
METADATA = ("task", "vocabulary", "n_classes", "text")
"""What a file of data sets says of all of them, besides its provenance."""


@dataclass(frozen=True)
class Dataset:
    """One run's data: tensors by name (see the module's page), vocabulary size, classes, digest."""

    tensors: dict[str, Tensor]
    vocabulary: int
    n_classes: int
    sha256: str
    text: str = ""
    """The text, or the collection of images, that the data were cut from; empty for tasks without one."""

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def shape(self) -> Shape:
        """What a model of these data is built for."""
        _, length, *width = self["train_tokens"].shape
        return Shape(length, self.vocabulary, self.n_classes, *width)

    @functools.cached_property
    def moments(self) -> tuple[float, float]:
        """Mean and standard deviation of all training pixels."""
        std, mean = torch.std_mean(self["train_tokens"].double())
        return mean.item(), std.item()

    def noisy_copy(self, tokens_NT: Tensor, rho: float, noise: Noise, generator: torch.Generator) -> Tensor:
        """Y of Definition 6.1 for examples of these data (N, T), or (N, T, P), by a variant's noise."""
        if noise.law == "resample":
            symbols, fixed_ids = self.noise_symbols(noise), self.fixed_ids(noise)
            return resample_tokens(
                tokens_NT, rho, symbols, generator, same_symbol=noise.same_symbol, fixed_ids=fixed_ids
            )
        changed_NT = torch.rand(tokens_NT.shape[:2], generator=generator) >= (1 + rho) / 2
        return self.changed(tokens_NT, changed_NT, noise.law, noise.sigma, generator)

    def changed(
        self, tokens_NT: Tensor, changed_NT: Tensor, law: Law, sigma: float, generator: torch.Generator
    ) -> Tensor:
        """Examples of these data with the tokens changed by a law that `changed_NT` marks.

        `resample` puts any symbol of the task in the place of a symbol, and leaves other ids.
        """
        if law != "resample":
            return change_patches(tokens_NT, changed_NT, patch_change([self], law, sigma), generator)
        symbols = self["symbols"]
        drawn_NT = symbols[torch.randint(len(symbols), tokens_NT.shape, generator=generator)]
        return torch.where(changed_NT & torch.isin(tokens_NT, symbols), drawn_NT, tokens_NT)

    def noise_symbols(self, noise: Noise) -> Tensor:
        """The ids that noise redraws from: the task's symbols or the whole vocabulary."""
        return self["symbols"] if noise.symbols == "task" else torch.arange(self.vocabulary)

    def fixed_ids(self, noise: Noise) -> Tensor | None:
        """The ids that noise leaves alone: none, or all that are no symbols of the task."""
        if noise.positions == "all":
            return None
        everything = torch.arange(self.vocabulary)
        return everything[~torch.isin(everything, self["symbols"])]

    def counted(self, targets: str, split: str) -> Tensor:
        """Which labels of a split a kind of `schemas.metrics.TARGETS` counts: bool, of the labels' shape."""
        labels = self[f"{split}_labels"]
        counted = torch.ones_like(labels, dtype=torch.bool)
        for name in LEFT_OUT[targets]:
            if name in self.tensors:
                counted &= ~torch.isin(labels, self[name])
        return counted

    @property
    def secret(self) -> list[int] | None:
        secret = self.tensors.get("secret")
        return None if secret is None else secret.tolist()


def stack_noise(
    datasets: list[Dataset], rhos: list[float | None], noise: Noise, device: torch.device
) -> StackNoise | StackPatchNoise:
    """A variant's noise for a stack of runs, of a data set and a rho each; these share all but what tokens hold."""
    if noise.law != "resample":
        return StackPatchNoise(rhos, patch_change(datasets, noise.law, noise.sigma, device), device)
    data = datasets[0]
    symbols, fixed_ids = data.noise_symbols(noise), data.fixed_ids(noise)
    return StackNoise(rhos, symbols, data.vocabulary, device, same_symbol=noise.same_symbol, fixed_ids=fixed_ids)


def patch_change(
    datasets: list[Dataset], law: PatchLaw, sigma: float, device: torch.device | str = "cpu"
) -> PatchChange:
    """How patches change, with the mean and the standard deviation of the training pixels of each data set."""
    moments = zip(*(data.moments for data in datasets), strict=True)
    mean_R, std_R = (torch.tensor(values, device=device) for values in moments)
    return PatchChange(law, sigma, mean_R.view(-1, 1, 1, 1), std_R.view(-1, 1, 1, 1))


def read_dataset(path: Path, seed: int, task: str | None = None) -> Dataset:
    """The data set of one seed.

    Raises RecordError naming the file where it is missing, broken, without that seed or, where a
    task is given, another task's.
    """
    prefix = f"seed-{seed}/"
    found, metadata = read_tensors(path, "data set", AGAIN, lambda name: name.startswith(prefix))
    missing = [name for name in METADATA if name not in metadata]
    if missing:
        raise RecordError(f"{path}: is no data set, it has no {', '.join(missing)}; {AGAIN}")
    tensors = {name.removeprefix(prefix): value for name, value in found.items()}
    if not tensors:
        raise RecordError(f"{path}: has no data for seed {seed}; {AGAIN}")
    if task is not None and metadata["task"] != task:
        raise RecordError(f"{path}: is a data set of {metadata['task']}, not of {task}; give the right file")
    vocabulary, n_classes = int(metadata["vocabulary"]), int(metadata["n_classes"])
    digest = hashlib.sha256(json.dumps([vocabulary, n_classes]).encode())
    for name, value in tensors.items():
        digest.update(f"{name}{tuple(value.shape)}".encode() + value.numpy().tobytes())
    tensors = {name: value / 127.5 - 1 if value.dtype == torch.uint8 else value for name, value in tensors.items()}
    return Dataset(tensors, vocabulary, n_classes, digest.hexdigest(), metadata["text"])


class EpochOrder:
    """The shuffled order of each epoch of a run; the last two are remembered."""

    def __init__(self, seed: int, n_examples: int) -> None:
        self.seed, self.n_examples = seed, n_examples
        self.known: dict[int, Tensor] = {}

    def rows(self, first: int, count: int) -> Tensor:
        """Indices of `count` examples from number `first` on, in the endless row of shuffled epochs.

        A batch of it may span epochs, so that every batch is full and every epoch sees each example once.
        """
        parts, last = [], first + count
        while first < last:
            epoch, place = divmod(first, self.n_examples)
            parts.append(self(epoch)[place : place + last - first])
            first += len(parts[-1])
        return torch.cat(parts)

    def __call__(self, epoch: int) -> Tensor:
        if epoch not in self.known:
            self.known = {old: order for old, order in self.known.items() if old == epoch - 1}
            permutation = stream(self.seed, "batches", epoch).permutation(self.n_examples)
            self.known[epoch] = torch.from_numpy(permutation)
        return self.known[epoch]
