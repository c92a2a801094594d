"""The network whose second moments `nsbench.theory.propagation` bounds: A = softmax(X W_Q W_K^T X^T) X W_V, then
H = ReLU(A W_phi), layer by layer, in float64 throughout.

The network is one and the same in all draws; they differ by their inputs, which the logit scales share. Entries
of X are uniform on [0, 1]; an entry of Y is that of X with probability rho, else drawn afresh.
"""

# Shapes: P pair, T token, C unit, D draw; S: one token (first) and two tokens (second, if there are two).

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch import Tensor

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import MonteCarlo
from nsbench.theory.propagation import Layer, random_network

WIDE = torch.float64


def simulate(run: MonteCarlo) -> None:
    """Points of the smallest, the mean and the largest entry moment after every part of every layer.

    Readings are logit scales, x is the layer, from 1. Tokens are exchangeable, so that the moment of
    entries (i, j) and (i', j') depends on j, j' and on whether i = i': these are estimated, each from all
    its tokens. Half of the draws choose which moment is the smallest for the other half, so that noise
    does not choose the values that it spoils.
    """
    settings, device = run.settings, run.device
    tokens, units = settings.n_tokens, settings.d_model
    networks = {
        labels.logit_scale(scale): [
            Layer(*(torch.as_tensor(weights, dtype=WIDE, device=device) for weights in layer))
            for layer in random_network(settings.depth, units, scale, run.seed)
        ]
        for scale in settings.logit_scales
    }
    places = list(itertools.product(range(1, settings.depth + 1), labels.INTERVAL_PARTS))
    shape = (settings.n_draws, len(places), min(tokens, 2), units, units)
    sums_DLSCC = {reading: torch.zeros(shape, dtype=WIDE, device=device) for reading in networks}
    for draw in range(settings.n_draws):
        x_PTC, y_PTC = _inputs(run, draw)
        for reading, network in networks.items():
            after = zip(outputs(x_PTC, network), outputs(y_PTC, network), strict=True)
            for place, (clean_PTC, noisy_PTC) in enumerate(after):
                sums_DLSCC[reading][draw, place] = moment_sums(clean_PTC, noisy_PTC)
    for reading, sums in sums_DLSCC.items():
        for place, (layer, part) in enumerate(places):
            for quantity, values_D in quantities(sums[:, place] / settings.n_pairs).items():
                run.record(reading, labels.entry_moments(part, quantity), layer, values_D)


def _inputs(run: MonteCarlo, draw: int) -> tuple[Tensor, Tensor]:
    """X and Y: Gaussian numbers, made uniform on [0, 1] by their distribution function."""
    shape, names = (run.settings.n_tokens, run.settings.d_model), ("X", "fresh", "kept")
    x_PTC, fresh_PTC, kept_PTC = (torch.special.ndtr(run.inputs(name, draw, shape=shape, dtype=WIDE)) for name in names)
    return x_PTC, torch.where(kept_PTC < run.settings.rho, x_PTC, fresh_PTC)


def outputs(x_PTC: Tensor, network: list[Layer]) -> Iterator[Tensor]:
    """Activations after attention and after the ReLU of each layer, in order; weights are tensors."""
    for layer in network:
        attended_PTT = (x_PTC @ (layer.query @ layer.key.mT) @ x_PTC.mT).softmax(-1)
        x_PTC = attended_PTT @ (x_PTC @ layer.value)
        yield x_PTC
        x_PTC = (x_PTC @ layer.mlp).relu_()
        yield x_PTC


def moment_sums(clean_PTC: Tensor, noisy_PTC: Tensor) -> Tensor:
    """(S, C, C): sums over pairs of H(X)_ij H(Y)_i'j', meaned over tokens i = i' and over tokens i != i'."""
    n = clean_PTC.shape[1]
    same_CC = clean_PTC.flatten(0, 1).mT @ noisy_PTC.flatten(0, 1)
    if n == 1:
        return same_CC[None]
    every_CC = clean_PTC.sum(1).mT @ noisy_PTC.sum(1)
    return torch.stack([same_CC / n, (every_CC - same_CC) / (n * (n - 1))])


def quantities(moments_DSCC: Tensor) -> dict[str, Tensor]:
    """Values (D) of INTERVAL_QUANTITIES, from each draw's moments.

    Even draws choose which moment is the smallest, and which the largest, for odd ones, and odd for even.
    """
    flat_DM = moments_DSCC.flatten(1)
    ends = {"smallest": torch.empty_like(flat_DM[:, 0]), "largest": torch.empty_like(flat_DM[:, 0])}
    for half in (0, 1):
        by_others_M = flat_DM[1 - half :: 2].mean(0)
        ends["smallest"][half::2] = flat_DM[half::2, by_others_M.argmin()]
        ends["largest"][half::2] = flat_DM[half::2, by_others_M.argmax()]
    return {**ends, "mean": moments_DSCC[:, 0].diagonal(dim1=-2, dim2=-1).mean(-1)}
