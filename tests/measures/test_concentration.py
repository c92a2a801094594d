"""Concentration of influences by hand, and what must hold for any."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbench.measures.concentration import concentration

positive = st.floats(0.0, 1e6).filter(lambda value: value == 0 or value > 1e-6)
vectors = st.lists(positive, min_size=1, max_size=40).map(np.array).filter(np.any)
# Whole numbers: their sums, in any order, and their thresholds are exact, so that counts cannot hang on rounding.
whole_vectors = st.lists(st.integers(0, 1000), min_size=1, max_size=40).map(np.array).filter(np.any)


def test_values_by_hand() -> None:
    """Of 20: 8 + 2 make half, 8, 2, 2, 2, 2 have a tenth, and 16 are in the five largest."""
    found = concentration([2, 0, 8, 1, 2, 2, 1.5, 1.5, 0, 2])
    assert (found.n_large, found.n_half, found.n_zero) == (5, 2, 2)
    assert (found.first_share, found.last_share, found.top_five_share) == pytest.approx((0.1, 0.1, 0.8))
    # sum_ij |x_i - x_j| / (2 T^2 mean) = 206 / 400.
    values = np.array([2, 0, 8, 1, 2, 2, 1.5, 1.5, 0, 2])
    assert found.gini == pytest.approx(np.abs(values[:, None] - values).sum() / (2 * 10 * 20))


@pytest.mark.parametrize("length", [1, 9, 10, 11])
def test_equal_shares(length: int) -> None:
    """Ten times 0.3 is not the sum of ten 0.3 in floats: a tenth of the total counts all the same."""
    found = concentration(np.full(length, 0.3))
    assert found.gini == pytest.approx(0.0, abs=1e-12)
    assert found.gini >= 0.0
    assert found.n_large == (length if length <= 10 else 0)
    assert found.n_half == (length + 1) // 2
    assert found.first_share == found.last_share == pytest.approx(1 / length)
    assert found.top_five_share == pytest.approx(min(1.0, 5 / length))


@pytest.mark.parametrize("length", [1, 256])
@pytest.mark.parametrize("place", [0, -1])
def test_one_position_with_all(length: int, place: int) -> None:
    values = np.zeros(length)
    values[place] = 7.0
    found = concentration(values)
    assert found.gini == pytest.approx((length - 1) / length)
    assert (found.n_large, found.n_half, found.n_zero, found.top_five_share) == (1, 1, length - 1, 1.0)
    assert (found.first_share, found.last_share) == (float(values[0] > 0), float(values[-1] > 0))


def test_rows_are_taken_one_by_one() -> None:
    rows = np.random.default_rng(0).exponential(size=(4, 12))
    for name, value_N in asdict(concentration(rows)).items():
        assert value_N.shape == (4,)
        for row, value in zip(rows, value_N, strict=True):
            assert asdict(concentration(row))[name] == pytest.approx(value)


@pytest.mark.parametrize("factor", [1e-310, 1e307])
def test_scales_near_the_ends_of_floats_do_not_matter(factor: float) -> None:
    values = np.array([1.0, 2.0, 8.0, 4.0, 3.0, 5.0, 7.0, 6.0])
    assert asdict(concentration(values * factor)) == pytest.approx(asdict(concentration(values)), rel=1e-9)


@given(whole_vectors, st.randoms())
def test_order_matters_for_the_first_and_last_share_alone(values: np.ndarray, random: object) -> None:
    shuffled = values.copy()
    random.shuffle(shuffled)
    found, moved = asdict(concentration(values)), asdict(concentration(shuffled))
    assert moved.pop("first_share") == pytest.approx(shuffled[0] / values.sum())
    assert moved.pop("last_share") == pytest.approx(shuffled[-1] / values.sum())
    assert moved == pytest.approx({name: found[name] for name in moved}, rel=1e-12, abs=1e-12)


@given(whole_vectors)
def test_the_smallest_half_is_found_by_adding_the_largest(values: np.ndarray) -> None:
    largest = sorted(values.tolist(), reverse=True)
    n_half = next(n for n in range(1, len(values) + 1) if 2 * sum(largest[:n]) >= sum(largest))
    assert concentration(values).n_half == n_half
    assert concentration(values).n_large == sum(10 * value >= sum(largest) for value in largest)


@given(vectors)
def test_gini_is_the_mean_difference_over_twice_the_mean(values: np.ndarray) -> None:
    exact = np.abs(values[:, None] - values).mean() / (2 * values.mean())
    assert concentration(values).gini == pytest.approx(exact, abs=1e-9)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([1.0, -0.5], r"influences_NT = -0\.5 is not allowed"),
        ([1.0, np.nan], "influences_NT = nan is not allowed"),
        ([[1.0, 2.0], [0.0, 0.0]], "influences_NT is 0 at every position"),
        ([], r"influences_NT of shape \(0,\)"),
    ],
)
def test_what_has_no_shares_is_refused(values: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        concentration(values)
