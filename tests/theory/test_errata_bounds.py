"""Entries 19 to 28 of docs/errata.md: intervals, Boolean functions, Definition 6.1, the numbers of the experiments."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from nsbench.perturbations.tokens import resample_tokens
from nsbench.theory import (
    bonami_beckner_relu,
    boolean,
    resampling_correlation,
    tail_mass_bound_from_influence,
    tail_mass_bound_from_stability,
)
from nsbench.theory.propagation import interval_of_moments, one_sign
from tests.theory.evidence import (
    close,
    parity,
    softmax,
)

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
        assert not one_sign(np.ones((1, 1)), -bound, bound)


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
        assert one_sign(w_v, 0.1, 1.0)
        interval = interval_of_moments(second.min(), second.max(), w_q, w_k, w_v, 1.0)
        assert interval == (pytest.approx(low / e), pytest.approx(high * e))


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
    # A plateau scheduler of patience 10 multiplies the rate after each 11 epochs without a better loss than the first.
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=10, factor=0.8)
    rates = []
    for _ in range(1250):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(1.0)
    assert sum(rates[1:]) / 1e-3 == pytest.approx(11 / (1 - 0.8), abs=0.1)
    assert (min(rates), 8 * np.argmin(rates)) == (pytest.approx(4.36e-8, rel=0.01), 3968)
    # AdamW without gradients takes rate x decay of a weight in each step.
    shrunk = 1 - (1 - 0.001 * 0.001) ** 10_000
    assert shrunk == pytest.approx(0.00995, abs=1e-5)
