"""Noise-stability regularisation (Definition 6.1), for any callable from tokens to logits.

    regularizer = NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=113)
    loss = cross_entropy(logits, labels) + regularizer(model, tokens, clean_logits=logits)

Definition 6.1 keeps a token with probability (1 + rho) / 2 and redraws it uniformly otherwise, so
what it calls rho is a correlation of (1 + rho) / 2 between X and Y (`nsbench.theory.resampling_correlation`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from nsbench.noise import resample_tokens

__all__ = ["NoiseStabilityRegularizer", "agreement", "resample_tokens"]


class NoiseStabilityRegularizer:
    """gamma x R of Definition 6.1, to be added to a loss.

    rho: in [-1, 1]. gamma: strength, at least 0. orientation: S; 1 rewards stability, 0 punishes it.
    symbols: U, meaning ids 0 ... U-1, or a tensor of ids. same_symbol, fixed_ids: as in
    `resample_tokens`. gradient: the branch that gradients flow through, "both", "clean" (M(X)) or
    "noisy" (M(Y)). output: M is "probabilities" (softmax of the logits) or the "logits" themselves.
    n_draws: noisy copies per call, averaged; each costs one forward pass.

    Raises ValueError for a value outside these.
    """

    def __init__(
        self,
        rho: float,
        gamma: float,
        orientation: Literal[0, 1] = 1,
        *,
        symbols: int | Tensor,
        same_symbol: bool = True,
        fixed_ids: Tensor | None = None,
        gradient: Literal["both", "clean", "noisy"] = "both",
        output: Literal["probabilities", "logits"] = "probabilities",
        n_draws: int = 1,
    ) -> None:
        _require(-1 <= rho <= 1, f"rho = {rho} is outside [-1, 1]")
        _require(gamma >= 0, f"gamma = {gamma} is negative; 0 or more is allowed")
        _require(orientation in (0, 1), f"orientation = {orientation!r} is neither 0 nor 1")
        _require(gradient in ("both", "clean", "noisy"), f"gradient = {gradient!r} is not 'both', 'clean' or 'noisy'")
        _require(output in ("probabilities", "logits"), f"output = {output!r} is neither 'probabilities' nor 'logits'")
        _require(n_draws >= 1, f"n_draws = {n_draws} is less than 1")
        self.rho = rho
        self.gamma = gamma
        self.orientation = orientation
        self.symbols = symbols
        self.same_symbol = same_symbol
        self.fixed_ids = fixed_ids
        self.gradient = gradient
        self.output = output
        self.n_draws = n_draws

    def __call__(
        self,
        model: Callable[[Tensor], Tensor],
        tokens: Tensor,
        *,
        generator: torch.Generator | None = None,
        clean_logits: Tensor | None = None,
    ) -> Tensor:
        """gamma times the mean of R over the batch, a scalar.

        model: from tokens (batch, position) to logits (batch, class), or (batch, ..., class), where
        Equation 6 is applied at each place. clean_logits: the model's logits for `tokens`, where
        they are known already. generator: on the device of `tokens`; torch's own where None.
        """
        clean = model(tokens) if clean_logits is None else clean_logits
        draws = [self.penalty(clean, model(self.resample(tokens, generator))) for _ in range(self.n_draws)]
        return torch.stack(draws).mean()

    def resample(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of Y for `tokens`."""
        return resample_tokens(
            tokens, self.rho, self.symbols, generator, same_symbol=self.same_symbol, fixed_ids=self.fixed_ids
        )

    def penalty(self, clean_logits: Tensor, noisy_logits: Tensor) -> Tensor:
        """gamma x R(X) of Equation 6 for each example: logits (..., class) -> (...)."""
        clean, noisy = clean_logits, noisy_logits
        if self.gradient == "noisy":
            clean = clean.detach()
        if self.gradient == "clean":
            noisy = noisy.detach()
        return (-1) ** self.orientation * self.gamma * agreement(clean, noisy, self.output)


def agreement(
    clean_logits: Tensor, noisy_logits: Tensor, output: Literal["probabilities", "logits"] = "probabilities"
) -> Tensor:
    """The dot product <M(X), M(Y)> of Equation 6 for each example: (..., class) -> (...)."""
    if output == "logits":
        return (clean_logits * noisy_logits).sum(-1)
    return (clean_logits.softmax(-1) * noisy_logits.softmax(-1)).sum(-1)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
