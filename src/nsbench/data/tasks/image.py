"""What tasks on images share: settings, seeded splits of a collection, and patches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from nsbench.data.images import Collection, load, patches
from nsbench.data.tasks.base import Arrays, Examples, Task

if TYPE_CHECKING:
    from nsbench.data.images import Pool


class ImageTask(Task):
    """Classify the images of a `collection`, each a sequence of patches."""

    collection: ClassVar[Collection]

    patch: Annotated[int, Field(ge=1, le=1024)] = 7
    """Side of a patch in pixels; it divides the image's."""
    labels: Literal["given", "permuted"] = "given"
    """`permuted`: the labels of the training images are shuffled among them, a control; others stay as they are."""
    n_train: Examples = 10_000
    n_val: Examples = 2_000
    n_test: Examples = 10_000

    @model_validator(mode="after")
    def _fits(self) -> ImageTask:
        height, width, _ = self.collection.shape
        allowed = [side for side in range(1, height + 1) if height % side == width % side == 0]
        if self.patch not in allowed:
            raise ValueError(
                f"patch = {self.patch} does not cut images of {height} x {width} pixels evenly; "
                f"{', '.join(map(str, allowed))} are allowed"
            )
        most = self.collection.sizes
        if self.n_train + self.n_val > most["train"]:
            raise ValueError(
                f"n_train + n_val = {self.n_train + self.n_val} is more than the {most['train']} training images of "
                f"{self.collection}; at most {most['train']} is allowed"
            )
        if self.n_test > most["test"]:
            raise ValueError(
                f"n_test = {self.n_test} is more than the {most['test']} test images of {self.collection}; at most "
                f"{most['test']} is allowed"
            )
        return self

    def make(self, seed: int) -> tuple[Arrays, int, int]:
        """Images that the seed draws without replacement, in patches: (N, T, P) uint8, and labels (N).

        Training and validation images are training images of the collection, test images its test images. Raises
        ConfigError where the collection cannot be had or is not what it should be.
        """
        from nsbench.storage.seeding import stream

        random, pool = stream(seed, "data"), load(self.collection)
        shuffled = {part: random.permutation(len(labels)) for part, (_, labels) in pool.items()}
        order = shuffled["train"][: self.n_train + self.n_val]
        made = {
            **self._cut(pool, "train", "train", order[: self.n_train]),
            **self._cut(pool, "train", "val", order[self.n_train :]),
            **self._cut(pool, "test", "test", shuffled["test"][: self.n_test]),
        }
        if self.labels == "permuted":
            made["train_labels"] = random.permutation(made["train_labels"])
        return made, 0, self.collection.n_classes

    def _cut(self, pool: Pool, part: str, split: str, rows: np.ndarray) -> Arrays:
        images, labels = pool[part]
        return {f"{split}_tokens": patches(images[rows], self.patch), f"{split}_labels": labels[rows]}

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
