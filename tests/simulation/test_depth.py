"""Simulations of deep networks (figures 4a, 4b and 10) against their limits, exact small cases and direct code."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from nsbench.config.theory import FeedForwardExperiment, RecurrenceExperiment, TransformerExperiment
from nsbench.schemas import theory_labels as labels
from nsbench.simulation import feed_forward, transformer
from nsbench.simulation.montecarlo import correlate
from tests.simulation.simulated import assert_near, inputs, relu_product, simulate, weights


def iterated(step: Any, rho: float, depth: int) -> list[float]:
    values = [rho]
    for _ in range(depth):
        values.append(float(step(values[-1])))
    return values


# Figure 4a: feed-forward networks


def wide_second_moments(gain: float, rho: float, depth: int) -> list[float]:
    """E[h_l(X) h_l(Y)] for weights of N(0, gain/d), d large: (c, q) -> gain q s(c), gain q / 2, c -> 2 s(c)."""
    values, size, cosine = [rho], 1.0, rho
    for _ in range(depth):
        values.append(gain * size * float(relu_product(cosine)))
        size, cosine = gain * size / 2, 2 * float(relu_product(cosine))
    return values


def normed_second_moments(rho: float, depth: int) -> list[float]:
    pearson = iterated(lambda r: (relu_product(r) - 1 / (2 * np.pi)) / (0.5 - 1 / (2 * np.pi)), rho, depth)
    return [rho, *(float(relu_product(r)) for r in pearson[:-1])]


def test_second_moments_of_networks_are_those_of_wide_ones(device: torch.device) -> None:
    rhos = [0.0, 0.5, 1.0]
    lines = simulate(FeedForwardExperiment(width=256, depth=4, rho=rhos, n_draws=60, n_pairs=20), device)
    for rho in rhos:
        exact = {
            "identity": [rho, *[float(relu_product(rho))] * 4],
            "lecun": wide_second_moments(1.0, rho, 4),
            "he": wide_second_moments(2.0, rho, 4),
            "layer_norm": normed_second_moments(rho, 4),
        }
        for kind, reading in labels.FEED_FORWARD_WEIGHTS.items():
            line = lines[reading, labels.correlation(rho)]
            assert line["x"].tolist() == [0, 1, 2, 3, 4]
            assert_near(line, exact[kind], bias=0.005)


def test_a_layer_norm_sees_neither_scale_nor_shift(device: torch.device) -> None:
    generator = torch.Generator(device).manual_seed(0)
    h, w = (torch.randn(rows, 40, generator=generator, device=device) for rows in (7, 40))
    arrays = [h, 3.0 * h + 2.0, torch.zeros_like(h)]
    feed_forward.pass_layer("layer_norm", arrays, w)
    plain, moved, flat = arrays
    torch.testing.assert_close(plain, moved, rtol=1e-4, atol=1e-5)
    normed = (h - h.mean(1, keepdim=True)) / h.std(1, keepdim=True, correction=0)
    torch.testing.assert_close(plain, (normed @ w / 40**0.5).relu(), rtol=1e-4, atol=1e-5)
    assert (flat == 0).all()


def test_a_network_is_what_its_definition_gives() -> None:
    """Two draws of two layers again, each layer's weights from its own stream."""
    settings = FeedForwardExperiment(width=5, depth=2, rho=[0.7], n_draws=2, n_pairs=4)
    values = np.zeros(3)
    for draw in range(2):
        x, z = (inputs("feed_forward", name, draw, shape=(4, 5)) for name in "XZ")
        y = correlate(x, z, 0.7)
        values[0] += (x * y).mean().item() / 2
        for layer in (1, 2):
            w = weights("feed_forward", "W", draw, layer, shape=(5, 5))
            x, y = ((h @ w * (2 / 5) ** 0.5).relu() for h in (x, y))
            values[layer] += (x * y).mean().item() / 2
    line = simulate(settings)[labels.FEED_FORWARD_WEIGHTS["he"], labels.correlation(0.7)]
    np.testing.assert_allclose(line["value"], values, rtol=1e-5)


# Figure 4b: recurrences


def test_recurrences_follow_their_maps(device: torch.device) -> None:
    starts = [0.0, 0.5, 1.0]
    lines = simulate(RecurrenceExperiment(width=256, depth=4, rho=starts, n_draws=40, n_pairs=20), device)
    maps = {
        "published": relu_product,
        "cosine": lambda r: 2 * relu_product(min(r, 1.0)),
        "pearson": lambda r: (relu_product(min(r, 1.0)) - 1 / (2 * np.pi)) / (0.5 - 1 / (2 * np.pi)),
    }
    wanted = {(labels.correlation(start), labels.RECURRENCE_KINDS[kind]) for start in starts for kind in maps}
    assert set(lines) == wanted
    for start in starts:
        for kind, step in maps.items():
            line = lines[labels.correlation(start), labels.RECURRENCE_KINDS[kind]]
            assert line["x"].tolist() == [0, 1, 2, 3, 4]
            assert_near(line, iterated(step, start, 4), bias=0.01)


def test_estimates_above_one_are_no_correlations() -> None:
    """The mean of two squared ReLUs often passes 1."""
    lines = simulate(RecurrenceExperiment(width=2, depth=2, rho=[1.0], n_draws=50, n_pairs=1))
    values = lines[labels.correlation(1.0), labels.RECURRENCE_KINDS["published"]]["value"]
    assert ((values > 0) & (values <= 1)).all()


def test_networks_of_two_units_whose_layers_die_give_numbers() -> None:
    lines = simulate(RecurrenceExperiment(width=2, depth=6, rho=[0.5], n_draws=20, n_pairs=20))
    for line in lines.values():
        assert np.isfinite(line["value"]).all()
        assert (np.abs(line["value"]) <= 1 + 1e-12).all()


# Figure 10: transformers


def transformer_settings(**values: Any) -> TransformerExperiment:
    return TransformerExperiment(
        **{"n_tokens": 4, "d_model": 128, "depth": 3, "value_norms": [0.0, 0.9, 1.0], "n_draws": 40, "n_pairs": 8}
        | values
    )


def test_second_moments_of_transformers_are_those_of_wide_ones(device: torch.device) -> None:
    """W_V = gamma I: gamma^(2l) s(rho), exactly, while attention is the identity; random W_V: as a ReLU network."""
    lines = simulate(transformer_settings(), device)
    for gamma in (0.9, 1.0):
        exact = {kind: wide_second_moments(gamma**2, 0.5, 3) for kind in ("orthogonal", "gaussian")}
        exact["identity"] = [0.5, *(gamma ** (2 * layer) * float(relu_product(0.5)) for layer in (1, 2, 3))]
        for kind, values in exact.items():
            line = lines[labels.VALUE_WEIGHTS[kind], labels.value_norm(gamma)]
            assert line["x"].tolist() == [0, 1, 2, 3]
            assert_near(line, values, bias=0.01)


def test_small_value_weights_do_not_underflow(device: torch.device) -> None:
    """gamma = 1e-3: after 8 layers the values are 1e-48, far below the least float32."""
    settings = transformer_settings(n_tokens=1, d_model=8, depth=8, value_norms=[1e-3], n_draws=20)
    line = simulate(settings, device)[labels.VALUE_WEIGHTS["identity"], labels.value_norm(1e-3)]
    np.testing.assert_allclose(line["value"][2:] / line["value"][1:-1], 1e-6, rtol=1e-9)
    assert 0 < line["value"][-1] < 1e-45


def test_orthogonal_value_weights_are_haar() -> None:
    """Q Q^T = I, and entries have mean 0 and mean square 1/d; without the signs' fix the diagonal's mean is not 0."""
    generator = torch.Generator().manual_seed(0)
    draws = [transformer.value_weights("orthogonal", torch.randn(4, 4, generator=generator)) for _ in range(2000)]
    q = torch.stack(draws)
    torch.testing.assert_close(q @ q.mT, torch.eye(4).expand(2000, 4, 4), atol=1e-5, rtol=0)
    assert q.mean(0).abs().max().item() < 4.5 * math.sqrt(0.25 / 2000)
    assert (q**2).mean(0).sub(0.25).abs().max().item() < 4.5 * math.sqrt(0.125 / 2000)


def test_a_transformer_layer_is_what_its_definition_gives() -> None:
    h = torch.tensor([[1.0, -1.0], [0.0, 2.0]], dtype=torch.float64)
    v = torch.tensor([[0.5, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    rows = []
    for row in h:
        shares = [math.exp(float(row @ other)) for other in h]
        mixed = sum(share * other for share, other in zip(shares, h, strict=True)) / sum(shares)
        rows.append([max(0.0, 0.7 * float(mixed @ column)) for column in v.T])
    torch.testing.assert_close(transformer.next_layer(h[None], 0.7, v)[0], torch.tensor(rows, dtype=torch.float64))
    eye = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(transformer.next_layer(h[None], 0.7, None), transformer.next_layer(h[None], 0.7, eye))
