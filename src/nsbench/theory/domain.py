"""Checks of arguments: each raises ValueError naming the argument, its value and what is allowed."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable
from typing import Any

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
    """`value` as a new float64 array with every entry finite and between `low` and `high`, which broadcast with it.

    open_low, open_high: whether the end itself is not allowed.
    """
    try:
        values = np.array(value)
        good = values.dtype.kind in "biuf"
    except ValueError:  # rows of unequal length
        good = False
    if not good:
        raise ValueError(f"{name} = {value!r} is not allowed; allowed: numbers")
    with np.errstate(over="ignore"):
        values = values.astype(np.float64)
    inside = np.isfinite(values) & ((values > low) if open_low else (values >= low))
    inside = inside & ((values < high) if open_high else (values <= high))
    if not inside.all():
        entry, least, most = (np.broadcast_to(a, inside.shape)[~inside][0] for a in (values, low, high))
        left = "(" if open_low or least == -math.inf else "["
        right = ")" if open_high or most == math.inf else "]"
        shown, least, most = (repr(float(number)).removesuffix(".0") for number in (entry, least, most))
        raise ValueError(f"{name} = {shown} is not allowed; allowed: numbers in {left}{least}, {most}{right}")
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


def checked(**domains: Callable[[str, Any], Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator: each named argument goes through its domain, and those that are arrays get one common shape.

    A domain maps an argument's name and value to the value that the function sees, as `CORRELATION` does.
    """

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            values = {name: domain(name, bound.arguments[name]) for name, domain in domains.items()}
            arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
            try:
                values |= zip(arrays, np.broadcast_arrays(*arrays.values()), strict=True)
            except ValueError:
                shapes = ", ".join(f"{name} has shape {array.shape}" for name, array in arrays.items() if array.ndim)
                raise ValueError(f"{shapes}; allowed: shapes that broadcast together") from None
            bound.arguments |= values
            return function(*bound.args, **bound.kwargs)

        return call

    return decorate


CORRELATION = functools.partial(real, low=-1.0, high=1.0)
SHARE = functools.partial(real, low=0.0, high=1.0)
POSITIVE = functools.partial(real, low=0.0, open_low=True)
AT_LEAST_0 = functools.partial(real, low=0.0)
COUNT_FROM_0 = functools.partial(whole, least=0)
COUNT = functools.partial(whole, least=1)
