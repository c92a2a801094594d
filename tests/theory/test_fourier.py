"""Weights by degree against closed forms, the Boolean transform, and sums over all pairs of inputs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nsbench.theory import boolean, degree_kernel, resampling_correlation, weights_by_degree

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("k", range(5))
def test_a_parity_of_k_bits_has_all_weight_at_degree_k(k: int) -> None:
    table = boolean.parity(4, range(k)).reshape([2] * 4)
    assert weights_by_degree(table, 4).tolist() == np.eye(5)[k].tolist()


def test_of_bits_they_are_those_of_the_boolean_transform() -> None:
    for n in (1, 7, 16):
        table = RANDOM.standard_normal(2**n)
        found = weights_by_degree(table.reshape([2] * n), n)
        np.testing.assert_allclose(found, boolean.weights_by_level(table), rtol=1e-9, atol=1e-12)


def test_addition_has_all_but_its_mean_at_degree_two_and_one_summand_at_degree_one() -> None:
    a, b = np.ogrid[:11, :11]
    answers = np.eye(11)[(a + b) % 11]
    np.testing.assert_allclose(weights_by_degree(answers, 2), [1 / 11, 0, 10 / 11], atol=1e-12)
    np.testing.assert_allclose(weights_by_degree(np.eye(11)[a + 0 * b], 2), [1 / 11, 10 / 11, 0], atol=1e-12)


@pytest.mark.parametrize(("n_tokens", "n_symbols"), [(3, 2), (3, 3), (2, 5)])
def test_the_kernel_and_the_stability_are_those_of_all_pairs(n_tokens: int, n_symbols: int) -> None:
    values = RANDOM.standard_normal([n_symbols] * n_tokens + [2])
    inputs = np.array(list(itertools.product(range(n_symbols), repeat=n_tokens)))
    agree = (inputs[:, None] == inputs).sum(-1)
    f = values.reshape(len(inputs), 2)
    weights = weights_by_degree(values, n_tokens)
    assert weights.sum() == pytest.approx((f**2).sum(1).mean())
    for degree in range(n_tokens + 1):
        kernel = degree_kernel(n_tokens, n_symbols, degree)
        assert ((f @ f.T) * kernel[agree]).mean() == pytest.approx(weights[degree])
    kappa = resampling_correlation(0.3, n_symbols)
    chances = (kappa + (1 - kappa) / n_symbols) ** agree * ((1 - kappa) / n_symbols) ** (n_tokens - agree)
    stability = ((f @ f.T) * chances).sum() / len(inputs)
    assert (kappa ** np.arange(n_tokens + 1) * weights).sum() == pytest.approx(stability)
