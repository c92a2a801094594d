"""Bounds on high degrees against explicit spectra."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbench.theory.concentration import (
    spectral_concentration_degree,
    tail_mass_bound_from_influence,
    tail_mass_bound_from_stability,
)

DEGREES = np.arange(31)
inner = st.floats(0.01, 0.99)


def random_spectra(n_spectra: int, seed: int) -> np.ndarray:
    """Weights of degrees 0 ... 30 (n_spectra, 31) of some total, from nearly one degree to spread over all."""
    rng = np.random.default_rng(seed)
    shares = np.stack([rng.dirichlet(np.full(31, 10 ** rng.uniform(-2, 1))) for _ in range(n_spectra)])
    low = rng.uniform(size=(n_spectra, 1)) < 0.5
    shares *= np.where(low, 0.6**DEGREES, 1.0)
    return shares * 10 ** rng.uniform(-3, 3, size=(n_spectra, 1)) / shares.sum(1, keepdims=True)


def tail_shares(weights: np.ndarray) -> np.ndarray:
    """Share of the mass in degrees >= 0, 1, ..., 30, along the last axis."""
    return weights[..., ::-1].cumsum(-1)[..., ::-1] / weights.sum(-1, keepdims=True)


@pytest.mark.parametrize("rho", [0.05, 0.9, 0.999])
def test_both_tail_bounds_hold_for_random_spectra(rho: float) -> None:
    weights = random_spectra(1000, seed=0)
    norm2 = weights.sum(1, keepdims=True)
    stability, influence = weights @ rho**DEGREES, weights @ DEGREES
    share = tail_shares(weights)[:, 1:]
    from_stability = tail_mass_bound_from_stability(stability[:, None], norm2, rho, DEGREES[1:])
    from_influence = tail_mass_bound_from_influence(influence[:, None], norm2, DEGREES[1:])
    assert from_stability.shape == share.shape
    assert (share <= from_stability + 1e-12).all()
    assert (share <= from_influence + 1e-12).all()
    for bound in (from_stability, from_influence):
        assert (bound < 0.9).any()


@pytest.mark.parametrize(
    ("p", "degree", "rho"), [(0.01, 1, 0.1), (0.3, 2, 0.5), (0.3, 15, 0.9), (1.0, 15, 0.9), (0.01, 30, 0.999)]
)
def test_mass_at_zero_and_at_one_degree_reaches_all_three_bounds(p: float, degree: int, rho: float) -> None:
    """E[f^2] = 4: mass 4 (1 - p) at degree 0 and 4 p at `degree`."""
    stability = 4 * (1 - p + p * rho**degree)
    assert tail_mass_bound_from_stability(stability, 4.0, rho, degree) == pytest.approx(p, rel=1e-9)
    assert tail_mass_bound_from_influence(4 * p * degree, 4.0, degree) == pytest.approx(p)
    delta = p * (1 - rho**degree)
    if p < 1 and rho**degree > 1e-3:
        assert spectral_concentration_degree(rho, delta, p) == pytest.approx(degree, rel=1e-9)
        # A budget just below p is broken at this degree, and the formula knows it.
        assert spectral_concentration_degree(rho, delta, p * (1 - 1e-4)) > degree


@given(inner, inner, inner)
def test_at_the_degree_of_concentration_the_stability_bound_is_the_budget(rho: float, a: float, b: float) -> None:
    """Both are Lemma 6, solved for another letter; the degree is no whole number in general."""
    delta, epsilon = sorted((a, b))
    if epsilon - delta < 1e-6:
        return
    degree = spectral_concentration_degree(rho, delta, epsilon)
    assert tail_mass_bound_from_stability(1 - delta, 1.0, rho, degree) == pytest.approx(epsilon, rel=1e-8)
    above = tail_mass_bound_from_stability(1 - delta, 1.0, rho, np.ceil(degree))
    assert delta <= above <= epsilon * (1 + 1e-8)


def test_real_degrees_rho_zero_and_bounds_above_one_are_those_of_the_formula() -> None:
    assert tail_mass_bound_from_stability(0.5, 1.0, 0.25, [0.5, 1.5]) == pytest.approx([1.0, 0.5 / (7 / 8)])
    assert tail_mass_bound_from_influence(3.0, 2.0, [0.5, 1.5]) == pytest.approx([3.0, 1.0])
    assert tail_mass_bound_from_stability(0.25, 1.0, 0.0, [1, 5]).tolist() == [0.75, 0.75]
    assert tail_mass_bound_from_stability(0.0, 1.0, 0.5, 1) == tail_mass_bound_from_influence(10.0, 1.0, 5) == 2


def test_rho_close_to_one_keeps_its_digits() -> None:
    rho = 1 - 1e-8
    exact = Fraction(1, 2) / (1 - Fraction(rho) ** 15)
    assert tail_mass_bound_from_stability(0.5, 1.0, rho, 15) == pytest.approx(float(exact), rel=1e-13)


def test_a_stability_within_rounding_of_its_ends_is_taken_as_the_end() -> None:
    assert tail_mass_bound_from_stability(2 * (1 + 5e-13), 2.0, 0.5, 1) == 0
    assert tail_mass_bound_from_stability(-1e-12, 2.0, 0.5, 1) == 2
    for wrong in (2 * (1 + 1e-11), -1e-11):
        with pytest.raises(ValueError, match=r"^stability = "):
            tail_mass_bound_from_stability(wrong, 2.0, 0.5, 1)
