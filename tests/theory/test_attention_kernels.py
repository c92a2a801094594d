"""Kernels of linear attention against random networks with many heads, closed forms and enumeration."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from nsbench.theory import boolean
from nsbench.theory.attention_kernels import (
    EMBEDDINGS,
    OF_OVERLAP,
    kernel_matrix,
    linear_attention_kernel,
    linear_attention_overlap,
    parity_quotients,
)
from nsbench.theory.kernels import cube_spectrum, overlaps

Array = NDArray[np.float64]
X, Y, ONES = np.array([1.0, 1.0, -1.0, 1.0]), np.array([1.0, -1.0, -1.0, -1.0]), np.ones(4)


def embedded(bits: Array, embedding: str) -> Array:
    """Token vectors (n, width), written out."""
    n, spot = len(bits), np.eye(len(bits))
    symbol = np.stack([bits > 0, bits < 0], axis=1) * 1.0
    return {
        "position_symbol": (spot[:, :, None] * symbol[:, None, :]).reshape(n, -1),
        "signed_position": spot * bits[:, None],
        "additive": np.concatenate([symbol, spot], axis=1) / math.sqrt(2),
        "scalar": bits[:, None],
    }[embedding]


def attention(inputs: list[Array], heads: int, width: int, random: np.random.Generator) -> list[Array]:
    """A layer of random linear attention with heads of width 4, logits over the root of that: (n, width) of each."""
    q_HCK, k_HCK, v_HCK = random.standard_normal((3, heads, inputs[0].shape[1], 4))
    o_HKC = random.standard_normal((heads, 4, width)) / math.sqrt(4 * heads)
    return [((h @ q_HCK) @ (h @ k_HCK).mT / 2 @ (h @ v_HCK) @ o_HKC).sum(0) for h in inputs]


def near(values: list[float], exact: float, least: float) -> None:
    """The mean is within its standard errors, which are small enough for this to say something."""
    error = np.std(values, ddof=1) / math.sqrt(len(values))
    assert error < least
    assert abs(np.mean(values) - exact) <= 4.5 * error, (np.mean(values), exact, error)


@pytest.mark.parametrize("embedding", EMBEDDINGS)
def test_one_layer_is_that_of_random_attention(embedding: str) -> None:
    """Its second moment is exact for any number of heads."""
    random, found = np.random.default_rng(1), []
    ones = embedded(ONES, embedding)
    scale = ((ones @ ones.T) ** 2).sum()
    for _ in range(2000):
        x, y = attention([embedded(bits, embedding) for bits in (X, Y)], 8, 16, random)
        found.append(float(x.mean(0) @ y.mean(0)) / 16 / scale)
    near(found, float(linear_attention_kernel(X, Y, embedding)), least=0.015)


@pytest.mark.parametrize(
    ("embedding", "depth", "heads"), [("position_symbol", 1, 64), ("additive", 1, 64), ("additive", 2, 256)]
)
def test_with_dense_layers_they_are_those_of_many_heads(embedding: str, depth: int, heads: int) -> None:
    """Up to scale, which ReLU layers carry through: the kernel at (x, y) less its share of the kernel at (1, 1)."""
    random, found, width = np.random.default_rng(2), [], 64
    share = linear_attention_kernel(X, Y, embedding, depth, "relu")
    share /= linear_attention_kernel(ONES, ONES, embedding, depth, "relu")
    for _ in range(100):
        inputs = [embedded(bits, embedding) for bits in (X, Y, ONES)]
        for _layer in range(depth):
            inputs = attention(inputs, heads, width, random)
            inputs = [np.maximum(h, 0.0) / math.sqrt(width) for h in inputs]
        x, y, ones = (h.mean(0) for h in inputs)
        found.append([x @ y, ones @ ones])
    at_ones = np.mean(found, axis=0)[1]
    near([(one - share * other) / at_ones for one, other in found], 0.0, least=0.02)


def test_closed_forms_where_each_position_has_embeddings_of_its_own() -> None:
    d = 9
    for depth in (1, 2, 3):
        power = (3**depth + 1) / 2
        assert linear_attention_overlap(d, "position_symbol", depth) * d == pytest.approx(
            ((1 + overlaps(d)) / 2) ** power, abs=1e-14
        )
        assert linear_attention_overlap(d, "signed_position", depth) * d == pytest.approx(overlaps(d), abs=1e-14)


def test_closed_forms_with_a_dense_layer() -> None:
    """A layer leaves correlation s = (1 + t) / 2 between equal tokens at one position, and none between others."""
    d = 9
    equal, s = d * (1 + overlaps(d)) / 2, (1 + overlaps(d)) / 2
    relu = (np.sqrt(1 - s**2) + s * (np.pi - np.arccos(s))) / np.pi
    exact = {"relu": (equal * relu + (d * d - equal) / np.pi) / d**2}
    exact["erf"] = equal * 4 / np.pi * np.arcsin(2 * s / 3) / d**2
    for activation, values in exact.items():
        assert linear_attention_overlap(d, "position_symbol", 1, activation) == pytest.approx(values, abs=1e-14)


@pytest.mark.parametrize("activation", [None, "relu", "erf"])
@pytest.mark.parametrize("embedding", OF_OVERLAP)
def test_there_parities_are_eigenfunctions_in_weak_order(embedding: str, activation: str | None) -> None:
    n, depth = 5, 2
    matrix = kernel_matrix(n, embedding, depth, activation)
    spectrum = cube_spectrum(linear_attention_overlap(n, embedding, depth, activation))
    quotients, residuals = parity_quotients(matrix)
    assert residuals.max() < 1e-14
    by_degree = np.repeat(spectrum.eigenvalues, spectrum.multiplicities.astype(int))
    assert np.linalg.eigvalsh(matrix / 2**n) == pytest.approx(np.sort(by_degree), abs=1e-14)
    sizes = np.bitwise_count(np.arange(2**n))
    assert quotients * matrix[0, 0] == pytest.approx(spectrum.eigenvalues[sizes], abs=1e-14)
    assert (spectrum.eigenvalues[2:] <= spectrum.eigenvalues[:-2] + 1e-14).all()


def test_elsewhere_they_are_not() -> None:
    """By how much, in the largest value of the difference, at six tokens."""
    found = {
        (embedding, depth): parity_quotients(kernel_matrix(6, embedding, depth))[1].max()
        for embedding in ("additive", "scalar")
        for depth in (1, 2)
    }
    wanted = {("additive", 1): 0.0595, ("additive", 2): 0.0526, ("scalar", 1): 0.1389, ("scalar", 2): 0.1389}
    assert found == pytest.approx(wanted, abs=5e-5)
    # Without positions tokens may be exchanged: x = (1, -1) and y = (-1, 1) are the same input.
    assert linear_attention_kernel([1, -1], [1, 1], "scalar") == linear_attention_kernel([-1, 1], [1, 1], "scalar") == 0
    assert linear_attention_kernel([-1, -1], [1, 1], "scalar") == -1


def test_a_residual_is_what_the_parities_span_leaves() -> None:
    n, matrix = 3, kernel_matrix(3, "additive", activation="relu")
    for subset in range(2**n):
        parity = boolean.parity(n, [i for i in range(n) if subset >> i & 1])
        image = np.array([sum(row[y] * parity[y] for y in range(2**n)) / 2**n for row in matrix])
        left = image - np.mean(image * parity) * parity
        quotients, residuals = parity_quotients(matrix)
        assert quotients[subset] == pytest.approx(np.mean(image * parity) / matrix[0, 0], abs=1e-15)
        assert residuals[subset] == pytest.approx(np.abs(left).max() / matrix[0, 0], abs=1e-15)


def test_what_is_outside_a_domain_is_named() -> None:
    for call, named in (
        (lambda: linear_attention_kernel(X, Y, "rotary"), r"embedding = 'rotary' .* position_symbol, "),
        (lambda: linear_attention_kernel([0.5], [1.0], "scalar"), r"x is not allowed; allowed: .* -1 and 1"),
        (lambda: linear_attention_kernel(X, Y, "scalar", activation="gelu"), r"activation = 'gelu'"),
        (lambda: linear_attention_kernel(X, Y, "scalar", 0), r"depth = 0"),
        (lambda: linear_attention_overlap(4, "additive"), r"embedding = 'additive' .* signed_position"),
        (lambda: kernel_matrix(11, "scalar"), r"n = 11"),
        (lambda: parity_quotients(np.ones(4)), r"matrix has shape \(4,\)"),
        (lambda: parity_quotients(np.ones((3, 3))), r"matrix has shape \(3, 3\)"),
    ):
        with pytest.raises(ValueError, match=named):
            call()
