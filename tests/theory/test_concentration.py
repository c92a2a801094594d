"""Bounds on high degrees against explicit spectra."""

from __future__ import annotations

import math
from collections.abc import Callable
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


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9, 0.999])
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


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9, 0.999])
def test_the_degree_of_concentration_holds_for_random_spectra(rho: float) -> None:
    seen = 0
    for weights in random_spectra(400, seed=1):
        delta = 1 - weights @ rho**DEGREES / weights.sum()
        for epsilon in (0.05, 0.2, 0.6, 0.95):
            if 1e-9 < delta < epsilon:
                degree = math.ceil(spectral_concentration_degree(rho, delta, epsilon))
                share = tail_shares(weights)[degree] if degree <= 30 else 0.0
                assert share <= epsilon + 1e-12
                seen += degree <= 30
    assert seen > 50


@pytest.mark.parametrize("p", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("degree", [1, 2, 15, 30])
@pytest.mark.parametrize("rho", [0.1, 0.5, 0.9, 0.999])
def test_mass_at_zero_and_at_one_degree_reaches_all_three_bounds(rho: float, degree: int, p: float) -> None:
    """E[f^2] = 4: mass 4 (1 - p) at degree 0 and 4 p at `degree`."""
    stability = 4 * (1 - p + p * rho**degree)
    assert tail_mass_bound_from_stability(stability, 4.0, rho, degree) == pytest.approx(p, rel=1e-9)
    assert tail_mass_bound_from_influence(4 * p * degree, 4.0, degree) == pytest.approx(p)
    delta = p * (1 - rho**degree)
    if p < 1 and rho**degree > 1e-3:
        assert spectral_concentration_degree(rho, delta, p) == pytest.approx(degree, rel=1e-9)
        # A budget just below p is broken at this degree, and the formula knows it.
        assert spectral_concentration_degree(rho, delta, p * (1 - 1e-4)) > degree


def test_a_square_has_mass_one_at_degree_zero_and_two_at_degree_two() -> None:
    """f(x) = x^2 = 1 + sqrt(2) He_2(x)/sqrt(2): E[f^2] = 3, Stab_rho = 1 + 2 rho^2."""
    x, z = np.random.default_rng(2).standard_normal((2, 1_000_000))
    products = x**2 * (0.5 * x + math.sqrt(0.75) * z) ** 2
    assert abs(products.mean() - 1.5) < 5 * products.std() / 1000
    bounds = tail_mass_bound_from_stability(1.5, 3.0, 0.5, [1, 2, 3])
    assert bounds[1] == pytest.approx(2 / 3)
    assert (bounds >= [2 / 3, 2 / 3, 0.0]).all()


def test_lemma_1_as_printed_allows_what_is_not_concentrated() -> None:
    """docs/errata.md, entry 1: the printed log of base 1/rho is the negative of the right one."""
    degree = spectral_concentration_degree(0.9, 0.1, 0.2)
    printed = math.log(1 - 0.1 / 0.2, 1 / 0.9)
    assert degree == pytest.approx(6.5788, abs=1e-4)
    assert printed == pytest.approx(-degree)

    half_at_one = np.zeros(31)
    half_at_one[:2] = 0.5
    delta = 1 - half_at_one @ 0.9**DEGREES
    assert delta == pytest.approx(0.05)
    for allowed in (0, 1):
        assert allowed >= math.log(1 - delta / 0.2, 1 / 0.9)
        assert tail_shares(half_at_one)[allowed] > 0.2
    least = math.ceil(spectral_concentration_degree(0.9, delta, 0.2))
    assert least == 3
    assert tail_shares(half_at_one)[least] == 0


def test_influence_needs_the_norm() -> None:
    """docs/errata.md, entry 22: f = 0.1 x_1 has I = E[f^2] = 0.01, all of it at degree 1."""
    influence = np.mean([((0.1 * x - 0.1 * -x) / 2) ** 2 for x in (1, -1)])
    norm2 = np.mean([(0.1 * x) ** 2 for x in (1, -1)])
    assert tail_mass_bound_from_influence(influence, norm2, [1, 2]) == pytest.approx([1.0, 0.5])
    printed = influence / 0.1
    assert printed < 1
    # Printed: at most a tenth of the mass in degrees >= 0.1, so in degrees >= 1. It is all of it.
    assert tail_mass_bound_from_influence(influence, 1.0, 1) < 0.1


@given(inner, inner, inner, inner)
def test_the_degree_falls_with_the_budget_and_rises_with_what_is_lost(rho: float, a: float, b: float, c: float) -> None:
    low, middle, high = sorted((a, b, c))
    if not low < middle < high:
        return
    assert 0 < spectral_concentration_degree(rho, low, high) < spectral_concentration_degree(rho, low, middle)
    assert spectral_concentration_degree(rho, low, high) < spectral_concentration_degree(rho, middle, high)


@given(st.floats(0, 1), st.floats(0.001, 1000), st.floats(0, 0.9999), st.integers(1, 200))
def test_the_stability_bound_is_a_share_that_scale_does_not_change(
    share: float, norm2: float, rho: float, degree: int
) -> None:
    bound = tail_mass_bound_from_stability(share, 1.0, rho, degree)
    assert tail_mass_bound_from_stability(share * norm2, norm2, rho, degree) == pytest.approx(bound, rel=1e-9, abs=1e-8)
    assert bound >= 1 - share
    assert bound >= tail_mass_bound_from_stability(share, 1.0, rho, degree + 1)
    assert tail_mass_bound_from_stability(1.0, 1.0, rho, degree) == 0


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


@pytest.mark.parametrize("rho", [0.05, 0.5, 0.9, 0.999])
def test_both_tail_bounds_hold_from_any_real_degree_on(rho: float) -> None:
    weights = random_spectra(300, seed=4)
    degrees = np.random.default_rng(5).uniform(0.01, 30, size=40)
    norm2 = weights.sum(1, keepdims=True)
    share = (weights[:, None] * (degrees[:, None] <= DEGREES)).sum(2) / norm2
    from_stability = tail_mass_bound_from_stability((weights @ rho**DEGREES)[:, None], norm2, rho, degrees)
    from_influence = tail_mass_bound_from_influence((weights @ DEGREES)[:, None], norm2, degrees)
    for bound in (from_stability, from_influence):
        assert (share <= bound + 1e-12).all()
        assert (bound < 0.9).any()


def test_halfway_between_two_degrees_the_bounds_are_those_of_the_formula() -> None:
    assert tail_mass_bound_from_stability(0.5, 1.0, 0.25, [0.5, 1.5]) == pytest.approx([1.0, 0.5 / (7 / 8)])
    assert tail_mass_bound_from_influence(3.0, 2.0, [0.5, 1.5]) == pytest.approx([3.0, 1.0])


def test_no_degrees_have_no_bounds() -> None:
    assert tail_mass_bound_from_stability(0.5, 1.0, 0.5, []).shape == (0,)
    assert tail_mass_bound_from_influence(0.5, [[1.0], [2.0]], []).shape == (2, 0)


def test_a_bound_above_one_is_not_clipped() -> None:
    assert tail_mass_bound_from_stability(0.0, 1.0, 0.5, 1) == 2
    assert tail_mass_bound_from_influence(10.0, 1.0, 5) == 2


def test_at_rho_zero_the_bound_is_all_but_the_mean() -> None:
    assert tail_mass_bound_from_stability(0.25, 1.0, 0.0, [1, 5]).tolist() == [0.75, 0.75]


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


def test_concentration_broadcasts_and_scalars_stay_scalars() -> None:
    assert spectral_concentration_degree(np.full(3, 0.5), 0.1, np.full((2, 1), 0.2)).shape == (2, 3)
    assert tail_mass_bound_from_influence(np.ones((2, 1)), 1.0, np.array([1, 2, 3])).shape == (2, 3)
    for scalar in (
        spectral_concentration_degree(0.5, 0.1, 0.2),
        tail_mass_bound_from_stability(0.5, 1.0, 0.5, 3),
        tail_mass_bound_from_influence(0.5, 1.0, 3),
    ):
        assert isinstance(scalar, np.float64)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: spectral_concentration_degree(0.0, 0.1, 0.2), "rho"),
        (lambda: spectral_concentration_degree(1.0, 0.1, 0.2), "rho"),
        (lambda: spectral_concentration_degree(0.9, 0.0, 0.2), "delta"),
        (lambda: spectral_concentration_degree(0.9, 0.2, 0.2), "delta"),
        (lambda: spectral_concentration_degree(0.9, math.nan, 0.2), "delta"),
        (lambda: spectral_concentration_degree(0.9, [0.1, 0.1], [0.2, 0.05]), "delta"),
        (lambda: spectral_concentration_degree(0.9, 0.1, 1.0), "epsilon"),
        (lambda: spectral_concentration_degree(0.9, 0.1, 0.0), "epsilon"),
        (lambda: tail_mass_bound_from_stability(1.1, 1.0, 0.5, 1), "stability"),
        (lambda: tail_mass_bound_from_stability(-0.1, 1.0, 0.5, 1), "stability"),
        (lambda: tail_mass_bound_from_stability(0.0, 0.0, 0.5, 1), "norm2"),
        (lambda: tail_mass_bound_from_stability(0.5, 1.0, 1.0, 1), "rho"),
        (lambda: tail_mass_bound_from_stability(0.5, 1.0, -0.1, 1), "rho"),
        (lambda: tail_mass_bound_from_stability(0.5, 1.0, 0.5, 0), "degree"),
        (lambda: tail_mass_bound_from_stability(0.5, 1.0, 0.5, [1, -0.5]), "degree"),
        (lambda: tail_mass_bound_from_stability(0.5, 1.0, 0.5, math.inf), "degree"),
        (lambda: tail_mass_bound_from_stability(math.nan, 1.0, 0.5, 1), "stability"),
        (lambda: tail_mass_bound_from_influence(-0.1, 1.0, 1), "total_influence"),
        (lambda: tail_mass_bound_from_influence(0.1, 0.0, 1), "norm2"),
        (lambda: tail_mass_bound_from_influence(0.1, 1.0, 0), "degree"),
        (lambda: tail_mass_bound_from_influence(0.1, 1.0, math.nan), "degree"),
    ],
)
def test_an_argument_outside_its_domain_is_named(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} = "):
        call()
