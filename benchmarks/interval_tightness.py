"""How tight stability intervals are over many random networks: medians of bound / simulated.

    python benchmarks/interval_tightness.py --networks 20

One line per logit scale and layer: for each method the lower and the upper bound on the mean moment of an
entry with itself after attention, as multiples of its simulated value.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from nsbench.config.theory import IntervalsExperiment
from nsbench.schemas import theory_labels as labels
from nsbench.simulation import intervals
from nsbench.simulation.montecarlo import MonteCarlo
from nsbench.theory.propagation import network_intervals, random_network


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=20, help="random networks, seeds 0, 1, ...")
    parser.add_argument("--logit-scales", type=float, nargs="+", default=[0.01, 0.03, 0.1, 0.3, 1.0])
    parser.add_argument("--draws", type=int, default=4, help="batches of 4,000 pairs of inputs to each network")
    options = parser.parse_args()
    settings = IntervalsExperiment(logit_scales=options.logit_scales, n_draws=options.draws)
    series = labels.entry_moments("attention", "mean")
    found: dict[tuple[float, int, str], list[tuple[float, float]]] = {}
    for seed in range(options.networks):
        run = MonteCarlo("intervals", settings, seed, torch.device("cpu"))
        intervals.simulate(run)
        simulated = {(row["reading"], row["x"]): row["value"] for row in run.points() if row["series"] == series}
        for scale in settings.logit_scales:
            network = random_network(settings.depth, settings.d_model, scale, seed)
            for method in labels.INTERVAL_METHODS:
                for bound in network_intervals(network, settings.n_tokens, settings.rho, method):
                    if bound.part == "attention":
                        value = simulated[labels.logit_scale(scale), bound.layer]
                        ratios = (bound.mean_lower / value, bound.mean_upper / value)
                        found.setdefault((scale, bound.layer, method), []).append(ratios)
    print("scale layer " + " ".join(f"{label:>22}" for label in labels.INTERVAL_METHODS.values()))
    for scale in settings.logit_scales:
        for layer in range(1, settings.depth + 1):
            medians = [np.median(found[scale, layer, method], axis=0) for method in labels.INTERVAL_METHODS]
            print(f"{scale:5g} {layer:5d} " + " ".join(f"{low:9.3g} to {high:9.3g}" for low, high in medians))


if __name__ == "__main__":
    main()
