"""Checks of arguments, and what importing the theory brings with it."""

from __future__ import annotations

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import BroadcastableShapes, mutually_broadcastable_shapes

import nsbench.theory
from nsbench.theory.domain import broadcast, one_of, real, whole

numbers = st.floats(-1e6, 1e6)


@given(numbers, numbers, numbers)
def test_a_number_passes_between_its_ends_alone(a: float, b: float, value: float) -> None:
    low, high = min(a, b), max(a, b)
    if low <= value <= high:
        assert real("x", value, low, high) == value
    else:
        with pytest.raises(ValueError, match=r"^x = "):
            real("x", value, low, high)


@pytest.mark.parametrize(("open_low", "open_high"), [(False, False), (True, False), (False, True), (True, True)])
def test_an_open_end_is_not_allowed_and_a_closed_one_is(open_low: bool, open_high: bool) -> None:
    for end, is_open in ((-1.0, open_low), (2.0, open_high)):
        if is_open:
            with pytest.raises(ValueError, match=r"^x = "):
                real("x", end, -1.0, 2.0, open_low=open_low, open_high=open_high)
        else:
            assert real("x", end, -1.0, 2.0, open_low=open_low, open_high=open_high) == end


@pytest.mark.parametrize(
    ("value", "ends", "message"),
    [
        (2.0, {"low": -1, "high": 1}, "rho = 2 is not allowed; allowed: numbers in [-1, 1]"),
        ([0.5, 1.5, 3], {"low": -1, "high": 1}, "rho = 1.5 is not allowed; allowed: numbers in [-1, 1]"),
        (0, {"low": 0, "open_low": True}, "rho = 0 is not allowed; allowed: numbers in (0, inf)"),
        (math.nan, {}, "rho = nan is not allowed; allowed: numbers in (-inf, inf)"),
        (-math.inf, {}, "rho = -inf is not allowed; allowed: numbers in (-inf, inf)"),
        (1 + 2**-52, {"high": 1}, "rho = 1.0000000000000002 is not allowed; allowed: numbers in (-inf, 1]"),
        ([0.1, 0.3], {"low": 0, "high": [0.2, 0.25]}, "rho = 0.3 is not allowed; allowed: numbers in [0, 0.25]"),
        (0.3, {"high": [0.4, 0.2], "open_high": True}, "rho = 0.3 is not allowed; allowed: numbers in (-inf, 0.2)"),
        ("0.5", {}, "rho = '0.5' is not allowed; allowed: numbers"),
        (1j, {}, "rho = 1j is not allowed; allowed: numbers"),
        (None, {}, "rho = None is not allowed; allowed: numbers"),
        ([[1.0], [1.0, 2.0]], {}, "rho = [[1.0], [1.0, 2.0]] is not allowed; allowed: a number or an array"),
    ],
)
def test_what_is_no_number_in_range_is_refused_with_what_is_allowed(
    value: object, ends: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        real("rho", value, **ends)
    assert str(caught.value) == message


def test_a_complex_array_is_refused_rather_than_cut_to_its_real_part() -> None:
    with pytest.raises(ValueError, match=r"^rho = "):
        real("rho", np.array([0.5 + 1j]))


def test_arrays_keep_their_shape_and_become_float64() -> None:
    values = real("x", np.ones((2, 3), dtype=np.float32), 0.0, np.full((5, 1, 1), 2.0))
    assert values.shape == (2, 3)
    assert values.dtype == np.float64
    assert real("x", []).shape == (0,)
    assert real("x", [True, False]).tolist() == [1.0, 0.0]


def test_a_number_beyond_float64_is_refused_by_name() -> None:
    for value in (10**400, np.longdouble("1e4000")):
        with pytest.raises(ValueError, match=r"^x = "):
            real("x", value)


@given(mutually_broadcastable_shapes(num_shapes=3, max_dims=3, min_side=0, max_side=3))
def test_arrays_whose_shapes_go_together_get_one_shape_in_the_order_given(shapes: BroadcastableShapes) -> None:
    found = broadcast(**{name: np.full(shape, name) for name, shape in zip("zya", shapes.input_shapes, strict=True)})
    assert [array.shape for array in found] == [shapes.result_shape] * 3
    assert all((array == name).all() for name, array in zip("zya", found, strict=True))


def test_arrays_whose_shapes_do_not_go_together_are_named_and_scalars_are_not() -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        broadcast(rho=np.zeros((2, 1)), std=np.zeros(()), mean=np.zeros((3, 1)))
    assert str(caught.value) == ("rho has shape (2, 1), mean has shape (3, 1); allowed: shapes that broadcast together")


def test_the_array_given_is_not_the_array_returned() -> None:
    given_ = np.zeros(3)
    real("x", given_)[0] = 1
    assert given_.tolist() == [0, 0, 0]


@given(st.integers(-10, 10), st.integers(-10, 10), st.integers(-10, 10))
def test_a_whole_number_passes_between_its_ends_alone(value: int, a: int, b: int) -> None:
    least, most = min(a, b), max(a, b)
    if least <= value <= most:
        assert whole("n", value, least, most) == value
        assert whole("n", np.int32(value), least) == value
    else:
        with pytest.raises(ValueError, match=f"^n = {value} is not allowed"):
            whole("n", value, least, most)


@pytest.mark.parametrize("value", [1.0, 1.5, True, "1", None, Fraction(1), [1.0], np.array([1.5])])
def test_what_is_no_int_is_no_whole_number(value: object) -> None:
    with pytest.raises(ValueError, match=r"^n = "):
        whole("n", value, 0)


def test_limits_of_whole_numbers_are_said() -> None:
    with pytest.raises(ValueError, match=r"^n = 0 is not allowed; allowed: a whole number at least 1$"):
        whole("n", 0, 1)
    with pytest.raises(ValueError, match=r"^n = 4 is not allowed; allowed: a whole number from 1 to 3$"):
        whole("n", 4, 1, 3)


def test_a_name_is_one_of_those_allowed() -> None:
    assert one_of("kind", "b", {"a": 1, "b": 2}) == "b"
    with pytest.raises(ValueError, match=r"^kind = 'c' is not allowed; allowed: a, b$"):
        one_of("kind", "c", ("a", "b"))


@pytest.mark.parametrize("name", nsbench.theory.__all__)
def test_every_public_name_is_there_and_documented(name: str) -> None:
    public = getattr(nsbench.theory, name)
    assert public.__doc__
    assert public.__name__.rpartition(".")[2] == name


def test_there_are_no_other_names() -> None:
    with pytest.raises(AttributeError, match="'relu_stabilty'"):
        getattr(nsbench.theory, "relu_stabilty")  # noqa: B009


def test_the_theory_loads_no_torch() -> None:
    code = """
import sys
from nsbench import theory
assert "scipy" not in sys.modules, "importing the theory alone should stay light"
assert abs(theory.relu_stability(0.0) - 0.15915494309189535) < 1e-15
for name in theory.__all__:
    getattr(theory, name)
loaded = {"torch", "pandas", "pyarrow", "matplotlib"} & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", code], check=True)
