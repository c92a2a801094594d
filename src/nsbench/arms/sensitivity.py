"""Regularisers that compare outputs for an example and for a copy with changed tokens: which tokens, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from nsbench.arms.base import Arm, Gamma, LossTerm, OneOrRho
from nsbench.arms.registry import arm

if TYPE_CHECKING:
    from torch import Tensor

    from nsbench.config.variant import Noise


@arm("sensitivity")
class Sensitivity(Arm):
    """gamma x a divergence of M(X) and M(Y) is added to the loss (arXiv 2403.06925, section 6).

    Its code has (1 - p) x cross entropy + p x divergence, which is the same but for a factor, with gamma = p / (1 - p).
    `agreement` with a rho is `noise_stability` with orientation 1 to the bit.
    """

    family = "paper"
    draws_noise = True
    per_run = frozenset({"rho", "gamma"})

    rho: OneOrRho = None
    """null: Y differs from X in one token, drawn anew for each example and step; else in each with probability
    (1 - rho) / 2. What that token becomes is the variant's `noise.law`."""
    gamma: Gamma
    divergence: Literal["mse_logits", "agreement"] = "mse_logits"
    """The mean over classes of the squared difference of logits; or -<M(X), M(Y)> of Equation 6."""

    def describe(self) -> str:
        noised = "one token" if self.rho is None else f"ρ = {self.rho:g}"
        return f"{noised}, γ = {self.gamma:g}, {'MSE of logits' if self.divergence == 'mse_logits' else '−⟨p, q⟩'}"

    def loss_term(self, noise: Noise) -> LossTerm:
        from nsbench.regularizer.stability import stability_term

        if self.divergence == "agreement":
            return stability_term(self.gamma, gradient=noise.gradient, output=noise.output)
        return LossTerm(self.penalty, gradient=noise.gradient, strength=self.gamma)

    @staticmethod
    def penalty(clean_logits: Tensor, noisy_logits: Tensor, labels: Tensor | None) -> Tensor:
        """The mean squared difference of logits: (..., class) -> (...)."""
        return (clean_logits - noisy_logits).square().mean(-1)
