"""Noise stability under N(0, 1) against closed forms."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.polynomial import hermite, hermite_e
from scipy.special import ndtr, owens_t

from nsbench.theory.gaussian import gaussian_noise_stability, hermite_coefficients
from nsbench.theory.relu import relu_stability as shifted_relu_stability
from tests.gaussian_functions import (
    Array,
    density,
    half_exp,
    mean,
    recurred,
    relu,
    relu_stability,
    sextic,
    step,
    waves,
)

RHOS = np.linspace(-1.0, 1.0, 21)
NEAR_ENDS = np.array([1 - 1e-3, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12, 1 - 2.0**-53, 1e-3, 1e-8, 1e-300])
ALL_RHOS = np.concatenate([RHOS, NEAR_ENDS, -NEAR_ENDS])


def step_stability(rho: Array, at: float) -> Array:
    """P(X > at, Y > at) by Owen's T."""
    with np.errstate(divide="ignore"):
        return ndtr(-at) - 2 * owens_t(at, np.sqrt((1 - rho) / (1 + rho)))


def test_stability_of_a_relu_is_its_closed_form() -> None:
    found = gaussian_noise_stability(relu, ALL_RHOS)
    np.testing.assert_allclose(found, relu_stability(ALL_RHOS), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 1.0), (-0.5, 1.0), (1.0, 3.0), (-2.0, 0.7)])
def test_stability_of_a_shifted_relu_is_its_closed_form(mean: float, std: float) -> None:
    found = gaussian_noise_stability(lambda x: relu(mean + std * x), RHOS)
    np.testing.assert_allclose(found, shifted_relu_stability(RHOS, mean, std), rtol=0, atol=1e-12)


def test_stability_of_a_sign_is_sheppards_formula() -> None:
    found = gaussian_noise_stability(np.sign, ALL_RHOS)
    np.testing.assert_allclose(found, 2 / math.pi * np.arcsin(ALL_RHOS), rtol=0, atol=1e-11)


def test_stability_of_an_absolute_value_is_that_of_two_relus() -> None:
    exact = 2 * relu_stability(ALL_RHOS) + 2 * relu_stability(-ALL_RHOS)
    np.testing.assert_allclose(gaussian_noise_stability(np.abs, ALL_RHOS), exact, rtol=0, atol=1e-13)


@given(st.floats(-4, 4), st.floats(-1, 1))
@settings(deadline=None, max_examples=40)
def test_a_jump_is_found_wherever_it_is(at: float, rho: float) -> None:
    """Places in the middle of a panel, at its ends, beside them: an interval's ends must be found too."""
    found = gaussian_noise_stability(lambda x: np.where(x > at, 1.0, 0.0), rho)
    assert found == pytest.approx(float(step_stability(np.float64(rho), at)), abs=1e-10)


@pytest.mark.parametrize("at", [0.0, 0.25, 0.37, -0.5, 0.9999999, 1.0 + 1e-9, math.pi / 3])
def test_a_jump_or_kink_at_or_beside_a_panels_end_is_found(at: float) -> None:
    rhos = ALL_RHOS[::4]
    found = gaussian_noise_stability(lambda x: np.where(x >= at, 1.0, 0.0), rhos)
    np.testing.assert_allclose(found, step_stability(rhos, at), rtol=0, atol=1e-10)
    kinked = hermite_coefficients(lambda x: np.maximum(x - at, 0.0), 1)
    np.testing.assert_allclose(kinked, [density(at) - at * ndtr(-at), ndtr(-at)], rtol=0, atol=1e-12)


def test_a_tent_as_narrow_as_a_tenth_is_integrated_near_correlation_one() -> None:
    """E[f(X)^2] - E[f(X) f(Y)] = E[(f(X) - f(Y))^2] / 2, to first order (1 - rho) E[f'(X)^2]."""

    def tent(x: Array) -> Array:
        return np.maximum(0.0, 1 - np.abs(x - 0.3) / 0.05)

    slope = 400 * (ndtr(0.35) - ndtr(0.25))
    at_one = gaussian_noise_stability(tent, 1.0)
    assert at_one == pytest.approx(mean(lambda z: float(tent(np.float64(z))) ** 2, 0.25, 0.3, 0.35), abs=1e-12)
    found = gaussian_noise_stability(tent, 1 - 1e-8)
    assert at_one - found == pytest.approx(1e-8 * slope, rel=0.01)


@pytest.mark.parametrize("rho", [1 - 1e-4, 1 - 1e-6])
def test_faint_kinks_are_blurred_near_correlation_one(rho: float) -> None:
    """E[f(X)^2] - E[f(X) f(Y)] by a plain sum over a fine grid: f is smooth but for two faint kinks."""

    def f(x: Array) -> Array:
        return 1 + 0.1 * np.maximum(0.0, 1 - (x - 0.3) ** 2)

    x = np.linspace(-9, 9, 200_001)
    mass = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    spread = math.sqrt(1 - rho**2)
    nodes, weights = hermite_e.hermegauss(120)
    other = sum(w * f(rho * x + spread * z) for z, w in zip(nodes, weights, strict=True)) / math.sqrt(2 * math.pi)
    exact = mass @ (f(x) * other)
    assert gaussian_noise_stability(f, rho) == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("at", [-1.1, 0.0, 0.3, 2.0])
def test_a_narrow_hump_is_not_lost_between_wide_pieces(at: float) -> None:
    """It rises so smoothly from zero that no edge is needed where it starts, only beside what it is."""

    def hump(x: Array) -> Array:
        return np.maximum(0.0, 1 - ((x - at) / 0.018) ** 2) ** 8

    exact = mean(lambda z: float(hump(np.float64(z))), at - 0.018, at + 0.018)
    assert hermite_coefficients(hump, 0)[0] == pytest.approx(exact, rel=1e-9)
    assert gaussian_noise_stability(hump, 0.0) == pytest.approx(exact**2, rel=1e-9)


def test_stability_of_an_exponential_is_its_closed_form() -> None:
    np.testing.assert_allclose(gaussian_noise_stability(half_exp, ALL_RHOS), np.exp((1 + ALL_RHOS) / 4), rtol=1e-13)


def test_stability_of_a_wave_is_its_closed_form() -> None:
    rhos = ALL_RHOS[::2]
    exact = (np.exp(-25 * (1 - rhos)) + np.exp(-25 * (1 + rhos))) / 2
    np.testing.assert_allclose(gaussian_noise_stability(waves, rhos), exact, rtol=0, atol=1e-13)


def test_stability_of_a_polynomial_is_the_sum_over_its_hermite_coefficients() -> None:
    # Powers in He_k by NumPy, and E[He_k^2] = k!.
    series = hermite_e.poly2herme([-1, 1, 0, -4, 0, 0, 1])
    exact = sum(c**2 * math.factorial(k) * ALL_RHOS**k for k, c in enumerate(series))
    np.testing.assert_allclose(gaussian_noise_stability(sextic, ALL_RHOS), exact, rtol=1e-12)


@pytest.mark.parametrize("f", [relu, np.sign, step, half_exp, waves, sextic])
def test_stability_is_the_sum_of_powers_of_rho_over_the_coefficients(f: Callable[[Array], Array]) -> None:
    degree = 300
    squares = hermite_coefficients(f, degree) ** 2
    for rho in (-0.9, -0.4, 0.0, 0.5, 0.9):
        total = (squares * rho ** np.arange(degree + 1)).sum()
        assert gaussian_noise_stability(f, rho) == pytest.approx(total, rel=1e-11, abs=1e-11)


def test_a_square_has_stability_one_and_a_half_at_one_half() -> None:
    """The physicists' sum of Appendix C under N(0, 1) would be 0.375: its H_n are not orthogonal there."""
    assert gaussian_noise_stability(np.square, 0.5) == pytest.approx(1.5, rel=1e-13)
    physicists = hermite.poly2herm([0, 0, 1])
    mixed = sum(0.5**k * 2**k * math.factorial(k) * c**2 for k, c in enumerate(physicists))
    assert mixed == pytest.approx(0.375)
    assert hermite_coefficients(lambda x: hermite.hermval(x, [0, 0, 1]), 0)[0] == pytest.approx(2, rel=1e-13)


@given(
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.floats(-2, 2),
    st.floats(0, 1),
    st.floats(0, 1),
)
@example([1.0, 1.0, 0.0, 2e-8], 0.5, 0.0, 0.0)
@settings(deadline=None, max_examples=20)
def test_stability_rises_from_the_squared_mean_to_the_mean_square(
    c: list[float], at: float, first: float, second: float
) -> None:
    def f(x: Array) -> Array:
        return c[0] + c[1] * x + c[2] * np.abs(x - at) + c[3] * np.where(x > at, 1.0, -1.0)

    low, high = sorted([first, second])
    values = gaussian_noise_stability(f, [0.0, low, high, 1.0])
    assert (np.diff(values) >= -1e-9).all()
    assert abs(gaussian_noise_stability(f, -high)) <= values[2] + 1e-9
    exact_mean = c[0] + c[2] * (2 * density(at) + at * (2 * ndtr(at) - 1)) + c[3] * (1 - 2 * ndtr(at))
    assert values[0] == pytest.approx(exact_mean**2, abs=1e-9)


@given(st.floats(-1, 1), st.floats(-3, 3))
@settings(deadline=None, max_examples=30)
def test_mirroring_a_function_leaves_its_stability(rho: float, at: float) -> None:
    def f(x: Array) -> Array:
        return np.maximum(x - at, 0.1 * x)

    mirrored = gaussian_noise_stability(lambda x: f(-x), rho)
    assert mirrored == pytest.approx(float(gaussian_noise_stability(f, rho)), abs=1e-11)


@pytest.mark.parametrize("b", [2, 5, 8, 10, 12, -8])
def test_stability_of_a_steep_exponential_is_its_closed_form(b: float) -> None:
    """Most of E[exp(b X)^2] comes from about 2 b standard deviations from the origin."""
    rhos = np.array([-1, -0.9, 0, 0.5, 0.99, 1])
    exact = np.exp(b**2 * (1 + rhos))
    np.testing.assert_allclose(gaussian_noise_stability(lambda x: np.exp(b * x), rhos[2:]), exact[2:], rtol=1e-13)
    falling = gaussian_noise_stability(lambda x: np.exp(b * x), rhos[:2])
    np.testing.assert_allclose(falling, exact[:2], rtol=0, atol=1e-13 * exact[-1])


@pytest.mark.parametrize("a", [8, 5, 4.5])
def test_stability_of_the_exponential_of_a_square_is_its_closed_form(a: float) -> None:
    rhos = np.array([-1, 0.5, 0.99, 1])
    exact = 1 / np.sqrt((1 - 2 / a) ** 2 - (2 * rhos / a) ** 2)
    np.testing.assert_allclose(gaussian_noise_stability(lambda x: np.exp(x * x / a), rhos), exact, rtol=1e-12)


def test_stability_of_a_hermite_polynomial_is_a_power_of_rho_at_degrees_that_reach_far() -> None:
    """He_k waves to |x| = 2 sqrt(k), beyond 15 for k = 60."""
    rhos = np.array([-0.99, 0.5, 0.99, 1])
    np.testing.assert_allclose(gaussian_noise_stability(recurred(60), rhos), rhos**60, rtol=0, atol=1e-13)
    assert gaussian_noise_stability(recurred(150), 1.0) == pytest.approx(1, rel=1e-12)


def test_stability_knows_a_jump_where_a_steep_function_matters() -> None:
    """E[exp(b X) exp(b Y); X > c, Y > c] is exp(b^2 (1 + rho)) P(X, Y > c - b (1 + rho))."""
    rhos = np.array([0.9, 0.99, 1])
    found = gaussian_noise_stability(lambda x: np.where(x > 24, np.exp(12 * x), 0.0), rhos)
    size = np.exp(144 * (1 + rhos))
    exact = [step_stability(rho, 24 - 12 * (1 + rho)) for rho in rhos]
    np.testing.assert_allclose(found / size, exact, rtol=0, atol=1e-10)


def test_a_jump_that_is_all_of_a_function_is_found_near_the_end_of_the_reach() -> None:
    found = gaussian_noise_stability(lambda x: np.where(x > 15.7, 1.0, 0.0), [0.0, 1.0])
    np.testing.assert_allclose(found, [ndtr(-15.7) ** 2, ndtr(-15.7)], rtol=1e-9)


def test_a_correlation_takes_well_under_a_second() -> None:
    for f in (relu, np.sign, sextic, waves):
        start = time.process_time()
        gaussian_noise_stability(f, [0.3, 0.9])
        assert time.process_time() - start < 1.0
