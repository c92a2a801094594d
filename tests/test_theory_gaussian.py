"""Hermite analysis against closed forms, SciPy's quadrature, and the identities of the Ornstein-Uhlenbeck operator."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import hermite, hermite_e
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import gammaln, ndtr, owens_t

from nsbench.theory.gaussian import gaussian_noise_stability, hermite_coefficients, ou_operator
from nsbench.theory.relu import relu_stability as shifted_relu_stability

Array = NDArray[np.float64]

RHOS = np.linspace(-1.0, 1.0, 21)
NEAR_ENDS = np.array([1 - 1e-3, 1 - 1e-6, 1 - 1e-9, 1 - 1e-12, 1 - 2.0**-53, 1e-3, 1e-8, 1e-300])
ALL_RHOS = np.concatenate([RHOS, NEAR_ENDS, -NEAR_ENDS])
XS = np.array([-3.1, -1.0, -0.2, 0.0, 0.37, 0.8, 2.5])


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def step(x: Array) -> Array:
    return np.where(x > 0.37, 1.0, 0.0)


def half_exp(x: Array) -> Array:
    return np.exp(x / 2)


def sextic(x: Array) -> Array:
    cube = x * x * x
    return cube * cube - 4 * cube + x - 1


def waves(x: Array) -> Array:
    return np.cos(5 * x)


def relu_stability(rho: Array) -> Array:
    return (np.sqrt(1 - rho**2) + rho * (math.pi - np.arccos(rho))) / (2 * math.pi)


def step_stability(rho: Array, at: float) -> Array:
    """P(X > at, Y > at) by Owen's T."""
    with np.errstate(divide="ignore"):
        return ndtr(-at) - 2 * owens_t(at, np.sqrt((1 - rho) / (1 + rho)))


def orthonormal(k: int) -> Callable[[Array], Array]:
    return lambda x: hermite_e.hermeval(x, [0.0] * k + [1 / math.sqrt(math.factorial(k))])


def density(x: float) -> float:
    return math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)


def mean(f: Callable[[float], float], *breaks: float) -> float:
    """E[f(Z)], Z ~ N(0, 1), by QUADPACK told where f breaks."""
    ends = [-20.0, *sorted(breaks), 20.0]
    total = 0.0
    for low, high in itertools.pairwise(ends):
        cuts = [low, *(float(c) for c in range(-18, 19, 3) if low < c < high), high]
        for left, right in itertools.pairwise(cuts):
            total += quad(lambda z: f(z) * density(z), left, right, epsabs=1e-13, epsrel=1e-12, limit=200)[0]
    return total


# Stability


def test_stability_of_a_relu_is_its_closed_form() -> None:
    found = gaussian_noise_stability(relu, ALL_RHOS)
    np.testing.assert_allclose(found, relu_stability(ALL_RHOS), rtol=0, atol=1e-13)


@pytest.mark.parametrize(("mean", "std"), [(0.5, 1.0), (-0.5, 1.0), (1.0, 3.0), (-2.0, 0.7)])
def test_stability_of_a_shifted_relu_is_its_closed_form(mean: float, std: float) -> None:
    found = gaussian_noise_stability(lambda x: relu(mean + std * x), RHOS)
    np.testing.assert_allclose(found, shifted_relu_stability(RHOS, mean, std), rtol=0, atol=1e-12)


def test_stability_of_a_sign_is_sheppards_formula() -> None:
    found = gaussian_noise_stability(np.sign, ALL_RHOS)
    np.testing.assert_allclose(found, 2 / math.pi * np.arcsin(ALL_RHOS), rtol=0, atol=1e-11)


def test_stability_of_an_absolute_value_is_that_of_two_relus() -> None:
    exact = 2 * relu_stability(ALL_RHOS) + 2 * relu_stability(-ALL_RHOS)
    np.testing.assert_allclose(gaussian_noise_stability(np.abs, ALL_RHOS), exact, rtol=0, atol=1e-13)


@given(st.floats(-4, 4), st.floats(-1, 1))
@settings(deadline=None, max_examples=40)
def test_a_jump_is_found_wherever_it_is(at: float, rho: float) -> None:
    """Places in the middle of a panel, at its ends, beside them: an interval's ends must be found too."""
    found = gaussian_noise_stability(lambda x: np.where(x > at, 1.0, 0.0), rho)
    assert found == pytest.approx(float(step_stability(np.float64(rho), at)), abs=1e-10)


@pytest.mark.parametrize("at", [0.0, 0.25, 0.37, -0.5, 0.9999999, 1.0 + 1e-9, math.pi / 3])
def test_a_jump_or_kink_at_or_beside_a_panels_end_is_found(at: float) -> None:
    rhos = ALL_RHOS[::4]
    found = gaussian_noise_stability(lambda x: np.where(x >= at, 1.0, 0.0), rhos)
    np.testing.assert_allclose(found, step_stability(rhos, at), rtol=0, atol=1e-10)
    kinked = hermite_coefficients(lambda x: np.maximum(x - at, 0.0), 1)
    np.testing.assert_allclose(kinked, [density(at) - at * ndtr(-at), ndtr(-at)], rtol=0, atol=1e-12)


def test_a_tent_as_narrow_as_a_tenth_is_integrated_near_correlation_one() -> None:
    """E[f(X)^2] - E[f(X) f(Y)] = E[(f(X) - f(Y))^2] / 2, to first order (1 - rho) E[f'(X)^2]."""

    def tent(x: Array) -> Array:
        return np.maximum(0.0, 1 - np.abs(x - 0.3) / 0.05)

    slope = 400 * (ndtr(0.35) - ndtr(0.25))
    at_one = gaussian_noise_stability(tent, 1.0)
    assert at_one == pytest.approx(mean(lambda z: float(tent(np.float64(z))) ** 2, 0.25, 0.3, 0.35), abs=1e-12)
    found = gaussian_noise_stability(tent, 1 - 1e-8)
    assert at_one - found == pytest.approx(1e-8 * slope, rel=0.01)


@pytest.mark.parametrize("rho", [1 - 1e-4, 1 - 1e-6])
def test_faint_kinks_are_blurred_near_correlation_one(rho: float) -> None:
    """E[f(X)^2] - E[f(X) f(Y)] by a plain sum over a fine grid: f is smooth but for two faint kinks."""

    def f(x: Array) -> Array:
        return 1 + 0.1 * np.maximum(0.0, 1 - (x - 0.3) ** 2)

    x = np.linspace(-9, 9, 200_001)
    mass = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) * (x[1] - x[0])
    spread = math.sqrt(1 - rho**2)
    nodes, weights = hermite_e.hermegauss(120)
    other = sum(w * f(rho * x + spread * z) for z, w in zip(nodes, weights, strict=True)) / math.sqrt(2 * math.pi)
    exact = mass @ (f(x) * other)
    assert gaussian_noise_stability(f, rho) == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize("at", [-1.1, 0.0, 0.3, 2.0])
def test_a_narrow_hump_is_not_lost_between_wide_pieces(at: float) -> None:
    """It rises so smoothly from zero that no edge is needed where it starts, only beside what it is."""

    def hump(x: Array) -> Array:
        return np.maximum(0.0, 1 - ((x - at) / 0.018) ** 2) ** 8

    exact = mean(lambda z: float(hump(np.float64(z))), at - 0.018, at + 0.018)
    assert hermite_coefficients(hump, 0)[0] == pytest.approx(exact, rel=1e-9)
    assert gaussian_noise_stability(hump, 0.0) == pytest.approx(exact**2, rel=1e-9)


def test_stability_of_an_exponential_is_its_closed_form() -> None:
    np.testing.assert_allclose(gaussian_noise_stability(half_exp, ALL_RHOS), np.exp((1 + ALL_RHOS) / 4), rtol=1e-13)


def test_stability_of_a_wave_is_its_closed_form() -> None:
    rhos = ALL_RHOS[::2]
    exact = (np.exp(-25 * (1 - rhos)) + np.exp(-25 * (1 + rhos))) / 2
    np.testing.assert_allclose(gaussian_noise_stability(waves, rhos), exact, rtol=0, atol=1e-13)


def test_stability_of_a_polynomial_is_the_sum_over_its_hermite_coefficients() -> None:
    # Powers in He_k by NumPy, and E[He_k^2] = k!.
    series = hermite_e.poly2herme([-1, 1, 0, -4, 0, 0, 1])
    exact = sum(c**2 * math.factorial(k) * ALL_RHOS**k for k, c in enumerate(series))
    np.testing.assert_allclose(gaussian_noise_stability(sextic, ALL_RHOS), exact, rtol=1e-12)


@pytest.mark.parametrize("f", [relu, np.sign, step, half_exp, waves, sextic])
def test_stability_is_the_sum_of_powers_of_rho_over_the_coefficients(f: Callable[[Array], Array]) -> None:
    degree = 300
    squares = hermite_coefficients(f, degree) ** 2
    for rho in (-0.9, -0.4, 0.0, 0.5, 0.9):
        total = (squares * rho ** np.arange(degree + 1)).sum()
        assert gaussian_noise_stability(f, rho) == pytest.approx(total, rel=1e-11, abs=1e-11)


def test_a_square_has_stability_one_and_a_half_at_one_half() -> None:
    """The physicists' sum of Appendix C under N(0, 1) would be 0.375: its H_n are not orthogonal there."""
    assert gaussian_noise_stability(np.square, 0.5) == pytest.approx(1.5, rel=1e-13)
    physicists = hermite.poly2herm([0, 0, 1])
    mixed = sum(0.5**k * 2**k * math.factorial(k) * c**2 for k, c in enumerate(physicists))
    assert mixed == pytest.approx(0.375)
    assert hermite_coefficients(lambda x: hermite.hermval(x, [0, 0, 1]), 0)[0] == pytest.approx(2, rel=1e-13)


@given(
    st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    st.floats(-2, 2),
    st.floats(0, 1),
    st.floats(0, 1),
)
@settings(deadline=None, max_examples=20)
def test_stability_rises_from_the_squared_mean_to_the_mean_square(
    c: list[float], at: float, first: float, second: float
) -> None:
    def f(x: Array) -> Array:
        return c[0] + c[1] * x + c[2] * np.abs(x - at) + c[3] * np.where(x > at, 1.0, -1.0)

    low, high = sorted([first, second])
    values = gaussian_noise_stability(f, [0.0, low, high, 1.0])
    assert (np.diff(values) >= -1e-9).all()
    assert abs(gaussian_noise_stability(f, -high)) <= values[2] + 1e-9
    exact_mean = c[0] + c[2] * (2 * density(at) + at * (2 * ndtr(at) - 1)) + c[3] * (1 - 2 * ndtr(at))
    assert values[0] == pytest.approx(exact_mean**2, abs=1e-9)


@given(st.floats(-1, 1), st.floats(-3, 3))
@settings(deadline=None, max_examples=30)
def test_mirroring_a_function_leaves_its_stability(rho: float, at: float) -> None:
    def f(x: Array) -> Array:
        return np.maximum(x - at, 0.1 * x)

    mirrored = gaussian_noise_stability(lambda x: f(-x), rho)
    assert mirrored == pytest.approx(float(gaussian_noise_stability(f, rho)), abs=1e-11)


# Hermite coefficients


def test_coefficients_of_a_relu_are_their_closed_form() -> None:
    exact = [1 / math.sqrt(2 * math.pi), 0.5]
    for k in range(2, 41):
        odd_factorial = math.prod(range(1, k - 2, 2))  # (k - 3)!!
        size = odd_factorial / math.sqrt(2 * math.pi * math.factorial(k))
        exact.append(0.0 if k % 2 else (-1) ** (k // 2 + 1) * size)
    np.testing.assert_allclose(hermite_coefficients(relu, 40), exact, rtol=0, atol=1e-14)


def test_coefficients_of_a_sign_are_their_closed_form() -> None:
    exact = []
    for k in range(42):
        size = 2 * math.prod(range(1, k - 1, 2)) / math.sqrt(2 * math.pi * math.factorial(k))  # (k - 2)!!
        exact.append((-1) ** (k // 2) * size if k % 2 else 0.0)
    np.testing.assert_allclose(hermite_coefficients(np.sign, 41), exact, rtol=0, atol=1e-14)


def test_coefficients_of_a_sign_are_right_at_degrees_in_the_thousands() -> None:
    k = np.arange(1, 20_001, 2)
    # (k - 2)!! = k! / (k 2^m m!) with m = (k - 1) / 2
    m = (k - 1) / 2
    size = np.exp(gammaln(k + 1) / 2 - m * math.log(2) - gammaln(m + 1)) * 2 / (k * math.sqrt(2 * math.pi))
    np.testing.assert_allclose(hermite_coefficients(np.sign, 20_000)[1::2], (-1) ** m * size, rtol=0, atol=1e-10)


def test_coefficients_of_an_exponential_are_their_closed_form() -> None:
    exact = [math.exp(1 / 8) * 0.5**k / math.sqrt(math.factorial(k)) for k in range(31)]
    np.testing.assert_allclose(hermite_coefficients(half_exp, 30), exact, rtol=0, atol=1e-14)


@pytest.mark.parametrize("k", [0, 1, 6, 20])
def test_hermite_polynomials_are_orthonormal(k: int) -> None:
    np.testing.assert_allclose(hermite_coefficients(orthonormal(k), 400), np.eye(401)[k], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("f", "mean_square"), [(half_exp, math.exp(0.5)), (waves, (1 + math.exp(-50)) / 2), (sextic, None)]
)
def test_squared_coefficients_add_up_to_the_mean_square(f: Callable[[Array], Array], mean_square: float | None) -> None:
    total = (hermite_coefficients(f, 120) ** 2).sum()
    assert total == pytest.approx(mean_square or mean(lambda z: float(sextic(np.float64(z))) ** 2), rel=1e-11)


def test_squared_coefficients_of_a_relu_approach_the_mean_square_from_below() -> None:
    totals = np.cumsum(hermite_coefficients(relu, 1000) ** 2)
    assert (np.diff(totals) >= 0).all()
    assert 0.5 - 1e-4 < totals[-1] < 0.5


def test_orthonormal_coefficients_are_both_inner_products_and_a_series() -> None:
    """The fhat of Appendix C are two things: the integral of f H_n (C.1) and f's factor of H_n (C.2)."""
    found = hermite_coefficients(lambda x: x**4, 4)
    scaled = [c / math.sqrt(math.factorial(k)) for k, c in enumerate(found)]
    np.testing.assert_allclose(hermite_e.herme2poly(scaled), [0, 0, 0, 0, 1], atol=1e-12)
    # Under the paper's measure of variance 1/2: integral of H_2 H_2 is 2^2 2! = 8, its factor of H_2 is 1.
    inner = hermite_coefficients(lambda u: hermite.hermval(u / math.sqrt(2), [0, 0, 1]) ** 2, 0)[0]
    assert inner == pytest.approx(8, rel=1e-13)


# The Ornstein-Uhlenbeck operator


@pytest.mark.parametrize("rho", [-0.8, -0.1, 0.3, 0.99])
@pytest.mark.parametrize("k", [0, 1, 4, 9])
def test_hermite_polynomials_are_eigenfunctions(k: int, rho: float) -> None:
    f = orthonormal(k)
    np.testing.assert_allclose(ou_operator(f, rho)(XS), rho**k * f(XS), rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("f", "break_at"), [(relu, 0.0), (np.sign, 0.0), (step, 0.37), (half_exp, 0.0), (waves, 0.0), (sextic, 0.0)]
)
@pytest.mark.parametrize("rho", [-0.6, 0.3, 0.95])
def test_it_is_the_mean_over_gaussian_noise(f: Callable[[Array], Array], break_at: float, rho: float) -> None:
    spread = math.sqrt(1 - rho**2)
    for x in XS[::3]:
        exact = mean(lambda z, x=x: float(f(np.float64(rho * x + spread * z))), (break_at - rho * x) / spread)
        assert ou_operator(f, rho)(x) == pytest.approx(exact, rel=1e-10, abs=1e-11)


@pytest.mark.parametrize("f", [relu, step, half_exp, waves, sextic])
def test_its_ends_are_the_function_its_mirror_image_and_its_mean(f: Callable[[Array], Array]) -> None:
    np.testing.assert_array_equal(ou_operator(f, 1.0)(XS), f(XS))
    np.testing.assert_array_equal(ou_operator(f, -1.0)(XS), f(-XS))
    means = ou_operator(f, 0.0)(XS)
    assert (means == means[0]).all()
    assert means[0] == pytest.approx(mean(lambda z: float(f(np.float64(z))), 0.0, 0.37), rel=1e-11, abs=1e-12)


@pytest.mark.parametrize("f", [relu, np.sign, half_exp, sextic])
@pytest.mark.parametrize(("first", "second"), [(0.5, 0.8), (-0.7, 0.9)])
def test_two_operators_are_one_of_the_product(f: Callable[[Array], Array], first: float, second: float) -> None:
    xs = np.array([0.1, 0.7, 2.5]) * math.copysign(1, first)
    twice = ou_operator(ou_operator(f, second), first)(xs)
    np.testing.assert_allclose(twice, ou_operator(f, first * second)(xs), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("rho", [-0.4, 0.7])
def test_it_is_self_adjoint(rho: float) -> None:
    smooth_step, smooth_relu = ou_operator(step, rho), ou_operator(relu, rho)
    left = hermite_coefficients(lambda x: smooth_step(x) * relu(x), 0)[0]
    right = hermite_coefficients(lambda x: step(x) * smooth_relu(x), 0)[0]
    assert left == pytest.approx(right, abs=1e-12)
    assert left != pytest.approx(hermite_coefficients(lambda x: step(x) * relu(x), 0)[0], abs=1e-3)


@pytest.mark.parametrize("rho", [-0.4, 0.7])
def test_the_inner_product_with_f_is_the_stability_and_with_itself_that_of_rho_squared(rho: float) -> None:
    smoothed = ou_operator(relu, rho)
    once = hermite_coefficients(lambda x: smoothed(x) * relu(x), 0)[0]
    assert once == pytest.approx(relu_stability(np.float64(rho)), abs=1e-12)
    twice = hermite_coefficients(lambda x: smoothed(x) ** 2, 0)[0]
    assert twice == pytest.approx(relu_stability(np.float64(rho**2)), abs=1e-12)


def test_its_generator_is_x_times_the_slope_minus_the_curvature() -> None:
    """(f - T_rho f) / t as rho = exp(-t) -> 1, here by Richardson's rule; under N(0, 1) the factor 1/2 is 1."""

    def quotient(t: float) -> Array:
        return (half_exp(XS) - ou_operator(half_exp, math.exp(-t))(XS)) / t

    generator = 2 * quotient(1e-4) - quotient(2e-4)
    slope, curvature = half_exp(XS) / 2, half_exp(XS) / 4
    np.testing.assert_allclose(generator, XS * slope - curvature, rtol=0, atol=1e-6)
    # As Definition C.3 prints it, first and second derivative are exchanged.
    assert np.abs(generator - (XS * curvature - slope)).max() > 0.1


def test_mehlers_formula_needs_noise_of_the_polynomials_measure() -> None:
    """T H_2(0.3) at rho = exp(-1/2): physicists' H_2 has the eigenvalue rho^2 under variance 1/2 alone."""
    rho = math.exp(-0.5)
    right = ou_operator(lambda u: hermite.hermval(u / math.sqrt(2), [0, 0, 1]), rho)(0.3 * math.sqrt(2))
    assert right == pytest.approx(rho**2 * (4 * 0.3**2 - 2), rel=1e-13)
    assert right == pytest.approx(-0.603, abs=5e-4)
    printed = ou_operator(lambda x: hermite.hermval(x, [0, 0, 1]), rho)(0.3)
    assert printed == pytest.approx(0.661, abs=5e-4)


def mehler_kernel(x: float, y: float, t: float) -> float:
    """Theorem C.7 with the factor sqrt(pi) exp(y^2) that makes the Lebesgue density a kernel of variance 1/2."""
    rest = 1 - math.exp(-2 * t)
    lebesgue = math.exp(-((y - math.exp(-t) * x) ** 2) / rest) / math.sqrt(math.pi * rest)
    return lebesgue * math.sqrt(math.pi) * math.exp(y**2)


def test_mehlers_kernel_is_its_series_and_gives_the_operator() -> None:
    x, y, t = 0.3, 0.7, 0.5
    # h_n(x) of variance 1/2 is the orthonormal He_n at x sqrt(2).
    series = sum(
        math.exp(-t * n) * orthonormal(n)(np.float64(x * math.sqrt(2))) * orthonormal(n)(np.float64(y * math.sqrt(2)))
        for n in range(80)
    )
    assert mehler_kernel(x, y, t) == pytest.approx(float(series), rel=1e-12)
    assert mehler_kernel(x, y, t) == pytest.approx(mehler_kernel(y, x, t), rel=1e-13)
    assert mehler_kernel(x, y, t) == pytest.approx(1.3428, abs=5e-5)
    assert mehler_kernel(x, y, t) / (math.sqrt(math.pi) * math.exp(y**2)) == pytest.approx(0.4641, abs=5e-5)

    def weighted(v: float) -> float:
        return mehler_kernel(x, v, t) * float(relu(np.float64(v))) * math.exp(-(v**2)) / math.sqrt(math.pi)

    smoothed = ou_operator(lambda u: relu(u / math.sqrt(2)), math.exp(-t))(x * math.sqrt(2))
    assert quad(weighted, 0, 12, epsabs=1e-13)[0] == pytest.approx(smoothed, rel=1e-11)


def test_a_value_depends_on_its_own_x_alone() -> None:
    smoothed = ou_operator(step, 0.6)
    xs = np.linspace(-30, 30, 13)
    one_by_one = [ou_operator(step, 0.6)(x) for x in xs]
    np.testing.assert_array_equal(smoothed(xs), one_by_one)
    exact = ndtr((0.6 * xs - 0.37) / 0.8)
    np.testing.assert_allclose(smoothed(xs), exact, rtol=0, atol=1e-11)


@pytest.mark.parametrize("at", [-7.9, -0.1, 3.9, 7.99])
def test_a_little_noise_blurs_a_jump_wherever_it_is(at: float) -> None:
    rho, spread = 0.9999, math.sqrt(1 - 0.9999**2)
    xs = at / rho + spread * np.linspace(-3, 3, 7)
    blurred = ou_operator(lambda x: np.where(x > at, 1.0, 0.0), rho)(xs)
    np.testing.assert_allclose(blurred, ndtr((rho * xs - at) / spread), rtol=0, atol=1e-10)


def test_far_from_the_origin_it_still_finds_kinks() -> None:
    kink = 5000.3
    smoothed = ou_operator(lambda x: np.maximum(x - kink, 0.0), 0.5)
    assert smoothed(2 * kink) == pytest.approx(math.sqrt(0.75) / math.sqrt(2 * math.pi), rel=1e-10)
    assert smoothed(1e9) == pytest.approx(5e8 - kink, rel=1e-13)
    assert smoothed(-1e9) == 0


# Arguments


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


def test_an_operator_has_one_rho() -> None:
    with pytest.raises(ValueError, match="rho = "):
        ou_operator(relu, [0.5, 0.6])


@pytest.mark.parametrize("x", [math.inf, math.nan, -2e9])
def test_an_x_outside_the_operators_domain_is_named(x: float) -> None:
    with pytest.raises(ValueError, match="x = "):
        ou_operator(relu, 0.5)([0.0, x])


BAD_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "not finite": lambda x: np.where(x > 1, np.nan, x),
    "not element by element": lambda x: x[:-1],
    "too many jumps": lambda x: np.floor(100 * x),
    "too many waves": lambda x: np.cos(400 * x),
    "noise": lambda x: np.random.default_rng(0).standard_normal(x.shape),
}


@pytest.mark.parametrize("f", BAD_FUNCTIONS.values(), ids=BAD_FUNCTIONS)
def test_what_cannot_be_integrated_is_named(f: Callable[[Array], Array]) -> None:
    for analysis in (
        lambda: hermite_coefficients(f, 3),
        lambda: gaussian_noise_stability(f, 0.5),
        lambda: ou_operator(f, 0.5)(XS),
    ):
        with pytest.raises(ValueError, match=r"^f "):
            analysis()


def test_a_correlation_takes_well_under_a_second() -> None:
    for f in (relu, np.sign, sextic, waves):
        start = time.process_time()
        gaussian_noise_stability(f, [0.3, 0.9])
        assert time.process_time() - start < 1.0
