"""A control: Grokfast, a low-pass filter on gradients (arXiv 2405.20233, its form with a moving average)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from nsbench.arms.base import Arm
from nsbench.arms.registry import arm
from nsbench.config.base import Real

if TYPE_CHECKING:
    from torch import Tensor


@arm("grokfast")
class Grokfast(Arm):
    """The gradient g becomes g + lamb x mu, with mu <- alpha x mu + (1 - alpha) x g, mu starting at the first g."""

    family = "control"

    alpha: Annotated[Real, Field(ge=0.0, lt=1.0, title="α")]
    lamb: Annotated[Real, Field(ge=0.0, le=1e6, title="λ")]

    def gradient_filter(self, weights: list[Tensor]) -> GrokfastFilter:
        return GrokfastFilter(weights, self.alpha, self.lamb)


class GrokfastFilter:
    """mu <- alpha x mu + (1 - alpha) x g, then g <- g + lamb x mu, in place on the gradients of `weights`.

    mu starts at the first gradient, as in the authors' code, not at 0. What an optimiser does comes
    after: a weight decay that is added to the gradient is not filtered.
    """

    def __init__(self, weights: list[Tensor], alpha: float, lamb: float) -> None:
        import torch

        self.weights, self.alpha, self.lamb = weights, alpha, lamb
        self.state = [torch.zeros_like(weight) for weight in weights]

    def __call__(self, step: Tensor) -> None:
        new_share = 1.0 - self.alpha * (step > 0)
        for weight, slow in zip(self.weights, self.state, strict=True):
            slow.lerp_(weight.grad, new_share)
            weight.grad.add_(slow, alpha=self.lamb)
