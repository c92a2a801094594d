"""Figure 4a: second moment E[h_l(X) h_l(Y)] after each layer of h_l = ReLU(W_l h_(l-1)), h_0 = X, by W's kind.

The value is the mean over units. X and Y are vectors of `width` standard Gaussians, correlated coordinate by
coordinate. Each draw has fresh weights in each layer; the kinds of random W share them up to scale.
"""

# Shapes: P pair, C unit.

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from nsbench.config.theory import FeedForwardExperiment, RecurrenceExperiment
from nsbench.schemas import theory_labels as readings
from nsbench.simulation.montecarlo import Gaussians, Simulated, Tally, chunks, correlate, gaussians, weights

EPSILON = 1e-12
"""Added to the variance under the layer norm's root: a layer of equal units becomes 0, not NaN."""


def simulate(settings: FeedForwardExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each kind of weights and each rho, x being the layers passed, from 0.

    Raises ConfigError naming max_values where one pair, or the weights of a layer, take more values.
    """
    held, shape = settings.held(), (settings.width, settings.width)
    held.check(max_values)
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        layer_weights = functools.partial(weights, seed, "feed_forward", "W", draw, shape=shape, device=device)
        xs, zs = (gaussians(seed, "feed_forward", name, draw, device=device) for name in "XZ")
        for pairs in chunks(settings.n_pairs, held.per_pair, max_values):
            passed = layers(readings.FEED_FORWARD_WEIGHTS, settings, pairs, xs, zs, layer_weights)
            for layer, kind, rho, clean_PC, noisy_PC in passed:
                reading, value_P = readings.FEED_FORWARD_WEIGHTS[kind], (clean_PC * noisy_PC).mean(-1)
                tally.add(draw, reading, readings.correlation(rho), layer, value_P)
    return Simulated(tally.points())


def layers(
    kinds: Iterable[str],
    settings: FeedForwardExperiment | RecurrenceExperiment,
    pairs: int,
    xs: Gaussians,
    zs: Gaussians,
    layer_weights: Callable[[int], Tensor],
) -> Iterator[tuple[int, str, float, Tensor, Tensor]]:
    """Layer, kind of weights, rho, and the layer's two arrays (P, C), from the inputs on, layer 0.

    layer_weights: standard Gaussians (C, C) of a layer.
    """
    hidden = _inputs(kinds, settings.rho, xs.take(pairs, settings.width), zs.take(pairs, settings.width))
    for layer in range(settings.depth + 1):
        if layer:
            w_CC = layer_weights(layer)
            for kind, arrays in hidden.items():
                pass_layer(kind, arrays, w_CC)
        for kind, arrays in hidden.items():
            for rho, noisy_PC in zip(settings.rho, arrays[1:], strict=True):
                yield layer, kind, rho, arrays[0], noisy_PC


def _inputs(kinds: Iterable[str], rhos: list[float], x_PC: Tensor, z_PC: Tensor) -> dict[str, list[Tensor]]:
    """X and the Y of each rho, in a list of each kind's own."""
    inputs = [x_PC, *(correlate(x_PC, z_PC, rho) for rho in rhos)]
    return {kind: list(inputs) for kind in kinds}


def pass_layer(kind: str, arrays: list[Tensor], w_CC: Tensor) -> None:
    """Put the next layer in the place of each of `arrays` (P, C), w_CC holding standard Gaussians.

    kind: one of readings.FEED_FORWARD_WEIGHTS. layer_norm: the mean over units is subtracted and the
    standard deviation (of the population) divided by, without gain or bias, before W of N(0, 1/d).
    Raises ValueError for another kind.
    """
    if kind not in readings.FEED_FORWARD_WEIGHTS:
        raise ValueError(f"kind = {kind!r} is not allowed; allowed: {', '.join(readings.FEED_FORWARD_WEIGHTS)}")
    width = len(w_CC)
    if kind != "identity":
        w_CC = w_CC * math.sqrt((2.0 if kind == "he" else 1.0) / width)
    # One array after another, so that the old and the new of one alone are there at once; and one product an
    # array, not one of all stacked: equal inputs (rho = 1) then give equal layers, bit by bit.
    for place, hidden_PC in enumerate(arrays):
        if kind == "identity":
            arrays[place] = hidden_PC.relu()
        else:
            normed_PC = layer_norm(hidden_PC, (width,), eps=EPSILON) if kind == "layer_norm" else hidden_PC
            arrays[place] = (normed_PC @ w_CC).relu_()
