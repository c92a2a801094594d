"""Figure 4a: second moment E[h_l(X) h_l(Y)] after each layer of h_l = ReLU(W_l h_(l-1)), h_0 = X, by W's kind.

The value is the mean over units. X and Y are vectors of `width` standard Gaussians, correlated coordinate by
coordinate. Each draw has fresh weights in each layer; the kinds of random W share them up to scale.
"""

# Shapes: P pair, C unit.

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from nsbench import readings
from nsbench.simulation.montecarlo import Simulated, Tally, chunks, correlate, gaussians, weights
from nsbench.theory_settings import FeedForwardExperiment

EPSILON = 1e-12
"""Added to the variance under the layer norm's root: a layer of equal units becomes 0, not NaN."""


def simulate(settings: FeedForwardExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each kind of weights and each rho, x being the layers passed, from 0.

    Raises ConfigError naming max_values where one pair, or the weights of a layer, take more values.
    """
    width, rhos = settings.width, settings.rho
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        xs, zs = (gaussians(seed, "feed_forward", name, draw, device=device) for name in "XZ")
        for pairs in chunks(settings.n_pairs, width, max_values):
            x_PC, z_PC = xs.take(pairs, width), zs.take(pairs, width)
            inputs = [x_PC, *(correlate(x_PC, z_PC, rho) for rho in rhos)]
            hidden = dict.fromkeys(readings.FEED_FORWARD_WEIGHTS, inputs)
            for layer in range(settings.depth + 1):
                if layer:
                    name = ("feed_forward", "W", draw, layer)
                    w_CC = weights(seed, *name, shape=(width, width), max_values=max_values, device=device)
                    hidden = {kind: next_layer(kind, layers, w_CC) for kind, layers in hidden.items()}
                for kind, (clean_PC, *noisy) in hidden.items():
                    reading = readings.FEED_FORWARD_WEIGHTS[kind]
                    for rho, noisy_PC in zip(rhos, noisy, strict=True):
                        value_P = (clean_PC * noisy_PC).mean(-1)
                        tally.add(draw, reading, readings.correlation(rho), layer, value_P)
    return Simulated(tally.points())


def next_layer(kind: str, inputs: list[Tensor], w_CC: Tensor) -> list[Tensor]:
    """The next layer of each of `inputs` (P, C), w_CC holding standard Gaussians.

    kind: one of readings.FEED_FORWARD_WEIGHTS. layer_norm: the mean over units is subtracted and the
    standard deviation (of the population) divided by, without gain or bias, before W of N(0, 1/d).
    Raises ValueError for another kind.
    """
    width = len(w_CC)
    if kind == "identity":
        return [hidden_PC.relu() for hidden_PC in inputs]
    if kind == "layer_norm":
        inputs = [layer_norm(hidden_PC, (width,), eps=EPSILON) for hidden_PC in inputs]
    elif kind not in ("lecun", "he"):
        raise ValueError(f"kind = {kind!r} is not allowed; allowed: {', '.join(readings.FEED_FORWARD_WEIGHTS)}")
    w_CC = w_CC * math.sqrt((2.0 if kind == "he" else 1.0) / width)
    # One product an input, not one of all stacked: equal inputs (rho = 1) then give equal layers, bit by bit.
    return [(hidden_PC @ w_CC).relu() for hidden_PC in inputs]
