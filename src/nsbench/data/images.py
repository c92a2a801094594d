"""Collections of labelled images: where their files are found, what they must hold, and patches of them.

Each collection has fixed content, which checksums confirm, so a data set does not depend on where its images came from.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import io
import logging
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nsbench.config.base import ConfigError
from nsbench.data import hub

logger = logging.getLogger(__name__)

PARTS = ("train", "test")
Pool = dict[str, tuple[np.ndarray, np.ndarray]]
"""`train` and `test`: images (N, height, width, channels), uint8, and labels (N), int64."""
IDX_NAMES = {"train": "train", "test": "t10k"}
BYTES = 0x08
"""The idx format's code of unsigned bytes."""


@dataclass(frozen=True, eq=False)
class Collection:
    """A published collection of images, cut into training and test images by its authors."""

    name: str
    shape: tuple[int, int, int]
    """Height, width, channels."""
    sizes: Mapping[str, int]
    """Images of `train` and `test`."""
    n_classes: int
    repository: str
    """On the Hugging Face hub, as a data set."""
    revision: str
    files: Mapping[str, str]
    """The repository's Parquet files of `train` and `test`, with encoded images."""
    column: str
    """Of the images in these files."""
    sha256: Mapping[str, str]
    """Of the uncompressed idx files, by name, or of the repository's files."""
    variable: str = ""
    """Of the environment: a folder with idx files; empty where the collection is not published as such."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """Folders that have idx files where a package is installed -> the package, and the command that installs it."""

    def __str__(self) -> str:
        return self.name


@functools.lru_cache(maxsize=2)
def load(collection: Collection) -> Pool:
    """All images of a collection: of the folder that its variable names, of an installed package, or of the hub.

    The first of these that is there counts, and a folder that the variable names must be right. Raises ConfigError
    where none is there, or where files are broken or not the collection's.
    """
    looked = []
    if collection.variable:
        given = os.environ.get(collection.variable)
        if given:
            return _from_folder(collection, Path(given).expanduser(), f"${collection.variable} = {given!r}")
        looked.append(f"${collection.variable} is not set")
    for folder, package in collection.folders.items():
        if Path(folder).is_dir():
            return _from_folder(collection, Path(folder), folder)
        looked.append(f"{package} is not installed")
    return _from_hub(collection, looked)


def patches(images_NHWC: np.ndarray, patch: int) -> np.ndarray:
    """Images as sequences of square patches: (N, T, P), P = patch x patch x channels.

    Patches are row by row over the image, and so are the pixels in a patch, channels last.
    """
    n, height, width, channels = images_NHWC.shape
    cut = images_NHWC.reshape(n, height // patch, patch, width // patch, patch, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, patch * patch * channels)


# --- idx files -----------------------------------------------------------------------------------------


def idx_bytes(array: np.ndarray) -> bytes:
    """A uint8 array as an uncompressed idx file: two zeros, type, number of axes, their lengths, and the values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, BYTES, array.ndim]) + sizes + np.ascontiguousarray(array, dtype=np.uint8).tobytes()


def read_idx(content: bytes, path: Path | str) -> np.ndarray:
    """The uint8 array of an idx file, whose content may be compressed by gzip. Raises ConfigError naming the path."""
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"{path}: is no whole gzip file ({error}); get it again") from None
    if len(content) < 4 or content[:3] != bytes([0, 0, BYTES]):
        raise ConfigError(f"{path}: is no idx file of bytes; one that starts with 00 00 08 is allowed")
    start = 4 + 4 * content[3]
    shape = tuple(int.from_bytes(content[place : place + 4], "big") for place in range(4, start, 4))
    expected = start + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise ConfigError(f"{path}: has {len(content)} bytes, and its header makes {expected}; get it again")
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)


def _from_folder(collection: Collection, folder: Path, named: str) -> Pool:
    if not folder.is_dir():
        raise ConfigError(f"{named} is no folder; one with the idx files of {collection} is allowed")
    pool = {}
    for part in collection.sizes:
        arrays = []
        for kind, axes in (("images", 3), ("labels", 1)):
            name = f"{IDX_NAMES[part]}-{kind}-idx{axes}-ubyte"
            found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
            if not found:
                raise ConfigError(f"{named} has no {name} of {collection}; this file, or {name}.gz, is needed")
            try:
                content = found[0].read_bytes()
            except OSError as error:
                raise ConfigError(f"{found[0]} cannot be read ({error.strerror}); give a readable file") from error
            arrays.append(_checked(collection, part, kind, read_idx(content, found[0]), found[0]))
        pool[part] = _part(collection, *arrays)
    logger.info("%s: idx files of %s", collection, folder)
    return pool


def _checked(collection: Collection, part: str, kind: str, array: np.ndarray, path: Path | str) -> np.ndarray:
    """An array of the collection, compared with its size and its checksum."""
    height, width, channels = collection.shape
    axes = {"images": (height, width, channels)[: 3 if channels > 1 else 2], "labels": ()}[kind]
    wanted = (collection.sizes[part], *axes)
    if array.shape != wanted:
        here, there = (" x ".join(map(str, shape)) for shape in (array.shape, wanted))
        raise ConfigError(f"{path}: its {kind} are {here}; the {part} {kind} of {collection} are {there}")
    name = f"{IDX_NAMES[part]}-{kind}-idx{len(wanted)}-ubyte"
    if name in collection.sha256:
        _check_sum(idx_bytes(array), collection, name, path)
    return array


def _check_sum(content: bytes, collection: Collection, name: str, path: Path | str) -> None:
    if hashlib.sha256(content).hexdigest() != collection.sha256[name]:
        raise ConfigError(f"{path}: has a wrong checksum and is not {name} of {collection}; get it again")


def _part(collection: Collection, images: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images.reshape(-1, *collection.shape), labels.astype(np.int64)


# --- the hub -------------------------------------------------------------------------------------------


def _from_hub(collection: Collection, looked: list[str]) -> Pool:
    pool = {}
    for part, name in collection.files.items():
        try:
            path = hub.download(collection.repository, collection.revision, name, "dataset")
        except ImportError:
            raise
        except Exception as error:  # The hub's library lets the errors of several layers through.
            looked.append(f"of {collection.repository} on the Hugging Face hub: {hub.why(error)}")
            raise ConfigError(f"{collection} is not here: {', '.join(looked)}; {_instead(collection)}") from error
        where = f"{name} of {collection.repository} from the Hugging Face hub"
        content = path.read_bytes()
        if name in collection.sha256:
            _check_sum(content, collection, name, where)
        images, labels = _decoded(collection, content, where)
        pool[part] = _part(
            collection,
            _checked(collection, part, "images", images, where),
            _checked(collection, part, "labels", labels, where),
        )
    logger.info("%s: %s on the Hugging Face hub at %s", collection, collection.repository, collection.revision)
    return pool


def _instead(collection: Collection) -> str:
    ways = [f"install {package}" for package in collection.folders.values()]
    ways += [f"set ${collection.variable} to a folder with its idx files"] if collection.variable else []
    return ", or ".join([*ways, "give the same command again with the hub in reach"])


def _decoded(collection: Collection, content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, uint8, of a Parquet file with encoded images."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from PIL import Image

    try:
        table = pq.read_table(io.BytesIO(content), columns=[collection.column, "label"])
        images = [
            np.asarray(Image.open(io.BytesIO(row["bytes"])), dtype=np.uint8)
            for row in table[collection.column].to_pylist()
        ]
        return np.stack(images), np.array(table["label"].to_pylist(), dtype=np.uint8)
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise ConfigError(f"{where} is no whole Parquet file of images; remove it from the hub's cache") from error


# --- the collections -----------------------------------------------------------------------------------

FASHION_MNIST = Collection(
    name="Fashion-MNIST",
    shape=(28, 28, 1),
    sizes={"train": 60_000, "test": 10_000},
    n_classes=10,
    repository="zalando-datasets/fashion_mnist",
    revision="531be5e2ccc9dba0c201ad3ae567a4f3d16ecdd2",
    files={part: f"fashion_mnist/{part}-00000-of-00001.parquet" for part in PARTS},
    column="image",
    sha256={
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
    variable="NSBENCH_FASHION_MNIST",
    folders={"/usr/share/datasets/fashion-mnist": "Debian's package dataset-fashion-mnist"},
)
"""Pictures of clothes in grey (Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747), under the MIT licence.

All 70,000 images are different: none of the test images is among the training images.
"""
