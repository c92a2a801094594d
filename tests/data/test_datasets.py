"""The file of a pack's data sets, what noise reads of it, and batches."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from nsbench.config.base import ConfigError
from nsbench.config.variant import Noise
from nsbench.data.datasets import EpochOrder, read_dataset
from nsbench.data.generate import _check
from nsbench.data.tasks.sparse_parity import SparseParity
from nsbench.storage.seeding import stream
from tests.conftest import write_datasets

TINY = {"n": 5, "k": 2, "n_train": 30, "n_val": 10, "n_test": 10}


def test_the_file_gives_back_what_was_made_for_each_seed_whatever_the_pack(tmp_path: Path) -> None:
    write_datasets("sparse_parity", TINY, [3, 13, 1], tmp_path / "d.safetensors", {"spec": "{}"})
    write_datasets("sparse_parity", TINY, [13], tmp_path / "alone.safetensors")
    digests = set()
    for seed in (1, 3, 13):
        made, vocabulary, n_classes = SparseParity(**TINY).make(seed)
        data = read_dataset(tmp_path / "d.safetensors", seed, "sparse_parity")
        assert data.tensors.keys() == made.keys()
        assert all(data[name].tolist() == made[name].tolist() for name in made)
        assert (data.vocabulary, data.n_classes, data.secret) == (vocabulary, n_classes, made["secret"].tolist())
        assert {value.dtype for value in data.tensors.values()} == {torch.int64}
        digests.add(data.sha256)
    assert len(digests) == 3
    assert read_dataset(tmp_path / "alone.safetensors", 13).sha256 in digests


@pytest.mark.parametrize(
    ("noise", "layout", "symbols", "fixed"),
    [
        (Noise(), "bits_cls", [0, 1], None),
        (Noise(symbols="vocabulary"), "bits_cls", [0, 1, 2], None),
        (Noise(positions="task"), "bits_cls", [0, 1], [2]),
        (Noise(positions="task"), "bits", [0, 1], []),
    ],
)
def test_noise_reads_its_symbols_and_fixed_ids_from_the_data(
    tmp_path: Path, noise: Noise, layout: str, symbols: list[int], fixed: list[int] | None
) -> None:
    write_datasets("sparse_parity", {**TINY, "layout": layout}, [0], tmp_path / "d")
    data = read_dataset(tmp_path / "d", 0)
    assert data.noise_symbols(noise).tolist() == symbols
    found = data.fixed_ids(noise)
    assert found is None if fixed is None else found.tolist() == fixed


@pytest.mark.parametrize(("n_examples", "batch_size"), [(10, 3), (10, 10), (7, 20), (1, 5), (9, 1)])
def test_every_batch_is_full_and_every_epoch_sees_each_example_once(n_examples: int, batch_size: int) -> None:
    n_steps = 4 * math.ceil(n_examples / batch_size) + 3
    order = EpochOrder(0, n_examples)
    batches = [order.rows(step * batch_size, batch_size) for step in range(n_steps)]
    assert all(len(batch) == batch_size for batch in batches)
    row = torch.cat(batches)
    for epoch in range(len(row) // n_examples):
        expected = stream(0, "batches", epoch).permutation(n_examples)
        assert row[epoch * n_examples : (epoch + 1) * n_examples].tolist() == expected.tolist()
    # A batch depends on its step alone, and steps may be asked for together.
    assert torch.equal(EpochOrder(0, n_examples).rows(2 * batch_size, 3 * batch_size), torch.cat(batches[2:5]))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("train_tokens", [[0, 5]], "train_tokens has ids from 0 to 5; 0 to 4"),
        ("val_labels", [-1, 2], "from -1 to 2"),
        ("symbols", [0, 5], "symbols has ids from 0 to 5; 0 to 4"),
        ("val_labels", [0.5, 1.5], "val_labels has values of float64; whole numbers are allowed"),
    ],
)
def test_ids_that_no_model_has_are_refused(name: str, value: list[Any], words: str) -> None:
    _check("mine", {"train_tokens": [[0, 4]], "val_labels": [3]}, 5, 4)
    with pytest.raises(ConfigError, match=words):
        _check("mine", {name: value}, 5, 4)
