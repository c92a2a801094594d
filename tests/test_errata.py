"""Evidence for each entry of docs/errata.md: the paper's printed form beside the right one.

Printed forms are written out here. What they are held against is an enumeration, a quadrature that is
exact for polynomials, or a simulation with its standard error.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.polynomial import hermite, hermite_e
from numpy.typing import NDArray
from scipy import integrate, optimize, stats

from nsbench.noise import resample_tokens
from nsbench.theory import (
    attention_interval,
    attention_pattern_stability,
    bonami_beckner_relu,
    boolean,
    ffn_fixed_point,
    ffn_recurrence,
    ffn_second_moment,
    gaussian_noise_stability,
    hermite_coefficients,
    ou_operator,
    relu_stability,
    relu_stability_quadratic,
    resampling_correlation,
    spectral_concentration_degree,
    tail_mass_bound_from_influence,
    tail_mass_bound_from_stability,
    transformer_recurrence,
)

Array = NDArray[np.float64]
DOCUMENT = Path(__file__).parents[1] / "docs" / "errata.md"
N_STANDARD_ERRORS = 5
"""How far a simulated mean may lie from what it is held against."""


def physicists(n: int, x: Array | float) -> Array:
    """H_n(x)."""
    return hermite.hermval(x, [0] * n + [1])


def normalised(n: int, x: Array | float) -> Array:
    """H_n(x) / sqrt(2^n n!): orthonormal under the Gaussian of variance 1/2."""
    return physicists(n, x) / math.sqrt(2**n * math.factorial(n))


def half_mean(f: Callable[[Array], Array]) -> float:
    """E[f(X)], X Gaussian of variance 1/2; exact for polynomials up to degree 59."""
    x, weights = hermite.hermgauss(30)
    return float(weights @ f(x)) / math.sqrt(math.pi)


def standard_mean(f: Callable[[Array], Array]) -> float:
    """E[f(X)], X ~ N(0, 1)."""
    return half_mean(lambda x: f(math.sqrt(2) * x))


def standard_stability(f: Callable[[Array], Array], rho: float) -> float:
    """E[f(X) f(Y)] of Definition 4.1 by quadrature over X and Z."""

    def smoothed(x: float) -> float:
        return standard_mean(lambda z: f(rho * x + math.sqrt(1 - rho**2) * z))

    return standard_mean(lambda x: f(x) * np.array([smoothed(a) for a in x]))


def close(values: Array | Sequence[float], expected: float) -> bool:
    """Whether the mean of independent values lies within N_STANDARD_ERRORS of `expected`."""
    values = np.asarray(values, dtype=np.float64)
    return abs(values.mean() - expected) <= N_STANDARD_ERRORS * values.std(ddof=1) / math.sqrt(values.size)


def pairs(rng: np.random.Generator, shape: tuple[int, ...], rho: float) -> tuple[Array, Array]:
    """Standard Gaussians with correlation rho, entry by entry, in float32."""
    x = rng.standard_normal(shape, dtype=np.float32)
    return x, np.float32(rho) * x + np.float32(math.sqrt(1 - rho**2)) * rng.standard_normal(shape, dtype=np.float32)


def softmax(logits: Array) -> Array:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def attention_stability(
    n: int, d: int, rho: float, weights: Callable[[np.random.Generator], Array] | None, divisor: float = 1.0
) -> Array:
    """E[f(X)_ij f(Y)_ij] with W_V = I and logits X W X^T / divisor: one mean for each of 20 draws of W.

    weights: draws the left factor U of W = U right, or (None) W = I; 20 pairs of inputs for each.
    """
    rng, means = np.random.default_rng(n * d), []
    for _ in range(20):
        w = None if weights is None else weights(rng).astype(np.float32)
        outputs = []
        for x in pairs(rng, (20, n, d), rho):
            logits = (x if w is None else x @ w) @ x.swapaxes(1, 2)
            outputs.append(softmax(logits / divisor) @ x)
        means.append(np.mean(outputs[0] * outputs[1], dtype=np.float64))
    return np.array(means)


def square_gaussian(d: int, std: float = 1.0) -> Callable[[np.random.Generator], Array]:
    return lambda rng: std * rng.standard_normal((d, d), dtype=np.float32)


def parity(bits: Sequence[int]) -> int:
    return 1 - 2 * (sum(bits) % 2)


# Entries 1-8: Hermite analysis and the ReLU


def test_lemma_1_as_printed_asks_for_a_negative_degree() -> None:
    rho, delta, epsilon = 0.9, 0.1, 0.2
    printed = math.log(1 - delta / epsilon) / math.log(1 / rho)
    right = spectral_concentration_degree(rho, delta, epsilon)
    assert printed == pytest.approx(-6.5788, abs=1e-4)
    assert right == pytest.approx(6.5788, abs=1e-4)
    # Mass p at degree T and 1 - p at degree 0 has stability (1 - delta) exactly: the bound cannot be better.
    tails = {}
    for degree in (6, 7):
        p = delta / (1 - rho**degree)
        f = hermite_e.HermiteE([math.sqrt(1 - p), *[0] * (degree - 1), math.sqrt(p / math.factorial(degree))])
        assert standard_stability(f, rho) == pytest.approx(1 - delta, abs=1e-12)
        tails[degree] = p
    assert tails[6] == pytest.approx(0.2134, abs=1e-4)
    assert tails[7] == pytest.approx(0.1917, abs=1e-4)
    # Degree 0 and above, which the printed form allows, always holds all of the mass.
    assert printed <= 0
    assert tails[7] < epsilon < tails[6] < 1


def test_physicists_hermite_polynomials_are_not_orthogonal_under_the_standard_gaussian() -> None:
    assert standard_mean(lambda x: physicists(2, x) * physicists(0, x)) == pytest.approx(2.0)
    assert half_mean(lambda x: physicists(2, x) * physicists(0, x)) == pytest.approx(0.0, abs=1e-12)
    rho = 0.5
    printed = sum(rho**k * half_mean(lambda x, k=k: x**2 * normalised(k, x)) ** 2 for k in range(5))
    assert printed == pytest.approx(0.375)
    assert standard_stability(lambda x: x**2, rho) == pytest.approx(1.5)
    assert gaussian_noise_stability(lambda x: x**2, rho) == pytest.approx(1.5)
    coefficients = hermite_coefficients(lambda x: x**2, 4)
    assert (rho ** np.arange(5) * coefficients**2).sum() == pytest.approx(1.5)


def test_mehlers_formula_with_standard_noise_is_not_the_operator_of_the_physicists_polynomials() -> None:
    rho, x = math.exp(-0.5), 0.3
    right = rho**2 * float(physicists(2, x))
    assert right == pytest.approx(-0.6033, abs=1e-4)
    f = lambda z: physicists(2, rho * x + math.sqrt(1 - rho**2) * z)  # noqa: E731
    assert half_mean(f) == pytest.approx(right)
    assert standard_mean(f) == pytest.approx(0.6609, abs=1e-4)
    # With N(0, 1) throughout, the eigenfunctions are He_n.
    he_2 = hermite_e.HermiteE([0, 0, 1])
    assert ou_operator(he_2, rho)(np.array([x]))[0] == pytest.approx(rho**2 * he_2(x), abs=1e-9)


def test_mehlers_kernel_as_printed_is_the_density_with_respect_to_dy() -> None:
    r = math.exp(-0.5)

    def printed(x: float, y: float) -> float:
        return math.exp(-((y - r * x) ** 2) / (1 - r**2)) / math.sqrt(math.pi * (1 - r**2))

    def series(x: float, y: float) -> float:
        return sum(r**n * float(normalised(n, x) * normalised(n, y)) for n in range(80))

    assert printed(0.3, 0.7) == pytest.approx(0.4641, abs=1e-4)
    assert printed(0.7, 0.3) == pytest.approx(0.6924, abs=1e-4)
    assert series(0.3, 0.7) == pytest.approx(1.3428, abs=1e-4)
    for x, y in [(0.3, 0.7), (0.7, 0.3), (-1.0, 0.4)]:
        assert math.sqrt(math.pi) * math.exp(y**2) * printed(x, y) == pytest.approx(series(x, y), rel=1e-9)
    assert integrate.quad(lambda y: printed(0.3, y), -9, 9)[0] == pytest.approx(1.0)


def test_the_ornstein_uhlenbeck_operator_has_gradient_and_laplacian_exchanged() -> None:
    x = hermite.Hermite([0, 0.5])
    for n in range(6):
        h = hermite.Hermite([0] * n + [1])
        right = -0.5 * h.deriv(2) + x * h.deriv(1)
        printed = -0.5 * h.deriv(1) + x * h.deriv(2)
        assert np.allclose((right - n * h).coef, 0)
        assert np.allclose((printed - n * h).coef, 0) == (n == 0)


def test_stability_as_a_product_of_two_smoothed_functions_has_rho_squared() -> None:
    coefficients = {0: half_mean(lambda x: x**2), 2: half_mean(lambda x: x**2 * normalised(2, x))}

    def smoothed(x: Array, rho: float) -> Array:
        return sum(rho**k * c * normalised(k, x) for k, c in coefficients.items())

    printed = half_mean(lambda x: smoothed(x, 0.5) ** 2)
    assert printed == pytest.approx(0.28125)
    assert printed == pytest.approx(half_mean(lambda x: smoothed(x, 0.25) * x**2))
    assert half_mean(lambda x: smoothed(x, 0.5) * x**2) == pytest.approx(0.375)


def test_hermite_coefficients_are_normalised_in_two_ways() -> None:
    for n in range(5):
        f = hermite.Hermite([1, 2, 3, 4, 5])
        integral = half_mean(lambda x, f=f, n=n: f(x) * physicists(n, x))
        assert integral == pytest.approx(f.coef[n] * 2**n * math.factorial(n))
    assert half_mean(lambda x: x**2 * physicists(2, x)) == pytest.approx(2.0)
    assert hermite.Hermite.cast(np.polynomial.Polynomial([0, 0, 1])).coef[2] == pytest.approx(0.25)


def test_the_quadratic_for_relu_has_a_remainder_of_fourth_order() -> None:
    for rho in (-0.1, 0.05, 0.1):
        remainder = relu_stability(rho) - relu_stability_quadratic(rho)
        assert remainder == pytest.approx(rho**4 / (48 * math.pi), rel=0.02)
    rhos = np.linspace(-1, 1, 2001)
    errors = np.abs(relu_stability(rhos) - relu_stability_quadratic(rhos))
    assert errors.max() == pytest.approx(0.25 - 3 / (4 * math.pi))
    assert errors.max() == pytest.approx(0.0112676, abs=1e-7)
    assert errors[0] == pytest.approx(errors[-1]) == errors.max()
    assert errors[-1] / relu_stability(1.0) == pytest.approx(0.0225, abs=1e-4)
    assert relu_stability_quadratic(-1.0) < 0 == relu_stability(-1.0)


# Entries 9-14: one attention layer


def test_the_attention_head_of_section_2_needs_tokens_in_columns() -> None:
    rng = np.random.default_rng(9)
    n, d = 3, 2
    y, w_q, w_k, w_v = rng.normal(size=(n, d)), *rng.normal(size=(3, d, d))
    with pytest.raises(ValueError, match="matmul"):
        softmax(y.T @ w_q.T @ w_k @ y) @ (y.T @ w_v)
    right = softmax(y @ w_q @ w_k.T @ y.T) @ y @ w_v
    columns, q, k = y.T, w_q.T, w_k.T  # d x n, and weights that act from the left
    assert right.shape == (n, d)
    assert np.allclose(softmax(columns.T @ q.T @ k @ columns) @ (columns.T @ w_v), right)


def test_theorem_5_3_as_printed_has_the_stability_of_theorem_5_2() -> None:
    n, d, rho = 8, 256, 0.5
    right = rho * attention_pattern_stability(rho, n)
    assert right == pytest.approx(0.105, abs=1e-3)
    printed = attention_stability(n, d, rho, None)
    unstructured = attention_stability(n, d, rho, square_gaussian(d))
    assert close(printed, rho)
    assert printed.mean() > 4 * right
    assert unstructured.mean() == pytest.approx(right, abs=0.02)


def test_the_covariance_of_two_logits_is_d_squared_rho_squared() -> None:
    rng, d, rho, n_pairs = np.random.default_rng(11), 6, 0.5, 200_000
    (x, y), (u, v) = pairs(rng, (n_pairs, d), rho), pairs(rng, (n_pairs, d), rho)
    w = rng.standard_normal((n_pairs, d, d), dtype=np.float32)
    p, q = np.einsum("ra,rab,rb->r", x, w, u, optimize=True), np.einsum("ra,rab,rb->r", y, w, v, optimize=True)
    printed, right = d * rho**2, d**2 * rho**2
    assert close(p * q, right)
    assert not close(p * q, printed)
    assert close(p**2, d**2)  # so the correlation is rho^2


@pytest.mark.parametrize("rho", [0.0, 0.4, 0.9])
def test_the_pattern_probability_of_theorem_5_3_is_right(rho: float) -> None:
    c = rho**2
    angle, half = math.asin(c), math.asin(c / 2)
    assert attention_pattern_stability(rho, 2) == pytest.approx(0.5 + angle / math.pi, abs=1e-8)
    three = 1 / 16 + (math.pi / 6 + angle + half) / (4 * math.pi)
    three += (math.pi**2 / 36 + angle**2 - half**2) / (4 * math.pi**2)
    assert attention_pattern_stability(rho, 3) == pytest.approx(3 * three, abs=1e-8)
    a, b = pairs(np.random.default_rng(5), (200_000, 5), c)
    assert close(a.argmax(-1) == b.argmax(-1), float(attention_pattern_stability(rho, 5)))


def test_scaled_logits_break_theorem_5_3_where_w_has_variance_one_over_d() -> None:
    n, d, rho = 8, 256, 0.9
    limit = rho * attention_pattern_stability(rho, n)
    assert limit == pytest.approx(0.500, abs=1e-3)
    root = math.sqrt(d)
    small = attention_stability(n, d, rho, square_gaussian(d, 1 / root), root)
    assert small.mean() == pytest.approx(0.19, abs=0.01)
    for weights, divisor in [(square_gaussian(d), root), (square_gaussian(d, 1 / root), 1.0)]:
        assert attention_stability(n, d, rho, weights, divisor).mean() == pytest.approx(limit, abs=0.05)


def test_the_finite_size_bias_of_theorem_5_3_is_about_rho_times_the_expected_maximum_squared_over_d() -> None:
    n, d, rho = 8, 16, 0.3
    draws = np.random.default_rng(12).standard_normal((100_000, n)).max(-1)
    expected = rho * draws.mean() ** 2 / d
    assert expected == pytest.approx(0.038, abs=1e-3)
    rng, means = np.random.default_rng(13), []
    for _ in range(300):
        w, outputs = rng.standard_normal((d, d), dtype=np.float32), []
        for x in pairs(rng, (50, n, d), rho):
            outputs.append(softmax((x @ w) @ x.swapaxes(1, 2)) @ x)
        means.append(np.mean(outputs[0] * outputs[1], dtype=np.float64))
    bias = np.mean(means) - rho * attention_pattern_stability(rho, n)
    assert bias == pytest.approx(expected, rel=0.15)


def test_theorem_5_2_converges_at_small_d_without_the_root_and_later_with_it() -> None:
    n, rho = 16, 0.3
    ratio = {(d, root): attention_stability(n, d, rho, None, math.sqrt(d) if root else 1.0).mean() / rho
             for d, root in [(16, False), (32, True), (128, True)]}  # fmt: skip
    assert ratio[16, False] == pytest.approx(1.0, abs=0.02)
    assert ratio[32, True] == pytest.approx(0.85, abs=0.02)
    assert ratio[128, True] == pytest.approx(1.0, abs=0.02)


def test_theorem_5_2s_proof_has_steps_that_do_not_hold() -> None:
    rng, n = np.random.default_rng(14), 16
    # The expected squared norm of a value vector is d gamma^2, not a constant in d.
    for d in (8, 64):
        w_v = rng.normal(size=(d, d))
        w_v *= 0.7 / np.linalg.norm(w_v, axis=0)
        assert close(np.square(rng.normal(size=(20_000, d)) @ w_v).sum(-1), d * 0.7**2)
    # Cauchy-Schwarz with E[S] in place of E[S^2], for M = 1 and S = 4.
    m, s = 1.0, 4.0
    assert math.sqrt(m**2 * s) < m * s <= math.sqrt(m**2 * s**2)
    # W_ii is bounded from above by a number over 1, which cannot show that it goes to 1; from below it can.
    d = 64
    small = math.exp(-23 * d / 64)
    diagonal = min(softmax(x @ x.T).diagonal().min() for x in rng.normal(size=(200, n, d)))
    assert 1 / (1 - (n - 1) * small) > 1 >= diagonal >= 1 / (1 + (n - 1) * small) - 1e-15
    # exp(-41 d/64) is below exp(-23 d/64): a bound by the latter says nothing on the former.
    assert math.exp(-41 * d / 64) < small


def test_low_rank_attention_is_the_identity_only_where_the_rank_is_large() -> None:
    n, d, rho, expected = 16, 256, 0.3, {1: 0.10, 4: 0.35, 16: 0.98, 64: 1.00}
    for rank, share in expected.items():

        def weights(rng: np.random.Generator, rank: int = rank) -> Array:
            u = rng.standard_normal((d, rank), dtype=np.float32) / math.sqrt(rank)
            return u @ u.T

        stability = attention_stability(n, d, rho, weights) / rho
        assert stability.mean() == pytest.approx(share, abs=0.04)


# Entries 15-18: many layers


def test_equation_5_takes_a_correlation_and_returns_a_second_moment() -> None:
    assert ffn_recurrence(1.0, 1, "published")[-1] == pytest.approx(0.5)
    fixed = ffn_fixed_point("published")
    assert fixed == pytest.approx(0.2172336282, abs=1e-10)
    assert relu_stability(fixed) == pytest.approx(fixed)
    phi = optimize.brentq(lambda angle: math.sin(angle) - angle * math.cos(angle), 4.0, 4.7)
    assert 1 / math.hypot(1, phi) == pytest.approx(fixed)
    assert 2 / (3 * math.pi) == pytest.approx(0.2122066, abs=1e-7)
    assert 1 - 2 / (3 * math.pi) / fixed == pytest.approx(0.0231, abs=1e-4)
    x, y = pairs(np.random.default_rng(15), (1_000_000,), 0.5)
    h, g = np.maximum(x, 0).astype(float), np.maximum(y, 0).astype(float)
    cosine = (h * g).mean() / math.sqrt((h**2).mean() * (g**2).mean())
    assert cosine == pytest.approx(ffn_recurrence(0.5, 1, "cosine")[-1], abs=0.005)
    assert np.corrcoef(h, g)[0, 1] == pytest.approx(ffn_recurrence(0.5, 1, "pearson")[-1], abs=0.005)
    assert ffn_recurrence(0.5, 2000, "cosine")[-1] == pytest.approx(1.0, abs=1e-4)
    assert ffn_recurrence(0.5, 2000, "pearson")[-1] == pytest.approx(0.0, abs=1e-4)


def test_relu_raises_stability_below_the_fixed_point() -> None:
    fixed, rhos = 0.2172336282, np.linspace(-1, 1, 401)
    assert np.array_equal(relu_stability(rhos) > rhos, rhos < fixed)
    assert relu_stability(0.1) == pytest.approx(0.185, abs=1e-3)
    assert (2 * relu_stability(rhos[:-1]) > rhos[:-1]).all()


def test_equation_8_puts_gamma_inside_the_map() -> None:
    rho, gamma = 0.5, 0.6
    x, y = pairs(np.random.default_rng(17), (500_000,), rho)
    outputs = np.maximum(gamma * x, 0).astype(float) * np.maximum(gamma * y, 0)
    printed = float(transformer_recurrence(rho, 1, gamma, "published")[-1])
    right = float(transformer_recurrence(rho, 1, gamma, "corrected")[-1])
    assert (printed, right) == (pytest.approx(0.2068, abs=1e-4), pytest.approx(0.1096, abs=1e-4))
    assert close(outputs, right)
    assert not close(outputs, printed)
    assert transformer_recurrence(rho, 1, 0.0, "published")[-1] == pytest.approx(1 / (2 * math.pi))
    assert transformer_recurrence(rho, 1, 0.0, "corrected")[-1] == 0
    linear = transformer_recurrence(rho, 60, gamma, "linear")[-1]
    assert linear == pytest.approx(2 / (math.pi * (4 - gamma**2)))


def relu_network_moments(d: int, depth: int, rho: float, gain: float) -> Array:
    """E[h(X) h(Y)] per unit after `depth` layers with W ~ N(0, gain/d): one value for each of 60 draws."""
    rng, means = np.random.default_rng(18), []
    for _ in range(60):
        h = np.concatenate(pairs(rng, (8, d), rho))
        for _ in range(depth):
            h = np.maximum(h @ (np.float32(math.sqrt(gain / d)) * rng.standard_normal((d, d), dtype=np.float32)), 0)
        means.append(np.mean(h[:8] * h[8:], dtype=np.float64))
    return np.array(means)


def test_weak_dampening_of_a_deep_network_depends_on_its_weights() -> None:
    rho, depth = 0.5, 8
    moments = {weights: ffn_second_moment(rho, depth, weights)[-1] for weights in ("identity", "lecun", "he")}
    assert moments["identity"] == pytest.approx(relu_stability(rho)) == pytest.approx(0.3045, abs=1e-4)
    assert moments["lecun"] == pytest.approx(0.0034, abs=1e-4)
    assert moments["he"] == pytest.approx(0.872, abs=1e-3)
    proxy = 2 / (3 * math.pi)
    x, y = pairs(np.random.default_rng(1), (200_000,), rho)
    for _ in range(depth):
        x, y = np.maximum(x, 0), np.maximum(y, 0)
    assert close(x * y, moments["identity"])
    lecun, he = relu_network_moments(256, depth, rho, 1.0), relu_network_moments(256, depth, rho, 2.0)
    assert close(lecun, moments["lecun"])
    assert close(he, moments["he"])
    assert lecun.mean() < proxy / 20
    assert he.mean() > 3 * proxy


def transformer_moments(d: int, depth: int, gamma: float, rotate: bool, attend: bool = True) -> Array:
    """E[a(X) a(Y)] after each layer with W_Q W_K^T = I, W_V = gamma I or gamma times a random rotation, rho = 0.5."""
    rng, n, means = np.random.default_rng(19), 8, []
    for _ in range(6):
        x, y = pairs(rng, (8, n, d), 0.5)
        of_layers = []
        for _ in range(depth):
            w = np.linalg.qr(rng.standard_normal((d, d), dtype=np.float32))[0] if rotate else np.eye(d, dtype="f4")
            x, y = (
                np.maximum((softmax(a @ a.swapaxes(1, 2)) @ a if attend else a) @ (np.float32(gamma) * w), 0)
                for a in (x, y)
            )
            of_layers.append(np.mean(x * y, dtype=np.float64))
        means.append(of_layers)
    return np.mean(means, axis=0)


def test_figure_10s_pattern_needs_value_weights_that_are_a_multiple_of_the_identity() -> None:
    s, layers = float(relu_stability(0.5)), np.arange(1, 5)
    for gamma in (1.0, 0.8):
        of_identity = transformer_moments(256, 4, gamma, rotate=False)
        assert np.allclose(of_identity, gamma ** (2 * layers) * s, rtol=0.05)
    assert np.allclose(transformer_recurrence(0.5, 4, 0.8, "identity")[1:], 0.8 ** (2 * layers) * s)
    rotated = transformer_moments(256, 4, 1.0, rotate=True)
    assert np.allclose(rotated, transformer_recurrence(0.5, 4, 1.0, "random")[1:], rtol=0.15)
    assert rotated[-1] < s / 5


# Entries 19-25: intervals, Boolean functions, the noise of Definition 6.1


def test_lemma_11_exchanges_mean_and_second_moment() -> None:
    mu, sigma, rho, alpha = 0.5, 2.0, 0.3, 0.9
    a = mu / sigma
    mean = sigma * stats.norm.pdf(a) + mu * stats.norm.cdf(a)
    second = (mu**2 + sigma**2) * stats.norm.cdf(a) + sigma * mu * stats.norm.pdf(a)
    printed = rho * alpha * mean + (1 - rho) * second**2
    right = float(bonami_beckner_relu(mu, sigma, rho, alpha))
    assert (printed, right) == (pytest.approx(6.30, abs=0.01), pytest.approx(1.60, abs=0.01))
    rng, n_pairs = np.random.default_rng(20), 200_000
    x, fresh = rng.normal(mu, sigma, (2, n_pairs))
    y = np.where(rng.random(n_pairs) < rho, alpha * x, fresh)
    products = np.maximum(x, 0) * np.maximum(y, 0)
    assert close(products, right)
    assert not close(products, printed)


Scenario = tuple[Fraction, tuple[Fraction, Fraction], tuple[Fraction, Fraction]]


def lemma_12_case(size: Fraction, delta: Fraction) -> list[Scenario]:
    """Probabilities and values of X and Y, two tokens, d = 1, with E[X_k Y_k'] = delta for all k and k'.

    X = Y = +-(1, -1), or X = -Y = +-size (1, -1), so often that their products cancel; or X = Y = +-(1, 1); or 0.
    """
    same, opposed = (size**2 / 2, Fraction(1, 2)) if size < 1 else (Fraction(1, 2), 1 / (2 * size**2))
    cases: list[Scenario] = []
    for sign in (1, -1):
        x, wide, flat = (sign * Fraction(1), -sign * Fraction(1)), (sign * size, -sign * size), (Fraction(sign),) * 2
        cases += [(same / 2, x, x), (opposed / 2, wide, (-wide[0], -wide[1])), (delta / 2, flat, flat)]
    zero = (Fraction(0), Fraction(0))
    return [*cases, (1 - same - opposed - delta, zero, zero)]


def attention_product(cases: list[Scenario], weight: float) -> float:
    """E[A(X)_1 A(Y)_1] with W_Q = weight, W_K = W_V = 1."""

    def attend(x: tuple[Fraction, Fraction]) -> float:
        values = np.array([float(v) for v in x])
        return float(softmax(weight * values[0] * values) @ values)

    return sum(float(p) * attend(x) * attend(y) for p, x, y in cases)


def test_lemma_12_is_false_for_values_that_change_sign() -> None:
    delta = Fraction(1, 10**6)
    for size, weight in [(Fraction(1, 2), 0.5), (Fraction(2), 0.25)]:
        cases = lemma_12_case(size, delta)
        assert sum(p for p, _, _ in cases) == 1
        assert all(p >= 0 for p, _, _ in cases)
        assert all(sum(p * x[k] * y[m] for p, x, y in cases) == delta for k, m in product(range(2), repeat=2))
        bound = float(max(1, size))
        e = math.exp(4 * bound**2 * weight)  # d = 1, ||W_Q|| = weight, ||W_K|| = 1, R_l = R_r = delta
        value = attention_product(cases, weight)
        if size < 1:
            assert value == pytest.approx(0.02476, abs=1e-5)
            assert value > 3000 * float(delta) * e
        else:
            assert value == pytest.approx(-0.2600, abs=1e-4)
            assert value < 0 < float(delta) / e
        w_q, one, moment = np.full((1, 1), weight), np.ones((1, 1)), float(delta)
        with pytest.raises(ValueError, match="one sign"):
            attention_interval(moment, moment, w_q, one, one, -bound, bound)


def test_lemma_12_holds_where_the_values_keep_their_sign() -> None:
    rng = np.random.default_rng(21)
    for _ in range(300):
        n, d, n_cases = 2, 2, 4
        x, y = rng.uniform(0.1, 1.0, (2, n_cases, n, d))
        w_q, w_k = rng.uniform(-0.3, 0.3, (2, d, d))
        w_v = rng.uniform(0.0, 1.0, (d, d))
        second = np.einsum("cka,clb->kalb", x, y) / n_cases
        low = second.min() * np.outer(w_v.sum(0), w_v.sum(0)).min()
        high = second.max() * np.outer(w_v.sum(0), w_v.sum(0)).max()
        e = math.exp(4 * d**2 * np.abs(w_q).sum(1).max() * np.abs(w_k).sum(1).max())  # B = 1
        outputs = [softmax(a @ w_q @ w_k.T @ a.swapaxes(1, 2)) @ a @ w_v for a in (x, y)]
        moments = np.einsum("cka,clb->kalb", *outputs) / n_cases
        assert low / e <= moments.min() <= moments.max() <= high * e
        interval = attention_interval(second.min(), second.max(), w_q, w_k, w_v, 0.1, 1.0)
        assert (interval.lower, interval.upper) == (pytest.approx(low / e), pytest.approx(high * e))


def test_lemma_12s_norm_is_the_largest_row_sum_and_its_factor_is_vacuous_at_size() -> None:
    d = 5
    x, w = np.ones(d), np.ones((d, d))
    logit = x @ w @ w.T @ x
    assert logit == d**3 > d**2 * np.abs(w).max() ** 2
    assert logit <= d**2 * np.abs(w).sum(1).max() ** 2
    assert 4 * 64**2 * 3**2 * 8 * 8 == 9_437_184  # log E at d = 64, B = 3 and norms 8
    assert math.log(np.finfo(float).max) < 710


def test_the_boolean_inner_product_needs_no_factor() -> None:
    n = 3
    points = list(product((1, -1), repeat=n))
    for u, v in product(product((0, 1), repeat=n), repeat=2):
        mean = np.mean([math.prod(x[i] for i in range(n) if u[i] != v[i]) for x in points])
        assert mean == (u == v)
        assert 2**n * mean == (8 if u == v else 0)
    assert np.allclose(boolean.fourier_transform(boolean.parity(n)), np.eye(2**n)[-1])


def test_concentration_by_influence_needs_the_norm() -> None:
    f = 0.1 * boolean.dictator(3)
    influence, epsilon = float(boolean.total_influence(f)), 0.5
    weights = boolean.weights_by_level(f)
    norm2 = float(np.mean(f**2))
    assert (influence, norm2) == (pytest.approx(0.01), pytest.approx(0.01))
    printed, right = influence / epsilon, influence / (epsilon * norm2)
    levels = np.arange(4)
    assert weights[levels >= printed].sum() / norm2 == pytest.approx(1.0)
    assert weights[levels >= right].sum() / norm2 <= epsilon
    assert tail_mass_bound_from_influence(influence, norm2, int(right)) == pytest.approx(epsilon)


def test_at_most_ten_variables_can_have_a_tenth_of_the_influence() -> None:
    rng = np.random.default_rng(23)
    for influences in [*rng.dirichlet(np.full(256, 0.02), 200), np.repeat([0.1, 0.0], [10, 246])]:
        assert (influences >= 0.1 * influences.sum()).sum() <= 10
    assert round(2 ** (1 / 0.1)) == 1024 > 256


@pytest.mark.parametrize("rho", [-1.0, 0.05, 0.25, 0.5])
@pytest.mark.parametrize("n_symbols", [2, 5])
def test_definition_6_1_keeps_more_correlation_than_rho(rho: float, n_symbols: int) -> None:
    keep = (1 + rho) / 2
    transition = keep * np.eye(n_symbols) + (1 - keep) / n_symbols
    chi = np.arange(n_symbols) - (n_symbols - 1) / 2
    exact = chi @ transition @ chi / (chi @ chi)
    assert exact == pytest.approx(keep)
    assert resampling_correlation(rho, n_symbols) == pytest.approx(keep)
    tokens = torch.arange(n_symbols).repeat(60_000)
    noisy = resample_tokens(tokens, rho, n_symbols, torch.Generator().manual_seed(24))
    assert close(chi[tokens.numpy()] * chi[noisy.numpy()] / np.mean(chi**2), keep)
    flips = keep * np.eye(2) + (1 - keep) * (1 - np.eye(2))
    assert np.array([1, -1]) @ flips @ np.array([1, -1]) / 2 == pytest.approx(rho)


def test_a_parity_learnt_raises_the_stability_of_definition_6_1() -> None:
    untrained = np.full(2, 0.5) @ np.full(2, 0.5)
    assert untrained == 0.5
    rho, kappa = 0.5, 0.75
    for k, stability in [(2, 0.78125), (3, 0.7109375)]:
        keep = kappa + (1 - kappa) / 2  # a bit redrawn may be the same
        same = (
            sum(
                math.prod(keep if a == b else 1 - keep for a, b in zip(x, y, strict=True)) * (parity(x) == parity(y))
                for x, y in product(product((0, 1), repeat=k), repeat=2)
            )
            / 2**k
        )
        assert same == pytest.approx((1 + kappa**k) / 2) == pytest.approx(stability)
        assert same > untrained > rho**k
        assert boolean.noise_stability(boolean.parity(k), rho) == pytest.approx(rho**k)


# Entries 26-28: the numbers of the experiments


def test_neither_tail_bound_of_table_1_dominates() -> None:
    degree, rho, levels = 15, 0.9, np.arange(1, 60)
    influence = np.array([tail_mass_bound_from_influence(j, 1.0, degree) for j in levels])
    stability = np.array([tail_mass_bound_from_stability(rho**j, 1.0, rho, degree) for j in levels])
    assert (influence[levels < degree] < stability[levels < degree]).all()
    assert (influence[levels > degree] > stability[levels > degree]).all()
    assert influence[degree - 1] == pytest.approx(stability[degree - 1]) == pytest.approx(1.0)
    # Divided by the variance, all bounds are at least those of a function of degree 1.
    assert influence.min() == pytest.approx(1 / 15)
    assert all((1 - r) / (1 - r**15) >= 1 / 15 for r in (0.01, 0.5, 0.9, 0.999))


def test_rows_of_table_1_need_most_influence_above_degree_15() -> None:
    rows = {(0.003, 0.0005): 0.833, (0.04, 0.02): 0.5, (0.19, 0.02): 0.895, (0.043, 0.0157): 0.635}
    levels = np.arange(257)
    for (by_influence, by_stability), least in rows.items():
        assert 1 - by_stability / by_influence == pytest.approx(least, abs=1e-3)
        for rho in (0.1, 0.5, 0.9):
            constraints = np.array([np.ones(257), levels / 15, (1 - rho**levels) / (1 - rho**15)])
            found = optimize.linprog(
                np.where(levels > 15, levels, 0) / (15 * by_influence),
                A_eq=constraints,
                b_eq=[1, by_influence, by_stability],
            )
            assert found.status == 0
            assert least <= found.fun < least + 0.08


def test_a_speed_up_of_36_percent_is_27_percent_fewer_iterations() -> None:
    fewer = {(before, after): 1 - after / before for before, after in [(4500, 3300), (4000, 1000)]}
    faster = {(before, after): before / after - 1 for before, after in fewer}
    assert list(fewer.values()) == pytest.approx([0.267, 0.75], abs=1e-3)
    assert list(faster.values()) == pytest.approx([0.364, 3.0], abs=1e-3)


def test_table_2s_epochs_and_its_scheduler_do_not_fit_the_text() -> None:
    steps_per_epoch = math.ceil(2000 / 256)
    assert (steps_per_epoch, 10_000 / steps_per_epoch, 7000 * steps_per_epoch) == (8, 1250, 56_000)
    weight = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.AdamW([weight], lr=0.001, weight_decay=0.001)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.8, patience=10)
    scheduler.step(0.0)
    full_rate_epochs = 0.0
    for _ in range(1250):
        full_rate_epochs += optimizer.param_groups[0]["lr"] / 0.001
        scheduler.step(1.0)
    assert full_rate_epochs == pytest.approx(11 / (1 - 0.8), abs=0.1)
    optimizer.param_groups[0]["lr"] = 0.001
    for _ in range(100):
        weight.grad = torch.zeros_like(weight)
        optimizer.step()
    assert 1 - weight.item() ** 100 == pytest.approx(0.00995, abs=1e-5)  # 10,000 steps


# Entry 29: misprints


def test_total_variance_in_section_4_is_the_second_moment() -> None:
    f = lambda x: x + 2.0  # noqa: E731
    variance, second = 1.0, standard_mean(lambda x: f(x) ** 2)
    assert second == pytest.approx(5.0)
    assert standard_stability(f, 0.999999) == pytest.approx(second, abs=1e-5)
    assert abs(standard_stability(f, 0.999999) - variance) > 3


def test_misprints_of_appendix_c_are_misprints() -> None:
    y = 0.7
    # H_1 = -e^(y^2) (e^(-y^2))'
    derivative = -2 * y * math.exp(-(y**2))
    assert -math.exp(y**2) * derivative == pytest.approx(float(physicists(1, y)))
    assert -math.exp(-(y**2)) * derivative != pytest.approx(float(physicists(1, y)), rel=0.1)
    # The Fourier transform of e^(-x^2) has sqrt(pi), without p.
    transform = integrate.quad(lambda x: math.exp(-(x**2)) * math.cos(x * y), -9, 9)[0]
    assert transform == pytest.approx(math.sqrt(math.pi) * math.exp(-(y**2) / 4))
    for n in range(1, 6):
        h, before = hermite.Hermite([0] * n + [1]), hermite.Hermite([0] * (n - 1) + [1])
        adjoint = hermite.Hermite([0, 1]) * before - before.deriv()
        assert np.allclose((adjoint - h).coef, 0)
        inner = half_mean(lambda x, adjoint=adjoint, h=h: adjoint(x) * h(x))
        assert inner == pytest.approx(2**n * math.factorial(n))
        assert (inner == pytest.approx(2 * n * math.factorial(n))) == (n in (1, 2))
    # Lemma 5 at t = 0, p = 2, f(x) = x: the L^p norm in its middle is larger than its right side.
    right_side, middle = standard_mean(lambda x: x**2), math.sqrt(standard_mean(lambda x: x**4))
    assert (middle, right_side) == (pytest.approx(math.sqrt(3)), pytest.approx(1.0))


def test_lemma_8_holds_with_the_printed_constant_where_scanned() -> None:
    u = np.logspace(-6, 2, 1500)
    for d in (1, 2, 3, 5, 10, 30, 100, 1000):
        width = 2 * np.sqrt(d * u) + 2 * u
        outside = stats.chi2.sf(d + width, d) + stats.chi2.cdf(np.maximum(d - width, 0), d)
        assert (outside <= np.exp(-u)).all()


def test_cross_terms_in_appendix_f_pair_each_error_with_the_other_value() -> None:
    v, w, e, g = 2.0, 3.0, 0.5, 0.25  # values and errors of X and of Y
    difference = (v + e) * (w + g) - v * w
    assert difference == v * g + w * e + e * g
    assert difference != v * e + w * g + e * g


# Entries 30-40: not in the first list


def test_orthogonality_in_theorem_c_2_keeps_a_sign_too_many() -> None:
    printed = -half_mean(lambda x: hermite.Hermite([0, 1]).deriv()(x) + 0 * x)
    assert printed == pytest.approx(-2.0)
    assert half_mean(lambda x: physicists(1, x) ** 2) == pytest.approx(2.0)


def test_completeness_in_theorem_c_2_is_argued_in_a_circle() -> None:
    """The argument would prove the even polynomials complete, too."""
    parseval = sum(half_mean(lambda x, n=n: x * normalised(n, x)) ** 2 for n in range(0, 12, 2))
    assert parseval == pytest.approx(0.0, abs=1e-20)
    assert half_mean(lambda x: x**2) == pytest.approx(0.5)


def test_the_second_line_of_mehlers_sum_lacks_the_norms() -> None:
    for n in range(5):
        printed = normalised(n, 0.3) * physicists(n, 0.7)
        right = physicists(n, 0.3) * physicists(n, 0.7) / (2**n * math.factorial(n))
        assert right == pytest.approx(float(normalised(n, 0.3) * normalised(n, 0.7)))
        assert printed == pytest.approx(float(right) * math.sqrt(2**n * math.factorial(n)))


def test_the_error_of_attention_in_appendix_f_has_a_further_term() -> None:
    x = np.random.default_rng(33).normal(size=(4, 3))
    weights = softmax(x @ x.T)
    error = weights[0] @ x - x[0]
    printed = weights[0, 1:] @ x[1:]
    assert not np.allclose(error, printed, atol=1e-3)
    assert np.allclose(error, printed - (1 - weights[0, 0]) * x[0])


def test_hard_attention_is_seldom_a_permutation() -> None:
    n, d, rng = 8, 64, np.random.default_rng(34)
    distinct = []
    for _ in range(100):
        x, w = rng.standard_normal((30, n, d)), rng.standard_normal((d, d))
        picked = (x @ w @ x.swapaxes(1, 2)).argmax(-1)
        distinct += [len(set(row)) for row in picked.tolist()]
    counts = np.array(distinct)
    assert math.factorial(n) / n**n == pytest.approx(0.0024, abs=1e-4)
    assert (counts == n).mean() < 0.01
    assert counts.mean() == pytest.approx(n * (1 - (1 - 1 / n) ** n), abs=0.15)
    assert n * (1 - (1 - 1 / n) ** n) == pytest.approx(5.25, abs=0.01)


def test_geometric_influence_does_not_bound_the_tail() -> None:
    """f(x) = 2 Phi(x / tau) - 1, close to sign(x): E[f He_j] = E[f' He_(j-1)], by quadrature exact."""
    tau, degree = 0.01, 15
    variance = tau**2 / (1 + tau**2)
    density = 2 / math.sqrt(2 * math.pi * (1 + tau**2))  # of N(0, tau^2) times that of N(0, 1), integrated, twice
    geometric = density
    coefficients = [
        density
        * standard_mean(lambda z, j=j: hermite_e.hermeval(math.sqrt(variance) * z, [0] * (j - 1) + [1]))
        / math.sqrt(math.factorial(j))
        for j in range(1, degree)
    ]
    norm2 = 2 / math.pi * math.asin(1 / (1 + tau**2))
    tail = 1 - sum(c**2 for c in coefficients) / norm2
    assert (geometric / degree, tail) == (pytest.approx(0.0532, abs=1e-4), pytest.approx(0.128, abs=2e-3))
    assert tail > 2 * geometric / (degree * norm2)


def test_the_closed_form_of_the_linear_recurrence_fits_one_input_alone() -> None:
    fixed = 2 / (3 * math.pi)

    def printed(layer: int) -> float:
        return fixed + (0.5 - fixed) * 0.25 ** (layer - 1)

    steps = ffn_recurrence(0.5, 3, "linear")
    assert printed(1) == 0.5
    assert steps[1] == pytest.approx(0.2842, abs=1e-4)
    for layer in range(4):
        assert steps[layer] == pytest.approx(fixed + (0.5 - fixed) * 0.25**layer)
    # The input whose image under the linear recurrence is 1/2 is no correlation.
    assert 4 * (0.5 - 1 / (2 * math.pi)) == pytest.approx(1.363, abs=1e-3)
    assert relu_stability(1.0) == pytest.approx(0.5)


def test_friedguts_theorem_needs_values_of_plus_and_minus_one() -> None:
    f = 0.5 * boolean.dictator(3)
    assert boolean.total_influence(f) == pytest.approx(0.25)
    for g in product((-1, 1), repeat=8):
        assert not (f == np.array(g)).any()


def test_full_dampening_comes_from_the_scale_of_the_values_not_from_attention() -> None:
    with_attention = transformer_moments(256, 4, 0.8, rotate=False)
    without = transformer_moments(256, 4, 0.8, rotate=False, attend=False)
    assert np.allclose(with_attention, without, rtol=0.01)
    assert without[-1] / without[0] == pytest.approx(0.8**6, rel=1e-4)


def test_lemma_12_excludes_the_inputs_of_theorems_5_1_to_5_3() -> None:
    x, y = pairs(np.random.default_rng(39), (100_000, 2, 2), 0.5)
    for (k, a), (m, b) in product(product(range(2), repeat=2), repeat=2):
        assert close(x[:, k, a] * y[:, m, b], 0.5 if (k, a) == (m, b) else 0.0)


def test_the_value_columns_in_lemma_12s_proof_need_two_indices() -> None:
    rng = np.random.default_rng(40)
    x, y, w = rng.random((6, 2)), rng.random((6, 2)), rng.random((2, 2))
    second = x.T @ y / 6
    mixed = np.mean((x @ w[:, 0]) * (y @ w[:, 1]))
    assert mixed == pytest.approx(w[:, 0] @ second @ w[:, 1])
    assert mixed != pytest.approx(w[:, 0] @ second @ w[:, 0], rel=0.05)


# The document


def test_the_document_has_one_entry_for_each_number_and_each_entry_names_tests_that_exist() -> None:
    text = DOCUMENT.read_text()
    in_table = [int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)]
    entries = re.split(r"^### (\d+)\. ", text, flags=re.MULTILINE)[1:]
    numbers = [int(number) for number in entries[::2]]
    assert numbers == in_table == list(range(1, len(numbers) + 1))
    assert len(numbers) >= 29
    named: set[str] = set()
    for number, entry in zip(numbers, entries[1::2], strict=True):
        tests = re.findall(r"tests/test_errata\.py::(\w+)", entry)
        assert tests, f"entry {number} names no test"
        named.update(tests)
    here = {name for name in globals() if name.startswith("test_") and "the_document" not in name}
    assert named == here
