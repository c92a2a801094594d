"""Token sensitivity: how often a decision flips when a token is changed by a law (arXiv 2403.06925, Definition 4.1).

S is the mean over inputs x and their tokens i of Pr[argmax f(x with token i changed) != argmax f(x)]; no label counts.
Noise stability under the same law changes each token on its own with probability 1 - kappa; its chance of a flip is
(1 - kappa) T S + O((1 - kappa)^2), so S is the slope at kappa = 1. Shape suffixes: N input, T position, C class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from nsbench.config.sections import Perturbation, Sensitivity
from nsbench.data.datasets import Dataset
from nsbench.measures.base import Estimate
from nsbench.measures.estimate import estimate
from nsbench.perturbations.patches import scatter

SCATTERED_REPEATS = 5
"""Sets of scattered pixels that are drawn, as in the paper's code."""

Change = Callable[[Tensor, Tensor], Tensor]
"""(tokens, which to change (N, T)) -> the changed tokens, with new random numbers at each call."""


def token_sensitivity(model: Any, data: Dataset, chosen: Sensitivity, generator: torch.Generator) -> Iterator[Estimate]:
    """Sensitivity on training and on test inputs, by each of the chosen perturbations that suits the tokens.

    model: from tokens (N, T), or (N, T, P), to logits (N, C), with `stack` and `device`. Reductions are
    <law>-<sigma>-<split>, with -normalised for S / Pr[two decisions differ], -kept<kappa> where each token changes on
    its own, and -position<i> for one position of the first law: of the longer half of the inputs, since a token of a
    long one counts for less, where each of them has a token that may change.
    """
    images = bool(data.shape.token_width)
    laws = [one for one in chosen.perturbations if (one.law in ("resample", "embedding_gaussian")) != images]
    for split in ("train", "test"):
        tokens = data[f"{split}_tokens"][: chosen.n_inputs]
        movable_NT = torch.ones(tokens.shape[:2], dtype=torch.bool) if images else torch.isin(tokens, data["symbols"])
        for one in laws:
            x = tokens
            if one.law == "embedding_gaussian":
                x = model.stack.embed(tokens[None].to(model.device))[0].detach().to(tokens.device)
            decisions = Decisions(model, x, f"{one}-{split}")
            if one.law == "scattered_gaussian":
                repeats = range(chosen.n_draws * SCATTERED_REPEATS)
                yield from decisions.estimates(
                    torch.stack([decisions.flips(scatter(tokens, one.sigma, generator)) for _ in repeats])
                )
                continue
            change = _change(data, one, generator)
            flips_DN, flips_DNT = one_token(decisions, change, movable_NT, chosen.n_draws)
            yield from decisions.estimates(flips_DN)
            if one is laws[0]:
                lengths_N = movable_NT.sum(1)
                longer_N = lengths_N >= lengths_N.median()
                for position in movable_NT[longer_N].all(0).nonzero().squeeze(1).tolist():
                    named, of_position_N = (
                        f"{decisions.name}-position{position}",
                        flips_DNT[:, longer_N, position].mean(0),
                    )
                    yield estimate("token_sensitivity", named, math.nan, of_position_N, chosen.n_draws)
            for kept in chosen.kept:
                flips_DN = each_token(decisions, change, movable_NT, kept, chosen.n_draws, generator)
                yield from decisions.estimates(flips_DN, f"kept{kept:g}")


def _change(data: Dataset, one: Perturbation, generator: torch.Generator) -> Change:
    if one.law == "embedding_gaussian":
        return lambda vectors, which_NT: noisy_vectors(vectors, which_NT, one.sigma, generator)
    return lambda tokens, which_NT: data.changed(tokens, which_NT, one.law, one.sigma, generator)


class Decisions:
    """A model's decisions for some inputs, to hold those for changed inputs against.

    model: tokens (N, T), or (N, T, P), to logits (N, C). name: the first part of the estimates' reductions.
    """

    def __init__(self, model: Callable[[Tensor], Tensor], tokens: Tensor, name: str) -> None:
        logits_NC = model(tokens)
        self.model, self.tokens, self.name, self.clean_N = model, tokens, name, logits_NC.argmax(-1)
        shares_C = torch.bincount(self.clean_N, minlength=logits_NC.shape[-1]).double() / len(tokens)
        n = len(tokens)
        self.differ = (1 - shares_C.square().sum()).item() * n / max(1, n - 1)
        """Pr[the decisions for two inputs differ]."""
        self._off_N = -2 * (shares_C[self.clean_N] - shares_C.square().sum())
        """How far each input moves it, to first order."""

    def flips(self, changed: Tensor) -> Tensor:
        """(N) float64: 1 where the decision for the changed input is another."""
        there = (changed != self.tokens).flatten(1).any(1).nonzero().squeeze(1)
        flips_N = torch.zeros(len(self.tokens), dtype=torch.float64)
        if len(there):
            flips_N[there] = (self.model(changed[there]).argmax(-1) != self.clean_N[there]).double()
        return flips_N

    def estimates(self, flips_DN: Tensor, of: str = "") -> Iterator[Estimate]:
        """The mean of flips over D draws and N inputs, and that mean over `differ` (reduction `...-normalised`).

        The second is 0 for a model that gives nothing away about tokens, and NaN for one with one class for all
        inputs, whose first is 0 as well.
        """
        reduction = "-".join(filter(None, [self.name, of]))
        plain = estimate("token_sensitivity", reduction, math.nan, flips_DN.mean(0), len(flips_DN))
        yield plain
        value = plain.value / self.differ if self.differ > 0 else math.nan
        off_N = (flips_DN.mean(0) - plain.value - value * self._off_N) / (self.differ or math.nan)
        error = (off_N.std() / math.sqrt(len(off_N))).item() if len(off_N) > 1 else math.nan
        named = f"{reduction}-normalised"
        yield Estimate("token_sensitivity", named, math.nan, value, error, plain.n_inputs, plain.n_draws)


def noisy_vectors(x_NTD: Tensor, which_NT: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """Vectors with N(0, s^2) added where `which_NT` says, s being sigma times the root mean square of all of them."""
    noise_NTD = torch.randn(x_NTD.shape, generator=generator).to(x_NTD.device)
    return x_NTD + sigma * x_NTD.square().mean().sqrt() * noise_NTD * which_NT[..., None].to(x_NTD.device)


def one_token(decisions: Decisions, change: Change, movable_NT: Tensor, n_draws: int) -> tuple[Tensor, Tensor]:
    """Whether the decision flips where one token is changed: (D, N), means over an input's tokens that may change; and
    (D, N, T) by position, NaN where it may not."""
    tokens, shape = decisions.tokens, movable_NT.shape
    flips_DNT = torch.full((n_draws, *shape), math.nan, dtype=torch.float64)
    for draw in range(n_draws):
        changed = change(tokens, movable_NT)
        for position in movable_NT.any(0).nonzero().squeeze(1).tolist():
            one = tokens.clone()
            one[:, position] = changed[:, position]
            flips_DNT[draw, :, position] = decisions.flips(one)
    flips_DNT[:, ~movable_NT] = math.nan
    return flips_DNT.nanmean(-1), flips_DNT


def each_token(
    decisions: Decisions, change: Change, movable_NT: Tensor, kept: float, n_draws: int, generator: torch.Generator
) -> Tensor:
    """(D, N): whether the decision flips where each token that may change is kept with that chance, else changed."""
    shape = movable_NT.shape
    masks_DNT = (movable_NT & (torch.rand(shape, generator=generator) >= kept) for _ in range(n_draws))
    return torch.stack([decisions.flips(change(decisions.tokens, mask_NT)) for mask_NT in masks_DNT])
