"""Geometric influence: how strongly a function of embeddings answers each position, layer and attention head.

Influence of coordinate (t, c): E|df/dx_tc| over inputs; their sum is I^G[f] (Keller et al. 2012; section 3). Of a
position t, the gradient's C coordinates there are taken together in one of three norms, and then averaged:

    l1           E[sum_c |df/dx_tc|]: its sum over positions is I^G[f]
    l2           E[sqrt(sum_c (df/dx_tc)^2)]
    squared_l2   E[sum_c (df/dx_tc)^2]: its sum over positions is the I[f] that bounds the mass in high degrees
                 where the inputs are standard Gaussian (docs/errata.md, entry 35)

They are in units of f per unit of x (squared for the last): embeddings of another scale have other influences. See
`nsbench.measures.gaussian_stability.Standardisation` for those in standard units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nsbench.measures.batches import MAX_VALUES, batches
from nsbench.measures.gradients import Function, Gradients, Readouts, alone, each_gradients
from nsbench.theory.domain import one_of

NORMS = ("l1", "l2", "squared_l2")


class Mean(NamedTuple):
    """Means over inputs and their standard errors, float64 and of one shape; the error of one input is NaN."""

    value: Tensor
    standard_error: Tensor


@dataclass(frozen=True)
class Influence:
    """Influences of the positions of a layer's input: (T), or (T, H) of an attention layer with H heads."""

    per_input: dict[str, Tensor]
    """Norm -> the gradient's norm at each input and position, (N, T) or (N, T, H), float64, in main memory."""
    coordinates: Mean | None = None
    """E|df/dx_tc|, (T, C); of the embeddings only, and where asked for."""

    def positions(self, norm: str) -> Mean:
        """The influence of each position, (T) or (T, H). Raises ValueError for a norm not in NORMS."""
        return _mean(self.per_input[one_of("norm", norm, NORMS)])

    def total(self, norm: str) -> Mean:
        """The sum over positions, () or (H); for l1, I^G. Raises ValueError for a norm not in NORMS.

        Its standard error is that of the inputs' sums: positions of one input depend on each other.
        """
        return _mean(self.per_input[one_of("norm", norm, NORMS)].sum(1))


class Influences(NamedTuple):
    """Influences of the embeddings, of each layer's input, and of the outputs of each layer's heads."""

    inputs: Influence
    layers: dict[str, Influence]
    heads: dict[str, Influence]


def geometric_influence(
    f: Function,
    inputs_NTC: Tensor,
    *others: Tensor,
    layers: Mapping[str, nn.Module] | None = None,
    heads: Mapping[str, tuple[nn.Module, int]] | None = None,
    batch_size: int | None = None,
    max_values: int = MAX_VALUES,
) -> Influences:
    """Geometric influences of f, by one forward and one backward pass for each batch of inputs.

    f: embeddings (N, T, C) to one number an input (N). All else as in `geometric_influences`.
    """
    keywords = {"layers": layers, "heads": heads, "batch_size": batch_size, "max_values": max_values}
    (found,) = geometric_influences(alone(f), inputs_NTC, *others, **keywords)
    return found


def geometric_influences(
    f: Readouts,
    inputs_NTC: Tensor,
    *others: Tensor,
    layers: Mapping[str, nn.Module] | None = None,
    heads: Mapping[str, tuple[nn.Module, int]] | None = None,
    batch_size: int | None = None,
    max_values: int = MAX_VALUES,
    coordinates: bool = True,
) -> list[Influences]:
    """Geometric influences of each of f's R readouts: one forward and R backward passes for each batch of inputs.

    f: embeddings (N, T, C) to R tensors (N) or one (N, R), no number depending on another input; called as
    f(inputs, *others) with the batch's entries of each. layers, heads: as in
    `nsbench.measures.gradients.each_gradients`. batch_size, max_values: as in `nsbench.measures.batches.batches`; they
    change results by rounding alone. coordinates: whether to find the embeddings' `Influence.coordinates` too.

    Raises ValueError for inputs of another rank or none at all, `others` of another length, and as `each_gradients`
    and `batches` do.
    """
    if inputs_NTC.ndim != 3 or not len(inputs_NTC):
        raise ValueError(f"inputs_NTC of shape {tuple(inputs_NTC.shape)} is not allowed; allowed: (N, T, C), N > 0")
    for other in others:
        if len(other) != len(inputs_NTC):
            raise ValueError(f"others has {len(other)} entries for {len(inputs_NTC)} inputs; allowed: as many")
    tallies: list[_Tallies] = []
    for batch in batches(len(inputs_NTC), inputs_NTC[0].numel(), batch_size, max_values):
        each = each_gradients(f, inputs_NTC[batch], *(other[batch] for other in others), layers=layers, heads=heads)
        readout = 0
        for found in each:
            if readout == len(tallies):
                tallies.append(_Tallies(found, coordinates))
            tallies[readout].add(found)
            # Enumerate would hold these gradients while those of the next readout are computed.
            readout += 1  # noqa: SIM113
            del found
    return [tally.influences() for tally in tallies]


class _Tallies:
    """What one readout's gradients have come to so far, at each site."""

    def __init__(self, like: Gradients, coordinates: bool) -> None:
        self._at_inputs = _Tally(coordinates)
        self._at_layers = {name: _Tally() for name in like.layers}
        self._at_heads = {name: _Tally() for name in like.heads}

    def add(self, found: Gradients) -> None:
        self._at_inputs.add(found.inputs_NTC)
        for name, tally in self._at_layers.items():
            tally.add(found.layers[name])
        for name, tally in self._at_heads.items():
            tally.add(found.heads[name])

    def influences(self) -> Influences:
        return Influences(
            self._at_inputs.influence(),
            {name: tally.influence() for name, tally in self._at_layers.items()},
            {name: tally.influence() for name, tally in self._at_heads.items()},
        )


class _Tally:
    """Norms of the gradients of all batches so far; gradients themselves are not kept."""

    def __init__(self, coordinates: bool = False) -> None:
        self._coordinates = coordinates
        self._norms: dict[str, list[Tensor]] = {norm: [] for norm in NORMS}
        self._count = 0
        self._mean_TC = self._squares_TC = torch.zeros((), dtype=torch.float64)

    def add(self, gradient_NTC: Tensor) -> None:
        """Take in the gradients of a batch, (N, T, C) or (N, T, H, K)."""
        # One input at a time, in place: float64 copies that fit in the cache take half the time.
        for gradient_TC in gradient_NTC:
            size_TC = gradient_TC.abs().double()
            l1_T, squared_T = size_TC.sum(-1), size_TC.square_().sum(-1)
            for norm, value_T in (("l1", l1_T), ("l2", squared_T.sqrt()), ("squared_l2", squared_T)):
                self._norms[norm].append(value_T.cpu())
        if self._coordinates:
            self._merge(gradient_NTC.abs().double())

    def influence(self) -> Influence:
        coordinates = None
        if self._coordinates:
            variance_TC = self._squares_TC / (self._count - 1 or math.nan)
            coordinates = Mean(self._mean_TC, (variance_TC / self._count).sqrt())
        return Influence({norm: torch.stack(parts) for norm, parts in self._norms.items()}, coordinates)

    def _merge(self, size_NTC: Tensor) -> None:
        """Put the mean and the sum of squared deviations of two samples together (Chan et al. 1983)."""
        before, self._count = self._count, self._count + len(size_NTC)
        mean_TC = size_NTC.mean(0)
        apart_TC = mean_TC.cpu() - self._mean_TC
        self._mean_TC = self._mean_TC + apart_TC * (len(size_NTC) / self._count)
        self._squares_TC = self._squares_TC + apart_TC.square() * (before * len(size_NTC) / self._count)
        self._squares_TC += (size_NTC - mean_TC).square().sum(0).cpu()


def _mean(values_N: Tensor) -> Mean:
    """Over the first axis, with the standard error of independent entries."""
    value = values_N.mean(0)
    if len(values_N) == 1:
        return Mean(value, torch.full_like(value, math.nan))
    return Mean(value, values_N.std(0) / math.sqrt(len(values_N)))
