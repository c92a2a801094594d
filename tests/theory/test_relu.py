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

RHOS = [-1.0, -0.97, -0.5, -0.1, 0.0, 0.2, 0.6, 0.95, 1.0]
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


@pytest.mark.parametrize(("rho", "mean", "std"), [(0.5, 0.0, 1.0), (-0.7, 0.8, 1.5), (0.8, -0.6, 0.7)])
def test_stability_equals_quadrature_over_both_inputs(rho: float, mean: float, std: float) -> None:
    density = stats.multivariate_normal([mean] * 2, std**2 * np.array([[1, rho], [rho, 1]])).pdf
    nodes, weights = np.polynomial.legendre.leggauss(150)
    top = mean + 9 * std
    x, weight = top * (nodes + 1) / 2, top * weights / 2
    grid = np.stack(np.meshgrid(x, x), -1)
    exact = np.einsum("i,j,ij,ij->", weight, weight, grid.prod(-1), density(grid))
    assert relu_stability(rho, mean, std) == pytest.approx(exact, abs=1e-10)


def test_standard_inputs_give_theorem_5_1() -> None:
    grid = np.linspace(-1, 1, 2001)
    np.testing.assert_allclose(relu_stability(grid), [theorem_5_1(rho) for rho in grid], rtol=0, atol=2e-16)


@pytest.mark.parametrize(("rho", "mean", "std"), [(0.3, 0.0, 1.0), (-0.8, 0.5, 2.0), (0.9, -1.0, 0.5)])
def test_stability_equals_simulation(rho: float, mean: float, std: float) -> None:
    x, z = np.random.default_rng(0).standard_normal((2, 1_000_000))
    u, v = mean + std * x, mean + std * (rho * x + math.sqrt(1 - rho**2) * z)
    products = np.maximum(u, 0) * np.maximum(v, 0)
    error = products.std() / math.sqrt(products.size)
    assert abs(relu_stability(rho, mean, std) - products.mean()) < 5 * error
    assert error < 0.02 * products.mean()


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


def test_ends_of_the_standard_relu_are_exact() -> None:
    assert relu_stability([-1.0, 1.0]).tolist() == [0.0, 0.5]


@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (0.7, 1.3), (-0.9, 0.8)])
@pytest.mark.parametrize("rho", [-0.6, 0.1, 0.75])
def test_slope_in_rho_is_the_chance_that_both_are_positive(mean: float, std: float, rho: float) -> None:
    """Price's theorem: d/drho E[f(U) f(V)] = std^2 E[f'(U) f'(V)]."""
    step = 1e-4
    slope = (relu_stability(rho + step, mean, std) - relu_stability(rho - step, mean, std)) / (2 * step)
    both = stats.multivariate_normal([-mean] * 2, std**2 * np.array([[1, rho], [rho, 1]])).cdf([0, 0])
    assert slope == pytest.approx(std**2 * both, abs=1e-6)


@given(rhos)
def test_stability_at_rho_and_at_minus_rho_differ_by_half_of_rho(rho: float) -> None:
    """ReLU(y) - ReLU(-y) = y, and E[ReLU(X) Y] = rho / 2."""
    assert relu_stability(rho) - relu_stability(-rho) == pytest.approx(rho / 2, abs=1e-15)


@given(rhos, means, stds, st.floats(0.01, 100))
def test_stability_scales_with_the_square_of_its_inputs(rho: float, mean: float, std: float, scale: float) -> None:
    expected = scale**2 * relu_stability(rho, mean, std)
    assert relu_stability(rho, scale * mean, scale * std) == pytest.approx(
        expected, rel=1e-9, abs=1e-13 * scale**2 * (mean**2 + std**2)
    )


@given(rhos, rhos, means, stds)
def test_stability_rises_with_rho_between_zero_and_the_second_moment(
    a: float, b: float, mean: float, std: float
) -> None:
    low, high, most = relu_stability([min(a, b), max(a, b), 1.0], mean, std)
    rounding = 1e-14 * (mean**2 + std**2)
    assert 0 <= low <= high + rounding
    assert high <= most + rounding


@given(rhos, means, means, stds)
def test_stability_rises_with_the_mean(rho: float, a: float, b: float, std: float) -> None:
    low, high = relu_stability(rho, [min(a, b), max(a, b)], std)
    assert low <= high + 1e-13 * (a**2 + b**2 + std**2)


@pytest.mark.parametrize("rho", RHOS)
def test_far_means_leave_a_linear_or_a_dead_unit(rho: float) -> None:
    assert relu_stability(rho, 200.0, 2.0) == pytest.approx(200.0**2 + 4 * rho, rel=1e-14)
    assert relu_stability(rho, 3.0, 1e-200) == pytest.approx(9.0, rel=1e-14)
    assert relu_stability(rho, -200.0, 2.0) == 0.0


def test_arrays_broadcast_and_scalars_stay_scalars() -> None:
    values = relu_stability(np.zeros((3, 1)), np.array([0.0, 1.0]), 2.0)
    assert values.shape == (3, 2)
    assert values[2, 1] == pytest.approx(positive_part(1.0, 2.0) ** 2)
    for scalar in (relu_stability(0.5), relu_stability_quadratic(0.5), bonami_beckner_relu(0.0, 1.0, 0.5, 1.0)):
        assert isinstance(scalar, np.float64)
    assert relu_stability_quadratic(np.zeros((4, 2))).shape == (4, 2)
    assert bonami_beckner_relu(np.zeros(3), 1.0, np.full((2, 1), 0.5), 1.0).shape == (2, 3)


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


@given(means, stds, st.floats(0, 1), st.floats(0.1, 10))
def test_bonami_beckner_noise_goes_from_independence_to_a_scaled_copy(
    mu: float, sigma: float, rho: float, alpha: float
) -> None:
    none, some, all_ = bonami_beckner_relu(mu, sigma, [0.0, rho, 1.0], alpha)
    rounding = 1e-13 * (1 + alpha) * (mu**2 + sigma**2)
    assert none == pytest.approx(positive_part(mu, sigma) ** 2, abs=rounding)
    assert all_ == pytest.approx(alpha * (positive_part(mu, sigma) ** 2 + relu_variance(mu, sigma)), abs=rounding)
    assert some == pytest.approx(none + rho * (all_ - none), abs=rounding)
    assert some >= 0


def relu_variance(mu: float, sigma: float) -> float:
    """Var(max(X, 0)), X ~ N(mu, sigma^2), from the moments of the truncated normal."""
    ratio = mu / sigma
    share = stats.norm.cdf(ratio)
    hazard = stats.norm.pdf(ratio) / share if share > 0 else 0.0
    mean_above, variance_above = mu + sigma * hazard, sigma**2 * (1 - hazard * (hazard + ratio))
    return share * variance_above + share * (1 - share) * mean_above**2


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: relu_stability(1.1), "rho"),
        (lambda: relu_stability([0.0, -1.1]), "rho"),
        (lambda: relu_stability(math.nan), "rho"),
        (lambda: relu_stability(0.5, math.inf), "mean"),
        (lambda: relu_stability(0.5, 0.0, 0.0), "std"),
        (lambda: relu_stability(0.5, 0.0, -1.0), "std"),
        (lambda: relu_stability_quadratic(-1.1), "rho"),
        (lambda: bonami_beckner_relu(math.nan, 1.0, 0.5, 1.0), "mu"),
        (lambda: bonami_beckner_relu(0.0, 0.0, 0.5, 1.0), "sigma"),
        (lambda: bonami_beckner_relu(0.0, 1.0, -0.1, 1.0), "rho"),
        (lambda: bonami_beckner_relu(0.0, 1.0, 1.1, 1.0), "rho"),
        (lambda: bonami_beckner_relu(0.0, 1.0, 0.5, 0.0), "alpha"),
    ],
)
def test_an_argument_outside_its_domain_is_named(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()


@given(st.floats(allow_nan=True, allow_infinity=True).filter(lambda rho: not -1 <= rho <= 1))
def test_no_rho_outside_its_domain_passes(rho: float) -> None:
    with pytest.raises(ValueError, match=r"^rho = "):
        relu_stability(rho)
