"""Collections of labelled images: what they must hold, and where they are found.

Each collection has fixed content, which checksums confirm, so a data set does not depend on where its images came from.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.util
import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from nsbench.config.base import ConfigError
from nsbench.data import hub
from nsbench.data.idx import idx_bytes, read_idx

logger = logging.getLogger(__name__)

Pool = dict[str, tuple[np.ndarray, np.ndarray]]
"""`train` and, where there is one, `test`: images (N, height, width, channels), uint8, and labels (N), int64."""


class Absent(Exception):
    """A source of a collection that is not here; the message says so in a few words."""


class Source(Protocol):
    """Where a collection may be."""

    remedy: str
    """What to do to have it there."""

    def load(self, collection: Collection) -> Pool:
        """All images. Raises Absent where the source is not there, ConfigError where it is broken."""


@dataclass(frozen=True, eq=False)
class Collection:
    """A published collection of images, as its authors cut it into training and test images."""

    name: str
    shape: tuple[int, int, int]
    """Height, width, channels."""
    sizes: Mapping[str, int]
    """Images of `train` and `test`; without `test`, all are to be cut."""
    n_classes: int
    sha256: Mapping[str, str]
    """By name, of uncompressed idx files (IDX_NAMES), or of other files as a source has them."""
    sources: tuple[Source, ...]
    """In the order in which they are tried."""


@functools.lru_cache(maxsize=2)
def load(collection: Collection) -> Pool:
    """All images of a collection, from the first of its sources that is there.

    Raises ConfigError where none is there, or where files are broken or not the collection's.
    """
    looked = []
    for source in collection.sources:
        try:
            return source.load(collection)
        except Absent as error:
            looked.append(str(error))
    remedies = ", or ".join(source.remedy for source in collection.sources)
    raise ConfigError(f"{collection.name} is not here: {', '.join(looked)}; {remedies}")


# --- what a file must hold -----------------------------------------------------------------------------

IDX_NAMES = {
    (part, kind): f"{name}-{kind}-idx{axes}-ubyte"
    for part, name in {"train": "train", "test": "t10k"}.items()
    for kind, axes in {"images": 3, "labels": 1}.items()
}


def checked(collection: Collection, part: str, images: np.ndarray, labels: np.ndarray, *paths: Path | str) -> Pool:
    """A part of the collection, its size and its checksums compared; paths: of the images and of the labels, or one."""
    size, (height, width, channels) = collection.sizes[part], collection.shape
    shapes = {"images": (size, height, width, channels)[: 4 if channels > 1 else 3], "labels": (size,)}
    for array, (kind, shape), path in zip((images, labels), shapes.items(), (paths * 2)[:2], strict=True):
        if array.shape != shape:
            here, there = (" x ".join(map(str, each)) for each in (array.shape, shape))
            raise ConfigError(f"{path}: its {kind} are {here}; the {part} {kind} of {collection.name} are {there}")
        if IDX_NAMES[part, kind] in collection.sha256:
            check_sum(idx_bytes(array), collection, IDX_NAMES[part, kind], path)
    return {part: (images.reshape(-1, *collection.shape), labels.astype(np.int64))}


def check_sum(content: bytes, collection: Collection, name: str, path: Path | str) -> None:
    """Raise ConfigError where content is not that of a file of the collection."""
    if hashlib.sha256(content).hexdigest() != collection.sha256[name]:
        raise ConfigError(f"{path}: has a wrong checksum and is not {name} of {collection.name}; get it again")


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); give a readable file") from error


# --- sources -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class IdxFolder:
    """A folder that an environment variable names, with idx files, compressed by gzip or not."""

    variable: str

    @property
    def remedy(self) -> str:
        return f"set ${self.variable} to a folder with its idx files"

    def load(self, collection: Collection) -> Pool:
        given = os.environ.get(self.variable)
        if not given:
            raise Absent(f"${self.variable} is not set")
        folder, named = Path(given).expanduser(), f"${self.variable} = {given!r}"
        if not folder.is_dir():
            raise ConfigError(f"{named} is no folder; one with the idx files of {collection.name} is allowed")
        return _from_idx(collection, folder, named)


@dataclass(frozen=True)
class IdxPackage:
    """A folder of idx files that a package of an operating system installs."""

    package: str
    folder: str

    @property
    def remedy(self) -> str:
        return f"install {self.package}"

    def load(self, collection: Collection) -> Pool:
        if not Path(self.folder).is_dir():
            raise Absent(f"{self.package} is not installed")
        return _from_idx(collection, Path(self.folder), self.folder)


def _from_idx(collection: Collection, folder: Path, named: str) -> Pool:
    pool: Pool = {}
    for part in collection.sizes:
        arrays, paths = [], []
        for name in (IDX_NAMES[part, "images"], IDX_NAMES[part, "labels"]):
            found = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
            if not found:
                raise ConfigError(f"{named} has no {name} of {collection.name}; this file, or {name}.gz, is needed")
            paths.append(found[0])
            arrays.append(read_idx(_bytes_of(found[0]), found[0]))
        pool |= checked(collection, part, *arrays, *paths)
    logger.info("%s: idx files of %s", collection.name, folder)
    return pool


@dataclass(frozen=True)
class HubImages:
    """Parquet files with encoded images and labels, in a data set's repository on the Hugging Face hub."""

    repository: str
    revision: str
    folder: str
    column: str
    """Of the images."""

    remedy = "give the same command again with the hub in reach"

    def file(self, part: str) -> str:
        return f"{self.folder}/{part}-00000-of-00001.parquet"

    def load(self, collection: Collection) -> Pool:
        pool: Pool = {}
        for part in collection.sizes:
            name = self.file(part)
            try:
                path = hub.download(self.repository, self.revision, name, "dataset")
            except ImportError:
                raise
            except Exception as error:  # The hub's library lets the errors of several layers through.
                raise Absent(f"of {self.repository} on the Hugging Face hub: {hub.why(error)}") from error
            where, content = f"{name} of {self.repository} from the Hugging Face hub", _bytes_of(path)
            if name in collection.sha256:
                check_sum(content, collection, name, where)
            pool |= checked(collection, part, *self._decoded(content, where), where)
        logger.info("%s: %s on the Hugging Face hub at %s", collection.name, self.repository, self.revision)
        return pool

    def _decoded(self, content: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels, uint8."""
        import pyarrow as pa
        import pyarrow.parquet as pq
        from PIL import Image

        try:
            table = pq.read_table(io.BytesIO(content), columns=[self.column, "label"])
            rows = table[self.column].to_pylist()
            images = [np.asarray(Image.open(io.BytesIO(row["bytes"])), dtype=np.uint8) for row in rows]
            return np.stack(images), np.array(table["label"].to_pylist(), dtype=np.uint8)
        except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
            raise ConfigError(f"{where} is no whole Parquet file of images; remove it from the hub's cache") from error


@dataclass(frozen=True)
class CsvPackage:
    """A compressed table that an installed Python package ships: an image's pixels and its label in each line."""

    package: str
    file: str
    distribution: str = ""
    """What pip installs, where that has another name."""
    white: int = 255
    """The largest value that a pixel may have."""

    @property
    def remedy(self) -> str:
        return f"give pip install {self.distribution or self.package}"

    def load(self, collection: Collection) -> Pool:
        found = importlib.util.find_spec(self.package)
        if found is None or not found.submodule_search_locations:
            raise Absent(f"the Python package {self.package} is not installed")
        path = Path(found.submodule_search_locations[0], self.file)
        if not path.is_file():
            raise ConfigError(f"{path}: no such file; another version of {self.package} is needed")
        content = _bytes_of(path)
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError) as error:
            raise ConfigError(f"{path}: is no whole gzip file ({error}); install {self.package} again") from None
        check_sum(content, collection, self.file, path)
        rows = np.loadtxt(io.BytesIO(content), delimiter=",", dtype=np.uint8)
        rows[:, :-1] = np.rint(rows[:, :-1] * (255 / self.white))
        logger.info("%s: %s of the Python package %s", collection.name, self.file, self.package)
        return checked(collection, "train", rows[:, :-1].reshape(-1, *collection.shape[:2]), rows[:, -1], path)
