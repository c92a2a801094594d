"""Hermite coefficients under N(0, 1) against closed forms, and Parseval's identity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import gammaln, ndtr

from nsbench.theory.gaussian import hermite_coefficients
from tests.theory.gaussian_functions import density, recurred, relu


def test_coefficients_of_a_relu_are_their_closed_form() -> None:
    exact = [1 / math.sqrt(2 * math.pi), 0.5]
    for k in range(2, 41):
        odd_factorial = math.prod(range(1, k - 2, 2))  # (k - 3)!!
        size = odd_factorial / math.sqrt(2 * math.pi * math.factorial(k))
        exact.append(0.0 if k % 2 else (-1) ** (k // 2 + 1) * size)
    np.testing.assert_allclose(hermite_coefficients(relu, 40), exact, rtol=0, atol=1e-14)


def test_coefficients_of_a_sign_are_right_at_degrees_in_the_thousands() -> None:
    k = np.arange(1, 2_001, 2)
    # (k - 2)!! = k! / (k 2^m m!) with m = (k - 1) / 2
    m = (k - 1) / 2
    size = np.exp(gammaln(k + 1) / 2 - m * math.log(2) - gammaln(m + 1)) * 2 / (k * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(hermite_coefficients(np.sign, 2_000)[1::2], (-1) ** m * size, rtol=0, atol=1e-10)


@pytest.mark.parametrize("b", [0.5, 12])
def test_coefficients_of_a_steep_exponential_are_their_closed_form(b: float) -> None:
    k = np.arange(301)
    exact = np.exp(b**2 / 2 + k * math.log(b) - gammaln(k + 1) / 2)
    np.testing.assert_allclose(hermite_coefficients(lambda x: np.exp(b * x), 300), exact, atol=1e-13 * exact.max())


@pytest.mark.parametrize(("power", "jump"), [(2, 0.1), (12, 1e-7)])
def test_a_faint_jump_is_found_beside_a_large_power(power: int, jump: float) -> None:
    """x^power of mean square one is up to 1e10 where it hardly matters, and the jump is nothing to that."""
    size = math.sqrt(math.prod(range(1, 2 * power, 2)))
    found = hermite_coefficients(lambda x: x**power / size + jump * np.where(x > 0.3, 1.0, -1.0), 1)
    exact = [math.prod(range(1, power, 2)) / size + jump * (1 - 2 * ndtr(0.3)), 2 * jump * density(0.3)]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-14)


@pytest.mark.parametrize("k", [0, 144])
def test_coefficients_know_a_jump_where_a_steep_function_matters(k: int) -> None:
    """Half of E[exp(12 X)^2] comes from beyond X = 24."""
    hermite_k = recurred(k)

    def weighted(x: float) -> float:
        return math.exp(12 * x - x**2 / 2 - 144) * float(hermite_k(np.float64(x))) / math.sqrt(2 * math.pi)

    exact = quad(weighted, 24, 36, epsabs=1e-14, epsrel=1e-12)[0]
    found = hermite_coefficients(lambda x: np.where(x > 24, np.exp(12 * x), 0.0), k)[k]
    assert found * math.exp(-144) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("k", [0, 1, 20, 220])
def test_hermite_polynomials_are_orthonormal_where_they_reach_far(k: int) -> None:
    np.testing.assert_allclose(hermite_coefficients(recurred(k), 400), np.eye(401)[k], rtol=0, atol=1e-12)
