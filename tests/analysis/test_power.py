"""Seeds that an effect needs: against published values, a normal approximation and a simulation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy.stats import t

from nsbench.analysis.statistics.power import EFFECTS_PERCENT, power, power_of, seeds_needed
from nsbench.schemas.statistics import POWER
from tests.analysis.paired_times import joined, times_of

NAN = math.nan


def rows_of(baseline: list[float], arm: list[float], confidence: float = 0.95) -> list[dict[str, Any]]:
    found = power(times_of(baseline, arm)[0], confidence)
    assert list(found) == POWER.names
    return found.to_dict("records")


def test_the_published_numbers_of_pairs_for_small_medium_and_large_effects() -> None:
    """G*Power 3's for a paired t test, two-sided, alpha 0.05, power 0.8."""
    for effect_size, n in ((0.2, 199), (0.5, 34), (0.8, 15)):
        assert seeds_needed(effect_size, 1.0, 0.05) == n
        assert seeds_needed(-effect_size * 3, 3.0, 0.05) == n


def test_a_simulation_has_the_power_that_is_said() -> None:
    effect, spread, repeats, generator = math.log(0.8), 0.2, 20_000, np.random.default_rng(4)
    enough = seeds_needed(effect, spread, 0.05)
    for n in (enough, enough - 1):
        ratios = generator.normal(effect, spread, (repeats, n))
        found = np.abs(ratios.mean(1)) * math.sqrt(n) / ratios.std(1, ddof=1) > t.isf(0.025, n - 1)
        said = power_of(effect, spread, n, 0.05)
        assert abs(found.mean() - said) < 4 * math.sqrt(said * (1 - said) / repeats)
        assert (said >= 0.8) == (n == enough)


def test_a_table_has_three_effects_for_each_comparison() -> None:
    baseline, ratios = np.array([4000.0, 5000, 4500, 4200, 4900]), np.array([0.7, 0.9, 0.8, 0.75, 1.1])
    rows = rows_of(list(baseline), list(baseline * ratios))
    assert [row["effect_percent"] for row in rows] == list(EFFECTS_PERCENT) == [10, 20, 35]
    spread = np.log(ratios).std(ddof=1)
    for row, effect in zip(rows, (0.9, 0.8, 0.65), strict=True):
        assert row["spread"] == pytest.approx(spread)
        # Chi-square quantiles with 4 degrees of freedom, from a printed table.
        assert row["spread_low"] == pytest.approx(spread * math.sqrt(4 / 11.143), rel=1e-4)
        assert row["spread_high"] == pytest.approx(spread * math.sqrt(4 / 0.4844), rel=1e-3)
        assert row["n_seeds"] == seeds_needed(math.log(effect), spread, 0.05)
        assert row["n_seeds_low"] <= row["n_seeds"] <= row["n_seeds_high"]
        assert row["power_now"] == pytest.approx(power_of(math.log(effect), spread, 5, 0.05))
        assert (row["n_pairs"], row["censored_share"], row["power_wanted"]) == (5, 0, 0.8)
    assert rows[0]["n_seeds"] > rows[1]["n_seeds"] > rows[2]["n_seeds"]
    assert (rows[0]["power_now"] >= 0.8) == (rows[0]["n_seeds"] <= 5)


def test_censoring_makes_the_spread_too_low_and_is_told() -> None:
    row = rows_of([4000, NAN, 6000], [2000, 3000, NAN])[0]
    assert row["censored_share"] == pytest.approx(2 / 6)
    assert row["note"].startswith("2 of 6 runs censored: the spread, and so n_seeds, are likely too low")
    assert row["spread"] == pytest.approx(np.log([1 / 2, 3 / 10, 10 / 6]).std(ddof=1))


@pytest.mark.parametrize(
    ("baseline", "arm", "spread", "note"),
    [
        ([NAN, NAN], [NAN, NAN], NAN, "no run reached the target: no spread"),
        ([4000, 5000], [2000, 2500], 0, "no spread among the pairs: no power"),
        ([0, 5000], [2000, 2500], NAN, "a run reached the target at step 0: no log ratio"),
        (
            [4000, 4000],
            [NAN, NAN],
            0,
            "2 of 4 runs censored: the spread, and so n_seeds, are likely too low; no spread among the pairs: no power",
        ),
    ],
)
def test_where_there_is_no_spread_there_is_no_number(
    baseline: list[float], arm: list[float], spread: float, note: str
) -> None:
    for row in rows_of(baseline, arm):
        assert row["spread"] == pytest.approx(spread, nan_ok=True)
        assert all(math.isnan(row[name]) for name in ("n_seeds", "n_seeds_low", "n_seeds_high", "power_now"))
        assert row["note"] == note


def test_one_pair_has_no_row() -> None:
    assert rows_of([4000], [2000]) == []
    one, two = times_of([4000], [2000], variant="one"), times_of([4000, 4200], [2000, 2500], variant="two")
    assert set(power(joined(one, two)[0], 0.95)["variant"]) == {"two"}
