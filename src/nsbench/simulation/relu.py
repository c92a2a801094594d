"""Figure 9: E[ReLU(m + X) ReLU(m + Y)] of standard Gaussians X and Y with correlation rho (Theorem 5.1: m = 0)."""

from __future__ import annotations

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import MonteCarlo, correlate


def simulate(run: MonteCarlo) -> None:
    """Points of each mean m and each rho; the same X and Z serve them all."""
    for draw in range(run.settings.n_draws):
        x_P, z_P = (run.inputs(name, draw) for name in "XZ")
        clean = {mean: (mean + x_P).relu_() for mean in run.settings.means}
        for rho in run.settings.rho:
            y_P = correlate(x_P, z_P, rho)
            for mean, clean_P in clean.items():
                run.add(draw, labels.RELU_READING, labels.mean(mean), rho, (mean + y_P).relu_().mul_(clean_P))
