"""Figure 4b: Equation 5 iterated, and what real networks do to two normalised correlations.

published: at each layer fresh Gaussian pairs, correlated as the previous layer's estimate says; the mean of
ReLU(X) ReLU(Y) is the next estimate (Equation 5 by Monte Carlo). cosine: cosine similarity of h_l(X) and
h_l(Y) over the units of a ReLU network with weights of N(0, 2/d). pearson: their Pearson correlation over
units in the network that applies layer norm before each W of N(0, 1/d).
"""

# Shapes: P pair, C unit.

from __future__ import annotations

import functools

import torch
from torch import Tensor

from nsbench.config.theory import RecurrenceExperiment
from nsbench.schemas import theory_labels as readings
from nsbench.simulation.feed_forward import layers
from nsbench.simulation.montecarlo import Simulated, Tally, chunks, correlate, gaussians, weights

NETWORKS = {"cosine": "he", "pearson": "layer_norm"}
"""Kind of recurrence -> the network's kind of weights."""


def simulate(settings: RecurrenceExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each start and each kind but the linear one, x being the layers passed, from 0.

    Raises ConfigError naming max_values where one pair, or the weights of a layer, take more values.
    """
    held = settings.held()
    held.check(max_values)
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        sizes = list(chunks(settings.n_pairs, held.per_pair, max_values))
        _iterate(settings, seed, draw, sizes, tally)
        _networks(settings, seed, draw, sizes, tally)
    return Simulated(tally.points())


def _iterate(settings: RecurrenceExperiment, seed: int, draw: int, sizes: list[int], tally: Tally) -> None:
    """Equation 5: an estimate from the n_pairs x width Gaussian pairs of a layer is the next layer's correlation."""
    width, estimates = settings.width, {start: start for start in settings.rho}
    for layer in range(settings.depth + 1):
        if layer:
            sums = dict.fromkeys(estimates, 0.0)
            xs, zs = (gaussians(seed, "recurrence", name, draw, layer, device=tally.device) for name in "XZ")
            for pairs in sizes:
                x_PC, z_PC = xs.take(pairs, width), zs.take(pairs, width)
                clean_PC = x_PC.relu()
                for start, rho in estimates.items():
                    product_PC = correlate(x_PC, z_PC, rho).relu_().mul_(clean_PC)
                    sums[start] += product_PC.sum(dtype=torch.float64).item()
            # An estimate from few pairs can pass 1, which no correlation does.
            estimates = {start: min(total / (settings.n_pairs * width), 1.0) for start, total in sums.items()}
        for start, rho in estimates.items():
            tally.add_mean(draw, readings.correlation(start), readings.RECURRENCE_KINDS["published"], layer, rho)


def _networks(settings: RecurrenceExperiment, seed: int, draw: int, sizes: list[int], tally: Tally) -> None:
    """The two correlations in random networks, which share inputs and, up to scale, weights."""
    shape, labels = (settings.width, settings.width), readings.RECURRENCE_KINDS
    kinds = {weighting: kind for kind, weighting in NETWORKS.items()}
    layer_weights = functools.partial(weights, seed, "recurrence", "W", draw, shape=shape, device=tally.device)
    xs, zs = (gaussians(seed, "recurrence", f"network {name}", draw, device=tally.device) for name in "XZ")
    for pairs in sizes:
        for layer, weighting, rho, clean_PC, noisy_PC in layers(kinds, settings, pairs, xs, zs, layer_weights):
            kind = kinds[weighting]
            value_P = _similarity(kind, clean_PC, noisy_PC)
            tally.add(draw, readings.correlation(rho), labels[kind], layer, value_P)


def _similarity(kind: str, clean_PC: Tensor, noisy_PC: Tensor) -> Tensor:
    """Cosine similarity, or Pearson correlation, over units in float64: (P); 0 where one side does not vary."""
    clean_PC, noisy_PC = clean_PC.double(), noisy_PC.double()
    if kind == "pearson":
        clean_PC, noisy_PC = (h_PC - h_PC.mean(-1, keepdim=True) for h_PC in (clean_PC, noisy_PC))
    lengths_P = torch.linalg.vecdot(clean_PC, clean_PC) * torch.linalg.vecdot(noisy_PC, noisy_PC)
    dot_P = torch.linalg.vecdot(clean_PC, noisy_PC)
    return torch.where(lengths_P > 0, dot_P / lengths_P.sqrt(), 0.0)
