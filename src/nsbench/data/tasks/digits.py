"""Handwritten digits in 8 x 8 grey pixels, of a package that is installed anyway."""

from __future__ import annotations

from nsbench.data.images import Collection, CsvPackage
from nsbench.data.tasks.base import Examples
from nsbench.data.tasks.image import ImageTask, Patch
from nsbench.data.tasks.registry import task

FILE = "datasets/data/digits.csv.gz"
DIGITS = Collection(
    name="the 1,797 digits of scikit-learn",
    shape=(8, 8, 1),
    sizes={"train": 1_797},
    n_classes=10,
    sha256={FILE: "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"},
    sources=(CsvPackage("sklearn", FILE, distribution="scikit-learn", white=16),),
)
"""The test part of "Optical recognition of handwritten digits" (Alpaydin and Kaynak, 1998, UCI), CC BY 4.0."""


@task("digits")
class Digits(ImageTask):
    """Ten handwritten digits, small enough for a demonstration."""

    title = "digits"

    patch: Patch = 2
    n_train: Examples = 1_000
    n_val: Examples = 300
    n_test: Examples = 400

    @property
    def collection(self) -> Collection:
        return DIGITS
