"""Figure 9: E[ReLU(m + X) ReLU(m + Y)] of standard Gaussians X and Y with correlation rho (Theorem 5.1: m = 0)."""

from __future__ import annotations

import torch
from torch import Tensor

from nsbench.config.theory import ReluExperiment
from nsbench.schemas import theory_labels as readings
from nsbench.simulation.montecarlo import Simulated, Tally, chunks, correlate, gaussians


def simulate(settings: ReluExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each mean m and each rho; the same X and Z serve them all.

    Raises ConfigError naming max_values where one pair takes more values.
    """
    held = settings.held()
    held.check(max_values)
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        xs, zs = (gaussians(seed, "relu", name, draw, device=device) for name in "XZ")
        for pairs in chunks(settings.n_pairs, held.per_pair, max_values):
            _add_chunk(settings, draw, xs.take(pairs), zs.take(pairs), tally)
    return Simulated(tally.points())


def _add_chunk(settings: ReluExperiment, draw: int, x_P: Tensor, z_P: Tensor, tally: Tally) -> None:
    clean = {mean: (mean + x_P).relu_() for mean in settings.means}
    for rho in settings.rho:
        y_P = correlate(x_P, z_P, rho)
        for mean, clean_P in clean.items():
            value_P = (mean + y_P).relu_().mul_(clean_P)
            tally.add(draw, readings.RELU_READING, readings.mean(mean), rho, value_P)
