"""A small collection of images, in the place of a published one."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from nsbench.data.idx import idx_bytes
from nsbench.data.images import IDX_NAMES, Collection, HubImages, IdxFolder, Source

SPLITS = ("train", "val", "test")
SIZES = {"train": 24, "test": 9}
VARIABLE = "NSBENCH_TINY_IMAGES"
HUB = HubImages("someone/tiny", "0123", "plain", "picture")


def drawn() -> dict[str, np.ndarray]:
    """What each idx file holds, by its name; no image occurs twice."""
    random = np.random.default_rng(0)
    found = {}
    for part, n in SIZES.items():
        found[IDX_NAMES[part, "images"]] = random.integers(0, 256, size=(n, 4, 6), dtype=np.uint8)
        found[IDX_NAMES[part, "labels"]] = (np.arange(n) % 3).astype(np.uint8)
    return found


def collection(*sources: Source, **changed: Any) -> Collection:
    """33 images of 4 x 6 pixels in three classes."""
    sha256 = {name: hashlib.sha256(idx_bytes(array)).hexdigest() for name, array in drawn().items()}
    found = Collection("Tiny images", (4, 6, 1), SIZES, 3, sha256, sources or (IdxFolder(VARIABLE),))
    return dataclasses.replace(found, **changed)


def write(folder: Path, compressed: bool = False) -> Path:
    folder.mkdir()
    for name, array in drawn().items():
        content = idx_bytes(array)
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(content) if compressed else content)
    return folder


def settings(**others: Any) -> dict[str, Any]:
    """Of a task on them."""
    return {"patch": 2, "n_train": 15, "n_val": 6, "n_test": 7, **others}
