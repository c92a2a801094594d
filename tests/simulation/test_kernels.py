"""Signs of random networks on Boolean inputs against closed forms, and an experiment's curves against enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nsbench.config.theory import ExperimentSpec, KernelsExperiment
from nsbench.schemas import theory_labels as labels
from nsbench.simulation.curves import formulas
from nsbench.theory import boolean
from nsbench.theory.attention_kernels import kernel_matrix
from tests.simulation.simulated import assert_near, simulate

SENSITIVITY, STABILITY = labels.SIGN_READINGS.values()


def test_signs_of_wide_networks_are_as_sensitive_and_as_stable_as_their_limit(device: torch.device) -> None:
    settings = KernelsExperiment(n_variables=9, depth=3, kept=0.3, width=200, n_draws=40, n_pairs=80)
    lines, n = simulate(settings, device), 9

    def angles(activation: str, t: float) -> list[float]:
        """The kernel, normalised, after each layer: written out for weights of variance 2."""
        k, k_self, found = 2 * t, 2.0, []
        for _ in range(3):
            if activation == "relu":
                rho = k / k_self
                k = k_self * (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / math.pi
            else:
                k, k_self = (4 / math.pi * math.asin(2 * one / (1 + 2 * k_self)) for one in (k, k_self))
            found.append(math.acos(min(k / k_self, 1.0)) / math.pi)
        return found

    for activation, name in labels.NETWORKS.items():
        flips = np.array([angles(activation, 1 - 2 * r / n) for r in range(n + 1)])
        share = np.array([math.comb(n, r) * 0.35**r * 0.65 ** (n - r) for r in range(n + 1)])
        for reading, exact in ((SENSITIVITY, n * flips[1]), (STABILITY, 1 - 2 * share @ flips)):
            assert lines[reading, name]["x"].tolist() == [1, 2, 3]
            assert_near(lines[reading, name], exact, bias=0.02)
            assert (lines[reading, name]["standard_error"] < 0.06 * exact).all()


def test_with_all_variables_kept_a_sign_stays_and_with_none_it_is_forgotten() -> None:
    small = {"n_variables": 6, "depth": 1, "width": 20, "n_draws": 30, "n_pairs": 60}
    for kept, name in ((1.0, "ReLU network"), (0.0, "erf network")):
        line = simulate(KernelsExperiment(**small, kept=kept))[STABILITY, name]
        assert_near(line, [kept])


def test_curves_are_those_of_the_kernel_matrix() -> None:
    """Of linear attention, whose kernel is enumerated: its eigenvectors are parities, its signs those of normals."""
    settings = KernelsExperiment(n_variables=5, depth=4, kept=0.25)
    spec = ExperimentSpec(experiment="kernels", seed=0, settings=settings.model_dump())
    found = {(one.reading, one.series): one for one in formulas(spec)}
    for name, (embedding, activation) in labels.LINEAR_ATTENTION.items():
        for depth in (1, 2, 4):
            matrix = kernel_matrix(5, embedding, depth, activation)
            mass = [
                math.comb(5, k) * float(parity @ matrix @ parity) / 32**2 / matrix[0, 0]
                for k, parity in ((k, boolean.parity(5, range(k))) for k in range(6))
            ]
            line = found[labels.spectrum_of(name), labels.n_layers(depth)]
            assert line.x.tolist() == list(range(6))
            assert line.value(line.x) == pytest.approx(mass, abs=1e-12)
            flips = np.arccos(np.clip(matrix[0] / matrix[0, 0], -1, 1)) / math.pi
            changed = np.bitwise_count(np.arange(32))
            at = np.array([float(depth)])
            assert found[SENSITIVITY, name].value(at) == pytest.approx(flips[changed == 1].sum())
            stability = 1 - 2 * (flips * 0.375**changed * 0.625 ** (5 - changed)).sum()
            assert found[STABILITY, name].value(at) == pytest.approx(stability)
        assert (labels.spectrum_of(name), labels.n_layers(3)) not in found
