"""Resampling of a token against enumeration of all its outcomes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nsbench.theory.resampling import resampling_correlation, unchanged_probability


def joint_distribution(rho: float, n_symbols: int, include_same: bool) -> np.ndarray:
    """P(X = x, Y = y) (U, U), from every outcome of Definition 6.1: the token, keep or not, the symbol drawn."""
    joint = np.zeros((n_symbols, n_symbols))
    for x in range(n_symbols):
        joint[x, x] += (1 + rho) / 2 / n_symbols
        drawable = [z for z in range(n_symbols) if include_same or z != x]
        for z in drawable:
            joint[x, z] += (1 - (1 + rho) / 2) / n_symbols / len(drawable)
    return joint


@pytest.mark.parametrize("include_same", [True, False])
@pytest.mark.parametrize("n_symbols", [2, 3, 5])
def test_resampling_correlation_equals_enumeration_for_every_function_of_a_token(
    n_symbols: int, include_same: bool
) -> None:
    rng = np.random.default_rng(3)
    for rho in (-1.0, -0.3, 0.0, 0.05, 0.5, 1.0):
        joint = joint_distribution(rho, n_symbols, include_same)
        assert joint.sum() == pytest.approx(1)
        for _ in range(5):
            chi = rng.standard_normal(n_symbols)
            chi -= chi.mean()
            pairs = itertools.product(range(n_symbols), repeat=2)
            exact = sum(joint[x, y] * chi[x] * chi[y] for x, y in pairs) / np.mean(chi**2)
            assert resampling_correlation(rho, n_symbols, include_same) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("include_same", [True, False])
def test_the_chance_that_nothing_changes_is_that_of_an_enumeration(include_same: bool) -> None:
    for rho, n_symbols, n_tokens in itertools.product((-1.0, 0.25, 1.0), (2, 5), (0, 1, 3)):
        stays = np.trace(joint_distribution(rho, n_symbols, include_same))
        assert unchanged_probability(rho, n_tokens, n_symbols, include_same) == pytest.approx(stays**n_tokens)
    # Addition: 39.1% that both are kept, 39.5% that neither changes.
    assert unchanged_probability(0.25, 2, 113) == pytest.approx(0.3948, abs=1e-4)
    assert unchanged_probability(0.25, 2, 113, include_same=False) == 0.390625


def test_any_number_of_symbols_is_right() -> None:
    assert resampling_correlation(0.5, 1) == resampling_correlation(0.5, 10**400) == 0.75
    assert resampling_correlation([0.5, -1.0], 10**400, include_same=False).tolist() == [0.75, 0.0]
    with pytest.raises(ValueError, match=r"^n_symbols = 1 is not allowed"):
        resampling_correlation(0.5, 1, include_same=False)
