"""Figure 10: second moment after each layer h <- ReLU(softmax_rows(h h^T) h W_V), that is W_Q W_K^T = I.

The value is the mean over tokens i and units j of h(X)_ij h(Y)_ij, in float64 throughout: it falls by powers
of gamma. Random W_V are fresh in each draw and layer, and shared, up to gamma, between the values of gamma.
"""

# Shapes: P pair, T token, C unit.

from __future__ import annotations

import math

import torch
from torch import Tensor

from nsbench import readings
from nsbench.simulation.montecarlo import Simulated, Tally, chunks, correlate, gaussians, weights
from nsbench.theory_settings import TransformerExperiment

WIDE = torch.float64


def simulate(settings: TransformerExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each kind of W_V and each gamma, x being the layers passed, from 0.

    Raises ConfigError naming max_values where one pair, or W_V, takes more values.
    """
    tokens, units = settings.n_tokens, settings.d_model
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        xs, zs = (gaussians(seed, "transformer", name, draw, device=device, dtype=WIDE) for name in "XZ")
        for pairs in chunks(settings.n_pairs, tokens * max(tokens, units), max_values):
            x_PTC, z_PTC = xs.take(pairs, tokens, units), zs.take(pairs, tokens, units)
            pair = (x_PTC, correlate(x_PTC, z_PTC, settings.rho))
            hidden = {(kind, gamma): pair for kind in readings.VALUE_WEIGHTS for gamma in settings.value_norms}
            for layer in range(settings.depth + 1):
                if layer:
                    name, shape = ("transformer", "W_V", draw, layer), (units, units)
                    w_CC = weights(seed, *name, shape=shape, max_values=max_values, device=device, dtype=WIDE)
                    values = {kind: value_weights(kind, w_CC) for kind in readings.VALUE_WEIGHTS}
                    hidden = {
                        (kind, gamma): tuple(next_layer(h_PTC, gamma, values[kind]) for h_PTC in pair)
                        for (kind, gamma), pair in hidden.items()
                    }
                for (kind, gamma), (clean_PTC, noisy_PTC) in hidden.items():
                    value_P = (clean_PTC * noisy_PTC).mean((-2, -1))
                    tally.add(draw, readings.VALUE_WEIGHTS[kind], readings.value_norm(gamma), layer, value_P)
    return Simulated(tally.points())


def next_layer(hidden_PTC: Tensor, gamma: float, value_CC: Tensor | None) -> Tensor:
    """ReLU(softmax_rows(h h^T) h W_V) with W_V = gamma times value_CC, or times I where that is None."""
    mixed_PTC = (hidden_PTC @ hidden_PTC.mT).softmax(-1) @ hidden_PTC
    return gamma * (mixed_PTC if value_CC is None else mixed_PTC @ value_CC).relu()


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
    return q_CC * r_CC.diagonal().sign()
