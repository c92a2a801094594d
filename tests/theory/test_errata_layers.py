"""Entries 9 to 18 of docs/errata.md: one attention layer, and many layers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import optimize

from nsbench.theory import (
    attention_pattern_stability,
    ffn_fixed_point,
    ffn_recurrence,
    ffn_second_moment,
    relu_stability,
    transformer_recurrence,
)
from tests.theory.evidence import (
    Array,
    attention_stability,
    close,
    pairs,
    softmax,
    square_gaussian,
    transformer_moments,
)

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
    fixed = 2 / (math.pi * (4 - gamma**2))  # of the linear form
    assert 1 / (2 * math.pi) + gamma**2 * fixed / 4 == pytest.approx(fixed)


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


def test_figure_10s_pattern_needs_value_weights_that_are_a_multiple_of_the_identity() -> None:
    s, layers = float(relu_stability(0.5)), np.arange(1, 5)
    for gamma in (1.0, 0.8):
        of_identity = transformer_moments(256, 4, gamma, rotate=False)
        assert np.allclose(of_identity, gamma ** (2 * layers) * s, rtol=0.05)
    assert np.allclose(transformer_recurrence(0.5, 4, 0.8, "identity")[1:], 0.8 ** (2 * layers) * s)
    rotated = transformer_moments(256, 4, 1.0, rotate=True)
    assert np.allclose(rotated, transformer_recurrence(0.5, 4, 1.0, "random")[1:], rtol=0.15)
    assert rotated[-1] < s / 5
