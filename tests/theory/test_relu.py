"""Stability of one ReLU against quadrature, closed forms and simulation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from nsbench.theory.relu import bonami_beckner_relu, relu_stability, relu_stability_quadratic

RHOS = [-1.0, -0.5, 0.0, 0.2, 0.95, 1.0]
CASES = [(0.0, 1.0), (0.5, 1.0), (-0.5, 1.0), (2.0, 0.5), (-1.0, 3.0), (-4.0, 2.0)]
rhos = st.floats(-1, 1)
means = st.floats(-6, 6)
stds = st.floats(0.01, 10)


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


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize(("mean", "std"), CASES)
def test_stability_equals_quadrature_over_one_input(mean: float, std: float, rho: float) -> None:
    """Given U = u, V is N(mean + rho (u - mean), (1 - rho^2) std^2)."""
    spread = std * math.sqrt(1 - rho**2)
    exact = expectation(lambda u: u * positive_part(mean + rho * (u - mean), spread), mean, std)
    assert relu_stability(rho, mean, std) == pytest.approx(exact, abs=1e-10)


def test_standard_inputs_give_theorem_5_1() -> None:
    grid = np.linspace(-1, 1, 2001)
    np.testing.assert_allclose(relu_stability(grid), [theorem_5_1(rho) for rho in grid], rtol=0, atol=2e-16)
    assert relu_stability([-1.0, 1.0]).tolist() == [0.0, 0.5]


@pytest.mark.parametrize(("mean", "std"), CASES)
def test_ends_and_middle_are_moments_of_one_relu(mean: float, std: float) -> None:
    mean_square = expectation(lambda x: x**2, mean, std)
    first = expectation(lambda x: x, mean, std)
    assert relu_stability(1.0, mean, std) == pytest.approx(mean_square, abs=1e-11)
    assert relu_stability(0.0, mean, std) == pytest.approx(first**2, abs=1e-11)
    if mean <= 0:
        assert relu_stability(-1.0, mean, std) == pytest.approx(0.0, abs=1e-15)
    else:
        within = integrate.quad(lambda x: (mean**2 - x**2) * stats.norm(0, std).pdf(x), -mean, mean)[0]
        assert relu_stability(-1.0, mean, std) == pytest.approx(within, abs=1e-11)


@given(rhos, means, stds, st.floats(0.01, 100))
def test_stability_scales_with_the_square_of_its_inputs(rho: float, mean: float, std: float, scale: float) -> None:
    expected = scale**2 * relu_stability(rho, mean, std)
    assert relu_stability(rho, scale * mean, scale * std) == pytest.approx(
        expected, rel=1e-9, abs=1e-13 * scale**2 * (mean**2 + std**2)
    )


@pytest.mark.parametrize("rho", RHOS)
def test_far_means_leave_a_linear_or_a_dead_unit(rho: float) -> None:
    assert relu_stability(rho, 200.0, 2.0) == pytest.approx(200.0**2 + 4 * rho, rel=1e-14)
    assert relu_stability(rho, 3.0, 1e-200) == pytest.approx(9.0, rel=1e-14)
    assert relu_stability(rho, -200.0, 2.0) == 0.0
    assert relu_stability(rho, -1e100, 1.0) == bonami_beckner_relu(-1e100, 1e-200, abs(rho), 1e100) == 0.0
    assert relu_stability(rho, 1e100, 1.0) == pytest.approx(1e200)


def test_quadratic_has_no_cubic_error_and_errs_most_at_both_ends() -> None:
    """docs/errata.md, entry 8: the remainder is rho^4 / (48 pi), at most 1/4 - 3/(4 pi)."""
    worst = 0.25 - 3 / (4 * math.pi)
    errors = np.array([theorem_5_1(rho) for rho in np.linspace(-1, 1, 4001)])
    errors -= relu_stability_quadratic(np.linspace(-1, 1, 4001))
    assert errors.min() > -1e-16
    assert errors.max() == pytest.approx(worst, abs=1e-15)
    assert errors[[0, -1]] == pytest.approx([worst, worst], abs=1e-15)
    assert worst == pytest.approx(0.0112676, abs=1e-7)
    assert worst / 0.5 == pytest.approx(0.0225, abs=1e-4)
    assert relu_stability_quadratic(-1.0) == pytest.approx(-worst, abs=1e-15)
    for rho in (-0.02, 0.02):
        assert theorem_5_1(rho) - relu_stability_quadratic(rho) == pytest.approx(rho**4 / (48 * math.pi), rel=2e-3)


MIXTURES = [(0.0, 1.0, 0.3, 1.0), (1.0, 2.0, 0.6, 0.7), (-1.5, 0.8, 0.5, 1.3), (0.7, 0.4, 0.9, 0.5)]


@pytest.mark.parametrize(("mu", "sigma", "rho", "alpha"), MIXTURES)
def test_bonami_beckner_noise_equals_quadrature(mu: float, sigma: float, rho: float, alpha: float) -> None:
    kept = expectation(lambda x: x * alpha * x, mu, sigma)
    fresh = expectation(lambda x: x, mu, sigma) ** 2
    exact = rho * kept + (1 - rho) * fresh
    assert bonami_beckner_relu(mu, sigma, rho, alpha) == pytest.approx(exact, abs=1e-11)


@pytest.mark.parametrize(("mu", "sigma", "rho", "alpha"), MIXTURES)
def test_bonami_beckner_noise_equals_simulation_and_the_printed_lemma_does_not(
    mu: float, sigma: float, rho: float, alpha: float
) -> None:
    """docs/errata.md, entry 19: Lemma 11 swaps E_1 and E_2; sigma is the standard deviation."""
    rng = np.random.default_rng(1)
    x, fresh = rng.normal(mu, sigma, (2, 1_000_000))
    y = np.where(rng.random(x.size) < rho, alpha * x, fresh)
    products = np.maximum(x, 0) * np.maximum(y, 0)
    error = products.std() / math.sqrt(products.size)
    assert abs(bonami_beckner_relu(mu, sigma, rho, alpha) - products.mean()) < 5 * error

    ratio = mu / sigma
    mean = sigma * stats.norm.pdf(ratio) + mu * stats.norm.cdf(ratio)
    second = (mu**2 + sigma**2) * stats.norm.cdf(ratio) + sigma * mu * stats.norm.pdf(ratio)
    printed = rho * alpha * mean + (1 - rho) * second**2
    assert abs(printed - products.mean()) > 7 * error
    if sigma != 1:
        assert abs(bonami_beckner_relu(mu, math.sqrt(sigma), rho, alpha) - products.mean()) > 7 * error
