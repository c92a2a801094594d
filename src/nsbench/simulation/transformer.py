"""Figure 10: second moment after each layer h <- ReLU(softmax_rows(h h^T) h W_V), that is W_Q W_K^T = I.

The value is the mean over tokens i and units j of h(X)_ij h(Y)_ij, in float64 throughout: it falls by powers
of gamma. Random W_V are fresh in each draw and layer, and shared, up to gamma, between the values of gamma.
"""

# Shapes: P pair, T token, C unit.

from __future__ import annotations

import math

import torch
from torch import Tensor

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import MonteCarlo, correlate

WIDE = torch.float64


def simulate(run: MonteCarlo) -> None:
    """Points of each kind of W_V and each gamma, x being the layers passed, from 0."""
    units = run.settings.d_model
    for draw in range(run.settings.n_draws):
        hidden = _inputs(run, draw)
        for layer in range(run.settings.depth + 1):
            if layer:
                w_CC = run.weights("W_V", draw, layer, shape=(units, units), dtype=WIDE)
                values = {kind: value_weights(kind, w_CC) for kind in labels.VALUE_WEIGHTS}
                for (kind, gamma), pair in hidden.items():
                    pair[:] = [next_layer(hidden_PTC, gamma, values[kind]) for hidden_PTC in pair]
            for (kind, gamma), (x_PTC, y_PTC) in hidden.items():
                reading, series = labels.VALUE_WEIGHTS[kind], labels.value_norm(gamma)
                run.add(draw, reading, series, layer, (x_PTC * y_PTC).mean((-2, -1)))


def _inputs(run: MonteCarlo, draw: int) -> dict[tuple[str, float], list[Tensor]]:
    """X and Y, in a list of its own for each kind of W_V and each gamma."""
    shape = (run.settings.n_tokens, run.settings.d_model)
    x_PTC, z_PTC = (run.inputs(name, draw, shape=shape, dtype=WIDE) for name in "XZ")
    y_PTC = correlate(x_PTC, z_PTC, run.settings.rho)
    return {(kind, gamma): [x_PTC, y_PTC] for kind in labels.VALUE_WEIGHTS for gamma in run.settings.value_norms}


def next_layer(hidden_PTC: Tensor, gamma: float, value_CC: Tensor | None) -> Tensor:
    """ReLU(softmax_rows(h h^T) h W_V) with W_V = gamma times value_CC, or times I where that is None."""
    mixed_PTC = (hidden_PTC @ hidden_PTC.mT).softmax(-1) @ hidden_PTC
    return (mixed_PTC if value_CC is None else mixed_PTC @ value_CC).relu_().mul_(gamma)


def value_weights(kind: str, w_CC: Tensor) -> Tensor | None:
    """W_V for gamma = 1 from standard Gaussians: None for I, an orthogonal matrix by Haar's measure, N(0, 1/d)."""
    if kind == "identity":
        return None
    if kind == "gaussian":
        return w_CC / math.sqrt(len(w_CC))
    q_CC, r_CC = torch.linalg.qr(w_CC)
    # QR leaves the signs of Q's columns to the algorithm: with R's diagonal positive, Q is Haar distributed.
    return q_CC.mul_(r_CC.diagonal().sign())
