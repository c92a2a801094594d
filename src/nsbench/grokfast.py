"""Grokfast: a low-pass filter on gradients (arXiv 2405.20233, its form with a moving average)."""

from __future__ import annotations

import torch
from torch import Tensor


class GrokfastFilter:
    """mu <- alpha x mu + (1 - alpha) x g, then g <- g + lamb x mu, in place on the gradients of `weights`.

    mu starts at the first gradient, as in the authors' code, not at 0. What an optimiser does comes
    after: a weight decay that is added to the gradient is not filtered.
    """

    def __init__(self, weights: list[Tensor], alpha: float, lamb: float) -> None:
        self.weights, self.alpha, self.lamb = weights, alpha, lamb
        self.slow = [torch.zeros_like(weight) for weight in weights]
        # The share of the new gradient in mu: a tensor, which a captured graph reads anew.
        self._share = torch.ones((), device=weights[0].device)

    def begin(self, step: int) -> None:
        """Say which step (from 0) is next."""
        self._share.fill_(1.0 if step == 0 else 1.0 - self.alpha)

    def __call__(self) -> None:
        """Filter the gradients."""
        for weight, slow in zip(self.weights, self.slow, strict=True):
            slow.lerp_(weight.grad, self._share)
            weight.grad.add_(slow, alpha=self.lamb)
