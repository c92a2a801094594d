"""When an interval settles an effect: the one rule that tables, claims, figures and the report go by."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def coverage_of_range(n: int) -> float:
    """Probability that the range of `n` independent values covers their median: 1 - 2^(1 - n).

    No interval from resampling values is wider than their range, so below a confidence asked for,
    here with fewer than six for 95%, that confidence cannot be had.
    """
    return 1 - 2.0 ** (1 - n)


def few(n: int, what: str, confidence: float) -> list[str]:
    """A note where `n` values are too few for an interval of this confidence, else nothing."""
    widest = coverage_of_range(n)
    if widest >= confidence:
        return []
    return [f"only {n} {what}: even their full range has {widest:.0%} coverage, not {confidence:.0%}"]


def settles(
    low: float, high: float, n_pairs: float, confidence: float, neutral: float = 0.0, n_stopped: int = 0
) -> int:
    """1 where an interval lies above `neutral`, -1 where below, 0 where that is open.

    It is open too where there are so few pairs that no interval of theirs can have the confidence, or N_STOPPED is
    not 0.
    """
    if n_stopped or not (math.isfinite(low) and math.isfinite(high)) or coverage_of_range(int(n_pairs)) < confidence:
        return 0
    return int(low > neutral) - int(high < neutral)


def settles_steps(effect: Mapping[str, Any]) -> int:
    """-1 where an arm's fewer steps are settled, 1 where its more steps are, 0 where that is open.

    `effect`: a row of `schemas.statistics.PAIRED_EFFECT`. The interval of its ratio must lie on one side of 1, enough
    pairs must differ (a tie, as of two censored runs, is on neither side), and the permutation test, where it
    was made, must agree.
    """
    n_differ = effect["n_baseline_sooner"] + effect["n_arm_sooner"]
    side = settles(effect["steps_ratio_low"], effect["steps_ratio_high"], n_differ, effect["confidence"], neutral=1.0)
    # A missing p-value compares false.
    return 0 if effect.get("p_value", math.nan) > 1 - effect["confidence"] else side
