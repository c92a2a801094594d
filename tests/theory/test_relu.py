"""Stability of one ReLU against quadrature, closed forms and simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import integrate, stats

from nsbench.theory.relu import bonami_beckner_relu, relu_stability

RHOS = [-1.0, -0.5, 0.0, 0.2, 0.95, 1.0]
CASES = [(0.0, 1.0), (0.5, 1.0), (-0.5, 1.0), (2.0, 0.5), (-1.0, 3.0), (-4.0, 2.0)]


def theorem_5_1(rho: float) -> float:
    return (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)


def expectation(f: Callable[[float], float], mean: float, std: float) -> float:
    """E[f(X); X > 0] for X ~ N(mean, std^2), by quadrature."""
    density = stats.norm(mean, std).pdf
    ends = [max(mean - 12 * std, 0.0), max(mean, 0.0), max(mean + 12 * std, 0.0)]
    parts = [
        integrate.quad(lambda x: f(x) * density(x), low, high, epsabs=1e-13, limit=200)[0]
        for low, high in itertools.pairwise(ends)
    ]
    return sum(parts)


def positive_part(mean: float, std: float) -> float:
    """E[max(X, 0)] for X ~ N(mean, std^2); std may be 0."""
    if std == 0:
        return max(mean, 0.0)
    return mean * stats.norm.cdf(mean / std) + std * stats.norm.pdf(mean / std)


@pytest.mark.parametrize(("mean", "std"), CASES)
def test_stability_equals_quadrature_over_one_input(mean: float, std: float) -> None:
    """Given U = u, V is N(mean + rho (u - mean), (1 - rho^2) std^2)."""
    for rho in RHOS:
        spread = std * math.sqrt(1 - rho**2)
        exact = expectation(lambda u: u * positive_part(mean + rho * (u - mean), spread), mean, std)  # noqa: B023
        assert relu_stability(rho, mean, std) == pytest.approx(exact, abs=1e-10), rho


def test_standard_inputs_give_theorem_5_1() -> None:
    grid = np.linspace(-1, 1, 2001)
    np.testing.assert_allclose(relu_stability(grid), [theorem_5_1(rho) for rho in grid], rtol=0, atol=2e-16)
    assert relu_stability([-1.0, 1.0]).tolist() == [0.0, 0.5]


@pytest.mark.parametrize("rho", [-1.0, 0.2, 1.0])
def test_far_means_leave_a_linear_or_a_dead_unit(rho: float) -> None:
    assert relu_stability(rho, 200.0, 2.0) == pytest.approx(200.0**2 + 4 * rho, rel=1e-14)
    assert relu_stability(rho, 3.0, 1e-200) == pytest.approx(9.0, rel=1e-14)
    assert relu_stability(rho, -200.0, 2.0) == 0.0
    assert relu_stability(rho, -1e100, 1.0) == bonami_beckner_relu(-1e100, 1e-200, abs(rho), 1e100) == 0.0
    assert relu_stability(rho, 1e100, 1.0) == pytest.approx(1e200)


@pytest.mark.parametrize(
    ("mu", "sigma", "rho", "alpha"),
    [(0.0, 1.0, 0.3, 1.0), (1.0, 2.0, 0.6, 0.7), (-1.5, 0.8, 0.5, 1.3), (0.7, 0.4, 0.9, 0.5)],
)
def test_bonami_beckner_noise_equals_quadrature(mu: float, sigma: float, rho: float, alpha: float) -> None:
    kept = expectation(lambda x: x * alpha * x, mu, sigma)
    fresh = expectation(lambda x: x, mu, sigma) ** 2
    exact = rho * kept + (1 - rho) * fresh
    assert bonami_beckner_relu(mu, sigma, rho, alpha) == pytest.approx(exact, abs=1e-11)
