"""Token noise on a model that gives readouts and logits: stability under Definition 6.1, and single replacements.

Vocabularies are large: probabilities are in float32, and beside those of a clean batch stand the logits of at most one
noisy batch. The noise of an input is drawn before that of the next, so that the batch size changes results by rounding
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from nsbench.measures.base import Estimate
from nsbench.measures.estimate import ByInput, correlations, estimate
from nsbench.measures.outputs import CleanOutputs, batches
from nsbench.perturbations.tokens import resample_tokens

OUTPUT = -1
"""In place of a readout's index: the measure is of the output itself."""
AGREEMENTS = ("probability_dot", "probability_cosine", "decision")
CHANGES = ("decision", "probability_distance")


class Outputs(NamedTuple):
    """What a model gives for tokens (N, T)."""

    values_NR: Tensor
    """Its R readouts; R may be 0."""
    logits_NTC: Tensor | None
    """Logits at any number of positions, or (N, C); None: a model without classes."""


class Found(NamedTuple):
    readout: int
    """Its index, or OUTPUT."""
    estimate: Estimate


Model = Callable[[Tensor], Outputs]


@torch.no_grad()
def token_noise_stability(
    outputs: Model,
    tokens_NT: Tensor,
    rhos: Sequence[float],
    symbols: int | Tensor,
    generator: torch.Generator,
    *,
    n_draws: int = 1,
    same_symbol: bool = True,
    fixed_ids: Tensor | None = None,
    batch_size: int = 1,
) -> list[Found]:
    """How a model's outputs at X and at its noisy copy Y go together, for each rho: the measure `noise_stability`.

    For each readout the three reductions of `nsbench.measures.estimate.correlations`. For the output, where there
    are logits, the means over positions of

        probability_dot     <p, q>, of the softmax probabilities at X and at Y
        probability_cosine  <p, q> / (|p| |q|)
        decision            1 where the class of the largest logit stays the same, else 0: the share of positions.
                            (`nsbench.measures.stability` has, for two classes only, the product of +-1 decisions,
                            which is twice this share less 1.)

    tokens_NT: inputs X. rhos: in [-1, 1]. generator, symbols, same_symbol, fixed_ids: as in
    `nsbench.resample_tokens`; all rho have the same draws, so that a token that stays under a weaker noise
    may be redrawn under a stronger one, and never the other way. n_draws: Y's of each input, averaged before errors are
    taken. batch_size: inputs in one call of `outputs`. Standard errors are over inputs, NaN for one. Raises
    ValueError naming rho or symbols.
    """
    redraw = partial(resample_tokens, symbols=symbols, same_symbol=same_symbol, fixed_ids=fixed_ids)
    parts = []
    for batch in batches(len(tokens_NT), batch_size):
        noisy_PDNT = torch.stack(
            [_noisy(redraw, tokens_T, rhos, n_draws, generator) for tokens_T in tokens_NT[batch]], 2
        )
        values_NR, clean = _clean(outputs, tokens_NT[batch])
        rows = torch.arange(len(values_NR))
        compared = [_compared(outputs, noisy_NT, clean, rows, _agreements) for noisy_NT in noisy_PDNT.flatten(0, 1)]
        parts.append((values_NR, *(torch.stack(found) for found in zip(*compared, strict=True))))
    clean_NR = torch.cat([part[0] for part in parts])
    noisy_PDNR, agreements_PDNA = (
        torch.cat([part[place] for part in parts], 1).unflatten(0, (-1, n_draws)) for place in (1, 2)
    )
    found = []
    for index, rho in enumerate(rhos):
        for readout in range(clean_NR.shape[1]):
            noisy_DN = noisy_PDNR[index, ..., readout]
            estimates = correlations("noise_stability", rho, clean_NR[:, readout], noisy_DN)
            found += [Found(readout, one) for one in estimates]
        # No column where there are no logits.
        for reduction, agreement_N in zip(AGREEMENTS, agreements_PDNA[index].mean(0).unbind(-1), strict=False):
            found.append(Found(OUTPUT, estimate("noise_stability", reduction, rho, agreement_N)))
    return found


@torch.no_grad()
def single_replacements(
    outputs: Model,
    tokens_NT: Tensor,
    symbols: int | Tensor,
    generator: torch.Generator,
    *,
    n_positions: int,
    same_symbol: bool = True,
    fixed_ids: Tensor | None = None,
    batch_size: int = 1,
) -> list[Found]:
    """Sum over positions of the mean effect of redrawing the token there alone: the measure `average_sensitivity`.

    Of each input, `n_positions` of the positions that do not hold one of `fixed_ids` are drawn without replacement,
    all where there are no more; the sum over those drawn is scaled by how many there are for each, which is unbiased.
    Reductions, each a `ByInput`:

        half_square           of a readout: (f(x) - f(x with the token redrawn))^2 / 2. For ids independent and uniform
                              on `symbols`, and same_symbol, the total influence sum_j j W_j of the Efron-Stein
                              decomposition, W_j the part of E[f^2] in degree j.
        decision              of the output: the share of its positions at which the class of the largest logit changes
        probability_distance  of the output: the mean over its positions of |p - q|^2 / 2, of softmax probabilities

    The last two are those of `nsbench.measures.sensitivity`, which replaces every position and by another symbol
    always (same_symbol=False). Their rho is NaN. generator, symbols, same_symbol, fixed_ids: as in
    `nsbench.resample_tokens`. batch_size: inputs in one call of `outputs`. Standard errors are over inputs,
    NaN for one. Raises ValueError naming symbols.
    """
    redraw = partial(resample_tokens, symbols=symbols, same_symbol=same_symbol)
    parts = []
    for batch in batches(len(tokens_NT), batch_size):
        replaced = [_replaced(redraw, tokens_T, fixed_ids, n_positions, generator) for tokens_T in tokens_NT[batch]]
        parts.append(_under_replacement(outputs, tokens_NT[batch], replaced))
    squares_NR, changes_NA = (torch.cat(sums) for sums in zip(*parts, strict=True))
    found = [(readout, "half_square", sum_N) for readout, sum_N in enumerate(squares_NR.unbind(1))]
    # No column where there are no logits.
    found += [(OUTPUT, name, sum_N) for name, sum_N in zip(CHANGES, changes_NA.unbind(1), strict=False)]
    return [
        Found(readout, ByInput(**vars(estimate("average_sensitivity", name, math.nan, sum_N)), per_input_N=sum_N))
        for readout, name, sum_N in found
    ]


def _noisy(
    redraw: Callable[..., Tensor], tokens_T: Tensor, rhos: Sequence[float], n_draws: int, generator: torch.Generator
) -> Tensor:
    """The noisy copies (P, D, T) of an input: for each rho (P) and draw, all rho from the same random numbers."""
    copies_DT, state, found = tokens_T.expand(n_draws, -1), generator.get_state(), []
    for rho in rhos:
        generator.set_state(state)
        found.append(redraw(copies_DT, rho, generator=generator))
    return torch.stack(found)


def _replaced(
    redraw: Callable[..., Tensor],
    tokens_T: Tensor,
    fixed_ids: Tensor | None,
    n_positions: int,
    generator: torch.Generator,
) -> tuple[Tensor, float]:
    """(K, T): an input with one token redrawn, at each of the K positions drawn; and what scales their sum."""
    may_change_T = torch.ones_like(tokens_T, dtype=torch.bool)
    if fixed_ids is not None:
        may_change_T = ~torch.isin(tokens_T, fixed_ids.to(tokens_T.device))
    positions = may_change_T.nonzero().squeeze(1)
    order = torch.randperm(len(positions), generator=generator, device=tokens_T.device)
    chosen_K = positions[order[:n_positions]]
    # At rho = -1 every token is redrawn.
    other_T = redraw(tokens_T, -1.0, generator=generator)
    one_KT = tokens_T.repeat(len(chosen_K), 1).scatter(1, chosen_K[:, None], other_T[chosen_K][:, None])
    return one_KT, len(positions) / max(1, len(chosen_K))


def _under_replacement(
    outputs: Model, tokens_NT: Tensor, replaced: Sequence[tuple[Tensor, float]]
) -> tuple[Tensor, Tensor]:
    """Of a batch: the sums of squares of the readouts (N, R), and those of CHANGES (N, 2)."""
    clean_NR, clean = _clean(outputs, tokens_NT)
    squares_NR = torch.zeros_like(clean_NR)
    changes_NA = squares_NR.new_zeros(len(tokens_NT), 0 if clean is None else len(CHANGES))
    # An input's replacements one after another, those of all inputs together: so a batch has a replacement of each.
    for k in range(max(len(one_KT) for one_KT, _ in replaced)):
        rows = torch.tensor([row for row, (one_KT, _) in enumerate(replaced) if k < len(one_KT)])
        one_NT = torch.stack([replaced[row][0][k] for row in rows])
        values_NR, found_NA = _compared(outputs, one_NT, clean, rows, _changes)
        squares_NR[rows] += (values_NR - clean_NR[rows]).square() / 2
        changes_NA[rows] += found_NA
    scale_N1 = squares_NR.new_tensor([scale for _, scale in replaced])[:, None]
    return squares_NR * scale_N1, changes_NA * scale_N1


def _clean(outputs: Model, tokens_NT: Tensor) -> tuple[Tensor, CleanOutputs | None]:
    """The readouts (N, R), float64, and what is kept of the logits, if there are any."""
    values_NR, logits = outputs(tokens_NT)
    # A copy: a view would keep the logits in memory.
    return values_NR.to(torch.float64, copy=True), None if logits is None else CleanOutputs(logits)


def _compared(
    outputs: Model,
    tokens_NT: Tensor,
    clean: CleanOutputs | None,
    rows_N: Tensor,
    compare: Callable[[CleanOutputs, Tensor, Tensor], list[Tensor]],
) -> tuple[Tensor, Tensor]:
    """The readouts (N, R) of tokens that stand against the clean `rows_N`, and how the outputs compare (N, A)."""
    values_NR, logits = outputs(tokens_NT)
    values_NR = values_NR.to(torch.float64, copy=True)
    if clean is None:
        return values_NR, values_NR.new_zeros(len(values_NR), 0)
    return values_NR, torch.stack(compare(clean, logits, rows_N), 1)


def _agreements(clean: CleanOutputs, logits: Tensor, rows_N: Tensor) -> list[Tensor]:
    """AGREEMENTS, (N) each."""
    same_N = (clean.n_positions - clean.n_changed(logits, rows_N)) / clean.n_positions
    return [*clean.agreements(logits, rows_N), same_N]


def _changes(clean: CleanOutputs, logits: Tensor, rows_N: Tensor) -> list[Tensor]:
    """CHANGES, (N) each."""
    return [clean.n_changed(logits, rows_N) / clean.n_positions, clean.distances(logits, rows_N)]
