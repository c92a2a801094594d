"""Average sensitivity of a model: how its output answers the change of one token at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from nsbench.arms.noise import resample_tokens
from nsbench.measures.base import Estimate
from nsbench.measures.estimate import estimate


def average_sensitivity(
    model: Callable[[Tensor], Tensor],
    tokens_NT: Tensor,
    symbols: int | Tensor,
    generator: torch.Generator,
    *,
    fixed_ids: Tensor | None = None,
) -> Iterator[Estimate]:
    """Sum over positions of the mean effect of replacing that token by another symbol.

    Positions that hold one of `fixed_ids` are not replaced. Reductions: `decision`, the chance that
    the decision changes, which for two classes is the total influence of Equation 1 of the +-1
    decision; and `probability_distance`, half the squared distance of the probabilities, which
    agrees with it where the model is certain.

    model: tokens (N, T) to logits (N, C), or (N, T, C): then an input's value is the mean over the
    positions of the output. One replacement is drawn for each input and position.
    """
    clean_NC = model(tokens_NT).double().softmax(-1)
    changed_NT = resample_tokens(tokens_NT, -1.0, symbols, generator, same_symbol=False, fixed_ids=fixed_ids)
    decision_N = torch.zeros(len(tokens_NT), dtype=torch.float64, device=tokens_NT.device)
    distance_N = torch.zeros_like(decision_N)
    for position in range(tokens_NT.shape[1]):
        one_NT = tokens_NT.clone()
        one_NT[:, position] = changed_NT[:, position]
        other_NC = model(one_NT).double().softmax(-1)
        changed_N = (other_NC.argmax(-1) != clean_NC.argmax(-1)).double()
        decision_N += changed_N.reshape(len(tokens_NT), -1).mean(1)
        apart_N = (other_NC - clean_NC).square().sum(-1) / 2
        distance_N += apart_N.reshape(len(tokens_NT), -1).mean(1)
    yield estimate("average_sensitivity", "decision", math.nan, decision_N)
    yield estimate("average_sensitivity", "probability_distance", math.nan, distance_N)
