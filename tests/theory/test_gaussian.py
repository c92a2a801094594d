"""Noise stability under N(0, 1) against closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import hermite_e
from scipy.special import ndtr, owens_t

from nsbench.theory.gaussian import gaussian_noise_stability, hermite_coefficients
from tests.theory.gaussian_functions import (
    Array,
    density,
    mean,
    recurred,
    relu,
    relu_stability,
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


def test_stability_of_a_sign_is_sheppards_formula() -> None:
    found = gaussian_noise_stability(np.sign, ALL_RHOS)
    np.testing.assert_allclose(found, 2 / math.pi * np.arcsin(ALL_RHOS), rtol=0, atol=1e-11)


@given(st.floats(-4, 4), st.floats(-1, 1))
@settings(deadline=None, max_examples=20)
def test_a_jump_is_found_wherever_it_is(at: float, rho: float) -> None:
    """Places in the middle of a panel, at its ends, beside them: an interval's ends must be found too."""
    found = gaussian_noise_stability(lambda x: np.where(x > at, 1.0, 0.0), rho)
    assert found == pytest.approx(float(step_stability(np.float64(rho), at)), abs=1e-10)


@pytest.mark.parametrize("at", [0.0, -0.5, 1.0 + 1e-9])
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


def test_faint_kinks_are_blurred_near_correlation_one() -> None:
    """E[f(X)^2] - E[f(X) f(Y)] by a plain sum over a fine grid: f is smooth but for two faint kinks."""
    rho = 1 - 1e-6

    def f(x: Array) -> Array:
        return 1 + 0.1 * np.maximum(0.0, 1 - (x - 0.3) ** 2)

    x = np.linspace(-9, 9, 200_001)
    mass = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    spread = math.sqrt(1 - rho**2)
    nodes, weights = hermite_e.hermegauss(120)
    other = sum(w * f(rho * x + spread * z) for z, w in zip(nodes, weights, strict=True)) / math.sqrt(2 * math.pi)
    exact = mass @ (f(x) * other)
    assert gaussian_noise_stability(f, rho) == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("at", [-1.1, 0.3])
def test_a_narrow_hump_is_not_lost_between_wide_pieces(at: float) -> None:
    """It rises so smoothly from zero that no edge is needed where it starts, only beside what it is."""

    def hump(x: Array) -> Array:
        return np.maximum(0.0, 1 - ((x - at) / 0.018) ** 2) ** 8

    exact = mean(lambda z: float(hump(np.float64(z))), at - 0.018, at + 0.018)
    assert hermite_coefficients(hump, 0)[0] == pytest.approx(exact, rel=1e-9)
    assert gaussian_noise_stability(hump, 0.0) == pytest.approx(exact**2, rel=1e-9)


def test_stability_of_a_wave_is_its_closed_form() -> None:
    rhos = ALL_RHOS[::2]
    exact = (np.exp(-25 * (1 - rhos)) + np.exp(-25 * (1 + rhos))) / 2
    np.testing.assert_allclose(gaussian_noise_stability(waves, rhos), exact, rtol=0, atol=1e-13)


@pytest.mark.parametrize("b", [0.5, 12, -8])
def test_stability_of_a_steep_exponential_is_its_closed_form(b: float) -> None:
    """Most of E[exp(b X)^2] comes from about 2 b standard deviations from the origin."""
    rhos = np.array([-1, -0.9, 0, 0.5, 0.99, 1])
    exact = np.exp(b**2 * (1 + rhos))
    np.testing.assert_allclose(gaussian_noise_stability(lambda x: np.exp(b * x), rhos[2:]), exact[2:], rtol=1e-13)
    falling = gaussian_noise_stability(lambda x: np.exp(b * x), rhos[:2])
    np.testing.assert_allclose(falling, exact[:2], rtol=0, atol=1e-13 * exact[-1])


def test_stability_of_the_exponential_of_a_square_is_its_closed_form() -> None:
    a, rhos = 4.5, np.array([-1, 0.5, 0.99, 1])
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


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.where(x > 1, np.nan, x),
        lambda x: x[:-1],
        lambda x: "one",
        lambda x: 1j * x,
        math.sin,
        lambda x: np.floor(100 * x),
        lambda x: np.random.default_rng(0).standard_normal(x.shape),
        lambda x: np.abs(x) ** -0.5,
        lambda x: 1 / (x - 0.3),
        lambda x: np.exp(x * x / 1.4),
    ],
    ids=["not finite", "shape", "text", "complex", "one by one", "jumps", "noise", "faint pole", "pole", "growth"],
)
def test_what_cannot_be_integrated_is_named(f: Callable[[Array], Array]) -> None:
    for analysis in (
        lambda: hermite_coefficients(f, 3),
        lambda: gaussian_noise_stability(f, 0.5),
    ):
        with pytest.raises(ValueError, match=r"^f "):
            analysis()


@pytest.mark.parametrize(
    "f",
    [lambda x: np.exp(-13 * x), lambda x: 1 + 1e-20 * np.exp(x * x / 3.9), recurred(300)],
    ids=["exp(-13 x)", "faint and infinite", "He_300"],
)
def test_a_mean_square_from_beyond_the_reach_is_refused(f: Callable[[Array], Array]) -> None:
    for analysis in (lambda: hermite_coefficients(f, 3), lambda: gaussian_noise_stability(f, 1.0)):
        with pytest.raises(ValueError, match=r"^f (grows too fast|is inf)"):
            analysis()


def test_a_constant_may_be_one_number() -> None:
    assert gaussian_noise_stability(lambda x: 3, 0.5) == pytest.approx(9, rel=1e-14)
