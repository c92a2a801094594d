"""Boolean analysis against explicit matrices, enumeration of flips and pairs, closed forms and simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from nsbench.theory import boolean

Array = NDArray[np.float64]

RHOS = np.linspace(-1.0, 1.0, 21)
TABLES = st.integers(0, 6).flatmap(lambda n: arrays(np.float64, 2**n, elements=st.floats(-100, 100, width=32)))


def points(n: int) -> NDArray[np.int64]:
    """All x (2^n, n) in the order of truth tables, spelled out bit by bit."""
    return np.array([[-1 if (m // 2**i) % 2 else 1 for i in range(n)] for m in range(2**n)]).reshape(2**n, n)


def random_table(n: int, seed: int = 0) -> Array:
    return np.random.default_rng([n, seed]).standard_normal(2**n)


def n_variables(table: Array) -> int:
    return round(math.log2(len(table)))


@pytest.mark.parametrize("n", [1, 3, 5])
def test_a_coefficient_is_the_mean_of_f_times_the_product_of_the_set(n: int) -> None:
    table, xs = random_table(n), points(n)
    coefficients = boolean.fourier_transform(table)
    for m in range(2**n):
        members = [i for i in range(n) if (m >> i) & 1]
        assert coefficients[m] == pytest.approx(np.mean(table * xs[:, members].prod(1)), abs=1e-14)


@given(TABLES)
@settings(deadline=None)
def test_the_coefficients_build_the_function_again(table: Array) -> None:
    again = len(table) * boolean.fourier_transform(boolean.fourier_transform(table))
    np.testing.assert_allclose(again, table, rtol=0, atol=1e-11)


@given(TABLES)
@settings(deadline=None)
def test_weights_add_up_to_the_mean_square(table: Array) -> None:
    weights = boolean.weights_by_level(table)
    assert weights.shape == (n_variables(table) + 1,)
    assert (weights >= 0).all()
    assert weights.sum() == pytest.approx(np.mean(table**2), rel=1e-12, abs=1e-15)
    assert weights[0] == pytest.approx(table.mean() ** 2, rel=1e-9, abs=1e-11)
    levels = np.arange(len(weights)) @ weights
    assert boolean.total_influence(table) == pytest.approx(levels, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_influences_are_brute_force_flips(n: int) -> None:
    table, xs = random_table(n), points(n)
    index = {tuple(x): m for m, x in enumerate(xs.tolist())}
    for i in range(n):
        flipped = xs.copy()
        flipped[:, i] *= -1
        at_flipped = table[[index[tuple(x)] for x in flipped.tolist()]]
        assert boolean.influences(table)[i] == pytest.approx(np.mean(((table - at_flipped) / 2) ** 2), rel=1e-13)
    assert boolean.influences(table).shape == (n,)


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_stability_is_an_enumeration_of_all_pairs(n: int) -> None:
    table, xs = random_table(n), points(n)
    differing = (n - xs @ xs.T) // 2
    for rho in (-1.0, -0.3, 0.0, 0.5, 0.9, 1.0):
        flip = (1 - rho) / 2
        probabilities = flip**differing * (1 - flip) ** (n - differing) / 2**n
        assert boolean.noise_stability(table, rho) == pytest.approx(table @ probabilities @ table, rel=1e-12)


@pytest.mark.parametrize("n", [1, 3, 5, 11])
def test_majority_has_its_closed_forms(n: int) -> None:
    table = boolean.majority(n)
    np.testing.assert_array_equal(table, np.sign(points(n).sum(1)))
    exact = math.comb(n - 1, (n - 1) // 2) / 2 ** (n - 1)
    np.testing.assert_allclose(boolean.influences(table), np.full(n, exact), rtol=1e-13)
    assert boolean.weights_by_level(table)[0::2] == pytest.approx(0)


def test_stability_of_a_majority_is_its_polynomial_or_near_the_arcsine() -> None:
    """Sheppard's formula is the limit of many voters, from above for rho > 0, at a rate of 1 / n."""
    of_three = boolean.noise_stability(boolean.majority(3), RHOS)
    np.testing.assert_allclose(of_three, 0.75 * RHOS + 0.25 * RHOS**3, atol=1e-14)
    rhos = np.linspace(0.1, 0.9, 9)
    excess = boolean.noise_stability(boolean.majority(19), rhos) - 2 / math.pi * np.arcsin(rhos)
    assert (excess > 0).all()
    assert (excess < 0.5 / (19 * np.sqrt(1 - rhos**2))).all()


@pytest.mark.parametrize("subset", [[], [4], [1, 3]])
def test_stability_of_a_parity_is_a_power_of_rho(subset: list[int]) -> None:
    table = boolean.parity(5, subset)
    np.testing.assert_array_equal(table, points(5)[:, subset].prod(1))
    np.testing.assert_allclose(boolean.noise_stability(table, RHOS), RHOS ** len(subset), atol=1e-15)
    expected = np.zeros(32)
    expected[sum(2**i for i in subset)] = 1
    np.testing.assert_allclose(boolean.fourier_transform(table), expected, atol=1e-15)
    assert boolean.total_influence(table) == len(subset)
    np.testing.assert_array_equal(boolean.parity(3), points(3).prod(1))
    np.testing.assert_array_equal(boolean.dictator(4, 2), points(4)[:, 2])


def test_a_function_of_no_variables_is_a_constant() -> None:
    np.testing.assert_array_equal(boolean.fourier_transform([3.0]), [3.0])
    np.testing.assert_array_equal(boolean.weights_by_level([3.0]), [9.0])
    assert boolean.influences([3.0]).shape == (0,)
    assert boolean.total_influence([3.0]) == 0
    assert boolean.noise_stability([3.0], 0.5) == 9


@pytest.mark.parametrize(
    "table",
    [[1.0, 2.0, 3.0], [], 1.0, [[1.0, 2.0], [3.0, 4.0]], [1.0, math.nan], ["a", "b"], np.zeros(2**21)],
    ids=["three", "empty", "scalar", "two axes", "NaN", "text", "21 variables"],
)
def test_what_is_no_truth_table_is_named(table: object) -> None:
    for analysis in (boolean.fourier_transform, boolean.influences):
        with pytest.raises(ValueError, match="truth_table"):
            analysis(table)
