"""Figure 4a: second moment E[h_l(X) h_l(Y)] after each layer of h_l = ReLU(W_l h_(l-1)), h_0 = X, by W's kind.

The value is the mean over units. X and Y are vectors of `width` standard Gaussians, correlated coordinate by
coordinate. Each draw has fresh weights in each layer; the kinds of random W share them up to scale.
"""

# Shapes: P pair, C unit.

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from torch import Tensor
from torch.nn.functional import layer_norm

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import MonteCarlo, correlate

EPSILON = 1e-12
"""Added to the variance under the layer norm's root: a layer of equal units becomes 0, not NaN."""


def simulate(run: MonteCarlo) -> None:
    """Points of each kind of weights and each rho, x being the layers passed, from 0."""
    for draw in range(run.settings.n_draws):
        x_PC, z_PC = (run.inputs(name, draw, shape=(run.settings.width,)) for name in "XZ")
        for layer, kind, rho, clean_PC, noisy_PC in layers(run, draw, labels.FEED_FORWARD_WEIGHTS, x_PC, z_PC):
            value_P = (clean_PC * noisy_PC).mean(-1)
            run.add(draw, labels.FEED_FORWARD_WEIGHTS[kind], labels.correlation(rho), layer, value_P)


def layers(
    run: MonteCarlo, draw: int, kinds: Iterable[str], x_PC: Tensor, z_PC: Tensor
) -> Iterator[tuple[int, str, float, Tensor, Tensor]]:
    """Layer, kind of weights, rho, and the layer's two arrays (P, C), from the inputs on, layer 0."""
    inputs = [x_PC, *(correlate(x_PC, z_PC, rho) for rho in run.settings.rho)]
    hidden = {kind: list(inputs) for kind in kinds}
    for layer in range(run.settings.depth + 1):
        if layer:
            w_CC = run.weights("W", draw, layer, shape=(run.settings.width, run.settings.width))
            for kind, arrays in hidden.items():
                pass_layer(kind, arrays, w_CC)
        for kind, arrays in hidden.items():
            for rho, noisy_PC in zip(run.settings.rho, arrays[1:], strict=True):
                yield layer, kind, rho, arrays[0], noisy_PC


def pass_layer(kind: str, arrays: list[Tensor], w_CC: Tensor) -> None:
    """Put the next layer in the place of each of `arrays` (P, C), w_CC holding standard Gaussians.

    kind: one of FEED_FORWARD_WEIGHTS. layer_norm: the mean over units is subtracted and the
    standard deviation (of the population) divided by, without gain or bias, before W of N(0, 1/d).
    """
    width = len(w_CC)
    if kind != "identity":
        w_CC = w_CC * math.sqrt((2.0 if kind == "he" else 1.0) / width)
    # One product an array, not one of all stacked: equal inputs (rho = 1) then give equal layers, bit by bit.
    for place, hidden_PC in enumerate(arrays):
        if kind == "identity":
            arrays[place] = hidden_PC.relu()
        else:
            normed_PC = layer_norm(hidden_PC, (width,), eps=EPSILON) if kind == "layer_norm" else hidden_PC
            arrays[place] = (normed_PC @ w_CC).relu_()
