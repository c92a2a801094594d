"""What an interval settles."""

from __future__ import annotations

import math

import pytest

from nsbench.config.settled import FEWER, MORE, OPEN, no_effect, outcome, settles

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("low", "high", "more", "side"),
    [
        (0.1, 0.2, {}, 1),
        (-0.2, -0.1, {}, -1),
        (-0.2, 0.1, {}, 0),
        (0.1, 0.1, {}, 1),  # constant evidence
        (0.0, 0.1, {}, 0),
        (0.5, 0.9, {"neutral": 1.0}, -1),
        (1.2, INF, {"neutral": 1.0}, 1),  # a bound
        (0.1, 0.2, {"n_stopped": 1}, 0),
        (NAN, NAN, {}, 0),
        (NAN, -0.1, {}, 0),
    ],
)
def test_an_interval_settles_a_side_of_what_it_leaves_out(
    low: float, high: float, more: dict[str, float], side: int
) -> None:
    assert settles(low, high, **more) == side


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0.5, 0.99, FEWER),
        (0.0, 0.5, FEWER),  # baselines that never reached: a bound
        (0.97, 0.99, FEWER),  # smaller than the margin, and settled
        (0.5, 1.0, OPEN),  # 1 is in the interval
        (1 / 1.1, 1.1, no_effect(0.1)),
        (1.0, 1.0, no_effect(0.1)),  # ties
        (0.9, 1.05, OPEN),
        (0.95, 1.11, OPEN),
        (1.01, INF, MORE),
        (0.0, INF, OPEN),
        (NAN, NAN, OPEN),
    ],
)
def test_an_interval_of_a_ratio_has_one_of_four_outcomes(low: float, high: float, found: str) -> None:
    assert outcome(low, high, 0.1) == found
    mirrored = {FEWER: MORE, MORE: FEWER}.get(found, found)
    if low > 0 and high < INF:
        assert outcome(1 / high, 1 / low, 0.1) == mirrored


def test_no_effect_is_named_by_its_margin() -> None:
    assert (no_effect(0.1), no_effect(0.125)) == ("no effect larger than 10%", "no effect larger than 12.5%")
    assert outcome(0.95, 1.05, 0.05) == OPEN
    assert outcome(0.96, 1.05, 0.05) == no_effect(0.05)
