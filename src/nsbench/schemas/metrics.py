"""The names of scores, by split, loss or accuracy and targets; and of what stands beside token sensitivity."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd

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

BESIDE_SENSITIVITY = {"test_loss": "down", "weight_norm": "either", "stability": "either"}
"""What token sensitivity may lead -> how its onset is found. stability: flips where half of the tokens are kept, or
what is nearest to it."""


def at_checkpoints(evaluation: pd.DataFrame, history: pd.DataFrame) -> tuple[str, dict[str, pd.DataFrame]]:
    """Of a cell's runs at their checkpoints: a law, and "sensitivity" and each of BESIDE_SENSITIVITY by name.

    Those are rows of `seed`, `step` and `value`, in order. Takes the cell's rows of EVALUATION and HISTORY
    (`schemas.training`). The law is the first that was measured on training inputs; it is empty, and so is the rest,
    where sensitivity was not measured.
    """
    measure, reduction = evaluation["measure"], evaluation["reduction"]
    flips = evaluation[(measure == "token_sensitivity") & reduction.str.fullmatch(".*-train")]
    if flips.empty:
        return "", {}
    law = str(flips["reduction"].iloc[0])
    kept = reduction.str.extract(rf"^{re.escape(law)}-kept([^-]+)$")[0].astype(float)
    found = {
        "sensitivity": flips[flips["reduction"] == law],
        "test_loss": evaluation[(measure == "test_loss") & (reduction == "all")],
        "weight_norm": history.assign(value=history["weight_norm"]).dropna(subset="value"),
        "stability": evaluation[kept == kept.iloc[(kept - 0.5).abs().argmin()]] if kept.notna().any() else flips[:0],
    }
    steps = found["sensitivity"]["step"]
    rows = {name: one.loc[one["step"].isin(steps), ["seed", "step", "value"]] for name, one in found.items()}
    return law, {name: one.sort_values(["seed", "step"]) for name, one in rows.items()}
