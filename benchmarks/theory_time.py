"""Processor time of the theory's costlier functions, on one core.

    OPENBLAS_NUM_THREADS=1 python benchmarks/theory_time.py [--rounds 5]

Prints the median and the range over rounds, in seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from nsbench import theory
from nsbench.theory.propagation import random_network

RHO = np.linspace(-1.0, 1.0, 21)


def cases() -> dict[str, Callable[[], object]]:
    """What is timed: name -> call."""
    table = np.sign(np.random.default_rng(0).standard_normal(2**20))
    network = random_network(n_layers=4, d_model=4, logit_scale=0.1, seed=0)
    return {
        "attention_pattern_stability, 21 rho, n = 256": lambda: theory.attention_pattern_stability(RHO, 256),
        "attention_pattern_stability, 21 rho, n = 1024": lambda: theory.attention_pattern_stability(RHO, 1024),
        "boolean.fourier_transform, 20 variables": lambda: theory.boolean.fourier_transform(table),
        "boolean.noise_stability, 20 variables, 21 rho": lambda: theory.boolean.noise_stability(table, RHO),
        "relu_stability, 1,000,000 rho": lambda: theory.relu_stability(np.linspace(-1, 1, 1_000_000), 0.5),
        "gaussian_noise_stability of sign, 21 rho": lambda: theory.gaussian_noise_stability(np.sign, RHO),
        "hermite_coefficients of sign, degree 200": lambda: theory.hermite_coefficients(np.sign, 200),
        "network_intervals, sharp, 4 layers, n = d = 4": lambda: theory.network_intervals(network, 4, 0.5, "sharp"),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    for name, call in cases().items():
        call()
        seconds = []
        for _ in range(options.rounds):
            began = time.process_time()
            call()
            seconds.append(time.process_time() - began)
        print(f"{name:50} {statistics.median(seconds):8.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})")


if __name__ == "__main__":
    main()
