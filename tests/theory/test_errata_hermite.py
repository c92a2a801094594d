"""Entries 1 to 8 of docs/errata.md: Hermite analysis and the ReLU."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.polynomial import hermite, hermite_e
from scipy import integrate

from nsbench.theory import (
    gaussian_noise_stability,
    hermite_coefficients,
    relu_stability,
    relu_stability_quadratic,
    spectral_concentration_degree,
)
from tests.theory.evidence import (
    Array,
    half_mean,
    normalised,
    physicists,
    standard_mean,
    standard_stability,
)

# Entries 1-8: Hermite analysis and the ReLU


def test_lemma_1_as_printed_asks_for_a_negative_degree() -> None:
    rho, delta, epsilon = 0.9, 0.1, 0.2
    printed = math.log(1 - delta / epsilon) / math.log(1 / rho)
    right = spectral_concentration_degree(rho, delta, epsilon)
    assert printed == pytest.approx(-6.5788, abs=1e-4)
    assert right == pytest.approx(6.5788, abs=1e-4)
    # Mass p at degree T and 1 - p at degree 0 has stability (1 - delta) exactly: the bound cannot be better.
    tails = {}
    for degree in (6, 7):
        p = delta / (1 - rho**degree)
        f = hermite_e.HermiteE([math.sqrt(1 - p), *[0] * (degree - 1), math.sqrt(p / math.factorial(degree))])
        assert standard_stability(f, rho) == pytest.approx(1 - delta, abs=1e-12)
        tails[degree] = p
    assert tails[6] == pytest.approx(0.2134, abs=1e-4)
    assert tails[7] == pytest.approx(0.1917, abs=1e-4)
    # Degree 0 and above, which the printed form allows, always holds all of the mass.
    assert printed <= 0
    assert tails[7] < epsilon < tails[6] < 1


def test_physicists_hermite_polynomials_are_not_orthogonal_under_the_standard_gaussian() -> None:
    assert standard_mean(lambda x: physicists(2, x) * physicists(0, x)) == pytest.approx(2.0)
    assert half_mean(lambda x: physicists(2, x) * physicists(0, x)) == pytest.approx(0.0, abs=1e-12)
    rho = 0.5
    printed = sum(rho**k * half_mean(lambda x, k=k: x**2 * normalised(k, x)) ** 2 for k in range(5))
    assert printed == pytest.approx(0.375)
    assert standard_stability(lambda x: x**2, rho) == pytest.approx(1.5)
    assert gaussian_noise_stability(lambda x: x**2, rho) == pytest.approx(1.5)
    coefficients = hermite_coefficients(lambda x: x**2, 4)
    assert (rho ** np.arange(5) * coefficients**2).sum() == pytest.approx(1.5)


def test_mehlers_formula_with_standard_noise_is_not_the_operator_of_the_physicists_polynomials() -> None:
    rho, x = math.exp(-0.5), 0.3
    right = rho**2 * float(physicists(2, x))
    assert right == pytest.approx(-0.6033, abs=1e-4)
    f = lambda z: physicists(2, rho * x + math.sqrt(1 - rho**2) * z)  # noqa: E731
    assert half_mean(f) == pytest.approx(right)
    assert standard_mean(f) == pytest.approx(0.6609, abs=1e-4)
    # With N(0, 1) throughout, the eigenfunctions are He_n.
    he_2 = hermite_e.HermiteE([0, 0, 1])
    assert standard_mean(lambda z: he_2(rho * x + math.sqrt(1 - rho**2) * z)) == pytest.approx(rho**2 * he_2(x))


def test_mehlers_kernel_as_printed_is_the_density_with_respect_to_dy() -> None:
    r = math.exp(-0.5)

    def printed(x: float, y: float) -> float:
        return math.exp(-((y - r * x) ** 2) / (1 - r**2)) / math.sqrt(math.pi * (1 - r**2))

    def series(x: float, y: float) -> float:
        return sum(r**n * float(normalised(n, x) * normalised(n, y)) for n in range(80))

    assert printed(0.3, 0.7) == pytest.approx(0.4641, abs=1e-4)
    assert printed(0.7, 0.3) == pytest.approx(0.6924, abs=1e-4)
    assert series(0.3, 0.7) == pytest.approx(1.3428, abs=1e-4)
    for x, y in [(0.3, 0.7), (0.7, 0.3), (-1.0, 0.4)]:
        assert math.sqrt(math.pi) * math.exp(y**2) * printed(x, y) == pytest.approx(series(x, y), rel=1e-9)
    assert integrate.quad(lambda y: printed(0.3, y), -9, 9)[0] == pytest.approx(1.0)


def test_the_ornstein_uhlenbeck_operator_has_gradient_and_laplacian_exchanged() -> None:
    x = hermite.Hermite([0, 0.5])
    for n in range(6):
        h = hermite.Hermite([0] * n + [1])
        right = -0.5 * h.deriv(2) + x * h.deriv(1)
        printed = -0.5 * h.deriv(1) + x * h.deriv(2)
        assert np.allclose((right - n * h).coef, 0)
        assert np.allclose((printed - n * h).coef, 0) == (n == 0)


def test_stability_as_a_product_of_two_smoothed_functions_has_rho_squared() -> None:
    coefficients = {0: half_mean(lambda x: x**2), 2: half_mean(lambda x: x**2 * normalised(2, x))}

    def smoothed(x: Array, rho: float) -> Array:
        return sum(rho**k * c * normalised(k, x) for k, c in coefficients.items())

    printed = half_mean(lambda x: smoothed(x, 0.5) ** 2)
    assert printed == pytest.approx(0.28125)
    assert printed == pytest.approx(half_mean(lambda x: smoothed(x, 0.25) * x**2))
    assert half_mean(lambda x: smoothed(x, 0.5) * x**2) == pytest.approx(0.375)


def test_hermite_coefficients_are_normalised_in_two_ways() -> None:
    for n in range(5):
        f = hermite.Hermite([1, 2, 3, 4, 5])
        integral = half_mean(lambda x, f=f, n=n: f(x) * physicists(n, x))
        assert integral == pytest.approx(f.coef[n] * 2**n * math.factorial(n))
    assert half_mean(lambda x: x**2 * physicists(2, x)) == pytest.approx(2.0)
    assert hermite.Hermite.cast(np.polynomial.Polynomial([0, 0, 1])).coef[2] == pytest.approx(0.25)


def test_the_quadratic_for_relu_has_a_remainder_of_fourth_order() -> None:
    for rho in (-0.1, 0.05, 0.1):
        remainder = relu_stability(rho) - relu_stability_quadratic(rho)
        assert remainder == pytest.approx(rho**4 / (48 * math.pi), rel=0.02)
    rhos = np.linspace(-1, 1, 2001)
    errors = np.abs(relu_stability(rhos) - relu_stability_quadratic(rhos))
    assert errors.max() == pytest.approx(0.25 - 3 / (4 * math.pi))
    assert errors.max() == pytest.approx(0.0112676, abs=1e-7)
    assert errors[0] == pytest.approx(errors[-1]) == errors.max()
    assert errors[-1] / relu_stability(1.0) == pytest.approx(0.0225, abs=1e-4)
    assert relu_stability_quadratic(-1.0) < 0 == relu_stability(-1.0)
