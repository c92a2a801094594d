"""The Ornstein-Uhlenbeck operator against quadrature, Mehler's kernel, and its identities."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr

from nsbench.theory.gaussian import ou_operator
from tests.theory.gaussian_functions import (
    Array,
    half_exp,
    mean,
    orthonormal,
    relu,
    sextic,
    step,
    waves,
)

XS = np.array([-3.1, -1.0, -0.2, 0.0, 0.37, 0.8, 2.5])


@pytest.mark.parametrize(("k", "rho"), [(0, 0.99), (1, -0.8), (9, 0.99)])
def test_hermite_polynomials_are_eigenfunctions(k: int, rho: float) -> None:
    f = orthonormal(k)
    np.testing.assert_allclose(ou_operator(f, rho)(XS), rho**k * f(XS), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("f", "break_at"), [(relu, 0.0), (step, 0.37), (waves, 0.0)])
@pytest.mark.parametrize("rho", [-0.6, 0.95])
def test_it_is_the_mean_over_gaussian_noise(f: Callable[[Array], Array], break_at: float, rho: float) -> None:
    spread = math.sqrt(1 - rho**2)
    for x in XS[::3]:
        exact = mean(lambda z, x=x: float(f(np.float64(rho * x + spread * z))), (break_at - rho * x) / spread)
        assert ou_operator(f, rho)(x) == pytest.approx(exact, rel=1e-10, abs=1e-11)


@pytest.mark.parametrize("f", [relu, step, half_exp, waves, sextic])
def test_its_ends_are_the_function_its_mirror_image_and_its_mean(f: Callable[[Array], Array]) -> None:
    np.testing.assert_array_equal(ou_operator(f, 1.0)(XS), f(XS))
    np.testing.assert_array_equal(ou_operator(f, -1.0)(XS), f(-XS))
    means = ou_operator(f, 0.0)(XS)
    assert (means == means[0]).all()
    assert means[0] == pytest.approx(mean(lambda z: float(f(np.float64(z))), 0.0, 0.37), rel=1e-11, abs=1e-12)


def test_a_value_depends_on_its_own_x_alone() -> None:
    smoothed = ou_operator(step, 0.6)
    xs = np.linspace(-30, 30, 13)
    one_by_one = [ou_operator(step, 0.6)(x) for x in xs]
    np.testing.assert_array_equal(smoothed(xs), one_by_one)
    exact = ndtr((0.6 * xs - 0.37) / 0.8)
    np.testing.assert_allclose(smoothed(xs), exact, rtol=0, atol=1e-11)


@pytest.mark.parametrize("at", [-0.1, 7.99])
def test_a_little_noise_blurs_a_jump_wherever_it_is(at: float) -> None:
    rho, spread = 0.9999, math.sqrt(1 - 0.9999**2)
    xs = at / rho + spread * np.linspace(-3, 3, 7)
    blurred = ou_operator(lambda x: np.where(x > at, 1.0, 0.0), rho)(xs)
    np.testing.assert_allclose(blurred, ndtr((rho * xs - at) / spread), rtol=0, atol=1e-10)


def test_far_from_the_origin_it_still_finds_kinks() -> None:
    kink = 5000.3
    smoothed = ou_operator(lambda x: np.maximum(x - kink, 0.0), 0.5)
    mean, spread = 0.35, math.sqrt(0.75)  # the kink lies between the ends of panels
    exact = mean * ndtr(mean / spread) + spread * math.exp(-((mean / spread) ** 2) / 2) / math.sqrt(2 * math.pi)
    assert smoothed(2 * (kink + mean)) == pytest.approx(exact, rel=1e-10)
    assert smoothed(1e9) == pytest.approx(5e8 - kink, rel=1e-13)
    assert smoothed(-1e9) == 0


def test_rhos_give_rows() -> None:
    rhos = np.array([[-1.0, -0.4, 0.0], [0.1, 0.5, 1.0]])
    xs = np.linspace(-2, 2, 8).reshape(4, 2)
    found = ou_operator(half_exp, rhos)(xs)
    assert found.shape == (2, 3, 4, 2)
    exact = np.exp(rhos[..., None, None] * xs / 2 + (1 - rhos[..., None, None] ** 2) / 8)
    np.testing.assert_allclose(found, exact, rtol=1e-13)
    np.testing.assert_array_equal(ou_operator(half_exp, 0.5)(xs), found[1, 1])


@pytest.mark.parametrize(("rho", "b"), [(0.0, 8), (0.2, -15)])
def test_a_steep_exponential_is_integrated_where_it_matters(rho: float, b: float) -> None:
    """E[exp(b s Z)] comes from about b s standard deviations from the mean."""
    xs = np.array([-2.0, 0.0, 0.3])
    exact = np.exp(b * rho * xs + b**2 * (1 - rho**2) / 2)
    np.testing.assert_allclose(ou_operator(lambda x: np.exp(b * x), rho)(xs), exact, rtol=1e-12)


@pytest.mark.parametrize(("rho", "a"), [(0.5, 2.5), (0.9, 1)])
def test_a_mean_may_be_finite_where_the_mean_square_is_not(rho: float, a: float) -> None:
    """E[exp(Y^2 / a)], Y of variance s^2 and mean m, is exp(m^2 / (a - 2 s^2)) / sqrt(1 - 2 s^2 / a)."""
    xs = np.array([-7.0, -2.0, 0.0, 0.3, 7.0]) / rho
    variance = 1 - rho**2
    exact = np.exp((rho * xs) ** 2 / (a - 2 * variance)) / math.sqrt(1 - 2 * variance / a)
    np.testing.assert_allclose(ou_operator(lambda x: np.exp(x * x / a), rho)(xs), exact, rtol=1e-11)


def test_a_jump_is_found_where_a_steep_function_matters() -> None:
    """E[exp(-b Z); Z < -c] is exp(b^2 / 2) P(Z < b - c)."""
    found = ou_operator(lambda x: np.where(x < -18.3, np.exp(-18 * x), 1.0), 0.0)(1.0)
    assert found == pytest.approx(math.exp(162) * ndtr(-0.3), rel=1e-10)
