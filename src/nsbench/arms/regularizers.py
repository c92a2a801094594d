"""What an arm adds to a loss: noise-stability regularisation (Definition 6.1), at full or at less
cost, for any callable from tokens to logits; and the controls beside it.

    regularizer = NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=113)
    loss = cross_entropy(logits, labels) + regularizer(model, tokens, clean_logits=logits)

and at about a tenth of the cost, by a tenth of the batch or every tenth step:

    regularizer = NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=113, share=0.1)
    regularizer = NoiseStabilityRegularizer(rho=0.25, gamma=0.75, symbols=113, every=10)
    loss = cross_entropy(logits, labels) + regularizer(model, tokens, clean_logits=logits, step=step)

Definition 6.1 keeps a token with probability (1 + rho) / 2 and redraws it uniformly otherwise, so
what it calls rho is a correlation of (1 + rho) / 2 between X and Y (`nsbench.theory.resampling_correlation`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbench.arms.noise import resample_tokens

__all__ = [
    "AugmentationRegularizer",
    "EntropyRegularizer",
    "NoiseStabilityRegularizer",
    "agreement",
    "resample_tokens",
]


class _Resampling:
    """What draws noisy copies Y of examples X."""

    def __init__(
        self,
        rho: float,
        gamma: float,
        *,
        symbols: int | Tensor,
        same_symbol: bool = True,
        fixed_ids: Tensor | None = None,
        n_draws: int = 1,
    ) -> None:
        _require(-1 <= rho <= 1, f"rho = {rho} is outside [-1, 1]")
        _require_strength(gamma)
        _require(n_draws >= 1, f"n_draws = {n_draws} is less than 1")
        self.rho = rho
        self.gamma = gamma
        self.symbols = symbols
        self.same_symbol = same_symbol
        self.fixed_ids = fixed_ids
        self.n_draws = n_draws

    def resample(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of Y for `tokens`."""
        return resample_tokens(
            tokens, self.rho, self.symbols, generator, same_symbol=self.same_symbol, fixed_ids=self.fixed_ids
        )


class StabilityPenalty:
    """gamma x R of Equation 6 for outputs that are there; arguments as of NoiseStabilityRegularizer."""

    def __init__(
        self,
        gamma: float,
        orientation: Literal[0, 1] = 1,
        *,
        gradient: Literal["both", "clean", "noisy"] = "both",
        output: Literal["probabilities", "logits"] = "probabilities",
        every: int = 1,
        share: float = 1.0,
        branch: Literal["both", "clean", "noisy"] = "both",
    ) -> None:
        _require_strength(gamma)
        _require_orientation(orientation)
        _require(gradient in ("both", "clean", "noisy"), f"gradient = {gradient!r} is not 'both', 'clean' or 'noisy'")
        _require(output in ("probabilities", "logits"), f"output = {output!r} is neither 'probabilities' nor 'logits'")
        _require(isinstance(every, int) and every >= 1, f"every = {every!r} is not a whole number of 1 or more")
        _require(0 < share <= 1, f"share = {share} is outside (0, 1]")
        _require(branch in ("both", "clean", "noisy"), f"branch = {branch!r} is not 'both', 'clean' or 'noisy'")
        _require(
            "both" in (branch, gradient),
            f"branch = {branch!r} does not go with gradient = {gradient!r}; one of the two must be 'both'",
        )
        self.orientation = orientation
        self.output = output
        self.every = every
        self.share = share
        self.branch = branch
        self.gradient = gradient if branch == "both" else branch
        self.strength = gamma * every * (1 if branch == "both" else 2)

    def penalty(self, clean_logits: Tensor, noisy_logits: Tensor) -> Tensor:
        """gamma x R(X) of Equation 6 for each example: logits (..., class) -> (...)."""
        clean, noisy = clean_logits, noisy_logits
        if self.gradient == "noisy":
            clean = clean.detach()
        if self.gradient == "clean":
            noisy = noisy.detach()
        return (-1) ** self.orientation * self.strength * agreement(clean, noisy, self.output)


class NoiseStabilityRegularizer(_Resampling, StabilityPenalty):
    """gamma x R of Definition 6.1, to be added to a loss.

    rho: in [-1, 1]. gamma: strength, at least 0. orientation: S; 1 rewards stability, 0 punishes it.
    symbols: U, meaning ids 0 ... U-1, or a tensor of ids. same_symbol, fixed_ids: as in
    `resample_tokens`. gradient: the branch that gradients flow through, "both", "clean" (M(X)) or
    "noisy" (M(Y)). output: M is "probabilities" (softmax of the logits) or the "logits" themselves.
    n_draws: noisy copies per call, averaged; each costs one forward pass.

    Three ways to pay less, which combine and keep the mean strength:
    every: a whole number, at least 1; the regulariser acts at steps 0, every, 2 x every, ... alone, with
    gamma x every. share: in (0, 1]; it looks at the first ceil(share x batch) examples alone (shuffle
    the batch) and takes the mean over those. branch: "clean" or "noisy", in place of `gradient`: the
    gradient flows through M(X) or M(Y) alone, with 2 x gamma. For X uniform over all sequences, X and
    Y are exchangeable, so both branches have the same gradient in the mean and half of it can stand
    for the whole; for other X, such as a fixed training set, that is an approximation. "clean" needs
    no backward pass through M(Y). What is returned has the factors too: it is `every` or 2 times R.

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
        every: int = 1,
        share: float = 1.0,
        branch: Literal["both", "clean", "noisy"] = "both",
    ) -> None:
        _Resampling.__init__(
            self, rho, gamma, symbols=symbols, same_symbol=same_symbol, fixed_ids=fixed_ids, n_draws=n_draws
        )
        StabilityPenalty.__init__(
            self, gamma, orientation, gradient=gradient, output=output, every=every, share=share, branch=branch
        )

    def __call__(
        self,
        model: Callable[[Tensor], Tensor],
        tokens: Tensor,
        *,
        generator: torch.Generator | None = None,
        clean_logits: Tensor | None = None,
        step: int | None = None,
    ) -> Tensor:
        """gamma times the mean of R over the batch (or its share), a scalar; 0 at a step without it.

        model: from tokens (batch, position) to logits (batch, class), or (batch, ..., class), where
        Equation 6 is applied at each place. clean_logits: the model's logits for `tokens`, where
        they are known already. generator: on the device of `tokens`; torch's own where None.
        step: number of the step, from 0, needed where `every` is more than 1.

        Raises ValueError where it is needed and None.
        """
        _require(self.every == 1 or step is not None, f"step is not given; with every = {self.every} it is needed")
        if step is not None and not is_due(step, self.every):
            return torch.zeros((), device=tokens.device)
        n_rows = share_size(self.share, len(tokens))
        graded, rows = torch.is_grad_enabled(), tokens[:n_rows]
        if clean_logits is None:
            with torch.set_grad_enabled(graded and self.gradient != "noisy"):
                clean = model(rows)
        else:
            clean = clean_logits[:n_rows]
        draws = []
        for _ in range(self.n_draws):
            noisy_tokens = self.resample(rows, generator)
            with torch.set_grad_enabled(graded and self.gradient != "clean"):
                noisy = model(noisy_tokens)
            draws.append(self.penalty(clean, noisy))
        return torch.stack(draws).mean()


class AugmentationRegularizer(_Resampling):
    """A control: gamma x the cross entropy of M(Y) with the label of X, to be added to a loss.

    The noisy copies of Definition 6.1 as plain data augmentation; arguments as of NoiseStabilityRegularizer.
    """

    def penalty(self, noisy_logits: Tensor, labels: Tensor) -> Tensor:
        """gamma x cross entropy (nats) for each example: logits (..., class), labels (...) -> (...)."""
        return self.gamma * label_losses(noisy_logits, labels)


class EntropyRegularizer:
    """A control without noise: gamma x (-1)^(orientation + 1) x the Shannon entropy of the outputs.

    gamma: at least 0. orientation: 1 punishes entropy (it favours confident outputs, as rewarding
    stability does), 0 rewards it. Raises ValueError for a value outside these.
    """

    def __init__(self, gamma: float, orientation: Literal[0, 1] = 1) -> None:
        _require_strength(gamma)
        _require_orientation(orientation)
        self.gamma = gamma
        self.orientation = orientation

    def penalty(self, logits: Tensor) -> Tensor:
        """The signed entropy (nats) x gamma of each example's softmax: (..., class) -> (...)."""
        logs = logits.log_softmax(-1)
        return (-1) ** self.orientation * self.gamma * (logs.exp() * logs).sum(-1)


def agreement(
    clean_logits: Tensor, noisy_logits: Tensor, output: Literal["probabilities", "logits"] = "probabilities"
) -> Tensor:
    """The dot product <M(X), M(Y)> of Equation 6 for each example: (..., class) -> (...)."""
    return (outputs(clean_logits, output) * outputs(noisy_logits, output)).sum(-1)


def label_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """The cross entropy (nats) of each example with its label: logits (..., class), labels (...) -> (...)."""
    losses = F.cross_entropy(logits.flatten(0, -2), labels.flatten(), reduction="none")
    return losses.view(labels.shape)


def outputs(logits: Tensor, output: Literal["probabilities", "logits"]) -> Tensor:
    """M of Equation 6: the softmax of the logits, or the logits themselves."""
    return logits if output == "logits" else logits.softmax(-1)


def is_due(step: int, every: int) -> bool:
    """Whether a regulariser of every `every` steps acts at step number `step` (from 0)."""
    return step % every == 0


def steps_due(steps: int, every: int) -> int:
    """At how many of the first `steps` steps it acts."""
    return -(-steps // every)


def share_size(share: float, batch: int) -> int:
    """ceil(share x batch): examples that a share of a batch has, at least one."""
    # 0.07 x 100 is a rounding error above 7.
    return math.ceil(round(share * batch, 9)) or 1


def _require_strength(gamma: float) -> None:
    _require(gamma >= 0, f"gamma = {gamma} is negative; 0 or more is allowed")


def _require_orientation(orientation: int) -> None:
    _require(orientation in (0, 1), f"orientation = {orientation!r} is neither 0 nor 1")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
