"""CIFAR-10: ten kinds of objects in 32 x 32 pixels of three colours."""

from __future__ import annotations

from nsbench.data.images import Collection, HubImages
from nsbench.data.tasks.image import ImageTask, Patch
from nsbench.data.tasks.registry import task

CIFAR10 = Collection(
    name="CIFAR-10",
    shape=(32, 32, 3),
    sizes={"train": 50_000, "test": 10_000},
    n_classes=10,
    sha256={
        "plain_text/train-00000-of-00001.parquet": "8428b53a88a11ac374111006708df51469e315a22ac6d66470afd9c78d2ae883",
        "plain_text/test-00000-of-00001.parquet": "841389e6f2d64f28bf17310e430aebac20ec3ba611a3c5e231dc93c645ce84de",
    },
    sources=(HubImages("uoft-cs/cifar10", "0b2714987fa478483af9968de7c934580d0bb9a2", "plain_text", "img"),),
)
"""Small photographs (Krizhevsky, 2009)."""


@task("cifar10")
class Cifar10(ImageTask):
    """Ten kinds of objects: 50,000 training and 10,000 test images of CIFAR-10."""

    title = "CIFAR-10"
    patch: Patch = 4

    @property
    def collection(self) -> Collection:
        return CIFAR10
