"""Recurrences over layers: their ranges, order, limits, scaling and shapes, for any start."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from nsbench.theory.recurrences import (
    ffn_fixed_point,
    ffn_recurrence,
    ffn_second_moment,
    transformer_recurrence,
)

FFN_KINDS = ("published", "linear", "cosine", "pearson")
WEIGHTS = ("identity", "lecun", "he", "layer_norm")
TRANSFORMER_KINDS = ("published", "linear", "corrected", "identity", "random")
MEAN_SQUARED = 1 / (2 * math.pi)
FFN_RANGES = {
    "published": (0.0, 0.5),
    "linear": (MEAN_SQUARED - 0.25, MEAN_SQUARED + 0.25),
    "cosine": (0.0, 1.0),
    "pearson": (-MEAN_SQUARED / (0.5 - MEAN_SQUARED), 1.0),
}
"""Values at rho = -1 and at rho = 1, from s(-1) = 0 and s(1) = 1/2."""
rhos = st.floats(-1, 1)
depths = st.integers(0, 12)
norms = st.floats(0, 1)


def s(rho: float) -> float:
    """Theorem 5.1."""
    return (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)


def call_all(rho: object, depth: int) -> dict[str, np.ndarray]:
    """Every trajectory of the module, by its name."""
    return (
        {f"ffn {kind}": ffn_recurrence(rho, depth, kind) for kind in FFN_KINDS}
        | {f"moment {weights}": ffn_second_moment(rho, depth, weights) for weights in WEIGHTS}
        | {f"transformer {kind}": transformer_recurrence(rho, depth, 0.8, kind) for kind in TRANSFORMER_KINDS}
    )


@settings(deadline=None)  # Thirteen trajectories an example.
@given(rhos, rhos, depths)
def test_every_trajectory_starts_at_rho_rises_with_it_and_stays_within_one(a: float, b: float, depth: int) -> None:
    start = np.array([min(a, b), max(a, b)])
    for name, found in call_all(start, depth).items():
        assert found.shape == (depth + 1, 2), name
        assert found[0].tolist() == start.tolist(), name
        assert (found[:, 0] <= found[:, 1] + 1e-13).all(), name
        assert (np.abs(found) <= 1).all(), name
        if name not in ("ffn pearson", "ffn linear", "transformer linear"):
            assert (found[1:] >= 0).all(), name


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
@pytest.mark.parametrize("depth", [0, 1, 4])
def test_trajectories_have_layers_first(shape: tuple[int, ...], depth: int) -> None:
    start = np.random.default_rng(6).uniform(-1, 1, shape)
    for name, found in call_all(start, depth).items():
        assert found.shape == (depth + 1, *shape), name
        assert found.dtype == np.float64, name
        np.testing.assert_array_equal(found[0], start, err_msg=name)
        one_by_one = np.stack([call_all(rho, depth)[name] for rho in start.ravel()], 1).reshape(found.shape)
        np.testing.assert_allclose(found, one_by_one, rtol=1e-13, atol=1e-16, err_msg=name)


@pytest.mark.parametrize("kind", TRANSFORMER_KINDS)
def test_norms_of_values_broadcast_with_rho(kind: str) -> None:
    start, gamma = np.array([0.1, 0.5]), np.array([[0.0], [0.5], [1.0]])
    found = transformer_recurrence(start, 3, gamma, kind)
    assert found.shape == (4, 3, 2)
    for row, column in np.ndindex(3, 2):
        alone = transformer_recurrence(start[column], 3, gamma[row, 0], kind)
        assert found[:, row, column] == pytest.approx(alone, rel=1e-13)


@given(rhos)
def test_one_layer_stays_between_what_it_makes_of_opposite_and_of_equal_inputs(rho: float) -> None:
    for kind, (low, high) in FFN_RANGES.items():
        assert ffn_recurrence([-1.0, 1.0], 1, kind)[1] == pytest.approx([low, high], abs=1e-15), kind
        assert low - 1e-15 <= ffn_recurrence(rho, 1, kind)[1] <= high + 1e-15, kind


@given(rhos, depths)
def test_the_published_recurrence_halves_its_distance_and_the_linear_one_quarters_it(rho: float, depth: int) -> None:
    """s' = P(both positive) is at most 1/2."""
    layers = np.arange(depth + 1)
    for kind, rate in (("published", 0.5), ("linear", 0.25)):
        distance = np.abs(ffn_recurrence(rho, depth, kind) - ffn_fixed_point(kind))
        assert (distance <= rate**layers * distance[0] + 1e-15).all(), kind
    assert distance == pytest.approx(0.25**layers * distance[0], abs=1e-15)


@given(rhos, depths)
def test_similarity_grows_layer_by_layer_and_correlation_shrinks(rho: float, depth: int) -> None:
    """Both steps are convex and end at (1, 1); the first lies above the diagonal, the second crosses it at 0."""
    assert (np.diff(ffn_recurrence(rho, depth, "cosine")) >= -1e-15).all()
    assert (np.diff(np.abs(ffn_recurrence(rho, depth, "pearson"))) <= 1e-15).all()


@given(st.floats(-1, 0.999))
@settings(deadline=None, max_examples=20)  # Hundreds of layers an example.
def test_second_moments_reach_the_limits_of_their_weights(rho: float) -> None:
    depth = 400
    last = {weights: ffn_second_moment(rho, depth, weights)[-1] for weights in WEIGHTS}
    assert last["identity"] == pytest.approx(s(rho), abs=1e-15)
    assert last["lecun"] == pytest.approx(0.0, abs=1e-100)
    # What is missing meets its law of large depth, 9 pi^2 / (2 depth^2), from below.
    assert 0 < 1 - last["he"] < 4.5 * math.pi**2 / depth**2
    assert last["layer_norm"] == pytest.approx(MEAN_SQUARED, abs=1e-12)


@given(rhos, depths)
def test_halved_weights_halve_every_layer(rho: float, depth: int) -> None:
    layers = np.arange(depth + 1)
    he, lecun = (ffn_second_moment(rho, depth, weights) for weights in ("he", "lecun"))
    assert lecun == pytest.approx(0.5**layers * he, rel=1e-13)


@given(rhos, depths, norms)
def test_an_identity_and_random_values_scale_by_the_square_of_the_norm_in_each_layer(
    rho: float, depth: int, gamma: float
) -> None:
    factors = gamma ** (2 * np.arange(depth + 1))
    for kind in ("identity", "random"):
        at_one = transformer_recurrence(rho, depth, 1.0, kind)
        found = transformer_recurrence(rho, depth, gamma, kind)
        assert found == pytest.approx(factors * at_one, rel=1e-12, abs=1e-300), kind


@given(rhos, norms)
def test_the_first_layer_scales_its_input_as_printed_and_its_output_as_corrected(rho: float, gamma: float) -> None:
    square = gamma**2
    found = {kind: transformer_recurrence(rho, 1, gamma, kind)[1] for kind in TRANSFORMER_KINDS}
    assert found["published"] == pytest.approx(s(square * rho), abs=1e-15)
    assert found["linear"] == pytest.approx(MEAN_SQUARED + square * rho / 4, abs=1e-15)
    for kind in ("corrected", "identity", "random"):
        assert found[kind] == pytest.approx(square * s(rho), abs=1e-15), kind


@given(rhos, depths)
def test_values_of_norm_one_leave_a_feed_forward_network(rho: float, depth: int) -> None:
    """With attention the identity, only W_V is left: weights of that kind in front of each ReLU."""
    alone = {
        "published": ffn_recurrence(rho, depth, "published"),
        "linear": ffn_recurrence(rho, depth, "linear"),
        "corrected": ffn_recurrence(rho, depth, "published"),
        "identity": ffn_second_moment(rho, depth, "identity"),
        "random": ffn_second_moment(rho, depth, "lecun"),
    }
    for kind in TRANSFORMER_KINDS:
        assert transformer_recurrence(rho, depth, 1.0, kind) == pytest.approx(alone[kind], abs=1e-14), kind
    doubled = transformer_recurrence(rho, depth, math.sqrt(2), "random")
    assert doubled == pytest.approx(ffn_second_moment(rho, depth, "he"), rel=1e-13)


@given(st.floats(0, 1), depths, norms, norms)
def test_larger_norms_of_values_keep_more_of_a_positive_stability(rho: float, depth: int, a: float, b: float) -> None:
    for kind in TRANSFORMER_KINDS:
        low, high = transformer_recurrence(rho, depth, [min(a, b), max(a, b)], kind).T
        assert (low <= high + 1e-14).all(), kind


@given(rhos, norms)
@settings(deadline=None)
def test_transformer_recurrences_reach_their_fixed_points(rho: float, gamma: float) -> None:
    square = gamma**2
    last = {kind: transformer_recurrence(rho, 60, gamma, kind)[-1] for kind in TRANSFORMER_KINDS}
    assert last["linear"] == pytest.approx(2 / (math.pi * (4 - square)), abs=1e-14)
    assert last["published"] == pytest.approx(brentq(lambda x: s(square * x) - x, 0, 1, xtol=1e-15), abs=1e-14)
    assert last["corrected"] == pytest.approx(brentq(lambda x: square * s(x) - x, 0, 1, xtol=1e-15), abs=1e-14)
    assert 0 <= last["random"] <= 2.0**-60
    # At rho = 1 these are equal but for the rounding of 60 products; below 1e-300 numbers have fewer digits.
    assert 0 <= last["identity"] <= gamma**120 / 2 * (1 + 120 * sys.float_info.epsilon) + 1e-300
