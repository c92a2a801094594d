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

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nsbench.measures.gradients import Gradients, Readouts, each_gradients
from nsbench.measures.outputs import batches

NORMS = ("l1", "l2", "squared_l2")
PerInput = dict[str, Tensor]
"""Norm -> the gradient's norm at each input and position, (N, T), or (N, T, H) of an attention layer with H heads;
float64, in main memory."""


class Influences(NamedTuple):
    """Of the embeddings, of each layer's input, and of the outputs of each layer's heads."""

    inputs: PerInput
    layers: dict[str, PerInput]
    heads: dict[str, PerInput]


def geometric_influences(
    f: Readouts,
    inputs_NTC: Tensor,
    *others: Tensor,
    batch_size: int,
    layers: Mapping[str, nn.Module] | None = None,
    heads: Mapping[str, tuple[nn.Module, int]] | None = None,
) -> list[Influences]:
    """Geometric influences of each of f's R readouts: one forward and R backward passes for each batch of inputs.

    f, layers, heads: as in `nsbench.measures.gradients.each_gradients`; f is called as f(inputs, *others) with the
    batch's entries of each. Batches change results by rounding alone. Raises ValueError as `each_gradients` does.
    """
    tallies: list[Tally] = []
    for batch in batches(len(inputs_NTC), batch_size):
        each = each_gradients(f, inputs_NTC[batch], *(other[batch] for other in others), layers=layers, heads=heads)
        readout = 0
        for found in each:
            if readout == len(tallies):
                tallies.append({})
            _add(tallies[readout], found)
            # Enumerate would hold these gradients while those of the next readout are computed.
            readout += 1  # noqa: SIM113
            del found
    return [_joined(tally) for tally in tallies]


Tally = dict[tuple[str, str], dict[str, list[Tensor]]]
"""(field of Gradients, name of the site there) -> norm -> its values at each input so far."""


def _add(tally: Tally, found: Gradients) -> None:
    """Take in the gradients of a batch, of which nothing is kept."""
    sites = {("inputs", ""): found.inputs_NTC}
    sites |= {("layers", name): gradient_NTC for name, gradient_NTC in found.layers.items()}
    sites |= {("heads", name): gradient_NTHK for name, gradient_NTHK in found.heads.items()}
    for site, gradient_NTC in sites.items():
        norms = tally.setdefault(site, {norm: [] for norm in NORMS})
        # One input at a time, in place: float64 copies that fit in the cache take half the time.
        for gradient_TC in gradient_NTC:
            size_TC = gradient_TC.abs().double()
            l1_T, squared_T = size_TC.sum(-1), size_TC.square_().sum(-1)
            for norm, value_T in zip(NORMS, (l1_T, squared_T.sqrt(), squared_T), strict=True):
                norms[norm].append(value_T.cpu())


def _joined(tally: Tally) -> Influences:
    joined = {site: {norm: torch.stack(parts) for norm, parts in norms.items()} for site, norms in tally.items()}

    def named(field: str) -> dict[str, PerInput]:
        return {name: found for (where, name), found in joined.items() if where == field}

    return Influences(joined["inputs", ""], named("layers"), named("heads"))
