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

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.feed_forward import layers
from nsbench.simulation.montecarlo import MonteCarlo, correlate

NETWORKS = {"he": "cosine", "layer_norm": "pearson"}
"""The networks' kind of weights -> kind of recurrence. They share inputs and, up to scale, weights."""


def simulate(run: MonteCarlo) -> None:
    """Points of each start and each kind but the linear one, x being the layers passed, from 0."""
    for draw in range(run.settings.n_draws):
        _iterate(run, draw)
        x_PC, z_PC = (run.inputs(f"network {name}", draw, shape=(run.settings.width,)) for name in "XZ")
        for layer, weighting, rho, clean_PC, noisy_PC in layers(run, draw, NETWORKS, x_PC, z_PC):
            kind = NETWORKS[weighting]
            value_P = _similarity(kind, clean_PC, noisy_PC)
            run.add(draw, labels.correlation(rho), labels.RECURRENCE_KINDS[kind], layer, value_P)


def _iterate(run: MonteCarlo, draw: int) -> None:
    """Equation 5: an estimate from the n_pairs x width Gaussian pairs of a layer is the next layer's correlation."""
    width, n_pairs, estimates = run.settings.width, run.settings.n_pairs, {start: start for start in run.settings.rho}
    for layer in range(run.settings.depth + 1):
        if layer:
            x_PC, z_PC = (run.inputs(name, draw, layer, shape=(width,)) for name in "XZ")
            clean_PC = x_PC.relu()
            for start, rho in estimates.items():
                product_PC = correlate(x_PC, z_PC, rho).relu_().mul_(clean_PC)
                total = product_PC.sum(dtype=torch.float64).item()
                # An estimate from few pairs can pass 1, which no correlation does.
                estimates[start] = min(total / (n_pairs * width), 1.0)
        for start, rho in estimates.items():
            series = labels.RECURRENCE_KINDS["published"]
            run.add(draw, labels.correlation(start), series, layer, rho * n_pairs)


def _similarity(kind: str, clean_PC: Tensor, noisy_PC: Tensor) -> Tensor:
    """Cosine similarity, or Pearson correlation, over units in float64: (P); 0 where one side does not vary."""
    clean_PC, noisy_PC = clean_PC.double(), noisy_PC.double()
    if kind == "pearson":
        clean_PC, noisy_PC = (h_PC - h_PC.mean(-1, keepdim=True) for h_PC in (clean_PC, noisy_PC))
    lengths_P = torch.linalg.vecdot(clean_PC, clean_PC) * torch.linalg.vecdot(noisy_PC, noisy_PC)
    dot_P = torch.linalg.vecdot(clean_PC, noisy_PC)
    return torch.where(lengths_P > 0, dot_P / lengths_P.sqrt(), 0.0)
