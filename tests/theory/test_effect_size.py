"""Gradients of the loss and of the regulariser against differences of their means over all inputs and noise."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from nsbench.theory import boolean, confidence_gradients, parity_gradients, unchanged_probability

N = 4
STEP = 1e-5


def slope(function: Callable[[float], float], at: float) -> float:
    return (function(at + STEP) - function(at - STEP)) / (2 * STEP)


def regularizer(f: np.ndarray, rho: float, gamma: float) -> float:
    """gamma x the mean of R: Equation 6 for all X and Y of N bits, with the chances of Definition 6.1."""
    kept = (1 + rho) / 2
    of_a_bit = np.array([[kept + (1 - kept) / 2, (1 - kept) / 2]] * 2)
    of_a_bit[1] = of_a_bit[1, ::-1]
    chance = np.ones((1, 1))
    for _ in range(N):
        chance = np.kron(chance, of_a_bit)
    p = np.stack([(1 + f) / 2, (1 - f) / 2], -1)
    return -gamma * float((chance * (p @ p.T)).sum() / 2**N)


def cross_entropy(f: np.ndarray, parity: np.ndarray, flipped: float) -> float:
    """The mean over all X and labels, in nats."""
    right, wrong = (-np.log((1 + sign * parity * f) / 2) for sign in (1, -1))
    return float(((1 - flipped) * right + flipped * wrong).mean())


@pytest.mark.parametrize("rho", [-0.4, 0.05, 0.9])
@pytest.mark.parametrize("degree", [0, 2, 3])
def test_on_a_parity_s_coefficient_both_are_finite_differences(degree: int, rho: float) -> None:
    parity = boolean.parity(N, range(degree))
    for c, flipped in itertools.product((-0.3, 0.1, 0.7), (0.0, 0.1)):
        of_loss, of_regularizer = parity_gradients(c, degree, rho, 0.75, flipped)
        assert slope(lambda c, f=flipped: cross_entropy(c * parity, parity, f), c) == pytest.approx(of_loss, rel=1e-6)
        assert slope(lambda c: regularizer(c * parity, rho, 0.75), c) == pytest.approx(of_regularizer, abs=1e-9)


def test_the_regulariser_s_holds_for_the_coefficient_of_any_function() -> None:
    """And so f is pulled by gamma T_kappa f, each coefficient by itself."""
    others = 0.05 * np.random.default_rng(0).standard_normal(2**N)
    for degree in range(N + 1):
        parity = boolean.parity(N, range(degree))
        rest = others - (others * parity).mean() * parity
        _, expected = parity_gradients(0.2, degree, 0.25, 0.75)
        assert slope(lambda c, r=rest, p=parity: regularizer(r + c * p, 0.25, 0.75), 0.2) == pytest.approx(expected)


def test_the_paper_s_regulariser_is_a_fifth_of_a_percent_of_the_gradient_of_a_parity() -> None:
    """docs/effect_size.md: k = 2 and 3, rho = gamma = 0.05, labels flipped with probability 0.1."""

    def percent(c: float, degree: int) -> float:
        of_loss, of_regularizer = parity_gradients(c, degree, 0.05, 0.05, 0.1)
        return round(100 * of_regularizer / of_loss, 2)

    assert [percent(c, 2) for c in (0.1, 0.5, 0.7)] == [0.19, 1.72, 4.92]
    assert [percent(c, 3) for c in (0.1, 0.5, 0.7)] == [0.1, 0.9, 2.58]


def test_on_one_example_it_is_a_reward_of_confidence() -> None:
    """The mean over Y = X alone, of an example of addition."""
    chance = unchanged_probability(0.25, 2, 113)

    def term(q: float) -> float:
        p = np.full(113, (1 - q) / 112)
        p[5] = q
        return -0.75 * chance * float(p @ p)

    shares = []
    for q in (0.1, 0.5, 0.9):
        of_loss, of_regularizer = confidence_gradients(q, 113, 0.25, 0.75, 2, 113)
        assert slope(lambda q: -np.log(q), q) == pytest.approx(of_loss)
        assert slope(term, q) == pytest.approx(of_regularizer)
        shares.append(round(float(of_regularizer / of_loss), 3))
    assert shares == [0.005, 0.147, 0.479]
    assert confidence_gradients(1 / 113, 113, 0.25, 0.75, 2, 113)[1] == pytest.approx(0, abs=1e-12)
