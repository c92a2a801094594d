"""What noise stability is compared with: the baseline, and simple controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nsbench.arms.base import Arm, Gamma, LossTerm, M, Orientation, Rho
from nsbench.arms.registry import arm
from nsbench.config.base import Real

if TYPE_CHECKING:
    from torch import Tensor

    from nsbench.config.variant import Noise, Optimizer


@arm("baseline")
class Baseline(Arm):
    """No regularisation; every effect is paired against it."""

    family = "paper"


@arm("augmentation")
class Augmentation(Arm):
    """gamma x the cross entropy of M(Y) with the label of X is added to the loss: noise as data augmentation."""

    family = "control"
    draws_noise = True
    per_run = frozenset({"rho", "gamma"})

    rho: Rho
    gamma: Gamma

    def loss_term(self, noise: Noise) -> LossTerm:
        return LossTerm(self.penalty, strength=self.gamma)

    @staticmethod
    def penalty(clean_logits: Tensor, noisy_logits: Tensor, labels: Tensor) -> Tensor:
        """The cross entropy (nats) of each example: logits (..., class), labels (...) -> (...)."""
        from torch.nn.functional import cross_entropy

        losses = cross_entropy(noisy_logits.flatten(0, -2), labels.flatten(), reduction="none")
        return losses.view(labels.shape)


@arm("entropy")
class Entropy(Arm):
    """gamma x (-1)^(orientation + 1) x the Shannon entropy (nats) of softmax M(X) is added to the loss."""

    family = "control"
    per_run = frozenset({"gamma", "orientation"})

    gamma: Gamma
    orientation: Orientation = 1
    """1 punishes entropy: it favours confident outputs, as rewarding stability does; 0 rewards it."""

    def describe(self) -> str:
        return f"γ = {self.gamma:g}, entropy {'punished' if self.orientation else 'rewarded'}"

    def loss_term(self, noise: Noise) -> LossTerm:
        return LossTerm(self.penalty, strength=(-1) ** (self.orientation + 1) * self.gamma)

    @staticmethod
    def penalty(clean_logits: Tensor, noisy_logits: Tensor | None, labels: Tensor | None) -> Tensor:
        """The entropy (nats) of each example's softmax: (..., class) -> (...)."""
        logs = clean_logits.log_softmax(-1)
        return -(logs.exp() * logs).sum(-1)


@arm("dropout")
class Dropout(Arm):
    """The variant's `model.dropout` is replaced."""

    family = "control"

    rate: Annotated[Real, Field(ge=0.0, le=0.99, title="dropout")]

    def check(self, variant: Any) -> None:
        if "dropout" not in type(variant.model).model_fields:
            raise ValueError(
                f"rate = {self.rate:g} does not go with the variant's model.kind = '{variant.model.kind}', which has "
                "no dropout; a model with a field dropout is allowed"
            )

    def replaced(self, model: M, optimizer: Optimizer) -> tuple[M, Optimizer]:
        return model.model_copy(update={"dropout": self.rate}), optimizer


@arm("weight_decay")
class WeightDecay(Arm):
    """The variant's `optimizer.weight_decay` is replaced, its convention kept."""

    family = "control"
    per_run = frozenset({"value"})

    value: Annotated[Real, Field(ge=0.0, le=1000.0, title="weight decay")]

    def check(self, variant: Any) -> None:
        if variant.optimizer.weight_decay_convention == "per_step" and self.value >= 1:
            raise ValueError(
                f"value = {self.value:g} per step would erase the weights; below 1 is allowed with the variant's "
                "weight_decay_convention = 'per_step'"
            )

    def replaced(self, model: M, optimizer: Optimizer) -> tuple[M, Optimizer]:
        return model, optimizer.model_copy(update={"weight_decay": self.value})
