"""Simulations of one layer (figures 2, 3 and 9) against closed forms, exact small cases and direct code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy import integrate
from scipy.stats import norm
from torch import Tensor

from nsbench.config.theory import AttentionExperiment, PatternsExperiment, ReluExperiment
from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import correlate
from tests.simulation.simulated import assert_near, inputs, simulate, simulated, weights

PRINTED, SCALED = labels.ATTENTION_SCALINGS

# Figure 9: ReLU


def shifted_relu_product(rho: float, mean: float) -> float:
    """E[ReLU(m + X) ReLU(m + Y)] by quadrature over X, the mean over Y given X being known."""
    root = math.sqrt(1 - rho**2)

    def integrand(x: float) -> float:
        centre = mean + rho * x
        given_x = root * norm.pdf(centre / root) + centre * norm.cdf(centre / root) if root else max(centre, 0.0)
        return (mean + x) * given_x * norm.pdf(x)

    kinks = [-mean, 0.0] if mean > 0 else [-mean]
    return integrate.quad(integrand, -mean, 12, points=kinks, epsabs=1e-12)[0]


def test_products_of_relus_are_quadratures(device: torch.device) -> None:
    rhos, means = [-1.0, -0.5, 0.0, 0.3, 0.9, 1.0], [0.0, 0.5, -0.5]
    lines = simulate(ReluExperiment(rho=rhos, means=means, n_draws=50, n_pairs=20_000), device)
    for mean in means:
        line = lines[labels.RELU_READING, labels.mean(mean)]
        assert line["x"].tolist() == rhos
        assert_near(line, [shifted_relu_product(rho, mean) for rho in rhos])


# Figure 2: attention


def attention_settings(**values: Any) -> AttentionExperiment:
    return AttentionExperiment(
        **{"n_tokens": 8, "d_model": 64, "rho": [0.0, 0.5, 1.0], "ranks": [4], "n_draws": 50, "n_pairs": 40} | values
    )


def test_identity_attention_keeps_the_correlation(device: torch.device) -> None:
    lines = simulate(attention_settings(ranks=[48]), device)
    for kind in (labels.IDENTITY, labels.low_rank(48)):
        assert_near(lines[PRINTED, kind], [0.0, 0.5, 1.0], bias=1e-3)


def test_unstructured_attention_keeps_the_correlation_where_the_pattern_stays(device: torch.device) -> None:
    """Two tokens choose alike with probability 1/2 + arcsin(rho^2) / pi; the rest is of order 1/d."""
    rho = np.array([0.0, 0.4, 0.8, 1.0])
    settings = attention_settings(n_tokens=2, d_model=256, rho=rho.tolist(), n_pairs=100)
    line = simulate(settings, device)[PRINTED, labels.UNSTRUCTURED]
    assert_near(line, rho * (0.5 + np.arcsin(rho**2) / np.pi), bias=0.01)


def test_attention_is_what_its_definition_gives() -> None:
    """One draw's values again, from f(X) itself in float64; their mean is over draws, so they are summed."""
    settings = attention_settings(n_tokens=3, d_model=5, rho=[0.7], ranks=[2], n_draws=2, n_pairs=4)
    sums: dict[tuple[str, str], float] = {}
    for draw in range(2):
        x, z = (inputs("attention", name, draw, shape=(4, 3, 5)) for name in "XZ")
        y = correlate(x, z, 0.7).double()
        w = weights("attention", "W", draw, shape=(5, 5)).double()
        u = weights("attention", "U", 2, draw, shape=(5, 2)).double()
        kinds = {
            labels.IDENTITY: torch.eye(5).double(),
            labels.low_rank(2): u @ u.T / 2,
            labels.UNSTRUCTURED: w,
            labels.SMALL_UNSTRUCTURED: w / 5**0.5,
        }
        for series, square in kinds.items():
            for reading, scale in ((PRINTED, 1.0), (SCALED, 5**-0.5)):

                def f(h: Tensor, square: Tensor = square, scale: float = scale) -> Tensor:
                    return (h @ square @ h.mT * scale).softmax(-1) @ h

                key = (reading, series)
                sums[key] = sums.get(key, 0.0) + (f(x.double()) * f(y)).mean().item() / 2
    found = simulate(settings)
    assert {key: line["value"].item() for key, line in found.items()} == pytest.approx(sums, rel=1e-4, abs=1e-5)


# Figure 3: patterns


def test_patterns_stay_as_often_as_the_closed_form_says(device: torch.device) -> None:
    """n = 2 and n = 3 have closed forms (Cheng 1969); uncorrelated inputs agree by chance alone."""
    rho = np.array([0.0, 0.3, 0.6, 0.9, 1.0])
    c = rho**2
    full, half = np.arcsin(c), np.arcsin(c / 2)
    quadrant = (np.pi / 6 + full + half) / (4 * np.pi) + (np.pi**2 / 36 + full**2 - half**2) / (4 * np.pi**2)
    exact = {2: 0.5 + full / np.pi, 3: 3 * (1 / 16 + quadrant)}
    settings = PatternsExperiment(n_tokens=[2, 3], d_model=128, rho=rho.tolist(), n_draws=50, n_pairs=100)
    lines = simulate(settings, device)
    for n, values in exact.items():
        line = lines[labels.PATTERNS_READING, labels.n_tokens(n)]
        assert_near(line, values, bias=0.01)
        assert (line["value"][-1], line["standard_error"][-1]) == (1.0, 0.0)


def test_a_pattern_is_the_row_maximum_of_the_logits() -> None:
    """One draw after another again: rows attend, not columns."""
    settings = PatternsExperiment(n_tokens=[5], d_model=8, rho=[0.7], n_draws=2, n_pairs=9)
    share = 0.0
    for draw in range(2):
        x, z = (inputs("patterns", 5, draw, name, shape=(9, 5, 8)) for name in "XZ")
        w = weights("patterns", 5, draw, "W", shape=(8, 8))
        for clean, noisy in zip(x, correlate(x, z, 0.7), strict=True):
            chosen = [[np.argmax([float(row @ w @ other) for other in h]) for row in h] for h in (clean, noisy)]
            share += sum(a == b for a, b in zip(*chosen, strict=True)) / (5 * 9 * 2)
    line = simulate(settings)[labels.PATTERNS_READING, labels.n_tokens(5)]
    assert line["value"].item() == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("shown_rho", [0.01, 1.0])
def test_examples_of_patterns_are_two_attention_matrices_for_each_length(shown_rho: float) -> None:
    settings = PatternsExperiment(n_tokens=[4, 6], d_model=32, shown_rho=shown_rho, rho=[0.5], n_draws=2, n_pairs=2)
    _, examples = simulated(settings)
    for n in (4, 6):
        rows = [row for row in examples if row["series"] == labels.n_tokens(n)]
        clean, noisy = np.zeros((2, n, n))
        for row in rows:
            {"A_X": clean, "A_Y": noisy}[row["matrix"]][row["row"], row["column"]] = row["value"]
        assert len(rows) == 2 * n * n
        np.testing.assert_allclose([clean.sum(1), noisy.sum(1)], 1.0, atol=1e-5)
        assert np.allclose(clean, noisy) == (shown_rho == 1.0)
        x, w = inputs("patterns", n, 0, "X", shape=(n, 32)), weights("patterns", n, 0, "W", shape=(32, 32))
        np.testing.assert_allclose(clean, (x @ w @ x.T).softmax(-1).numpy(), atol=1e-3)
