"""What tasks on images share: settings, seeded splits of a collection, and patches."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from nsbench.data.images import Collection, load
from nsbench.data.tasks.base import Arrays, Examples, Task
from nsbench.data.tasks.pool import drawn, shortage

Patch = Annotated[int, Field(ge=1, le=1024)]


class ImageTask(Task):
    """Classify the images of a collection, each a sequence of patches. A task of this kind says which collection."""

    patch: Patch = 7
    """Side of a patch in pixels; it divides the image's."""
    labels: Literal["given", "permuted"] = "given"
    """`permuted`: the labels of the training images are shuffled among them, a control; others stay as they are."""
    n_train: Examples = 10_000
    n_val: Examples = 2_000
    n_test: Examples = 10_000

    @property
    def collection(self) -> Collection:
        """The images."""
        raise NotImplementedError

    @model_validator(mode="after")
    def _fits(self) -> ImageTask:
        height, width, _ = self.collection.shape
        allowed = [side for side in range(1, height + 1) if height % side == width % side == 0]
        if self.patch not in allowed:
            raise ValueError(
                f"patch = {self.patch} does not cut images of {height} x {width} pixels evenly; "
                f"{', '.join(map(str, allowed))} are allowed"
            )
        if told := shortage(self, self.collection.sizes, f"images of {self.collection.name}"):
            raise ValueError(told)
        return self

    def make(self, seed: int) -> tuple[Arrays, int, int]:
        """Images that the seed draws without replacement, in patches: (N, T, P) uint8, and labels (N).

        Raises ConfigError where the collection cannot be had or is not what it should be.
        """
        from nsbench.storage.seeding import stream

        random, pool, made = stream(seed, "data"), load(self.collection), {}
        for name, (part, rows) in drawn(self, self.collection.sizes, random).items():
            images, labels = pool[part]
            made |= {f"{name}_tokens": patches(images[rows], self.patch), f"{name}_labels": labels[rows]}
        if self.labels == "permuted":
            made["train_labels"] = random.permutation(made["train_labels"])
        return made, 0, self.collection.n_classes

    def sequence_length(self) -> int:
        height, width, _ = self.collection.shape
        return (height // self.patch) * (width // self.patch)

    def token_width(self) -> int:
        return self.patch**2 * self.collection.shape[2]

    def symbol_count(self) -> int:
        return 0

    def class_count(self) -> int:
        return self.collection.n_classes

    def source(self) -> str:
        return self.collection.name

    def floor_rows(self, arrays: Arrays, n_classes: int) -> list[dict[str, Any]]:
        """What the nearest class mean scores; a table of inputs would never answer."""
        from nsbench.data.baselines import nearest_mean_rows

        return nearest_mean_rows(arrays, n_classes)


def patches(images_NHWC: np.ndarray, patch: int) -> np.ndarray:
    """Images as sequences of square patches: (N, T, P), P = patch x patch x channels.

    Patches go row by row over the image, and so do the pixels in a patch, channels last.
    """
    n, height, width, channels = images_NHWC.shape
    cut = images_NHWC.reshape(n, height // patch, patch, width // patch, patch, channels)
    return cut.transpose(0, 1, 3, 2, 4, 5).reshape(n, -1, patch * patch * channels)
