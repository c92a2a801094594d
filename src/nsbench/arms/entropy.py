"""A control without noise: an entropy penalty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbench.arms.base import Arm, Gamma, LossTerm, Orientation
from nsbench.arms.registry import arm

if TYPE_CHECKING:
    from nsbench.config.variant import Noise


@arm("entropy")
class Entropy(Arm):
    """gamma x (-1)^(orientation + 1) x the Shannon entropy (nats) of softmax M(X) is added to the loss."""

    family = "control"

    gamma: Gamma
    orientation: Orientation = 1
    """1 punishes entropy: it favours confident outputs, as rewarding stability does; 0 rewards it."""

    def describe(self) -> str:
        return f"γ = {self.gamma:g}, entropy {'punished' if self.orientation else 'rewarded'}"

    def loss_term(self, noise: Noise) -> LossTerm:
        from nsbench.arms.regularizers import EntropyRegularizer

        regularizer = EntropyRegularizer(self.gamma, self.orientation)
        return LossTerm(lambda clean, noisy, labels: regularizer.penalty(clean))
