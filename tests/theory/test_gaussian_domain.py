"""What Hermite analysis takes and what it refuses: shapes, rho, x, and functions."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from nsbench.theory.gaussian import gaussian_noise_stability, hermite_coefficients, ou_operator
from tests.gaussian_functions import Array, recurred, relu, step


def test_shapes_are_kept_and_scalars_stay_scalars() -> None:
    assert gaussian_noise_stability(relu, np.full((2, 3), 0.5)).shape == (2, 3)
    assert isinstance(gaussian_noise_stability(relu, 0.5), np.float64)
    assert gaussian_noise_stability(relu, []).shape == (0,)
    for rho in (0.5, 1.0):
        smoothed = ou_operator(relu, rho)
        assert smoothed(np.ones((2, 3))).shape == (2, 3)
        assert isinstance(smoothed(1.0), np.float64)
    assert hermite_coefficients(relu, 0).shape == (1,)


def test_a_constant_may_be_one_number() -> None:
    assert gaussian_noise_stability(lambda x: 3, 0.5) == pytest.approx(9, rel=1e-14)


@pytest.mark.parametrize("rho", [-1.01, 1.5, math.nan])
def test_rho_outside_its_domain_is_named(rho: float) -> None:
    with pytest.raises(ValueError, match="rho = "):
        gaussian_noise_stability(relu, [0.5, rho])
    with pytest.raises(ValueError, match="rho = "):
        ou_operator(relu, rho)


@pytest.mark.parametrize("degree", [-1, 2.5])
def test_a_degree_outside_its_domain_is_named(degree: int) -> None:
    with pytest.raises(ValueError, match="degree = "):
        hermite_coefficients(relu, degree)


@pytest.mark.parametrize("x", [math.inf, math.nan, -2e9])
def test_an_x_outside_the_operators_domain_is_named(x: float) -> None:
    with pytest.raises(ValueError, match="x = "):
        ou_operator(relu, 0.5)([0.0, x])


BAD_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "not finite": lambda x: np.where(x > 1, np.nan, x),
    "not element by element": lambda x: x[:-1],
    "one number to two": lambda x: [x, math.sin(x)],
    "text": lambda x: "one",
    "complex": lambda x: 1j * x,
    "complex one by one": lambda x: complex(x, math.sin(x)),
    "outside its domain": math.log,
    "too large for a number": lambda x: math.exp(x**4),
    "too many jumps": lambda x: np.floor(100 * x),
    "too many waves": lambda x: np.cos(400 * x),
    "noise": lambda x: np.random.default_rng(0).standard_normal(x.shape),
    "pole at 0": lambda x: 1 / x,
    "pole at 0, one by one": lambda x: 1 / float(x),
    "double pole at 0": lambda x: x**-2.0,
    "square root's pole at 0": lambda x: np.abs(x) ** -0.5,
    "faint pole at 0": lambda x: x + 1e-8 / x,
    "pole at an end of a panel": lambda x: 1 / (x - 0.5),
    "pole at 0.3": lambda x: 1 / (x - 0.3),
    "double pole at 0.3": lambda x: (x - 0.3) ** -2.0,
    "pole at a small power of two": lambda x: 1 / (x - 2.0**-10),
    "poles": np.tan,
    "growth that has no mean": lambda x: np.exp(x * x / 1.4),
    "faint growth that has no mean": lambda x: np.exp(x * x / 1.4 - 700),
}


@pytest.mark.parametrize("f", BAD_FUNCTIONS.values(), ids=BAD_FUNCTIONS)
def test_what_cannot_be_integrated_is_named(f: Callable[[Array], Array]) -> None:
    for analysis in (
        lambda: hermite_coefficients(f, 3),
        lambda: gaussian_noise_stability(f, 0.5),
        lambda: ou_operator(f, 0.5)(np.array([-3.1, 0.37, 0.8])),
    ):
        with pytest.raises(ValueError, match=r"^f "):
            analysis()


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.exp(13 * x),
        lambda x: np.exp(-13 * x),
        lambda x: np.exp(20 * x),
        lambda x: np.exp(x * x / 4.1),
        lambda x: np.exp(x * x / 3.9),
        lambda x: 1 + 1e-20 * np.exp(x * x / 3.9),
        lambda x: recurred(300)(x),
    ],
    ids=["exp(13 x)", "exp(-13 x)", "exp(20 x)", "almost infinite", "infinite", "faint and infinite", "He_300"],
)
@pytest.mark.parametrize("rho", [0.0, 1.0])
def test_a_mean_square_from_beyond_the_reach_is_refused(f: Callable[[Array], Array], rho: float) -> None:
    for analysis in (lambda: hermite_coefficients(f, 3), lambda: gaussian_noise_stability(f, rho)):
        with pytest.raises(ValueError, match=r"^f (grows too fast|is inf)"):
            analysis()


@pytest.mark.parametrize(
    ("one_by_one", "at_once"),
    [
        (lambda x: max(x, 0.0), relu),
        (math.sin, np.sin),
        (lambda x: 1 if x > 0 else -1, np.sign),
        (lambda x: np.float64(x > 0.37) if x < 2 else 1.0, step),
    ],
    ids=["max", "math.sin", "condition", "numpy's numbers"],
)
def test_a_function_of_one_number_is_called_one_by_one(
    one_by_one: Callable[[float], float], at_once: Callable[[Array], Array]
) -> None:
    np.testing.assert_allclose(hermite_coefficients(one_by_one, 4), hermite_coefficients(at_once, 4), atol=1e-15)
    found = gaussian_noise_stability(one_by_one, 0.6)
    assert found == pytest.approx(float(gaussian_noise_stability(at_once, 0.6)), rel=1e-14)
    for rho in (0.6, 1.0):
        for x in (0.7, [0.7, -1.2]):
            np.testing.assert_allclose(ou_operator(one_by_one, rho)(x), ou_operator(at_once, rho)(x), rtol=1e-14)
