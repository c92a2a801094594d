"""When an interval settles an effect: the one rule that tables, claims, figures and the report go by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def few(n: int, what: str, confidence: float) -> list[str]:
    """A note where `n` values, `what` they are, have no interval of this confidence, else nothing.

    None reaches beyond the range of n independent values, which covers their median with probability 1 - 2^(1 - n).
    """
    if 1 - 2.0 ** (1 - n) >= confidence:
        return []
    return [f"{n} {what if n != 1 else what.removesuffix('s')} can have no interval of {100 * confidence:g}%"]


def settles(low: float, high: float, neutral: float = 0.0, n_stopped: int = 0) -> int:
    """1 where an interval lies above `neutral`, -1 where below, 0 where that is open, as where N_STOPPED is not 0."""
    unknown = math.isnan(low) or math.isnan(high)
    return 0 if n_stopped or unknown else int(low > neutral) - int(high < neutral)


FEWER, MORE, OPEN = "fewer steps", "more steps", "open"
"""What is settled of an arm's effect on the time to target; besides, `no_effect(margin)`."""
SIDES = {"steps": (FEWER, MORE), "flops": ("less work", "more work")}
"""Cost -> what is settled of it where its ratio is below 1, and where above."""


def no_effect(margin: float) -> str:
    """The outcome that an effect is settled to be smaller than `margin`, a share."""
    return f"no effect larger than {100 * margin:g}%"


def outcome(low: float, high: float, margin: float, cost: str = "steps") -> str:
    """What the interval of a ratio of costs, arm / baseline, settles: one of SIDES, `no_effect(margin)` or OPEN."""
    if high < 1:
        return SIDES[cost][0]
    if low > 1:
        return SIDES[cost][1]
    return no_effect(margin) if 1 / (1 + margin) <= low and high <= 1 + margin else OPEN


def settles_steps(effect: Mapping[str, Any]) -> int:
    """-1 where an arm's fewer steps are settled, 1 where its more steps are, else 0: a row of PAIRED_EFFECT."""
    return _side(effect["outcome"], "steps")


def settles_flops(effect: Mapping[str, Any]) -> int:
    """-1 where an arm's less work is settled, 1 where its more work is, else 0: a row of PAIRED_EFFECT."""
    return _side(effect["flops_outcome"], "flops")


def _side(found: str, cost: str) -> int:
    return (SIDES[cost].index(found) or -1) if found in SIDES[cost] else 0
