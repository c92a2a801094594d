"""What an interval settles."""

from __future__ import annotations

import math

import pytest

from nsbench.config.settled import settles


@pytest.mark.parametrize(
    ("low", "high", "n_pairs", "more", "side"),
    [
        (0.1, 0.2, 6, {}, 1),
        (-0.2, -0.1, 6, {}, -1),
        (-0.2, 0.1, 6, {}, 0),
        (0.5, 0.9, 6, {"neutral": 1.0}, -1),
        (0.1, 0.2, 5, {}, 0),
        (0.1, 0.2, 6, {"n_stopped": 1}, 0),
        (math.nan, math.nan, 6, {}, 0),
    ],
)
def test_an_interval_settles_an_effect_only_with_pairs_enough(
    low: float, high: float, n_pairs: int, more: dict[str, float], side: int
) -> None:
    assert settles(low, high, n_pairs, 0.95, **more) == side
