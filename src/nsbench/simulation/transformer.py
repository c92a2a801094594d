"""Figure 10: second moment after each layer h <- ReLU(softmax_rows(h h^T) h W_V), that is W_Q W_K^T = I.

The value is the mean over tokens i and units j of h(X)_ij h(Y)_ij, in float64 throughout: it falls by powers
of gamma. Random W_V are fresh in each draw and layer, and shared, up to gamma, between the values of gamma.
"""

# Shapes: P pair, T token, C unit.

from __future__ import annotations

import math

import torch
from torch import Tensor

from nsbench.config.theory import TransformerExperiment
from nsbench.schemas import theory_labels as readings
from nsbench.simulation.montecarlo import Gaussians, Simulated, Tally, chunks, correlate, gaussians, weights

WIDE = torch.float64


def simulate(settings: TransformerExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each kind of W_V and each gamma, x being the layers passed, from 0.

    Raises ConfigError naming max_values where one pair, or W_V, takes more values.
    """
    held, units = settings.held(), settings.d_model
    held.check(max_values)
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        xs, zs = (gaussians(seed, "transformer", name, draw, device=device, dtype=WIDE) for name in "XZ")
        for pairs in chunks(settings.n_pairs, held.per_pair, max_values):
            hidden = _inputs(settings, pairs, xs, zs)
            for layer in range(settings.depth + 1):
                if layer:
                    name, shape = ("transformer", "W_V", draw, layer), (units, units)
                    _pass_layer(hidden, weights(seed, *name, shape=shape, device=device, dtype=WIDE))
                for kind, pairs_by_gamma in hidden.items():
                    for gamma, pair in pairs_by_gamma.items():
                        reading, series = readings.VALUE_WEIGHTS[kind], readings.value_norm(gamma)
                        tally.add(draw, reading, series, layer, (pair[0] * pair[1]).mean((-2, -1)))
            hidden.clear()  # Else the next chunk's inputs would be made beside it.
    return Simulated(tally.points())


def _inputs(
    settings: TransformerExperiment, pairs: int, xs: Gaussians, zs: Gaussians
) -> dict[str, dict[float, list[Tensor]]]:
    """X and Y, in a list of its own for each kind of W_V and each gamma."""
    shape = (pairs, settings.n_tokens, settings.d_model)
    x_PTC = xs.take(*shape)
    y_PTC = correlate(x_PTC, zs.take(*shape), settings.rho)
    return {kind: {gamma: [x_PTC, y_PTC] for gamma in settings.value_norms} for kind in readings.VALUE_WEIGHTS}


def _pass_layer(hidden: dict[str, dict[float, list[Tensor]]], w_CC: Tensor) -> None:
    """Put the next layer in the place of each array, one after another, so that few are there at once."""
    for kind, pairs_by_gamma in hidden.items():
        value_CC = value_weights(kind, w_CC)
        for gamma, pair in pairs_by_gamma.items():
            for place, hidden_PTC in enumerate(pair):
                pair[place] = next_layer(hidden_PTC, gamma, value_CC)


def next_layer(hidden_PTC: Tensor, gamma: float, value_CC: Tensor | None) -> Tensor:
    """ReLU(softmax_rows(h h^T) h W_V) with W_V = gamma times value_CC, or times I where that is None."""
    mixed_PTC = (hidden_PTC @ hidden_PTC.mT).softmax(-1) @ hidden_PTC
    return (mixed_PTC if value_CC is None else mixed_PTC @ value_CC).relu_().mul_(gamma)


def value_weights(kind: str, w_CC: Tensor) -> Tensor | None:
    """W_V for gamma = 1 from standard Gaussians: None for I, an orthogonal matrix by Haar's measure, N(0, 1/d).

    Raises ValueError for a kind that is not one of readings.VALUE_WEIGHTS.
    """
    if kind == "identity":
        return None
    if kind == "gaussian":
        return w_CC / math.sqrt(len(w_CC))
    if kind != "orthogonal":
        raise ValueError(f"kind = {kind!r} is not allowed; allowed: {', '.join(readings.VALUE_WEIGHTS)}")
    q_CC, r_CC = torch.linalg.qr(w_CC)
    # QR leaves the signs of Q's columns to the algorithm: with R's diagonal positive, Q is Haar distributed.
    return q_CC.mul_(r_CC.diagonal().sign())
