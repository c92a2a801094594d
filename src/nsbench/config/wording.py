"""Numbers and effects in words, the one way for tables, verdicts, figures and report: `110% more steps`, and never
`-110% fewer steps`.

A unit with a word of OPPOSITES has a direction: `% fewer steps`, `% faster`, `steps more`. Its numbers are told without
a sign, by that word where they are positive and by its opposite where they are negative.
"""

from __future__ import annotations

import math
from collections.abc import Callable

NONE = "–"
OPPOSITES = {"fewer": "more", "more": "fewer", "less": "more", "faster": "slower", "sooner": "later", "lower": "higher"}
SIGNS = {-1: "≤ ", 0: "", 1: "≥ "}
"""Side of a bound -> what stands before the number: it is at most that, that, or at least that."""
Form = Callable[[float], str]
"""Makes a text of a number."""


def number(value: float | None) -> str:
    """A number with three digits, or all that stand before its point; a dash for NaN and None."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value != 0 and not 1e-4 <= abs(value) < 1e5:
        return f"{value:.2e}".replace("-", "−")
    shown = f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"
    return shown.replace("-", "−")


def direction(unit: str) -> str:
    """The word of a unit that says which way its positive numbers point; empty for a unit without one."""
    return next((word for word in unit.split() if word in OPPOSITES), "")


def amount(value: float | None, unit: str, bound: int = 0, form: Form = number) -> str:
    """A number with its unit, as `3.7% slower`; a dash without one.

    bound: 1 where the true number is at least this one, -1 where it is at most this one; form: of the number.
    """
    if value is None or math.isnan(value):
        return NONE
    word = direction(unit)
    if word and value < 0:
        value, bound = -value, -bound
        unit = " ".join(OPPOSITES[part] if part == word else part for part in unit.split(" "))
    words = "" if unit in ("", "1") else unit if unit.startswith("%") else f" {unit}"
    return SIGNS[bound] + form(value) + words


def interval(low: float, high: float, unit: str, value: float = math.nan, form: Form = number) -> str:
    """The ends of an interval, as `0.9 to 6.6%`, and where they or the `value` beside them lie on both sides of 0 as
    `2% slower to 4% faster`; empty without ends.

    The end nearest 0 comes first, in a unit with a direction, as the number beside it has no sign.
    """
    if math.isnan(low) and math.isnan(high):
        return ""
    word, percent = direction(unit), "%" if unit.startswith("%") else ""
    if not word:
        return f"{form(low)} to {form(high)}{percent}"
    known = [end for end in (low, high, value) if not math.isnan(end)]
    if len(known) < 3 or min(known) < 0 < max(known):
        return " to ".join(amount(end, f"{percent} {word}".strip(), form=form) for end in (low, high))
    near, far = sorted((abs(low), abs(high)))
    return f"{form(near)}{percent} or more" if math.isinf(far) else f"{form(near)} to {form(far)}{percent}"


def told(value: float, low: float, high: float, unit: str) -> str:
    """A number with its unit and, where it has one, its interval: `3.7% slower (0.9 to 6.6%)`."""
    ends = "" if math.isnan(low) or math.isnan(high) or low == high else interval(low, high, unit, value)
    return amount(value, unit) + (f" ({ends})" if ends else "")
