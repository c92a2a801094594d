"""Domains of arguments: one parametrized test for all public functions; and what importing the theory brings along."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nsbench import theory
from nsbench.theory import boolean
from nsbench.theory.domain import checked, one_of, real, whole
from nsbench.theory.propagation import random_network

NETWORK = random_network(1, 2, 0.1, 0)
EYE = np.eye(2)


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0.0)


FUNCTIONS: list[tuple[Callable[..., Any], dict[str, Any], dict[str, list[Any]]]] = [
    (theory.relu_stability, {"rho": 0.5, "mean": 0.0, "std": 1.0}, {"rho": [1.1], "mean": [1e101], "std": [0.0, -1.0]}),
    (theory.relu_stability_quadratic, {"rho": 0.5}, {"rho": [-1.1]}),
    (
        theory.bonami_beckner_relu,
        {"mu": 0.0, "sigma": 1.0, "rho": 0.5, "alpha": 1.0},
        {"mu": [-1e101], "sigma": [0.0], "rho": [-0.1, 1.1], "alpha": [0.0]},
    ),
    (theory.attention_pattern_stability, {"rho": 0.5, "n": 4}, {"rho": [1.0001, -2.0], "n": [0, 2.5, True]}),
    (
        theory.spectral_concentration_degree,
        {"rho": 0.9, "delta": 0.1, "epsilon": 0.2},
        {"rho": [0.0, 1.0], "delta": [0.0, 0.2], "epsilon": [0.0, 1.0]},
    ),
    (
        theory.tail_mass_bound_from_stability,
        {"stability": 0.5, "norm2": 1.0, "rho": 0.5, "degree": 1},
        {"stability": [1.1, -0.1], "norm2": [0.0], "rho": [1.0, -0.1], "degree": [0, -0.5]},
    ),
    (
        theory.tail_mass_bound_from_influence,
        {"total_influence": 0.1, "norm2": 1.0, "degree": 1},
        {"total_influence": [-0.1], "norm2": [0.0], "degree": [0]},
    ),
    (theory.resampling_correlation, {"rho": 0.5, "n_symbols": 2}, {"rho": [1.1, -1.1], "n_symbols": [0, 2.0]}),
    (theory.unchanged_probability, {"rho": 0.5, "n_tokens": 2, "n_symbols": 5}, {"rho": [1.1], "n_tokens": [-1]}),
    (
        theory.parity_gradients,
        {"coefficient": 0.1, "degree": 2, "rho": 0.05, "gamma": 0.05, "label_noise": 0.1},
        {"coefficient": [1.0], "degree": [-1], "rho": [1.1], "gamma": [-0.1], "label_noise": [1.1]},
    ),
    (
        theory.confidence_gradients,
        {"probability": 0.1, "n_classes": 3, "rho": 0.05, "gamma": 0.05, "n_tokens": 2, "n_symbols": 3},
        {"probability": [0.0], "n_classes": [1], "rho": [1.1], "gamma": [-0.1], "n_tokens": [0], "n_symbols": [0]},
    ),
    (theory.weights_by_degree, {"values": EYE, "n_tokens": 2}, {"values": [np.ones((2, 3))], "n_tokens": [-1]}),
    (theory.degree_kernel, {"n_tokens": 2, "n_symbols": 2, "degree": 1}, {"n_symbols": [1], "degree": [-1]}),
    (
        theory.ffn_recurrence,
        {"rho": 0.5, "depth": 2, "kind": "cosine"},
        {"rho": [1.1], "depth": [-1], "kind": ["sine"]},
    ),
    (theory.ffn_fixed_point, {"kind": "cosine"}, {"kind": ["sine"]}),
    (
        theory.ffn_second_moment,
        {"rho": 0.5, "depth": 2, "weights": "he"},
        {"rho": [-1.1], "depth": [-1, 2.0], "weights": ["xavier"]},
    ),
    (
        theory.transformer_recurrence,
        {"rho": 0.5, "depth": 2, "value_norm": 1.0, "kind": "random"},
        {"rho": [1.1], "depth": [-1], "value_norm": [-0.1], "kind": ["sine"]},
    ),
    *(
        (
            kernel,
            {"t": 0.5, "depth": 2, "activation": "erf"},
            {"t": [1.1], "depth": [0], "activation": ["tanh"]},
        )
        for kernel in (theory.conjugate_kernel, theory.tangent_kernel)
    ),
    (theory.gaussian_noise_stability, {"f": relu, "rho": 0.5}, {"rho": [-1.01, 1.5]}),
    (theory.hermite_coefficients, {"f": relu, "degree": 2}, {"degree": [-1, 2.5]}),
    (boolean.noise_stability, {"truth_table": boolean.parity(2), "rho": 0.5}, {"rho": [-1.01, 1.5]}),
    (boolean.parity, {"n": 3}, {"n": [0, 21], "subset": [[3], [-1], [1, 1], "01"]}),
    (boolean.majority, {"n": 3}, {"n": [4, 21]}),
    (boolean.dictator, {"n": 3}, {"n": [2.0], "i": [3]}),
    (
        theory.network_intervals,
        {"network": NETWORK, "n_tokens": 2, "rho": 0.5, "method": "sharp"},
        {"network": [[]], "n_tokens": [0], "rho": [-0.1, 1.1], "method": ["best"]},
    ),
]
"""Each public function, arguments within its domain, and values outside by argument."""
ELEMENT_BY_ELEMENT = [
    theory.relu_stability,
    theory.relu_stability_quadratic,
    theory.bonami_beckner_relu,
    theory.attention_pattern_stability,
    theory.spectral_concentration_degree,
    theory.tail_mass_bound_from_stability,
    theory.tail_mass_bound_from_influence,
    theory.resampling_correlation,
    theory.unchanged_probability,
    theory.gaussian_noise_stability,
    boolean.noise_stability,
    theory.conjugate_kernel,
    theory.tangent_kernel,
]
REAL = ("rho", "mean", "std", "mu", "sigma", "alpha", "delta", "epsilon", "stability", "norm2", "total_influence")


@pytest.mark.parametrize(("function", "good", "domains"), FUNCTIONS)
def test_an_argument_outside_its_domain_is_named(
    function: Callable[..., Any], good: dict[str, Any], domains: dict[str, list[Any]]
) -> None:
    function(**good)
    for name, values in domains.items():
        for bad in [*values, *([math.nan, math.inf] if name in REAL else [])]:
            with pytest.raises(ValueError, match=f"^{name} "):
                function(**good | {name: bad})


@pytest.mark.parametrize(
    ("function", "good"), [(function, good) for function, good, _ in FUNCTIONS if function in ELEMENT_BY_ELEMENT]
)
def test_arrays_broadcast_scalars_stay_scalars_and_other_shapes_are_named(
    function: Callable[..., Any], good: dict[str, Any]
) -> None:
    first, *others = [name for name in good if isinstance(good[name], float)]
    assert isinstance(function(**good), np.float64)
    assert function(**good | {first: np.full((2, 3), good[first])}).shape == (2, 3)
    assert function(**good | {first: []}).shape == (0,)
    if others:
        clash = good | {first: [good[first]] * 2, others[0]: [good[others[0]]] * 3}
        with pytest.raises(ValueError, match=rf"^{first} has shape \(2,\), {others[0]} has shape \(3,\); allowed: "):
            function(**clash)


@pytest.mark.parametrize(
    ("value", "ends", "message"),
    [
        ([0.5, 1.5, 3], {"low": -1, "high": 1}, "rho = 1.5 is not allowed; allowed: numbers in [-1, 1]"),
        (0, {"low": 0, "open_low": True}, "rho = 0 is not allowed; allowed: numbers in (0, inf)"),
        (0.3, {"high": [0.4, 0.2], "open_high": True}, "rho = 0.3 is not allowed; allowed: numbers in (-inf, 0.2)"),
        ("0.5", {}, "rho = '0.5' is not allowed; allowed: numbers"),
        ([[1.0], [1.0, 2.0]], {}, "rho = [[1.0], [1.0, 2.0]] is not allowed; allowed: numbers"),
    ],
)
def test_what_is_no_number_in_range_is_refused_with_what_is_allowed(
    value: object, ends: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        real("rho", value, **ends)
    assert str(caught.value) == message


def test_an_array_keeps_its_shape_becomes_float64_and_is_a_copy() -> None:
    given = np.ones((2, 3))
    values = real("x", given, 0.0, np.full((5, 1, 1), 2.0))
    values[0] = 7
    assert (values.shape, values.dtype, given.sum()) == ((2, 3), np.float64, 6)


def test_whole_numbers_and_names_say_what_is_allowed() -> None:
    assert whole("n", np.int32(3), 1, 3) == 3
    with pytest.raises(ValueError, match=r"^n = 0 is not allowed; allowed: a whole number at least 1$"):
        whole("n", 0, 1)
    with pytest.raises(ValueError, match=r"^n = 4 is not allowed; allowed: a whole number from 1 to 3$"):
        whole("n", 4, 1, 3)
    with pytest.raises(ValueError, match=r"^kind = 'c' is not allowed; allowed: a, b$"):
        one_of("kind", "c", ("a", "b"))


def test_a_checked_function_sees_arrays_of_one_shape_and_keeps_its_name() -> None:
    @checked(a=real, b=real)
    def shapes(a: Any, b: Any = 2.0, c: Any = None) -> Any:
        """Shapes."""
        return a.shape, b.shape, c

    assert shapes([1.0, 2.0], c=3) == ((2,), (2,), 3)
    assert (shapes.__name__, shapes.__doc__) == ("shapes", "Shapes.")


def test_the_theory_loads_no_torch() -> None:
    code = """
import sys
from nsbench import theory
assert "scipy" not in sys.modules, "importing the theory alone should stay light"
for name in theory.__all__:
    getattr(theory, name)
assert not {"torch", "pandas", "pyarrow", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
