"""Checks of arguments: each raises ValueError naming the argument, its value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

CHANGES_NO_RESULT = True


def real(
    name: str,
    value: ArrayLike,
    low: ArrayLike = -math.inf,
    high: ArrayLike = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
) -> NDArray[np.float64]:
    """`value` as a float64 array with every entry finite and between `low` and `high`.

    low, high: arrays broadcast with `value`, whose own shape is kept. open_low, open_high: whether
    the end itself is not allowed. What is no number (text, a complex number) is refused too.
    """
    values = _numbers(name, value)
    good = np.isfinite(values)
    good = good & ((values > low) if open_low else (values >= low))
    good = good & ((values < high) if open_high else (values <= high))
    if not good.all():
        bad = np.argmin(good)
        entry, least, most = (np.broadcast_to(array, good.shape).flat[bad] for array in (values, low, high))
        left = "(" if open_low or least == -math.inf else "["
        right = ")" if open_high or most == math.inf else "]"
        allowed = f"numbers in {left}{_short(least)}, {_short(most)}{right}"
        raise ValueError(f"{name} = {_short(entry)} is not allowed; allowed: {allowed}")
    return values


def whole(name: str, value: int, least: int, most: int | None = None) -> int:
    """`value` as an int between `least` and `most`; no float, even a whole one, and no bool."""
    fits = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not fits or value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: a whole number {limits}")
    return int(value)


def one_of(name: str, value: str, allowed: Iterable[str]) -> str:
    """`value`, which must be one of the names in `allowed`."""
    names = list(allowed)
    if value not in names:
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: {', '.join(names)}")
    return value


def broadcast(**arrays: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """The arrays, named as the arguments they are, in one common shape: views, not to be written to."""
    try:
        return np.broadcast_arrays(*arrays.values())
    except ValueError:
        shapes = ", ".join(f"{name} has shape {array.shape}" for name, array in arrays.items() if array.ndim)
        raise ValueError(f"{shapes}; allowed: shapes that broadcast together") from None


def _numbers(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """`value` as a float64 array; what is beyond float64 becomes infinite."""
    try:
        values = np.asarray(value)
    except ValueError:  # Rows of unequal length.
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: a number or an array") from None
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: numbers")
    with np.errstate(over="ignore"):
        return values.astype(np.float64)


def _short(number: float) -> str:
    """As few digits as tell the number from its neighbours, so that 1 + 1e-15 is not shown as 1."""
    return repr(float(number)).removesuffix(".0")
