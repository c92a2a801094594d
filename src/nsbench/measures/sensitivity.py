"""Average sensitivity of a model: how its output answers the change of one token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nsbench.measures.base import Estimate
from nsbench.measures.estimate import estimate
from nsbench.measures.outputs import CleanOutputs, passes
from nsbench.perturbations.tokens import resample_tokens


def average_sensitivity(
    model: Callable[[Tensor], Tensor],
    tokens_NT: Tensor,
    symbols: int | Tensor,
    generator: torch.Generator,
    *,
    fixed_ids: Tensor | None = None,
    causal: bool = False,
) -> Iterator[Estimate]:
    """Sum over positions of the mean effect of replacing that token by another symbol.

    Positions that hold one of `fixed_ids` are not replaced. Reductions: `decision`, the chance that
    the decision changes, which for two classes is the total influence of Equation 1 of the +-1
    decision; and `probability_distance`, half the squared distance of the probabilities, which
    agrees with it where the model is certain.

    model: tokens (N, T) to logits (N, C), or (N, T, C), on the tokens' device; of the latter an input's value is the
    mean over the positions of the output. One replacement is drawn for each input and position, on the generator's
    device. causal: an output depends on no later token, so that outputs before the replaced one are left out.
    """
    clean = CleanOutputs(model(tokens_NT))
    causal = causal and clean.top_NT.shape == tokens_NT.shape
    drawn_NT = tokens_NT.to(generator.device)
    changed_NT = resample_tokens(drawn_NT, -1.0, symbols, generator, same_symbol=False, fixed_ids=fixed_ids)
    decision_N = torch.zeros(len(tokens_NT), dtype=torch.float64, device=tokens_NT.device)
    distance_N = torch.zeros_like(decision_N)
    for position, (before_N, after_N) in enumerate(zip(drawn_NT.T, changed_NT.T, strict=True)):
        replaced = (before_N != after_N).nonzero().squeeze(1)
        first = position if causal else 0
        for cut in passes(len(replaced), tokens_NT.device):
            rows = replaced[cut]
            one_NT = drawn_NT[rows]
            one_NT[:, position] = after_N[rows]
            logits = model(one_NT.to(tokens_NT.device))
            decision_N[rows] += clean.n_changed(logits, rows, first) / clean.n_positions
            distance_N[rows] += clean.distances(logits, rows, first)
    yield estimate("average_sensitivity", "decision", math.nan, decision_N)
    yield estimate("average_sensitivity", "probability_distance", math.nan, distance_N)
