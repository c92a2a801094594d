"""Arguments of any size and shape: the right limit, inf beyond float64 or a named refusal; never NaN or a warning."""

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
from nsbench.theory.lemma_12 import attention_interval
from nsbench.theory.recurrences import transformer_recurrence
from nsbench.theory.relu import bonami_beckner_relu, relu_stability

LARGEST = float(np.finfo(float).max)
SMALLEST = math.ulp(0.0)
BELOW_ONE = 1 - 2.0**-53
TRANSFORMER_KINDS = ("published", "linear", "corrected", "identity", "random")

rhos = st.floats(-1, 1)
shares = st.floats(0, 1)
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(SMALLEST, LARGEST)


@given(rhos, finite, positive)
def test_the_stability_of_a_relu_is_a_number_for_every_mean_and_deviation(rho: float, mean: float, std: float) -> None:
    assert relu_stability(rho, mean, std) >= 0


@given(finite, positive, shares, positive)
def test_bonami_beckner_noise_gives_a_number_for_every_argument(
    mu: float, sigma: float, rho: float, alpha: float
) -> None:
    assert bonami_beckner_relu(mu, sigma, rho, alpha) >= 0


@given(rhos, st.floats(-30, 6), st.integers(-400, 400))
def test_a_power_of_two_scales_the_stability_of_a_relu_exactly(rho: float, mean: float, power: int) -> None:
    expected = math.ldexp(relu_stability(rho, mean), 2 * power)
    assert relu_stability(rho, math.ldexp(mean, power), 2.0**power) == expected


@pytest.mark.parametrize(
    ("rho", "mean", "std", "exact"),
    [
        (0.5, -1e200, 1.0, 0.0),
        (-1.0, -1e200, 1.0, 0.0),
        (1.0, -LARGEST, 1e-3, 0.0),
        (0.5, -LARGEST, SMALLEST, 0.0),
        (0.5, 0.0, 1e-200, 0.0),
        (0.5, 3.0, SMALLEST, 9.0),
        (1.0, 1e154, 1e-3, 1e308),
        (-1.0, 0.0, 1e200, 0.0),
        (1.0, 0.0, 1.5e154, 1.125e308),
        (0.5, 1e200, 1.0, math.inf),
        (0.5, 0.0, 1e200, math.inf),
        (0.5, LARGEST, LARGEST, math.inf),
    ],
)
def test_the_stability_of_a_relu_far_out_is_its_limit(rho: float, mean: float, std: float, exact: float) -> None:
    assert relu_stability(rho, mean, std) == pytest.approx(exact, rel=1e-14)


@pytest.mark.parametrize(
    ("mu", "sigma", "rho", "alpha", "exact"),
    [
        (-1e200, 1.0, 0.5, 1.0, 0.0),
        (-LARGEST, SMALLEST, 1.0, LARGEST, 0.0),
        (1e200, 1.0, 1.0, 1e-200, 1e200),
        (0.0, 1e-200, 1.0, 1e300, 5e-101),
        (0.0, 1e-150, 0.0, LARGEST, 1e-300 / (2 * math.pi)),
        (1e150, 1e-3, 0.25, 1e-30, 0.75e300),
        (1.0, 1e-3, 1.0, LARGEST / 2, (1 + 1e-6) * (LARGEST / 2)),
        (1e154, 1e-3, 0.5, 3.0, math.inf),
        (1.3e154, 1e-3, 0.5, 1.4, math.inf),
        (1.0, 1.0, 1.0, LARGEST, math.inf),
    ],
)
def test_bonami_beckner_noise_far_out_has_its_limit(
    mu: float, sigma: float, rho: float, alpha: float, exact: float
) -> None:
    assert bonami_beckner_relu(mu, sigma, rho, alpha) == pytest.approx(exact, rel=1e-13)


@given(rhos, st.floats(0, LARGEST), st.integers(0, 6), st.sampled_from(TRANSFORMER_KINDS))
def test_transformer_recurrences_give_numbers_or_name_the_norm(rho: float, norm: float, depth: int, kind: str) -> None:
    try:
        found = transformer_recurrence(rho, depth, norm, kind)
    except ValueError as error:
        assert str(error).startswith("value_norm ")  # noqa: PT017
        assert norm > 1
        assert kind in ("published", "linear", "corrected")
    else:
        assert not np.isnan(found).any()


def test_values_of_huge_norm_keep_what_is_zero() -> None:
    for kind, exact in {
        "identity": [-1.0, 0.0, 0.0, 0.0],
        "random": [-1.0, 0.0, math.inf, math.inf],
        "corrected": [-1.0, 0.0, math.inf],
    }.items():
        assert transformer_recurrence(-1.0, len(exact) - 1, 1e200, kind).tolist() == exact
    for kind in ("published", "linear"):
        assert transformer_recurrence(0.0, 1, 1e200, kind)[1] == 1 / (2 * math.pi)


def test_values_whose_power_alone_leaves_float64_give_what_is_within() -> None:
    """s(rho) = (sin t - t cos t) / (2 pi) = t^3 / (6 pi) (1 - t^2 / 10 + ...), t = arccos(-rho)."""
    rho = -1 + 1e-6
    angle = math.acos(-rho)
    exact = 1e150 * (1e160 * angle**3 / (6 * math.pi) * (1 - angle**2 / 10))
    for kind in ("corrected", "identity", "random"):
        assert transformer_recurrence(rho, 1, 1e155, kind)[1] == pytest.approx(exact, rel=1e-6)
    deep = transformer_recurrence(1.0, 2200, math.sqrt(2), "random")[-1]
    assert deep == pytest.approx(1.0, rel=1e-11)


@pytest.mark.parametrize(
    ("stability", "norm2", "rho", "degree", "exact"),
    [
        (1.0, 1.0, BELOW_ONE, SMALLEST, 0.0),
        (LARGEST, LARGEST, 0.5, 1.0, 0.0),
        (LARGEST / 2, LARGEST, 0.5, 1.0, 1.0),
        (-0.9e-12 * LARGEST, LARGEST, 0.5, 1.0, 2.0),
        (0.5, 1.0, 0.5, LARGEST, 0.5),
        (0.5, 1.0, 0.0, SMALLEST, 0.5),
        (0.5, 1.0, 0.5, 1e-300, 0.5e300 / math.log(2)),
        # The product of degree and -log(rho), 5e-317, has few digits.
        (1 - 2.0**-40, 1.0, 1 - 2.0**-20, 5e-311, 2.0**-20 / 5e-311),
        (0.5, 1.0, BELOW_ONE, 1e-300, math.inf),
        (0.5, 1.0, 0.5, SMALLEST, math.inf),
    ],
)
def test_the_bound_from_stability_far_out_is_its_limit(
    stability: float, norm2: float, rho: float, degree: float, exact: float
) -> None:
    assert tail_mass_bound_from_stability(stability, norm2, rho, degree) == pytest.approx(exact, rel=1e-6)


@given(shares, positive, st.floats(0, BELOW_ONE), positive)
def test_the_bound_from_stability_is_a_number_for_every_argument(
    share: float, norm2: float, rho: float, degree: float
) -> None:
    assert tail_mass_bound_from_stability(share * norm2, norm2, rho, degree) >= 0


@given(st.floats(0, LARGEST), positive, positive)
def test_the_bound_from_influence_is_the_quotient_of_the_exact_numbers(
    influence: float, norm2: float, degree: float
) -> None:
    exact = Fraction(influence) / (Fraction(norm2) * Fraction(degree))
    found = tail_mass_bound_from_influence(influence, norm2, degree)
    if exact > Fraction(LARGEST):
        assert found >= LARGEST * (1 - 1e-15)
    else:
        assert found == pytest.approx(float(exact), rel=1e-15, abs=SMALLEST)


@given(st.floats(SMALLEST, 1, exclude_max=True), positive, positive)
def test_the_degree_of_concentration_is_a_number_for_every_argument(rho: float, a: float, b: float) -> None:
    delta, epsilon = sorted((a, b))
    if delta < epsilon < 1:
        found = spectral_concentration_degree(rho, delta, epsilon)
        assert 0 <= found < math.inf


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"moment_high": 1e101}, "moment_high"),
        ({"query": 1e51 * np.eye(2)}, "query"),
        ({"key": -1e51 * np.eye(2)}, "key"),
        ({"value": np.full((2, 2), 1e51)}, "value"),
        ({"entry_low": -1e51}, "entry_low"),
        ({"entry_high": 1e51}, "entry_high"),
    ],
)
def test_the_attention_interval_has_a_bounded_domain_and_no_nan_within(change: dict[str, object], name: str) -> None:
    eye, ends = 1e50 * np.eye(2), {"entry_low": 0.0, "entry_high": 1e50}
    arguments = {"query": eye, "key": -eye, "value": np.full((2, 2), 1e50), **ends}
    found = attention_interval(0.5e100, 1e100, **arguments)
    assert found == (0.0, math.inf, pytest.approx(16e200))
    with pytest.raises(ValueError, match=f"^{name} = "):
        attention_interval(**{"moment_low": 0.5e100, "moment_high": 1e100, **arguments, **change})


TWO, THREE = [0.1, 0.2], [0.3, 0.4, 0.5]


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda: relu_stability(TWO, mean=THREE), ("rho", "mean")),
        (lambda: relu_stability(0.5, mean=TWO, std=THREE), ("mean", "std")),
        (lambda: bonami_beckner_relu(TWO, 1.0, THREE, 1.0), ("mu", "rho")),
        (lambda: bonami_beckner_relu(0.0, TWO, 0.5, THREE), ("sigma", "alpha")),
        (lambda: spectral_concentration_degree(THREE, TWO, 0.9), ("rho", "delta")),
        (lambda: spectral_concentration_degree(0.5, TWO, THREE), ("delta", "epsilon")),
        (lambda: tail_mass_bound_from_stability(TWO, THREE, 0.5, 1), ("stability", "norm2")),
        (lambda: tail_mass_bound_from_stability(0.1, 1.0, TWO, THREE), ("rho", "degree")),
        (lambda: tail_mass_bound_from_influence(TWO, 1.0, THREE), ("total_influence", "degree")),
        (lambda: tail_mass_bound_from_influence(1.0, TWO, THREE), ("norm2", "degree")),
        (lambda: transformer_recurrence(TWO, 1, THREE, "random"), ("rho", "value_norm")),
        (
            lambda: attention_interval(TWO, THREE, *[np.ones((2, 2))] * 3, 0.0, 1.0),
            ("moment_low", "moment_high"),
        ),
    ],
)
def test_shapes_that_do_not_go_together_are_named(call: Callable[[], object], names: tuple[str, str]) -> None:
    shapes = rf"^{names[0]} has shape \(\d,\), {names[1]} has shape \(\d,\); allowed: shapes that broadcast together$"
    with pytest.raises(ValueError, match=shapes):
        call()


def test_an_argument_outside_its_domain_is_named_beside_an_empty_one() -> None:
    for call, name in (
        (lambda: relu_stability([], std=-1.0), "std"),
        (lambda: spectral_concentration_degree([], -0.1, 0.2), "delta"),
        (lambda: tail_mass_bound_from_influence(1.0, 1.0, [0.0, 1.0]), "degree"),
        (lambda: transformer_recurrence([], 1, -1.0, "random"), "value_norm"),
    ):
        with pytest.raises(ValueError, match=f"^{name} = "):
            call()
