"""The chance that each look settles an effect: against a plain loop over the rule, and what it knows of the spread."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from nsbench.analysis.statistics import power as powers
from nsbench.analysis.statistics.power import EFFECTS_PERCENT, power, power_by_looks
from nsbench.analysis.statistics.signed_rank import typical_ratio
from nsbench.config.sections import Analysis, Looks
from nsbench.config.settled import FEWER, outcome
from nsbench.schemas.statistics import POWER
from tests.analysis.paired_times import joined, times_of

NAN = math.nan
LOOKS = Looks()
BASELINE = np.array([4000.0, 5000, 4500, 4200, 4900, 4600, NAN, 9000])


def rows_of(baseline: list[float], arm: list[float], **settings: Any) -> list[dict[str, Any]]:
    found = power(times_of(baseline, arm)[0], Analysis(**settings))
    assert list(found) == POWER.names
    return found.to_dict("records")


def test_it_is_the_share_of_simulated_experiments_that_the_rule_settles_by_each_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ties, censored baselines and arms beyond the budget included; in shares of a budget of 10,000 steps."""
    monkeypatch.setattr(powers, "N_SIMULATED", 60)
    effect, spread, looks = 25.0, 0.35, Looks(pairs=[8, 11], alpha=0.03)
    found = power_by_looks(effect, spread, BASELINE / 10_000, looks)
    random, settled = np.random.default_rng(powers.SEED), [set(), set()]
    drawn = BASELINE[random.integers(len(BASELINE), size=(60, 11))]
    arms = drawn * (1 - effect / 100) * np.exp(spread * random.standard_normal(drawn.shape))
    for experiment in range(60):
        before, after = drawn[experiment], arms[experiment]
        after = np.where(after > 10_000, NAN, after)  # NaN where the baseline is
        for place, look in enumerate(looks.pairs):
            budgets = (np.full(look, 10_000.0),) * 2
            one = typical_ratio(before[:look], after[:look], budgets, 1 - looks.alpha)
            if outcome(one.low, one.high, 0.1) == FEWER:
                settled[place].add(experiment)
    assert found == [len(settled[0]) / 60, len(settled[0] | settled[1]) / 60]
    assert 0.1 < found[0] < found[1] < 0.9


def test_power_grows_with_effect_and_looks_and_falls_with_spread_and_censoring() -> None:
    whole = np.array([0.4, 0.5, 0.45])
    found = {
        (effect, spread): power_by_looks(effect, spread, whole, LOOKS) for effect in (10, 20) for spread in (0.1, 0.2)
    }
    assert all(values == sorted(values) for values in found.values())
    assert found[20, 0.2][0] > found[10, 0.2][0] > 0.05
    assert found[10, 0.1][0] > found[10, 0.2][0]
    assert power_by_looks(20, 0.1, np.array([0.4, 0.5, NAN]), LOOKS)[0] < found[20, 0.1][0] - 0.2
    assert power_by_looks(20, 0.1, np.array([NAN, NAN]), LOOKS) == [0, 0, 0, 0]


def test_without_an_effect_few_are_found() -> None:
    """Four looks at 0.018 find one in 40 on this side; a thousand experiments tell that to half a point."""
    assert 0.01 < power_by_looks(0, 0.2, np.array([0.4, 0.5]), LOOKS)[-1] < 0.04


def test_a_table_has_three_effects_at_each_look_for_a_comparison() -> None:
    baseline, ratios = np.array([4000.0, 5000, 4500, 4200, 4900]), np.array([0.7, 0.9, 0.8, 0.75, 1.1])
    rows = rows_of(list(baseline), list(baseline * ratios))
    asked = [(effect, look) for effect in EFFECTS_PERCENT for look in (8, 12, 16, 20)]
    assert [(row["effect_percent"], row["look"]) for row in rows] == asked
    spread = np.log(ratios).std(ddof=1)
    for row in rows:
        assert row["spread"] == pytest.approx(spread)
        # Chi-square quantiles with 4 degrees of freedom, from a printed table.
        assert row["spread_low"] == pytest.approx(spread * math.sqrt(4 / 11.143), rel=1e-4)
        assert row["spread_high"] == pytest.approx(spread * math.sqrt(4 / 0.4844), rel=1e-3)
        assert row["power_low"] <= row["power"] <= row["power_high"]
        assert (row["n_pairs"], row["censored_share"], row["confidence"]) == (5, 0, 0.95)
    assert [row["power"] for row in rows[:4]] == power_by_looks(10, spread, baseline / 10_000, LOOKS)
    assert [row["power_low"] for row in rows[:4]] == power_by_looks(10, rows[0]["spread_high"], baseline / 1e4, LOOKS)


def test_censoring_makes_the_spread_too_low_and_is_told() -> None:
    row = rows_of([4000, NAN, 6000], [2000, 3000, NAN])[0]
    assert row["censored_share"] == pytest.approx(2 / 6)
    assert row["note"] == "2 of 6 runs censored: the spread is likely too low, and so the power too high"
    assert row["spread"] == pytest.approx(np.log([1 / 2, 3 / 10, 10 / 6]).std(ddof=1))


@pytest.mark.parametrize(
    ("baseline", "arm", "spread", "note"),
    [
        ([NAN, NAN], [NAN, NAN], NAN, "no run reached the target: no spread"),
        ([4000, 5000], [2000, 2500], 0, "no spread among the pairs: no power"),
        ([0, 5000], [2000, 2500], NAN, "a run reached the target at step 0: no log ratio"),
    ],
)
def test_where_there_is_no_spread_there_is_no_number(
    baseline: list[float], arm: list[float], spread: float, note: str
) -> None:
    for row in rows_of(baseline, arm):
        assert row["spread"] == pytest.approx(spread, nan_ok=True)
        assert all(math.isnan(row[name]) for name in ("power", "power_low", "power_high"))
        assert row["note"] == note


def test_one_pair_and_what_is_in_the_grid_for_a_curve_have_no_row() -> None:
    assert rows_of([4000], [2000]) == []
    one, two, three = (times_of([4000, 4200], [2000, 2500], variant=name) for name in ("one", "two", "three"))
    for cell in three[2]:
        cell["curve_only"] = True
    times, _, cells = joined(one, two, three)
    assert set(power(times, Analysis(), cells)["variant"]) == {"one", "two"}
