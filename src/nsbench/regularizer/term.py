"""What is added to a loss. Planning imports this module, so it imports no torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Branch = Literal["both", "clean", "noisy"]


@dataclass(frozen=True)
class LossTerm:
    """What an arm adds to the loss: `strength` x the mean of `penalty` over examples, positions and noisy copies.

    Raises ValueError for an `every`, `share` or `gradient` that is not allowed.
    """

    penalty: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    """(clean_logits, noisy_logits, labels) -> the term of each example, in nats where the loss is.

    clean_logits: (..., class), of M(X). noisy_logits: of M(Y), of the same shape; None unless `Arm.draws_noise`.
    labels: (...). Returns (...). With several noisy copies it is called once for each."""
    every: int = 1
    """The term is added at the steps 0, every, 2 x every, ... alone."""
    share: float = 1.0
    """In (0, 1]: the term is of the first ceil(share x batch) examples of the shuffled batch alone."""
    gradient: Branch = "both"
    """The branch that gradients flow through: M(X) (`clean`), M(Y) (`noisy`), or both."""
    strength: float = 1.0
    """A factor on the term, in which the runs of one stack may differ (`Arm.per_run`)."""

    def __post_init__(self) -> None:
        if not (isinstance(self.every, int) and self.every >= 1):
            raise ValueError(f"every = {self.every!r} is not a whole number of 1 or more")
        if not 0 < self.share <= 1:
            raise ValueError(f"share = {self.share!r} is outside (0, 1]")
        if self.gradient not in ("both", "clean", "noisy"):
            raise ValueError(f"gradient = {self.gradient!r} is not 'both', 'clean' or 'noisy'")

    def is_due(self, step: int) -> bool:
        """Whether the term is added at step number `step` (from 0)."""
        return step % self.every == 0

    def steps_due(self, steps: int) -> int:
        """At how many of the first `steps` steps it is added."""
        return -(-steps // self.every)

    def rows(self, batch: int) -> int:
        """ceil(share x batch): of how many examples it is, at least one."""
        # 0.07 x 100 is a rounding error above 7.
        return math.ceil(round(self.share * batch, 9)) or 1
