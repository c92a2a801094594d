"""Images as data: patches, seeded splits, baselines, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nsbench.config.base import ConfigError, parse
from nsbench.data import images
from nsbench.data.baselines import nearest_mean_rows
from nsbench.data.datasets import read_dataset
from nsbench.data.generate import _check
from nsbench.data.images import IDX_NAMES, IdxPackage
from nsbench.data.tasks.fashion_mnist import FASHION_MNIST, FashionMnist
from nsbench.data.tasks.image import patches
from nsbench.schemas.training import FLOORS
from nsbench.storage.parquet import read_table
from tests.conftest import write_datasets
from tests.data.tiny_images import SIZES, drawn, settings


def whole(made: dict[str, np.ndarray], split: str) -> list[tuple[bytes, int]]:
    """Images of a split as bytes, with their labels."""
    pixels = made[f"{split}_tokens"].reshape(-1, 2, 3, 2, 2).transpose(0, 1, 3, 2, 4).reshape(-1, 4, 6)
    return [(image.tobytes(), label) for image, label in zip(pixels, made[f"{split}_labels"].tolist(), strict=True)]


def test_patches_go_row_by_row_and_so_do_their_pixels() -> None:
    picture = np.arange(4 * 6 * 3).reshape(1, 4, 6, 3)
    cut = patches(picture, 2)
    assert cut.shape == (1, 6, 12)
    for row in range(2):
        for column in range(3):
            expected = picture[0, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].ravel()
            assert cut[0, 3 * row + column].tolist() == expected.tolist()


def test_splits_are_images_of_their_part_each_once_and_the_seed_draws_them(tiny: Path) -> None:
    task = FashionMnist(**settings())
    made, vocabulary, n_classes = task.make(3)
    assert (vocabulary, n_classes) == (0, 3) == (task.symbol_count(), task.class_count())
    assert (task.sequence_length(), task.token_width()) == (6, 4) == made["val_tokens"].shape[1:]
    arrays = drawn()
    known = {
        part: {
            (image.tobytes(), label)
            for image, label in zip(
                arrays[IDX_NAMES[part, "images"]], arrays[IDX_NAMES[part, "labels"]].tolist(), strict=True
            )
        }
        for part in SIZES
    }
    train, val, test = (whole(made, split) for split in ("train", "val", "test"))
    assert list(map(len, (train, val, test))) == [15, 6, 7]
    assert len({*train, *val}) == 21
    assert {*train, *val} <= known["train"]
    assert len({*test}) == 7
    assert {*test} <= known["test"]
    again, other = task.make(3)[0], task.make(4)[0]
    assert all(np.array_equal(made[name], again[name]) for name in made)
    assert not any(np.array_equal(made[name], other[name]) for name in made)


def test_permuted_labels_are_those_of_training_in_another_order(tiny: Path) -> None:
    given, permuted = (FashionMnist(**settings(labels=labels)).make(0)[0] for labels in ("given", "permuted"))
    changed = {name for name in given if not np.array_equal(given[name], permuted[name])}
    assert changed == {"train_labels"}
    assert sorted(given["train_labels"]) == sorted(permuted["train_labels"])


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"patch": 4}, "patch = 4 does not cut images of 4 x 6 pixels evenly; 1, 2 are allowed"),
        ({"n_train": 19}, "n_train + n_val = 25 is more than the 24 training images of Tiny images; at most 24 is"),
        ({"n_test": 10}, "n_test = 10 is more than the 9 test images of Tiny images; at most 9 is allowed"),
    ],
)
def test_settings_that_no_collection_fits_are_told(tiny: Path, changed: dict[str, int], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(FashionMnist, settings(**changed))
    assert told in str(caught.value)


def test_the_file_gives_back_patches_as_numbers_from_minus_one_to_one(tiny: Path, tmp_path: Path) -> None:
    write_datasets("fashion_mnist", settings(), [0, 2], tmp_path / "d")
    made, *_ = FashionMnist(**settings()).make(2)
    data = read_dataset(tmp_path / "d", 2, "fashion_mnist")
    assert (data.vocabulary, data.n_classes, data.text) == (0, 3, "Tiny images")
    for split in ("train", "val", "test"):
        tokens, labels = data[f"{split}_tokens"], data[f"{split}_labels"]
        expected = made[f"{split}_tokens"].astype(np.float64) / 127.5 - 1
        assert (tokens.dtype, labels.dtype) == (torch.float32, torch.int64)
        np.testing.assert_allclose(tokens.numpy(), expected, atol=1e-6)
        assert labels.tolist() == made[f"{split}_labels"].tolist()
    assert (data["train_tokens"].min(), data["train_tokens"].max()) == (-1, 1)
    assert data.sha256 != read_dataset(tmp_path / "d", 0).sha256
    floors = read_table(tmp_path / "d.floors.parquet", FLOORS)
    assert set(floors["predictor"]) == {"nearest_mean"}


@pytest.mark.parametrize(
    ("tokens", "told"),
    [
        (np.zeros((3, 6, 4)), "mine: val_tokens has patches of float64; uint8 is allowed"),
        (np.zeros((3, 6, 5), np.uint8), "has the shape 3 x 6 x 5; examples x 6 patches x 4 numbers is allowed"),
        (np.zeros((3, 24), np.uint8), "mine: val_tokens has the shape 3 x 24; examples x 6"),
    ],
)
def test_patches_that_no_model_takes_are_refused(tokens: np.ndarray, told: str) -> None:
    labels = {"val_labels": np.array([0, 2])}
    _check("mine", {"val_tokens": np.zeros((3, 6, 4), np.uint8), **labels}, 0, 3, (6, 4))
    with pytest.raises(ConfigError, match=told):
        _check("mine", {"val_tokens": tokens, **labels}, 0, 3, (6, 4))
    with pytest.raises(ConfigError, match="val_labels has ids from 0 to 2; 0 to 1 are allowed"):
        _check("mine", labels, 0, 2, (6, 4))


def test_the_nearest_mean_answers_with_a_class_that_training_has() -> None:
    random = np.random.default_rng(1)
    sizes = {"train": 40, "val": 1500, "test": 5}
    made = {f"{name}_tokens": random.integers(0, 256, (n, 3, 2), dtype=np.uint8) for name, n in sizes.items()}
    made |= {f"{name}_labels": random.integers(0, 4, n) for name, n in sizes.items()}
    made["train_labels"] = made["train_labels"] % 3 + (made["train_labels"] % 3 == 1)  # 0, 2 and no 1
    found = {(row["split"], row["targets"]): row for row in nearest_mean_rows(made, 4)}
    means = {c: made["train_tokens"][made["train_labels"] == c].mean(0) for c in np.unique(made["train_labels"])}
    assert 1 not in means
    for split in ("val", "test"):
        answers = [
            min(means, key=lambda c, image=image: ((image - means[c]) ** 2).sum()) for image in made[f"{split}_tokens"]
        ]
        row = found[split, "all"]
        assert (row["accuracy"], row["n_targets"]) == (
            pytest.approx(np.mean(answers == made[f"{split}_labels"])),
            sizes[split],
        )


def test_fashion_mnist_as_its_package_has_it() -> None:
    (package,) = (source for source in FASHION_MNIST.sources if isinstance(source, IdxPackage))
    if not Path(package.folder).is_dir():
        pytest.skip(f"{package.package} is not installed")
    pool = images.load(dataclasses.replace(FASHION_MNIST, sources=(package,)))
    assert {part: pixels.shape for part, (pixels, _) in pool.items()} == {
        "train": (60_000, 28, 28, 1),
        "test": (10_000, 28, 28, 1),
    }
    assert all((np.bincount(labels) == len(labels) // 10).all() for _, labels in pool.values())
    train, test = ({image.tobytes() for image in pool[part][0]} for part in ("train", "test"))
    assert (len(train), len(test), len(train & test)) == (60_000, 10_000, 0)
    made, *_ = FashionMnist(n_train=5000, n_val=100, n_test=2000).make(0)
    (accuracy,) = {row["accuracy"] for row in nearest_mean_rows(made, 10) if row["split"] == "test"}
    assert 0.64 < accuracy < 0.72
