"""Recurrences over layers against plain iteration and closed forms; tests/simulation has simulated networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbench.theory.recurrences import (
    ffn_fixed_point,
    ffn_recurrence,
    ffn_second_moment,
    transformer_recurrence,
)

FFN_KINDS = ("published", "linear", "cosine", "pearson")
WEIGHTS = ("identity", "lecun", "he", "layer_norm")
TRANSFORMER_KINDS = ("published", "corrected", "identity", "random")
STARTS = [-1.0, 0.0, 0.5, 1.0]
rhos = st.floats(-1, 1)


def s(rho: float) -> float:
    """Theorem 5.1."""
    rho = min(rho, 1.0)
    return (math.sqrt(1 - rho**2) + rho * (math.pi - math.acos(rho))) / (2 * math.pi)


FFN_STEPS: dict[str, Callable[[float], float]] = {
    "published": s,
    "linear": lambda rho: 1 / (2 * math.pi) + rho / 4,
    "cosine": lambda rho: s(rho) / s(1),
    "pearson": lambda rho: (s(rho) - s(0)) / (s(1) - s(0)),
}


def iterated(step: Callable[[float], float], rho: float, depth: int) -> list[float]:
    states = [rho]
    for _ in range(depth):
        states.append(step(states[-1]))
    return states


def second_moments(rho: float, depth: int, gain: float) -> list[float]:
    """E[h h'] layer by layer for W ~ N(0, gain/d), from E[h^2] and the cosine similarity before each layer."""
    square, product = 1.0, rho
    found = [product]
    for _ in range(depth):
        cosine = product / square if square else 0.0
        square, product = gain * square * s(1), gain * square * s(cosine)
        found.append(product)
    return found


@pytest.mark.parametrize("kind", FFN_KINDS)
@pytest.mark.parametrize("rho", STARTS)
def test_ffn_recurrence_equals_plain_iteration(kind: str, rho: float) -> None:
    assert ffn_recurrence(rho, 12, kind) == pytest.approx(iterated(FFN_STEPS[kind], rho, 12), abs=1e-13)


@pytest.mark.parametrize("kind", ["published", "linear", "pearson"])
def test_ffn_recurrences_reach_their_fixed_points(kind: str) -> None:
    last = ffn_recurrence([-1.0, -0.3, 0.0, 0.5, 0.99], 200, kind)[-1]
    np.testing.assert_allclose(last, ffn_fixed_point(kind), rtol=0, atol=1e-15)
    assert ffn_fixed_point("cosine") == 1


def test_cosine_similarity_reaches_one_as_slowly_as_stated() -> None:
    """1 - c after l layers is 9 pi^2 / (2 l^2) to first order, from every start."""
    found = ffn_recurrence([-0.9, 0.0, 0.9], 5000, "cosine")[-1]
    assert (1 - found) * 5000**2 == pytest.approx(4.5 * math.pi**2, rel=0.02)


@pytest.mark.parametrize("rho", STARTS)
def test_second_moments_equal_plain_iteration(rho: float) -> None:
    assert ffn_second_moment(rho, 9, "identity") == pytest.approx([rho] + [s(rho)] * 9, abs=1e-15)
    assert ffn_second_moment(rho, 9, "lecun") == pytest.approx(second_moments(rho, 9, 1.0), abs=1e-14)
    assert ffn_second_moment(rho, 9, "he") == pytest.approx(second_moments(rho, 9, 2.0), abs=1e-13)
    correlations = iterated(FFN_STEPS["pearson"], rho, 8)
    assert ffn_second_moment(rho, 9, "layer_norm") == pytest.approx([rho, *map(s, correlations)], abs=1e-13)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rho", STARTS)
def test_transformer_recurrence_equals_plain_iteration(rho: float, gamma: float) -> None:
    square = gamma**2
    exact = {
        "published": iterated(lambda state: s(square * state), rho, 8),
        "corrected": iterated(lambda state: square * s(state), rho, 8),
        "identity": [rho] + [gamma ** (2 * layer) * s(rho) for layer in range(1, 9)],
        "random": second_moments(rho, 8, square),
    }
    for kind in TRANSFORMER_KINDS:
        assert transformer_recurrence(rho, 8, gamma, kind) == pytest.approx(exact[kind], abs=1e-14), kind


@pytest.mark.parametrize(
    ("rho", "depth", "norm", "kind"),
    [
        (0.5, 1, 1.5, "published"),
        (-0.5, 1, 1.5, "published"),
        ([0.1, 0.5], 1, [1.0, 1.5], "published"),
        (0.1, 2, 2.0, "published"),
        (0.9, 2, 1.6, "corrected"),
    ],
)
def test_a_norm_that_takes_a_correlation_out_of_its_domain_is_named(
    rho: float, depth: int, norm: float, kind: str
) -> None:
    with pytest.raises(ValueError, match=r"^value_norm is too large"):
        transformer_recurrence(rho, depth, norm, kind)


def test_norms_above_one_pass_where_the_correlation_stays_one() -> None:
    assert transformer_recurrence(0.2, 1, 1.5, "published")[1] == pytest.approx(s(0.45))
    assert transformer_recurrence(0.2, 1, 1.5, "corrected")[1] == pytest.approx(2.25 * s(0.2))
    assert transformer_recurrence(0.5, 2, 2.0, "identity")[2] == pytest.approx(16 * s(0.5))
    assert transformer_recurrence(0.5, 2, 2.0, "random") == pytest.approx(second_moments(0.5, 2, 4.0))
    for kind, exact in {
        "identity": [-1.0, 0.0, 0.0],
        "random": [-1.0, 0.0, math.inf],
        "corrected": [-1.0, 0.0],
    }.items():
        assert transformer_recurrence(-1.0, len(exact) - 1, 1e200, kind).tolist() == exact


# --- for any start: shapes, order and limits ---------------------------------------------------------


def call_all(rho: object, depth: int) -> dict[str, np.ndarray]:
    """Every trajectory of the module, by its name."""
    return (
        {f"ffn {kind}": ffn_recurrence(rho, depth, kind) for kind in FFN_KINDS}
        | {f"moment {weights}": ffn_second_moment(rho, depth, weights) for weights in WEIGHTS}
        | {f"transformer {kind}": transformer_recurrence(rho, depth, 0.8, kind) for kind in TRANSFORMER_KINDS}
    )


@settings(deadline=None, max_examples=30)  # Twelve trajectories an example.
@given(rhos, rhos, st.integers(0, 12))
def test_every_trajectory_starts_at_rho_rises_with_it_and_stays_within_one(a: float, b: float, depth: int) -> None:
    start = np.array([min(a, b), max(a, b)])
    for name, found in call_all(start, depth).items():
        assert found.shape == (depth + 1, 2), name
        assert found[0].tolist() == start.tolist(), name
        assert (found[:, 0] <= found[:, 1] + 1e-13).all(), name
        assert (np.abs(found) <= 1).all(), name
        if name not in ("ffn pearson", "ffn linear"):
            assert (found[1:] >= 0).all(), name


@pytest.mark.parametrize(("shape", "depth"), [((), 1), ((2, 3), 0), ((2, 3), 4)])
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
