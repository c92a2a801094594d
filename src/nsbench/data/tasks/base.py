"""What a task is: the settings of its data, and all that follows from them.

    @task("modular_multiplication")
    class ModularMultiplication(Task):
        modulus: int = 31

        def make(self, seed): ...

Planning imports this module, so what makes data (numpy's streams, tables, texts) is imported by the methods, not here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from nsbench.config.base import Closed
from nsbench.config.shape import Shape

if TYPE_CHECKING:
    import numpy as np

SPLITS = ("train", "val", "test")
Examples = Annotated[int, Field(ge=1, le=10_000_000)]
Arrays = dict[str, "np.ndarray"]


class Task(Closed):
    """The settings of a task's data and what they make; a variant's `data` in `config.yaml`.

    Every task has `make`, `sequence_length` and `symbol_count`; the other methods have defaults.
    """

    title: ClassVar[str] = ""
    """How figures and the report call the task; left out, its name with blanks for `_`."""
    from_text: ClassVar[bool] = False
    """Whether the data are cut from a text; then `make` is called with it (`nsbench.data.text.Text`)."""

    n_train: Examples
    n_val: Examples
    n_test: Examples

    def make(self, seed: int, *text: Any) -> tuple[Arrays, int, int]:
        """The data set of one seed, its vocabulary size with special ids, and its number of classes.

        Arrays of int64: `train_tokens`, `val_tokens`, `test_tokens` (N, T); `train_labels`, ... (N), or (N, T) with
        `every_position`; `symbols` (U), the ids that noise redraws from; `padding` and `unknown`, if there are any: the
        ids that mean no token and an unknown word; and more, if the task wants it. Random numbers come from
        `nsbench.storage.seeding.stream(seed, "data")` alone. Raises ConfigError where the settings give no such data.

        With a `token_width` of P, tokens are patches: uint8 of shape (N, T, P), which a model sees as numbers in
        [-1, 1], x / 127.5 - 1; the vocabulary is 0, and there are no `symbols`.
        """
        raise NotImplementedError

    def sequence_length(self) -> int:
        """Tokens per example."""
        raise NotImplementedError

    def symbol_count(self) -> int:
        """Symbols of the task, special ones left out."""
        raise NotImplementedError

    def token_width(self) -> int:
        """Numbers that make one token: P of patches; 0 where tokens are ids."""
        return 0

    def class_count(self) -> int:
        """Classes that a label may be."""
        return self.symbol_count()

    def source(self) -> str:
        """What the data are cut from besides a text, as "Fashion-MNIST"; empty where nothing is."""
        return ""

    def shape(self) -> Shape:
        """What a model of the task is built for; of its vocabulary only the symbols are known yet."""
        return Shape(self.sequence_length(), self.symbol_count(), self.class_count(), self.token_width())

    @property
    def every_position(self) -> bool:
        """Whether there is a target at each position, not one for the whole example."""
        return False

    def target_value(self, measure: str, reduction: str, correlation: float) -> float:
        """What a measure (`nsbench.measures`) gives for the true function; NaN where that is not known.

        Inputs are uniform. correlation: that of a token and its noisy copy, where the measure has noise.
        """
        return math.nan

    def floor_rows(self, arrays: Arrays, n_classes: int) -> list[dict[str, Any]]:
        """What tables score on the data, as rows of `schemas.training.FLOORS`; here a table of training inputs."""
        from nsbench.data.baselines import lookup_rows

        return lookup_rows(arrays)

    def leaks(self, model: Any) -> list[str]:
        """Ways in which the settings let answers of validation be seen, in words. model: the variant's model."""
        return []


def split(sizes: dict[str, int], tokens: np.ndarray, labels: np.ndarray) -> Arrays:
    """Cut examples, in order, into `train`, `val` and `test` of the given sizes."""
    made, start = {}, 0
    for name, size in sizes.items():
        made[f"{name}_tokens"] = tokens[start : start + size]
        made[f"{name}_labels"] = labels[start : start + size]
        start += size
    return made
