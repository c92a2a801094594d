"""What tests of data share."""

from __future__ import annotations

from pathlib import Path

import pytest

from nsbench.data.images import IdxPackage
from nsbench.data.tasks.fashion_mnist import FashionMnist
from tests.data.tiny_images import collection, write


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of idx files of a small collection, which the task on Fashion-MNIST has instead of its own."""
    folder = write(tmp_path / "idx")
    found = collection(IdxPackage("the package tiny-images", str(folder)))
    monkeypatch.setattr(FashionMnist, "collection", found)
    return folder
