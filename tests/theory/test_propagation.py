"""Bounds on second moments against exact enumeration of small discrete inputs."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from nsbench.schemas import theory_labels as labels
from nsbench.theory import bounds, propagation
from nsbench.theory.bounds import Bounds
from nsbench.theory.propagation import METHODS, Layer, network_intervals, random_network

ROUNDING = 1e-12


def attended(x_STD: np.ndarray, query: np.ndarray, key: np.ndarray, value: np.ndarray) -> np.ndarray:
    """softmax_rows(X W_Q W_K^T X^T) X W_V for every state X."""
    logits = x_STD @ query @ key.T @ x_STD.swapaxes(1, 2)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ x_STD @ value


def moments(first_STD: np.ndarray, second_STD: np.ndarray, joint_SS: np.ndarray) -> np.ndarray:
    """E[F_ij G_i'j'] (nd, nd) where (F, G) are the states (s, s') with probability joint_SS."""
    flat = [array.reshape(len(array), -1) for array in (first_STD, second_STD)]
    return flat[0].T @ joint_SS @ flat[1]


# --- Lemma 12 -------------------------------------------------------------------------------------


def test_lemma_12_is_its_formula() -> None:
    query, key = np.array([[0.1, -0.2], [0.0, 0.1]]), np.array([[0.05, 0.0], [0.1, 0.1]])
    value = np.array([[1.0, 1.0], [0.5, -0.25]])
    # Columns of X W_V lie in [0.6, 1.2] + 0.5 [0.6, 1.2] and [0.6, 1.2] - 0.25 [0.6, 1.2]; R_l is of the second twice.
    assert propagation.one_sign(value, 0.6, 1.2)
    found = propagation.interval_of_moments(0.5, 0.75, query, key, value, 1.2)
    log_expansion = 4 * 2**2 * 1.2**2 * 0.3 * 0.2
    plus = {(0, 0): 2.25, (0, 1): 1.5, (1, 1): 1.0625}
    minus = {(0, 0): 0.0, (0, 1): -0.375, (1, 1): -0.5}
    least = min(0.5 * plus[pair] + 0.75 * minus[pair] for pair in plus)
    assert found.low == pytest.approx(least * math.exp(-log_expansion), rel=1e-14)
    assert found.high == pytest.approx(0.75 * 2.25 * math.exp(log_expansion), rel=1e-14)


def test_lemma_12_beyond_float64_is_infinite_and_zero() -> None:
    """d = 64, B = 3, norms 8: log E = 9.4e6."""
    weights = np.full((64, 64), 8 / 64)
    found = propagation.interval_of_moments(0.1, 1.0, weights, weights, weights, 3.0)
    assert (found.low, found.high) == (0.0, math.inf)


# --- the step through a ReLU -----------------------------------------------------------------------


def best_by_linear_program(ranges: np.ndarray, mean: np.ndarray, moment: float) -> tuple[float, float]:
    """The least and greatest E[ReLU(u) ReLU(v)] that ranges, means and E[u v] allow.

    1, u, v, u v and ReLU(u) ReLU(v) are bilinear between 0 and the ends, so laws on those nine points do.
    """
    u, v = (np.array([low, min(max(0.0, low), high), high]) for low, high in ranges)
    square = np.multiply.outer
    rows = [np.ones(9), *(square(*pair).ravel() for pair in ((u, v**0), (u**0, v), (u, v)))]
    target = square(np.maximum(u, 0), np.maximum(v, 0)).ravel()
    found = [linprog(sign * target, A_eq=rows, b_eq=[1.0, *mean, moment], method="highs") for sign in (1, -1)]
    assert all(result.status == 0 for result in found)
    return found[0].fun, -found[1].fun


def test_relu_moments_are_the_best_that_ranges_means_and_moments_allow() -> None:
    random = np.random.default_rng(3)
    for _ in range(60):
        ranges = np.sort(random.uniform(-1, 1, (2, 2)) + random.choice([0.0, 0.0, 1.5]), axis=1)
        points = random.uniform(ranges[:, 0], ranges[:, 1], (6, 2))
        chance = random.dirichlet(np.ones(6))
        mean, second = chance @ points, np.einsum("s,sa,sb->ab", chance, points, points)
        found = bounds.relu_moments(Bounds(*ranges.T), Bounds(mean, mean), Bounds(second[None], second[None]))
        lower, upper = best_by_linear_program(ranges, mean, second[0, 1])
        assert found.low[0, 0, 1] == pytest.approx(lower, abs=1e-7)
        assert found.high[0, 0, 1] == pytest.approx(upper, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.5))
def test_relu_moments_hold_for_every_law_within_uncertain_bounds(seed: int, slack: float) -> None:
    random = np.random.default_rng(seed)
    ranges = np.sort(random.uniform(-1, 1, (3, 2)) + random.choice([-0.8, 0.0, 0.8]), axis=1)
    points = random.uniform(ranges[:, 0], ranges[:, 1], (5, 3))
    chance = random.dirichlet(np.full(5, 0.5))
    mean, second = chance @ points, np.einsum("s,sa,sb->ab", chance, points, points)
    around = [
        Bounds(of - slack * random.random(of.shape), of + slack * random.random(of.shape)) for of in (mean, second)
    ]
    found = bounds.relu_moments(Bounds(*ranges.T), around[0], Bounds(*(end[None] for end in around[1])))
    positive = np.maximum(points, 0)
    exact = np.einsum("s,sa,sb->ab", chance, positive, positive)
    inside(exact, Bounds(found.low[0], found.high[0]), ROUNDING)


def test_relu_spread_holds_with_equality_for_mass_on_the_ends() -> None:
    """u = -1 with probability 0.1, else 1, about 0.5: the part that ReLU cuts off has mean 0.1."""
    drift, spread = np.array([0.3]), np.full((2, 1, 1, 1), 0.1 * 1.5**2 + 0.9 * 0.5**2)
    entries = Bounds(np.array([-1.0]), np.array([1.0]))
    centre, after, _ = bounds.relu_spread(np.array([0.5]), Bounds(drift, drift), Bounds(spread, spread), entries)
    assert centre == 0.5
    assert after.high == pytest.approx(0.9 - 0.5)
    assert after.low <= 0.9 - 0.5


# --- attention's weights ---------------------------------------------------------------------------


def test_bounds_on_softmax_weights_are_attained_by_two_tokens_of_one_number() -> None:
    """X = (1, 0) with logits m x_i x_k: row 0 has weights 1 / (1 + e^-m) and 1 / (1 + e^m)."""
    least, most = bounds.weight_factors(Bounds(np.zeros(1), np.ones(1)), np.array([[1.7]]), 2)
    assert (least, most) == pytest.approx((2 / (1 + math.exp(1.7)), 2 / (1 + math.exp(-1.7))), rel=1e-14)
    assert bounds.weight_factors(Bounds(np.zeros(1), np.ones(1)), np.array([[1.7]]), 1) == (1.0, 1.0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.3, 1.0, 4.0]))
def test_softmax_weights_lie_within_their_bounds(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    n, d = (int(size) for size in random.integers(1, (6, 4)))
    low, high = np.sort(random.uniform(-1, 1, (2, d)), axis=0)
    logits = scale * random.standard_normal((d, d))
    tokens = random.uniform(low, high, (200, n, d))
    tokens[:100] = np.where(random.random((100, n, d)) < 0.5, low, high)
    weights = np.exp(tokens @ logits @ tokens.swapaxes(1, 2))
    weights /= weights.sum(-1, keepdims=True)
    least, most = bounds.weight_factors(Bounds(low, high), logits, n)
    assert least <= n * weights.min() + ROUNDING
    assert n * weights.max() <= most + ROUNDING


def test_attention_spread_is_attained_where_each_row_attends_to_the_larger_token() -> None:
    """X is (1, 0) or (0, 1); with weights (1 + t)/2 and (1 - t)/2 on the larger and the smaller, A - 1/2 is t/2."""
    t = 0.3
    still = np.zeros(1)
    spread = np.broadcast_to(np.array([0.25, -0.25])[None, :, None, None], (2, 2, 1, 1))
    centre, drift, after = bounds.attention_spread(
        np.full(1, 0.5), Bounds(still, still), Bounds(spread, spread), np.ones((1, 1)), (1 - t, 1 + t), 2
    )
    assert centre == 0.5
    assert drift.high == pytest.approx(t / 2)
    assert drift.low == pytest.approx(-t / 2)
    np.testing.assert_allclose(after.high, (t / 2) ** 2)


# --- whole networks --------------------------------------------------------------------------------

LAWS = {
    "ends": (np.array([0.0, 0.5, 1.0]), np.array([1, 4, 1]) / 6),
    "spread": (0.5 + np.array([-1.0, 1.0]) / math.sqrt(12), np.array([0.5, 0.5])),
}
"""Laws on [0, 1] with the uniform's mean and variance: all that the bounds use of it."""
SIZES = {"ends": [(2, 2), (3, 1), (1, 3), (4, 1)], "spread": [(2, 3), (3, 2), (6, 1), (1, 5)]}


def inputs(law: str, n: int, d: int, rho: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All states (S, n, d), the joint law (S, S) of X and Y, and that of X and X."""
    values, chances = LAWS[law]
    states = np.array(list(itertools.product(values, repeat=n * d))).reshape(-1, n, d)
    joint = np.ones((1, 1))
    for _ in range(n * d):
        joint = np.kron(joint, rho * np.diag(chances) + (1 - rho) * np.multiply.outer(chances, chances))
    return states, joint, np.diag(joint.sum(1))


def exact_moments(network: list[Layer], states: np.ndarray, joint: np.ndarray) -> list[np.ndarray]:
    """Second moments after every part of every layer."""
    found = []
    for layer in network:
        states = attended(states, layer.query, layer.key, layer.value)
        found.append(moments(states, states, joint))
        states = np.maximum(states @ layer.mlp, 0)
        found.append(moments(states, states, joint))
    return found


def some_network(seed: int, d: int, kind: str) -> list[Layer]:
    """As `random_network`, or with weights of any sign."""
    random = np.random.default_rng(seed)
    scale = float(random.choice([0.01, 0.1, 0.3, 1.0, 3.0]))
    network = random_network(3, d, scale, seed)
    if kind == "positive":
        return [layer._replace(mlp=random.choice([-1, 1], p=[0.3, 0.7]) * layer.mlp) for layer in network]
    return [
        layer._replace(value=random.standard_normal((d, d)), mlp=random.standard_normal((d, d))) for layer in network
    ]


@pytest.mark.parametrize("kind", ["positive", "signed"])
@pytest.mark.parametrize("law", LAWS)
def test_every_method_s_bounds_hold_for_networks_enumerated_exactly(law: str, kind: str) -> None:
    seen = dict.fromkeys(METHODS, 0)
    for seed in range(32):
        n, d = SIZES[law][seed % 4]
        rho = [0.0, 0.3, 0.9, 1.0][seed // 4 % 4]
        network = some_network(seed, d, kind)
        exact = exact_moments(network, *inputs(law, n, d, rho)[:2])
        for method in METHODS:
            for found, of in zip(network_intervals(network, n, rho, method), exact, strict=True):
                if math.isnan(found.lower):
                    assert method == "lemma"
                    continue
                seen[method] += 1
                room = ROUNDING * (1 + np.abs(of).max())
                assert found.lower <= of.min() + room, (seed, method, found)
                assert of.max() <= found.upper + room, (seed, method, found)
                assert found.mean_lower <= of.diagonal().mean() + room, (seed, method, found)
                assert of.diagonal().mean() <= found.mean_upper + room, (seed, method, found)
    assert seen["range"] == seen["sharp"] == 32 * 6
    assert seen["lemma"] > 30  # values of one sign


def test_every_array_of_the_sharp_state_holds_for_networks_enumerated_exactly() -> None:
    """Not the reported ends alone: ranges, drifts, and each entry of moments and spreads, of (X, Y) and of (X, X)."""
    for seed in range(20):
        law = ["ends", "spread"][seed % 2]
        n, d = SIZES[law][seed // 2 % 4]
        rho = [0.0, 0.4, 1.0][seed % 3]
        states, joint, same = inputs(law, n, d, rho)
        known = propagation._inputs(d, n, rho)
        for layer in some_network(seed, d, ["positive", "signed"][seed // 2 % 2]):
            mixed = attended(states, layer.query, layer.key, layer.value)
            states = np.maximum(mixed @ layer.mlp, 0)
            after = propagation._through(known, layer, n, rho, "sharp")
            for of, state in zip((mixed, states), after, strict=True):
                room = ROUNDING * (1 + np.abs(of).max() ** 2)
                inside(of.min((0, 1)), state.entries, room)
                inside(of.max((0, 1)), state.entries, room)
                chance = joint.sum(1)
                inside(np.einsum("s,std->td", chance, of) - state.centre, state.drift, room)
                blocks = moments(of, of, joint).reshape(n, d, n, d).transpose(0, 2, 1, 3)
                about = of - state.centre
                for i in range(n):
                    for k in range(n):
                        place = int(i != k)
                        inside(blocks[i, k], Bounds(*(end[place] for end in state.moments)), room)
                        for copy, law_of_pair in enumerate((joint, same)):
                            spread = about[:, i].T @ law_of_pair @ about[:, k]
                            inside(spread, Bounds(*(end[copy, place] for end in state.spread)), room)
            known = after[1]


def inside(value: np.ndarray, within: Bounds, room: float) -> None:
    assert (within.low <= value + room).all()
    assert (value <= within.high + room).all()


@pytest.mark.parametrize(("scale", "rho"), [(0.001, 1.0), (0.03, 0.5), (0.3, 0.0), (1.0, 0.5)])
def test_sharp_bounds_lie_within_those_of_ranges_and_of_lemma_12(scale: float, rho: float) -> None:
    for seed in range(3):
        network = random_network(3, 3, scale, seed)
        sharp, lemma, ranges = (network_intervals(network, 3, rho, name) for name in ("sharp", "lemma", "range"))
        for best, *others in zip(sharp, lemma, ranges, strict=True):
            for other in others:
                for low in ("lower", "mean_lower"):
                    assert getattr(best, low) >= getattr(other, low) * (1 - ROUNDING)
                for high in ("upper", "mean_upper"):
                    assert getattr(best, high) <= getattr(other, high) * (1 + ROUNDING)


def test_bounds_collapse_to_the_exact_value_without_logits_and_with_positive_weights() -> None:
    """Attention is then the mean over tokens and the ReLU does nothing: moments are those of a linear map."""
    n, d, rho = 4, 3, 0.6
    network = [layer._replace(mlp=np.abs(layer.mlp)) for layer in random_network(3, d, 0.0, 5)]
    weights = np.eye(d)
    for place, found in enumerate(network_intervals(network, n, rho, "sharp")):
        layer = network[place // 2]
        weights = weights @ (layer.value if found.part == "attention" else layer.mlp)
        exact = 0.25 * np.multiply.outer(weights.sum(0), weights.sum(0)) + rho / (12 * n) * weights.T @ weights
        expected = (exact.min(), exact.max(), exact.diagonal().mean(), exact.diagonal().mean())
        assert found[2:] == pytest.approx(expected, rel=1e-12)


def test_the_range_method_is_products_of_ends() -> None:
    layer = Layer(np.eye(2), np.eye(2), np.array([[0.5, 0.1], [0.5, 0.3]]), np.array([[1.0, -1.0], [-0.5, 2.0]]))
    attention, mlp = network_intervals([layer], 3, 0.5, "range")
    assert attention[2:] == pytest.approx((0.0, 1.0, 0.0, (1.0 + 0.4**2) / 2))
    # Through W_V W_phi: columns [0.45, 0.35] and [-0.3, 0.1].
    assert mlp[2:] == pytest.approx((0.0, 0.8**2, 0.0, (0.8**2 + 0.1**2) / 2))


def test_where_values_change_sign_lemma_12_has_no_bound_from_there_on() -> None:
    network = random_network(3, 3, 0.01, 0)
    network[1] = network[1]._replace(value=network[1].value - 0.5)
    found = network_intervals(network, 3, 0.5, "lemma")
    assert [math.isnan(interval.upper) for interval in found] == [False] * 2 + [True] * 4
    assert [math.isnan(interval.mean_lower) for interval in found] == [False] * 2 + [True] * 4
    assert not any(math.isnan(interval.lower) for interval in network_intervals(network, 3, 0.5, "sharp"))


def test_weights_that_are_not_square_are_named() -> None:
    (layer,) = random_network(1, 2, 0.1, 0)
    for name, shape in (("value", (2, 3)), ("key", (3, 3)), ("query", (2,))):
        with pytest.raises(ValueError, match=r"has shape .*; allowed: square, the same for all weights"):
            network_intervals([layer._replace(**{name: np.ones(shape)})], 2, 0.5, "lemma")


def test_networks_of_one_seed_differ_by_the_logit_scale_alone() -> None:
    small, large = random_network(2, 4, 0.1, 3), random_network(2, 4, 0.2, 3)
    for first, second in zip(small, large, strict=True):
        np.testing.assert_allclose(2 * first.query, second.query)
        np.testing.assert_allclose(2 * first.key, second.key)
        np.testing.assert_array_equal(first.value, second.value)
        np.testing.assert_array_equal(first.mlp, second.mlp)
        np.testing.assert_allclose(first.value.sum(0), 1)
        assert first.value.min() >= 0
    assert min(layer.mlp.min() for layer in random_network(4, 4, 0.1, 0)) < 0
    assert not np.allclose(small[0].query, random_network(2, 4, 0.1, 4)[0].query)


def test_every_method_has_a_label() -> None:
    assert set(METHODS) == set(labels.INTERVAL_METHODS)
