"""Noise-stability regularisation (Definition 6.1), at full or at less cost, for any callable from tokens to logits.

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

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from nsbench.regularizer.noise import as_symbols, require_tokens, resample_tokens
from nsbench.regularizer.stability import Output, require, stability_term
from nsbench.regularizer.term import Branch


class NoiseStabilityRegularizer:
    """gamma x R of Definition 6.1, to be added to a loss.

    rho: in [-1, 1]. gamma: strength, at least 0. orientation: S; 1 rewards stability, 0 punishes it.
    symbols: U, meaning ids 0 ... U-1, or a list or tensor of ids. same_symbol, fixed_ids: as in
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

    Logits in half precision are taken in float32. Gradients of float16 logits need a scaled loss, as
    `torch.amp.GradScaler` makes it: over many classes they are below the smallest float16.

    Raises ValueError for a value outside these.
    """

    def __init__(
        self,
        rho: float,
        gamma: float,
        orientation: Literal[0, 1] = 1,
        *,
        symbols: int | Sequence[int] | Tensor,
        same_symbol: bool = True,
        fixed_ids: Sequence[int] | Tensor | None = None,
        gradient: Branch = "both",
        output: Output = "probabilities",
        n_draws: int = 1,
        every: int = 1,
        share: float = 1.0,
        branch: Branch = "both",
    ) -> None:
        require(-1 <= rho <= 1, f"rho = {rho} is outside [-1, 1]")
        require(n_draws >= 1, f"n_draws = {n_draws} is less than 1")
        self.rho, self.n_draws, self.output = rho, n_draws, output
        self.symbols, self.same_symbol, self.fixed_ids = as_symbols(symbols), same_symbol, fixed_ids
        self.term = stability_term(
            gamma, orientation, gradient=gradient, output=output, every=every, share=share, branch=branch
        )

    def resample(self, tokens: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw of Y for `tokens`."""
        return resample_tokens(
            tokens, self.rho, self.symbols, generator, same_symbol=self.same_symbol, fixed_ids=self.fixed_ids
        )

    def penalty(self, clean_logits: Tensor, noisy_logits: Tensor) -> Tensor:
        """gamma x R(X) of Equation 6 for each example: logits (..., class) -> (...), float32 of half precision too.

        Raises ValueError where their shapes differ, and for one class, whose probability is 1 for every input.
        """
        clean, noisy = tuple(clean_logits.shape), tuple(noisy_logits.shape)
        require(clean == noisy, f"clean_logits has the shape {clean}; {noisy}, that of noisy_logits, is allowed")
        require(
            self.output == "logits" or clean[-1:] not in ((), (0,), (1,)),
            f"the logits have the shape {clean}, (..., class); 2 classes or more are allowed, or output = 'logits'",
        )
        return self.term.strength * self.term.penalty(clean_logits, noisy_logits, None)

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

        Raises ValueError where it is needed and None, for tokens that are no tensor of integers, and
        for logits that are no tensor of that shape, or of another shape than those of the noisy copy.
        """
        term = self.term
        require(require_tokens(tokens).numel() > 0, f"tokens has the shape {tuple(tokens.shape)}; some are needed")
        require(term.every == 1 or step is not None, f"step is not given; with every = {term.every} it is needed")
        if step is not None and not term.is_due(step):
            return torch.zeros((), device=tokens.device)
        n_rows = term.rows(len(tokens))
        graded, rows = torch.is_grad_enabled(), tokens[:n_rows]
        clean = clean_logits
        if clean is None:
            with torch.set_grad_enabled(graded and term.gradient != "noisy"):
                clean = _logits(model(rows), rows)
        draws = []
        for _ in range(self.n_draws):
            noisy_tokens = self.resample(rows, generator)
            with torch.set_grad_enabled(graded and term.gradient != "clean"):
                noisy = _logits(model(noisy_tokens), rows)
            if clean is clean_logits:
                clean = _of_batch(clean_logits, (len(tokens), *noisy.shape[1:]))[:n_rows]
            draws.append(self.penalty(clean, noisy))
        return torch.stack(draws).mean()


def _logits(found: Tensor, tokens: Tensor) -> Tensor:
    """What a model gives for `tokens`. Raises ValueError where it can be no logits."""
    if not isinstance(found, Tensor):
        raise ValueError(
            f"the model gives a {type(found).__name__}; a tensor of logits is allowed, as of the model "
            "lambda tokens: model(tokens).logits"
        )
    shape, of = tuple(found.shape), tuple(tokens.shape)
    # Classes before positions, as cross_entropy takes them.
    is_transposed = len(shape) == 3 and len(of) == 2 and shape[2] == of[1] != shape[1]
    require(
        found.is_floating_point() and len(shape) >= 2 and shape[0] == of[0] and not is_transposed,
        f"the model gives {found.dtype} of the shape {shape} for tokens of the shape {of}; logits (batch, class) or "
        "(batch, ..., class) are allowed",
    )
    return found


def _of_batch(clean_logits: Tensor, wanted: tuple[int, ...]) -> Tensor:
    shape = tuple(clean_logits.shape) if isinstance(clean_logits, Tensor) else type(clean_logits).__name__
    require(shape == wanted, f"clean_logits has the shape {shape}; {wanted}, that of the model's logits, is allowed")
    return clean_logits
