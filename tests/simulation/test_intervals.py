"""The simulated network against closed forms, its own definition, and the bounds on it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nsbench.config.theory import IntervalsExperiment
from nsbench.schemas import theory_labels as labels
from nsbench.simulation import intervals
from nsbench.theory.propagation import Layer, random_network
from tests.simulation.simulated import simulated
from tests.synthetic_theory import interval_curves


def settings(**changes: object) -> IntervalsExperiment:
    small = {"n_tokens": 3, "d_model": 3, "depth": 2, "logit_scales": [0.05, 0.5], "n_draws": 20, "n_pairs": 400}
    return IntervalsExperiment(**small | changes)


def by_key(chosen: IntervalsExperiment, seed: int = 0) -> dict[tuple[str, str, float], dict[str, float]]:
    return {(row["reading"], row["series"], row["x"]): row for row in simulated(chosen, seed)[0]}


def test_there_is_a_point_for_every_quantity_after_every_part_of_every_layer() -> None:
    chosen = settings()
    points = by_key(chosen)
    assert set(points) == {
        (labels.logit_scale(scale), labels.entry_moments(part, quantity), float(layer))
        for scale in chosen.logit_scales
        for part in ("attention", "MLP")
        for quantity in ("smallest", "mean", "largest")
        for layer in (1, 2)
    }
    assert all((row["n_draws"], row["n_pairs"]) == (20, 400) for row in points.values())


@pytest.mark.parametrize(("n", "rho"), [(3, 0.7), (1, 0.5)])
def test_without_logits_the_first_moments_are_those_of_a_linear_map(n: int, rho: float) -> None:
    """Attention is the mean over tokens: E[A A'] = 1/4 + rho W_V^T W_V / 12n, columns of W_V having sum 1."""
    chosen = settings(n_tokens=n, rho=rho, logit_scales=[1e-6], depth=1, n_pairs=4_000)
    points = by_key(chosen, 3)
    value = random_network(1, 3, 1e-6, 3)[0].value
    exact = 0.25 + rho / (12 * n) * value.T @ value
    for quantity, moment in (("smallest", exact.min()), ("mean", exact.diagonal().mean()), ("largest", exact.max())):
        row = points[labels.logit_scale(1e-6), labels.entry_moments("attention", quantity), 1.0]
        assert 0 < row["standard_error"] < 2e-3
        assert abs(row["value"] - moment) < 4 * row["standard_error"], quantity


def test_the_network_is_softmax_attention_then_a_relu() -> None:
    x = torch.rand(5, 3, 2, dtype=torch.float64)
    network = random_network(2, 2, 1.5, 1)
    tensors = [Layer(*map(torch.as_tensor, layer)) for layer in network]
    expected = x.numpy()
    found = iter(intervals.outputs(x, tensors))
    for layer in network:
        query, key, value = (expected @ weights for weights in layer[:3])
        weights = np.exp(np.einsum("pid,pkd->pik", query, key))
        expected = np.einsum("pik,pkd->pid", weights / weights.sum(-1, keepdims=True), value)
        np.testing.assert_allclose(next(found), expected, rtol=1e-12)
        expected = np.maximum(expected @ layer.mlp, 0)
        np.testing.assert_allclose(next(found), expected, rtol=1e-12)
    assert next(found, None) is None


def test_moment_sums_are_means_over_pairs_of_tokens() -> None:
    clean, noisy = torch.rand(2, 7, 3, 2, dtype=torch.float64)
    every = torch.einsum("pia,pkb->ikab", clean, noisy)
    same, other = intervals.moment_sums(clean, noisy)
    torch.testing.assert_close(same, sum(every[i, i] for i in range(3)) / 3)
    torch.testing.assert_close(other, sum(every[i, k] for i in range(3) for k in range(3) if i != k) / 6)
    (alone,) = intervals.moment_sums(clean[:, :1], noisy[:, :1])
    torch.testing.assert_close(alone, every[0, 0])


def test_noise_does_not_choose_the_values_that_it_spoils() -> None:
    """Moments that are all alike: means of four draws over 18 moments are as low as -0.9, but not those reported."""
    generator = torch.Generator().manual_seed(0)
    many = torch.randn(300, 4, 2, 3, 3, dtype=torch.float64, generator=generator)
    assert many.mean(1).flatten(1).min(1).values.mean() < -0.8
    for quantity in ("smallest", "largest"):
        means = torch.stack([intervals.quantities(moments)[quantity].mean() for moments in many])
        assert abs(means.mean()) < 4 * means.std() / math.sqrt(300) < 0.2
    moments = torch.randn(40, 2, 3, 3, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(intervals.quantities(moments)["mean"], moments[:, 0].diagonal(dim1=1, dim2=2).mean(-1))
    moments[:, 1, 0, 2] -= 5
    moments[:, 0, 1, 1] += 5
    found = intervals.quantities(moments)
    torch.testing.assert_close(found["smallest"], moments[:, 1, 0, 2])
    torch.testing.assert_close(found["largest"], moments[:, 0, 1, 1])


@pytest.mark.parametrize("rho", [0.0, 0.5])
def test_simulated_moments_lie_within_every_bound_on_them(rho: float) -> None:
    seen = 0
    for seed in range(3):
        chosen = settings(rho=rho, logit_scales=[0.02, 0.3, 1.0])
        points = by_key(chosen, seed)
        for row in interval_curves(chosen, seed).to_dict("records"):
            point = points[row["reading"], row["series"], row["x"]]
            room = 4.5 * point["standard_error"] + 1e-12
            if row["status"] == "lower":
                assert row["value"] <= point["value"] + room, row
            else:
                assert row["value"] >= point["value"] - room, row
            seen += 1
    assert seen == 3 * 3 * 3 * 4 * 4
