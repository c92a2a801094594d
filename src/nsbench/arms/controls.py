"""What noise stability is compared with: the baseline, and simple controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from nsbench.arms.base import Arm, Gamma, LossTerm, M, OneOrRho, Orientation
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
    """gamma x the cross entropy of M(Y) with the label of X is added to the loss: noise as data augmentation.

    A rho of null changes one token of each example, as `sensitivity` does.
    """

    family = "control"
    draws_noise = True
    per_run = frozenset({"rho", "gamma"})

    rho: OneOrRho
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


@arm("label_smoothing")
class LabelSmoothing(Arm):
    """The cross entropy is that of smoothed labels, (1 - epsilon) x the label + epsilon / classes (arXiv 1512.00567).

    A negative epsilon rewards confidence in the label (arXiv 2106.04149); such a loss has no lower bound.
    """

    family = "control"
    per_run = frozenset({"epsilon"})

    epsilon: Annotated[Real, Field(ge=-1.0, le=1.0, title="ε")]

    def loss_term(self, noise: Noise) -> LossTerm:
        return LossTerm(self.penalty, strength=self.epsilon)

    @staticmethod
    def penalty(clean_logits: Tensor, noisy_logits: Tensor | None, labels: Tensor) -> Tensor:
        """The mean of -log p over all classes less that of the label (nats): (..., class), labels (...) -> (...)."""
        logs = clean_logits.log_softmax(-1)
        return logs.gather(-1, labels[..., None]).squeeze(-1) - logs.mean(-1)


@arm("r_drop")
class RDrop(Arm):
    """gamma x the symmetric KL divergence of two passes of X with dropout masks of their own is added to the loss.

    The regulariser of R-Drop (arXiv 2106.14448), whose cross entropy, of both passes, is that of the first alone here.
    """

    family = "control"
    draws_noise = True
    per_run = frozenset({"gamma"})
    rho: ClassVar[float] = 1.0
    """The noisy copy is X itself."""

    gamma: Gamma

    def check(self, variant: Any) -> None:
        if not variant.model.dropout_rate or variant.noise.dropout_masks == "shared":
            raise ValueError(
                f"kind = 'r_drop' compares two dropout masks, but the variant has a dropout of "
                f"{variant.model.dropout_rate:g} and noise.dropout_masks = '{variant.noise.dropout_masks}'; a dropout "
                "above 0 and 'independent' are allowed"
            )

    def loss_term(self, noise: Noise) -> LossTerm:
        return LossTerm(self.penalty, strength=self.gamma)

    @staticmethod
    def penalty(clean_logits: Tensor, noisy_logits: Tensor, labels: Tensor | None) -> Tensor:
        """(KL(p, q) + KL(q, p)) / 2 in nats, p and q the softmax of both: (..., class) -> (...)."""
        clean, noisy = clean_logits.log_softmax(-1), noisy_logits.log_softmax(-1)
        return ((clean.exp() - noisy.exp()) * (clean - noisy)).sum(-1) / 2


@arm("consistency")
class Consistency(Arm):
    """-gamma x <M(X), M(X')>, M the softmax and X' another example with X's label, is added to the loss.

    The regulariser's pull, with the label kept: the noise changes a label that training does not know, so X is pulled
    to the examples of its batch that are known to have its label (the mean over those; 0 where there is none).
    """

    family = "control"
    per_run = frozenset({"gamma"})

    gamma: Gamma

    def loss_term(self, noise: Noise) -> LossTerm:
        return LossTerm(self.penalty, strength=-self.gamma)

    @staticmethod
    def penalty(clean_logits: Tensor, noisy_logits: Tensor | None, labels: Tensor) -> Tensor:
        """The mean of <M(X), M(X')> over the other targets X' of the same run and label.

        clean_logits: (run, ..., class). labels, and what is returned: (run, ...).
        """
        import torch

        n_runs, n_classes = len(labels), clean_logits.shape[-1]
        p_XC = clean_logits.softmax(-1).flatten(0, -2)
        # A group for each pair of run and label.
        first_R = n_classes * (labels.new_ones(n_runs).cumsum(0) - 1)
        group_X = (labels.flatten(1) + first_R[:, None]).flatten()
        sum_GC = p_XC.new_zeros(n_runs * n_classes, n_classes).index_add(0, group_X, p_XC)
        count_G = p_XC.new_zeros(n_runs * n_classes).index_add(0, group_X, p_XC.new_ones(len(p_XC)))
        others_XC, n_others_X = sum_GC[group_X] - p_XC, count_G[group_X] - 1
        mean_X = (p_XC * others_XC).sum(-1) / n_others_X.clamp(min=1)
        return torch.where(n_others_X > 0, mean_X, 0.0).view(labels.shape)


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
