"""The names of scores: the split that a score is of, loss or accuracy, and which targets count."""

from __future__ import annotations

from typing import NamedTuple

TARGETS = {"all": "", "unpadded": "_unpadded", "known": "_known"}
"""Kinds of targets that scores count, and how the names of their scores end."""
LEFT_OUT = {"all": (), "unpadded": ("padding",), "known": ("padding", "unknown")}
"""Kind of targets -> the tensors of a data set whose ids are not counted."""


class Metric(NamedTuple):
    """A score of a history (`schemas.training.HISTORY`): `val_loss_known` is ("val", "loss", "known")."""

    split: str
    quantity: str
    targets: str = "all"

    @property
    def name(self) -> str:
        """The column's name."""
        return f"{self.split}_{self.quantity}{TARGETS[self.targets]}"

    @property
    def is_loss(self) -> bool:
        """Whether less is better."""
        return self.quantity == "loss"


METRICS = {
    metric.name: metric
    for metric in [
        *(Metric("val", quantity, targets) for targets in TARGETS for quantity in ("accuracy", "loss")),
        *(Metric("train", quantity) for quantity in ("accuracy", "loss")),
    ]
}
"""All scores of a history by their names."""
VALIDATION_METRICS = tuple(name for name, metric in METRICS.items() if metric.split == "val")
"""Names of the scores that a target may be of."""
TEST_SCORES = ("test_accuracy", "test_loss")
"""The scores among measures on checkpoints; their reduction is the kind of targets."""
