"""s(rho) of Theorem 5.3 against closed forms and an independent quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.legendre import leggauss
from numpy.typing import NDArray
from scipy.integrate import cubature
from scipy.special import ndtr

from nsbench.theory.attention import attention_pattern_stability

Array = NDArray[np.float64]

RHOS = np.linspace(-1.0, 1.0, 41)
NEAR_ENDS = np.array([1e-300, 1e-9, 1e-4, 0.01, 0.999, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12, 1 - 2.0**-53])


def both_below(x_N: Array, y_N: Array, c: float) -> Array:
    """Phi_c(x, y) by integrating its derivative in c, the bivariate density, from c = 0 or from c = 1."""
    nodes, weights = leggauss(40)
    x, y = x_N[:, None], y_N[:, None]
    if c < 0.9:
        angle = math.asin(c) * (nodes + 1) / 2
        exponent = (x * x - 2 * x * y * np.sin(angle) + y * y) / (2 * np.cos(angle) ** 2)
        return ndtr(x_N) * ndtr(y_N) + math.asin(c) / 2 * (np.exp(-exponent) @ weights) / (2 * math.pi)
    top = 2 * math.asin(math.sqrt((1 - c) / 2))
    angle = top * (nodes + 1) / 2
    exponent = ((x - y) ** 2 / 2 + x * y * (1 - np.cos(angle))) / np.sin(angle) ** 2
    return ndtr(np.minimum(x_N, y_N)) - top / 2 * (np.exp(-exponent) @ weights) / (2 * math.pi)


def by_cubature(rho: float, n: int) -> float:
    """n E[Phi_c(x, y)^(n - 1)] by an adaptive rule over x and the innovation of y."""
    c, spread = rho**2, math.sqrt((1 - rho) * (1 + rho) * (1 + rho**2))

    def integrand(points_N2: Array) -> Array:
        x_N, w_N = points_N2.T
        below_N = np.clip(both_below(x_N, c * x_N + spread * w_N, c), 0.0, 1.0)
        return n * below_N ** (n - 1) * np.exp(-(x_N**2 + w_N**2) / 2) / (2 * math.pi)

    found = cubature(integrand, [-9.0, -9.0], [9.0, 9.0], rule="gk15", rtol=0, atol=1e-9, points=[[0.01, 0.02]])
    assert found.status == "converged"
    return float(found.estimate)


@pytest.mark.parametrize("n", [5, 256, 1024])
@pytest.mark.parametrize("rho", [0.1, 0.5, 0.999999])
def test_it_equals_an_independent_quadrature(rho: float, n: int) -> None:
    assert attention_pattern_stability(rho, n) == pytest.approx(by_cubature(rho, n), abs=3e-9, rel=0)


def test_two_and_three_tokens_have_closed_forms() -> None:
    rhos = np.concatenate([RHOS, NEAR_ENDS])
    whole, half = np.arcsin(rhos**2), np.arcsin(rhos**2 / 2)
    quadrant = (math.pi / 6 + whole + half) / (4 * math.pi) + (math.pi**2 / 36 + whole**2 - half**2) / (4 * math.pi**2)
    for n, exact in ((2, 1 / 2 + whole / math.pi), (3, 3 * (1 / 16 + quadrant))):
        np.testing.assert_allclose(attention_pattern_stability(rhos, n), exact, rtol=0, atol=1e-12)


def test_its_ends_are_exact() -> None:
    for n in (1, 2, 7, 1024):
        assert attention_pattern_stability(0.0, n) == 1 / n
        assert attention_pattern_stability(1.0, n) == 1
        assert attention_pattern_stability(-1.0, n) == 1


@settings(deadline=None, max_examples=20)
@given(st.floats(-1, 1), st.floats(-1, 1), st.integers(1, 1024))
def test_it_is_even_and_rises_with_the_size_of_rho(first: float, second: float, n: int) -> None:
    low, high = sorted([abs(first), abs(second)])
    at_low, at_high = attention_pattern_stability([low, high], n)
    assert 1 / n <= at_low <= at_high + 1e-12
    assert at_high <= 1
    assert attention_pattern_stability(-low, n) == at_low
