"""Figure 9: E[ReLU(m + X) ReLU(m + Y)] of standard Gaussians X and Y with correlation rho (Theorem 5.1: m = 0)."""

from __future__ import annotations

import torch

from nsbench import readings
from nsbench.simulation.montecarlo import Simulated, Tally, chunks, correlate, gaussians
from nsbench.theory_settings import ReluExperiment


def simulate(settings: ReluExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """Points of each mean m and each rho; the same X and Z serve them all."""
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    for draw in range(settings.n_draws):
        xs, zs = (gaussians(seed, "relu", name, draw, device=device) for name in "XZ")
        for pairs in chunks(settings.n_pairs, 1, max_values):
            x_P, z_P = xs.take(pairs), zs.take(pairs)
            clean = {mean: (mean + x_P).relu() for mean in settings.means}
            for rho in settings.rho:
                y_P = correlate(x_P, z_P, rho)
                for mean, clean_P in clean.items():
                    value_P = clean_P * (mean + y_P).relu()
                    tally.add(draw, readings.RELU_READING, readings.mean(mean), rho, value_P)
    return Simulated(tally.points())
