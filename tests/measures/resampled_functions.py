"""What the tests of token noise and of replacements share: functions of tokens, and their exact weights."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nsbench.measures.estimate import Estimate
from nsbench.measures.resampling import Found, Outputs

SURE = 4.5
"""Standard errors that a mean of draws may be off: for some twenty numbers, by chance once in 10,000 times."""
CERTAIN = 100.0
"""Logit of a certain answer: its probability is 1 in float32."""
RHOS = [-1.0, -0.4, 0.0, 0.5, 0.9, 1.0]


def generator(seed: int = 1, device: torch.device | str = "cpu") -> torch.Generator:
    return torch.Generator(device=device).manual_seed(seed)


def named(found: list[Found]) -> dict[tuple[int, str, float | None], Estimate]:
    """By readout, reduction and rho; None for NaN."""
    keys = [(readout, one.reduction, None if math.isnan(one.rho) else one.rho) for readout, one in found]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, (one for _, one in found), strict=True))


def all_inputs(symbols: int, length: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


def table_of(symbols: int, length: int, seed: int = 0) -> Tensor:
    """A function of all inputs, of mean 1, with weight in every degree."""
    return 1 + torch.randn((symbols,) * length, dtype=torch.float64, generator=generator(seed)) ** 3 / 3


def weights(table: Tensor) -> list[float]:
    """W_j of the Efron-Stein decomposition under uniform inputs: the square of the part in each degree j."""
    found = [0.0] * (table.ndim + 1)
    for among in itertools.product([False, True], repeat=table.ndim):
        part = table
        for axis, inside in enumerate(among):
            mean = part.mean(axis, keepdim=True).expand_as(part)
            part = part - mean if inside else mean
        found[sum(among)] += part.square().mean().item()
    assert sum(found) == pytest.approx(table.square().mean().item())
    return found


def readouts(*tables: Tensor) -> Callable[[Tensor], Outputs]:
    """A model without classes whose readouts are these functions."""
    return lambda tokens: Outputs(torch.stack([table.to(tokens.device)[*tokens.T] for table in tables], 1), None)


def additive(symbols: int, length: int) -> Tensor:
    """A sum of functions of one token each."""
    parts = torch.arange(1.0, symbols * length + 1, dtype=torch.float64).view(length, symbols).sin()
    return sum(part.reshape([-1 if axis == t else 1 for axis in range(length)]) for t, part in enumerate(parts))


def product(symbols: int, length: int) -> Tensor:
    """A product of functions of mean zero and mean square one of each token: all of degree `length`."""
    part = torch.arange(symbols, dtype=torch.float64) ** 2
    part = (part - part.mean()) / part.std(correction=0)
    found = torch.ones((), dtype=torch.float64)
    for _ in range(length):
        found = found[..., None] * part
    return found


def softmax_of(*probabilities: list[float]) -> Callable[[Tensor], Outputs]:
    """A model whose one position has the probabilities of its only token."""
    logits_UC = torch.tensor(probabilities).log()
    return lambda tokens: Outputs(tokens.double(), logits_UC[tokens] + 7.0)
