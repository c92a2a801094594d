"""Limits of Table 1's bounds: they cover, no input chooses its own rho, and evidence without spread is exact."""

from __future__ import annotations

import numpy as np
import pytest

from nsbench.analysis import bound_limits
from nsbench.analysis.bound_limits import level_of_other_half, ratio_limits


def test_each_half_has_the_rho_that_the_other_one_chooses() -> None:
    # Inputs 0, 2 alone would choose the first level, inputs 1, 3 the second.
    bounds_PN = np.array([[1.0, 8.0, 2.0, 7.0], [5.0, 3.0, 6.0, 4.0]])
    assert level_of_other_half(bounds_PN).tolist() == [1, 0, 1, 0]
    assert level_of_other_half(bounds_PN[:, :1]).tolist() == [0]


def test_the_bound_at_a_chosen_rho_is_not_too_low() -> None:
    """Five noise levels with the same bound, 1: the least of five means is below it, by halves it is not."""
    generator = np.random.default_rng(0)
    samples = [generator.chisquare(1, (5, 16)) for _ in range(400)]
    least = [bounds_PN.mean(1).min() for bounds_PN in samples]
    by_halves = [np.mean(bounds_PN[level_of_other_half(bounds_PN), range(16)]) for bounds_PN in samples]
    assert np.mean(least) < 0.75
    assert np.mean(by_halves) == pytest.approx(1.0, abs=3 * np.std(by_halves) / 20)


def test_limits_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ratios of skewed, paired values of 32 inputs, whose true ratio is 1 / 10 and 1."""
    monkeypatch.setattr(bound_limits, "N_RESAMPLES", 500)
    generator, found = np.random.default_rng(0), []
    for _ in range(400):
        size_N = np.exp(generator.normal(-0.125, 0.5, 32))
        lost_N, influence_N = size_N * generator.chisquare(1, 32), size_N * generator.gamma(8, 1 / 8, 32)
        _, (upper,) = ratio_limits(lost_N, (3 + generator.normal(0, 1, 32)) ** 2, [0.95])
        _, (low, high) = ratio_limits(lost_N, influence_N, [0.005, 0.995])
        found.append((upper >= 0.1, low <= 1.0, high >= 1.0))
    covered = np.mean(found, axis=0)
    assert 0.9 <= covered[0] <= 0.98
    assert covered[1:].min() >= 0.97


def test_a_ratio_that_all_inputs_share_is_exact_and_few_inputs_have_no_limits() -> None:
    values_N = np.random.default_rng(0).chisquare(1, 8)
    assert ratio_limits(0.3 * values_N, values_N, [0.025, 0.975])[1] == pytest.approx([0.3, 0.3], rel=1e-6)
    assert np.isnan(ratio_limits(values_N[:7], values_N[1:], [0.5])[1]).all()
    assert np.isnan(ratio_limits(np.zeros(8), values_N, [0.95])[1]).all()
