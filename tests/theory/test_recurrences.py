"""Recurrences over layers against plain iteration, closed forms, and simulated wide networks."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from nsbench.theory.recurrences import (
    ffn_fixed_point,
    ffn_recurrence,
    ffn_second_moment,
    transformer_recurrence,
)

FFN_KINDS = ("published", "linear", "cosine", "pearson")
WEIGHTS = ("identity", "lecun", "he", "layer_norm")
TRANSFORMER_KINDS = ("published", "linear", "corrected", "identity", "random")
STARTS = [-1.0, -0.6, 0.0, 0.2, 0.5, 0.9, 1.0]


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


def test_the_linear_recurrence_equals_its_printed_solution() -> None:
    """Section 5.3, from rho_1 = 1/2."""
    found = ffn_recurrence(0.5, 10, "linear")
    limit = 2 / (3 * math.pi)
    assert found == pytest.approx([limit + (0.5 - limit) * 0.25 ** (layer - 1) for layer in range(1, 12)], abs=1e-15)


@pytest.mark.parametrize("kind", ["published", "linear", "pearson"])
@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.0, 0.5, 0.99])
def test_ffn_recurrences_reach_their_fixed_points(kind: str, rho: float) -> None:
    assert ffn_recurrence(rho, 200, kind)[-1] == pytest.approx(ffn_fixed_point(kind), abs=1e-15)


def test_fixed_points_have_their_closed_forms() -> None:
    """docs/errata.md, entry 15: Equation 5 goes to 0.21723, its linear form to 0.21221, 2.3% less."""
    fixed = ffn_fixed_point("published")
    assert fixed == pytest.approx(0.2172336282, abs=5e-11)
    assert s(fixed) == pytest.approx(fixed, abs=1e-15)
    angle = math.sqrt(1 / fixed**2 - 1)
    assert math.pi < angle < 1.5 * math.pi
    assert math.tan(angle) == pytest.approx(angle, rel=1e-10)
    assert ffn_fixed_point("linear") == 2 / (3 * math.pi) == pytest.approx(0.2122066, abs=1e-7)
    assert 1 - ffn_fixed_point("linear") / fixed == pytest.approx(0.0231, abs=1e-4)
    assert [ffn_fixed_point(kind) for kind in ("cosine", "pearson")] == [1.0, 0.0]


def test_cosine_similarity_reaches_one_as_slowly_as_stated() -> None:
    """1 - c after l layers is 9 pi^2 / (2 l^2) to first order, from every start."""
    found = ffn_recurrence([-0.9, 0.0, 0.9], 5000, "cosine")[-1]
    assert (1 - found) * 5000**2 == pytest.approx(4.5 * math.pi**2, rel=0.02)


def test_relu_dampens_above_the_fixed_point_only_and_cosine_similarity_always_rises() -> None:
    """docs/errata.md, entry 16."""
    grid = np.linspace(-1, 1, 400, endpoint=False)
    after = ffn_recurrence(grid, 1, "published")[1]
    assert np.array_equal(after < grid, grid > 0.2172336282)
    assert (ffn_recurrence(grid, 1, "cosine")[1] > grid).all()


def test_what_equation_5_puts_out_is_no_correlation() -> None:
    """docs/errata.md, entry 15: equal inputs stay equal, and Equation 5 says 1/2."""
    assert ffn_recurrence(1.0, 3, "published")[1] == 0.5
    for kind in ("cosine", "pearson"):
        assert ffn_recurrence(1.0, 3, kind).tolist() == [1.0] * 4


@pytest.mark.parametrize("rho", STARTS)
def test_second_moments_equal_plain_iteration(rho: float) -> None:
    assert ffn_second_moment(rho, 9, "identity") == pytest.approx([rho] + [s(rho)] * 9, abs=1e-15)
    assert ffn_second_moment(rho, 9, "lecun") == pytest.approx(second_moments(rho, 9, 1.0), abs=1e-14)
    assert ffn_second_moment(rho, 9, "he") == pytest.approx(second_moments(rho, 9, 2.0), abs=1e-13)
    correlations = iterated(FFN_STEPS["pearson"], rho, 8)
    assert ffn_second_moment(rho, 9, "layer_norm") == pytest.approx([rho, *map(s, correlations)], abs=1e-13)


def relu_layers(weights: str, width: int, depth: int, inputs: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Activations (width, inputs) after each layer of one random network."""
    h, layers = inputs, [inputs]
    for _ in range(depth):
        if weights == "layer_norm":
            h = (h - h.mean(0)) / h.std(0)
        if weights != "identity":
            matrix = rng.standard_normal((width, width), dtype=np.float32)
            h = matrix @ h * np.float32(math.sqrt((2 if weights == "he" else 1) / width))
        h = np.maximum(h, 0)
        layers.append(h)
    return layers


def assert_near_limit(found: np.ndarray, limit: np.ndarray, width: int) -> None:
    """Means over draws (draws, ...): within 5 standard errors and a bias of 5 / width of the limit."""
    error = found.std(0, ddof=1) / math.sqrt(len(found))
    assert (np.abs(found.mean(0) - limit) < 5 * error + 5 / width * np.abs(limit) + 1e-6).all()
    assert (error < 0.05 * np.abs(limit) + 0.005).all()


@pytest.mark.parametrize("weights", WEIGHTS)
def test_second_moments_equal_wide_random_networks(weights: str) -> None:
    width, depth, n_pairs, n_draws = 2000, 3, 20, 8
    rng = np.random.default_rng(4)
    starts = np.array([-0.5, 0.0, 0.5, 0.9])
    found = []
    for _ in range(n_draws):
        x, z = rng.standard_normal((2, width, 1, n_pairs), dtype=np.float32)
        y = starts[:, None] * x + np.sqrt(1 - starts**2)[:, None] * z
        inputs = np.concatenate([x, y], axis=1).astype(np.float32).reshape(width, -1)
        layers = [h.reshape(width, 5, n_pairs) for h in relu_layers(weights, width, depth, inputs, rng)]
        found.append([(h[:, :1] * h[:, 1:]).mean((0, 2)) for h in layers])
    assert_near_limit(np.array(found), ffn_second_moment(starts, depth, weights), width)


def test_the_weights_decide_what_a_deep_network_does() -> None:
    """docs/errata.md, entry 18: 8 layers from rho = 1/2."""
    after = {weights: ffn_second_moment(0.5, 8, weights)[-1] for weights in WEIGHTS}
    assert after["identity"] == pytest.approx(0.3045, abs=1e-4)
    assert after["lecun"] == pytest.approx(0.0034, abs=1e-4)
    assert after["he"] == pytest.approx(0.8722, abs=1e-4)
    assert abs(after["identity"] - ffn_fixed_point("published")) > 0.08


@pytest.mark.parametrize("weights", WEIGHTS)
def test_equal_inputs_have_the_second_moment_of_one_unit(weights: str) -> None:
    exact = {"identity": [1] + [0.5] * 5, "lecun": 0.5 ** np.arange(6), "he": [1] * 6, "layer_norm": [1] + [0.5] * 5}
    assert ffn_second_moment(1.0, 5, weights) == pytest.approx(np.array(exact[weights], float))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("rho", STARTS)
def test_transformer_recurrence_equals_plain_iteration(rho: float, gamma: float) -> None:
    square = gamma**2
    exact = {
        "published": iterated(lambda state: s(square * state), rho, 8),
        "linear": iterated(lambda state: 1 / (2 * math.pi) + square * state / 4, rho, 8),
        "corrected": iterated(lambda state: square * s(state), rho, 8),
        "identity": [rho] + [gamma ** (2 * layer) * s(rho) for layer in range(1, 9)],
        "random": second_moments(rho, 8, square),
    }
    for kind in TRANSFORMER_KINDS:
        assert transformer_recurrence(rho, 8, gamma, kind) == pytest.approx(exact[kind], abs=1e-14), kind


def test_the_linear_transformer_recurrence_equals_its_printed_solution() -> None:
    """Appendix H, from rho_1 = 1/2; its fixed point is 2 / (pi (4 - gamma^2))."""
    for gamma in (0.0, 0.7, 1.0):
        limit, rate = 2 / (math.pi * (4 - gamma**2)), gamma**2 / 4
        exact = [limit + (0.5 - limit) * rate ** (layer - 1) for layer in range(1, 12)]
        assert transformer_recurrence(0.5, 10, gamma, "linear") == pytest.approx(exact, abs=1e-15)


def attention_layers(values: list[np.ndarray], inputs: np.ndarray) -> list[np.ndarray]:
    """Tokens (inputs, n, d) after each layer ReLU(softmax(X X^T) X W_V)."""
    x, layers = inputs, [inputs]
    for w_v in values:
        logits = x @ x.transpose(0, 2, 1)
        attention = np.exp(logits - logits.max(-1, keepdims=True))
        attention /= attention.sum(-1, keepdims=True)
        x = np.maximum(attention @ x @ w_v, 0)
        layers.append(x)
    return layers


def value_matrix(value_weights: str, gamma: float, width: int, rng: np.random.Generator) -> np.ndarray:
    if value_weights == "identity":
        return gamma * np.eye(width)
    matrix = rng.standard_normal((width, width))
    if value_weights == "gaussian":
        return gamma / math.sqrt(width) * matrix
    rotation, triangle = np.linalg.qr(matrix)
    # Without these signs the rotation is not uniform: its diagonal would lean to one side.
    return gamma * rotation * np.sign(np.diag(triangle))


@pytest.mark.parametrize(
    ("value_weights", "kind"), [("identity", "identity"), ("gaussian", "random"), ("orthogonal", "random")]
)
@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_transformer_recurrence_equals_wide_attention_layers(value_weights: str, kind: str, gamma: float) -> None:
    width, depth, n_pairs, n_draws, rho = 400, 3, 8, 20, 0.5
    rng = np.random.default_rng(5)
    found = []
    for _ in range(n_draws):
        x, z = rng.standard_normal((2, n_pairs, 3, width))
        values = [value_matrix(value_weights, gamma, width, rng) for _ in range(depth)]
        layers = attention_layers(values, np.concatenate([x, rho * x + math.sqrt(1 - rho**2) * z]))
        found.append([(h[:n_pairs] * h[n_pairs:]).mean() for h in layers])
    assert_near_limit(np.array(found), transformer_recurrence(rho, depth, gamma, kind), width)


def test_without_values_the_printed_recurrence_is_not_zero() -> None:
    """docs/errata.md, entry 17: at gamma = 0 the output is 0, and Equation 8 gives 1/(2 pi)."""
    for kind in ("published", "linear"):
        assert transformer_recurrence(0.5, 3, 0.0, kind)[1:] == pytest.approx([1 / (2 * math.pi)] * 3)
    for kind in ("corrected", "identity", "random"):
        assert transformer_recurrence(0.5, 3, 0.0, kind).tolist() == [0.5, 0.0, 0.0, 0.0]


def test_only_an_identity_of_norm_one_leaves_stability_standing() -> None:
    """docs/errata.md, entry 18: W_V = gamma I keeps s(rho) at gamma = 1; a random W_V dampens it there too."""
    assert transformer_recurrence(0.5, 30, 1.0, "identity")[1:] == pytest.approx([s(0.5)] * 30)
    assert transformer_recurrence(0.5, 30, 1.0, "random")[-1] < 1e-8
    assert transformer_recurrence(0.5, 30, 0.5, "identity")[-1] < 1e-8


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: ffn_recurrence(1.1, 2, "cosine"), "rho"),
        (lambda: ffn_recurrence([0.0, math.nan], 2, "cosine"), "rho"),
        (lambda: ffn_recurrence(0.5, -1, "cosine"), "depth"),
        (lambda: ffn_recurrence(0.5, 2.0, "cosine"), "depth"),
        (lambda: ffn_recurrence(0.5, 2, "sine"), "kind"),
        (lambda: ffn_fixed_point("sine"), "kind"),
        (lambda: ffn_second_moment(-1.1, 2, "he"), "rho"),
        (lambda: ffn_second_moment(0.5, -1, "he"), "depth"),
        (lambda: ffn_second_moment(0.5, 2, "xavier"), "weights"),
        (lambda: transformer_recurrence(1.1, 2, 1.0, "random"), "rho"),
        (lambda: transformer_recurrence(0.5, -1, 1.0, "random"), "depth"),
        (lambda: transformer_recurrence(0.5, 2, -0.1, "random"), "value_norm"),
        (lambda: transformer_recurrence(0.5, 2, 1.0, "sine"), "kind"),
        (lambda: transformer_recurrence(0.5, 1, 1.5, "published"), "value_norm"),
        (lambda: transformer_recurrence(-0.5, 1, 1.5, "linear"), "value_norm"),
        (lambda: transformer_recurrence([0.1, 0.5], 1, [1.0, 1.5], "linear"), "value_norm"),
        (lambda: transformer_recurrence(0.1, 2, 2.0, "published"), "value_norm"),
        (lambda: transformer_recurrence(0.9, 2, 1.6, "corrected"), "value_norm"),
    ],
)
def test_an_argument_outside_its_domain_is_named(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} "):
        call()


def test_norms_above_one_pass_where_the_correlation_stays_one() -> None:
    assert transformer_recurrence(0.2, 1, 1.5, "published")[1] == pytest.approx(s(0.45))
    assert transformer_recurrence(0.2, 1, 1.5, "corrected")[1] == pytest.approx(2.25 * s(0.2))
    assert transformer_recurrence(0.5, 2, 2.0, "identity")[2] == pytest.approx(16 * s(0.5))
    assert transformer_recurrence(0.5, 2, 2.0, "random") == pytest.approx(second_moments(0.5, 2, 4.0))
