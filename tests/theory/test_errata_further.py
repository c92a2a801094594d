"""Entries 29 to 40 of docs/errata.md: misprints and further points."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from numpy.polynomial import hermite, hermite_e
from scipy import integrate, stats

from nsbench.theory import (
    boolean,
    ffn_recurrence,
    relu_stability,
)
from tests.theory.evidence import (
    close,
    half_mean,
    normalised,
    pairs,
    physicists,
    softmax,
    standard_mean,
    standard_stability,
    transformer_moments,
)

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


# Entries 30-40: further points


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
