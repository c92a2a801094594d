"""A control: the noisy copies of Definition 6.1 as plain data augmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbench.arms.base import Arm, Gamma, LossTerm, Rho
from nsbench.arms.registry import arm

if TYPE_CHECKING:
    from nsbench.config.variant import Noise


@arm("augmentation")
class Augmentation(Arm):
    """gamma x the cross entropy of M(Y) with the label of X is added to the loss."""

    family = "control"
    draws_noise = True

    rho: Rho
    gamma: Gamma

    def loss_term(self, noise: Noise) -> LossTerm:
        from nsbench.arms.regularizers import label_losses

        return LossTerm(lambda clean, noisy, labels: self.gamma * label_losses(noisy, labels))
