"""Figure 4b: Equation 5 iterated, and what real networks do to two normalised correlations.

published: at each layer fresh Gaussian pairs, correlated as the previous layer's estimate says; the mean of
ReLU(X) ReLU(Y) is the next estimate (Equation 5 by Monte Carlo). cosine: cosine similarity of h_l(X) and
h_l(Y) over the units of a ReLU network with weights of N(0, 2/d). pearson: their Pearson correlation over
units in the network that applies layer norm before each W of N(0, 1/d).
"""

# Shapes: P pair, C unit.

from __future__ import annotations

import torch
from torch import Tensor

from nsbench import readings
from nsbench.simulation.feed_forward import next_layer
from nsbench.simulation.montecarlo import Simulated, Tally, chunks, correlate, gaussians, weights
from nsbench.theory_settings import RecurrenceExperiment

NETWORKS = {"cosine": "he", "pearson": "layer_norm"}
"""Kind of recurrence -> the network's kind of weights."""


def simulate(settings: RecurrenceExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each start and each kind but the linear one, x being the layers passed, from 0.

    Raises ConfigError naming max_values where one pair, or the weights of a layer, take more values.
    """
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        _iterate(settings, seed, draw, max_values, tally)
        _networks(settings, seed, draw, max_values, tally)
    return Simulated(tally.points())


def _iterate(settings: RecurrenceExperiment, seed: int, draw: int, max_values: int, tally: Tally) -> None:
    """Equation 5: an estimate from the n_pairs x width Gaussian pairs of a layer is the next layer's correlation."""
    width, estimates = settings.width, {start: start for start in settings.rho}
    for layer in range(settings.depth + 1):
        if layer:
            sums = dict.fromkeys(estimates, 0.0)
            xs, zs = (gaussians(seed, "recurrence", name, draw, layer, device=tally.device) for name in "XZ")
            for pairs in chunks(settings.n_pairs, width, max_values):
                x_PC, z_PC = xs.take(pairs, width), zs.take(pairs, width)
                clean_PC = x_PC.relu()
                for start, rho in estimates.items():
                    product_PC = clean_PC * correlate(x_PC, z_PC, rho).relu()
                    sums[start] += product_PC.sum(dtype=torch.float64).item()
            # An estimate from few pairs can pass 1, which no correlation does.
            estimates = {start: min(total / (settings.n_pairs * width), 1.0) for start, total in sums.items()}
        for start, rho in estimates.items():
            value_P = torch.full((settings.n_pairs,), rho, dtype=torch.float64, device=tally.device)
            _add(tally, draw, start, "published", layer, value_P)


def _networks(settings: RecurrenceExperiment, seed: int, draw: int, max_values: int, tally: Tally) -> None:
    """The two correlations in random networks, which share inputs and, up to scale, weights."""
    width, rhos = settings.width, settings.rho
    xs, zs = (gaussians(seed, "recurrence", f"network {name}", draw, device=tally.device) for name in "XZ")
    for pairs in chunks(settings.n_pairs, width, max_values):
        x_PC, z_PC = xs.take(pairs, width), zs.take(pairs, width)
        inputs = [x_PC, *(correlate(x_PC, z_PC, rho) for rho in rhos)]
        hidden = dict.fromkeys(NETWORKS, inputs)
        for layer in range(settings.depth + 1):
            if layer:
                name = ("recurrence", "W", draw, layer)
                w_CC = weights(seed, *name, shape=(width, width), max_values=max_values, device=tally.device)
                hidden = {kind: next_layer(NETWORKS[kind], layers, w_CC) for kind, layers in hidden.items()}
            for kind, (clean_PC, *noisy) in hidden.items():
                for rho, noisy_PC in zip(rhos, noisy, strict=True):
                    _add(tally, draw, rho, kind, layer, _similarity(kind, clean_PC, noisy_PC))


def _similarity(kind: str, clean_PC: Tensor, noisy_PC: Tensor) -> Tensor:
    """Cosine similarity, or Pearson correlation, over units in float64: (P); 0 where one side does not vary."""
    clean_PC, noisy_PC = clean_PC.double(), noisy_PC.double()
    if kind == "pearson":
        clean_PC, noisy_PC = (h_PC - h_PC.mean(-1, keepdim=True) for h_PC in (clean_PC, noisy_PC))
    lengths_P = torch.linalg.vecdot(clean_PC, clean_PC) * torch.linalg.vecdot(noisy_PC, noisy_PC)
    dot_P = torch.linalg.vecdot(clean_PC, noisy_PC)
    return torch.where(lengths_P > 0, dot_P / lengths_P.sqrt(), 0.0)


def _add(tally: Tally, draw: int, start: float, kind: str, layer: int, value_P: Tensor) -> None:
    tally.add(draw, readings.correlation(start), readings.RECURRENCE_KINDS[kind], layer, value_P)
