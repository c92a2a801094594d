"""The typical ratio's interval and test: against scipy, ordered Walsh averages, and the definition spelled out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from scipy import stats

from nsbench.analysis.statistics.signed_rank import (
    Typical,
    critical_place,
    p_value,
    tail_probabilities,
    typical_ratio,
    typical_value,
    walsh_averages,
)
from tests.analysis.paired_times import BUDGET, TIMES, two_strengths

NAN = math.nan
PAIRS = st.lists(st.tuples(TIMES, TIMES), min_size=1, max_size=9)
SEEN = st.lists(st.tuples(st.integers(1, 10**4), st.integers(1, 10**4)), min_size=2, max_size=8)
"""Pairs of times (baseline, arm) of which none is censored."""


def found(
    pairs: list[tuple[float, float]], confidence: float = 0.95, budgets: tuple[float, float] = (BUDGET, BUDGET)
) -> Typical:
    before, after = np.array(pairs, dtype=float).T
    return typical_ratio(before, after, tuple(np.full(len(pairs), float(budget)) for budget in budgets), confidence)


def swaps(n: int) -> list[tuple[int, ...]]:
    return list(itertools.product([1, -1], repeat=n))


def tails(n: int) -> np.ndarray:
    """P(W <= w) of the signed-rank statistic, by all signs of the ranks."""
    sums = np.array([sum(rank for rank, sign in enumerate(signs, 1) if sign > 0) for signs in swaps(n)])
    return np.array([(sums <= w).mean() for w in range(n * (n + 1) // 2 + 1)])


@pytest.mark.parametrize("n", [1, 5, 8])
def test_the_statistic_s_distribution_is_that_of_all_signs(n: int) -> None:
    np.testing.assert_allclose(tail_probabilities(n), tails(n), rtol=1e-12)


@settings(deadline=None, max_examples=40)
@given(SEEN)
def test_without_ties_p_is_scipy_s_exact_one(pairs: list[tuple[int, int]]) -> None:
    logs = np.array([math.log(arm / baseline) for baseline, arm in pairs])
    sizes = np.sort(np.abs(logs))
    assume(sizes[0] > 1e-6 and np.diff(sizes).min() > 1e-6)
    assert found(pairs, budgets=(1e4, 2e4)).p_value == pytest.approx(stats.wilcoxon(logs, method="exact").pvalue)


@settings(deadline=None, max_examples=40)
@given(SEEN, st.sampled_from([0.8, 0.9, 0.95, 0.982]))
def test_far_within_the_budget_it_is_the_interval_of_ordered_walsh_averages(
    pairs: list[tuple[int, int]], confidence: float
) -> None:
    logs = [math.log(arm / baseline) for baseline, arm in pairs]
    averages = sorted((logs[i] + logs[j]) / 2 for i in range(len(logs)) for j in range(i, len(logs)))
    one = found(pairs, confidence, budgets=(1e8, 1e8))
    assert one.value == pytest.approx(math.exp(np.median(averages)))
    rejecting = int((2 * tails(len(pairs)) <= 1 - confidence + 1e-12).sum())
    if rejecting:
        assert one.low == pytest.approx(math.exp(averages[rejecting - 1]))
        assert one.high == pytest.approx(math.exp(averages[-rejecting]))
    else:
        assert math.isnan(one.low)
        assert math.isnan(one.high)


@pytest.mark.parametrize(
    ("n", "alpha", "there"), [(5, 0.05, False), (6, 0.05, True), (6, 0.018, False), (7, 0.018, True)]
)
def test_few_pairs_have_no_interval(n: int, alpha: float, there: bool) -> None:
    assert (critical_place(n, alpha) > 0) == there
    assert math.isfinite(found([(4.0, 3.0)] * n, 1 - alpha).low) == there


@settings(deadline=None, max_examples=100)
@given(PAIRS, st.integers(0, 45), st.floats(-0.4, 0.4))
def test_interval_and_p_agree_at_every_level(pairs: list[tuple[float, float]], w: int, beside: float) -> None:
    """At the level of each value of the statistic, where it is decided, and beside it."""
    tail = tails(len(pairs))
    alpha = 2 * tail[w % len(tail)] * (1 + (beside if w % 2 else 0.0))
    assume(alpha < 1)
    one = found(pairs, 1 - alpha)
    rejected = not (math.isnan(one.low) or one.low <= 1 <= one.high)
    assert (one.p_value <= alpha * (1 + 1e-9)) == rejected


# --- values ------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-50, 50).map(lambda value: value / 8), min_size=1, max_size=9))
def test_typical_values_are_what_typical_ratios_are_of_logarithms(values: list[float]) -> None:
    one, ratio = (
        typical_value(np.array(values), 0.9),
        found([(1e4, 1e4 * math.exp(v)) for v in values], 0.9, (1e9, 1e9)),
    )
    assert one[:3] == pytest.approx(tuple(math.log(end) for end in ratio[:3]), abs=1e-9, nan_ok=True)
    assert one.p_value == ratio.p_value


def test_values_that_cancel_but_for_rounding_are_on_neither_side() -> None:
    """Differences of accuracies: 0.1 up and 0.1 down."""
    up, down = 0.9 - 0.8, 0.7 - 0.8
    assert up + down < 0
    one = typical_value(np.array([up, down, down, down, down, down, down, down]), 0.98)
    assert (one.high, one.p_value) == (0, typical_value(np.array([1.0] + [-1.0] * 7), 0.98).p_value)


def test_constant_values_have_an_interval_of_no_length() -> None:
    assert typical_value(np.full(6, 0.3), 0.95) == Typical(0.3, 0.3, 0.3, 1 / 32)
    assert typical_value(np.zeros(6), 0.95) == Typical(0.0, 0.0, 0.0, 1.0)


# --- censoring ---------------------------------------------------------------------------------------------


def restricted(pairs: list[tuple[float, float]], t: float, budgets: tuple[float, float]) -> np.ndarray:
    """Log ratios less t of times censored at what can be seen of either: the baseline's budget, the arm's over e^t."""
    seen = min(budgets[0], budgets[1] / math.exp(t))
    return np.array(
        [
            math.log(min(np.nan_to_num(arm, nan=budgets[1]) / math.exp(t), seen))
            - math.log(min(np.nan_to_num(baseline, nan=budgets[0]), seen))
            for baseline, arm in pairs
        ]
    )


@settings(deadline=None, max_examples=100)
@given(PAIRS, st.sampled_from([(8.0, 8.0), (8.0, 16.0), (20.0, 8.0)]))
@example([(NAN, NAN), (4.0, 4.0)], (8.0, 8.0))
@example([(NAN, 3.0), (NAN, 5.0), (2.0, NAN)], (8.0, 16.0))
def test_walsh_averages_are_where_sums_of_restricted_log_ratios_change_sign(
    pairs: list[tuple[float, float]], budgets: tuple[float, float]
) -> None:
    before, after = (
        np.log(np.nan_to_num(times, nan=b) / b) for times, b in zip(np.array(pairs).T, budgets, strict=True)
    )
    lower, upper = walsh_averages(before, after, math.log(budgets[1] / budgets[0]))
    ends = np.unique(np.round([*lower[np.isfinite(lower)], *upper[np.isfinite(upper)], -9.0, 9.0], 9))
    i, j = np.triu_indices(len(pairs))
    for t in (ends[1:] + ends[:-1]) / 2:
        z = restricted(pairs, t, budgets)
        sums = np.round(z[i] + z[j], 7)
        assert (upper >= t).sum() == (sums >= 0).sum()
        assert (lower <= t).sum() == (sums <= 0).sum()


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.tuples(st.integers(1, 14), st.integers(1, 14)), min_size=6, max_size=6),
    st.sampled_from([0.5, 1.0, 1.5]),
    st.sampled_from([(8.0, 8.0), (8.0, 16.0)]),
)
def test_of_all_swaps_at_most_alpha_reject_the_true_ratio(
    pairs: list[tuple[int, int]], truth: float, budgets: tuple[float, float]
) -> None:
    """Exact for six pairs, ties and times beyond either budget included."""
    p_values = []
    for signs in swaps(len(pairs)):
        swapped = [pair[::sign] for pair, sign in zip(pairs, signs, strict=True)]
        made = [(one, truth * other) for one, other in swapped]
        made = [tuple(NAN if time > b else time for time, b in zip(pair, budgets, strict=True)) for pair in made]
        one = found(made, 0.95, budgets)
        rejected = not (one.low * (1 - 1e-9) <= truth <= one.high * (1 + 1e-9))
        p_values.append(one.p_value if truth == 1 else 0.05 * rejected + 1.0 * (not rejected))
    p = np.array(p_values)
    for alpha in np.unique(p):
        assert (p <= alpha).mean() <= alpha + 1e-12


def test_without_ties_the_level_is_used_up() -> None:
    """Six pairs of which none is tied or censored: 2 of 64 swaps have p = 1/32."""
    pairs = [(1.0, 1.1), (2.0, 2.6), (3.0, 5.0), (4.0, 7.1), (1.0, 2.2), (1.0, 6.0)]
    p = [found([pair[::sign] for pair, sign in zip(pairs, signs, strict=True)]).p_value for signs in swaps(6)]
    assert sorted(p)[:3] == [1 / 32, 1 / 32, 1 / 16]


def test_censored_arms_bound_on_one_side() -> None:
    never = found([(4.0, NAN)] * 6)
    assert math.isnan(never.value)
    assert (never.low, never.high, never.p_value) == (pytest.approx(2.0), math.inf, 1 / 32)
    always = found([(NAN, 4.0)] * 6)
    assert (always.low, always.high, always.p_value) == (0.0, pytest.approx(0.5), 1 / 32)
    nothing = found([(NAN, NAN)] * 6)
    assert (nothing.low, nothing.high, nothing.p_value) == (0.0, math.inf, 1.0)
    assert math.isnan(nothing.value)


def test_costs_of_censored_runs_are_of_their_own_budgets() -> None:
    """The arm never reaches; a step of it costs twice as much: it costs more than 4 times 1,000."""
    one = found([(1000.0, NAN)] * 6, budgets=(2000.0, 4000.0))
    assert one.low == pytest.approx(4.0)


def test_a_budget_that_is_not_known_leaves_the_ratio_unknown() -> None:
    one = typical_ratio(np.full(6, 4.0), np.full(6, 2.0), (np.full(6, 8.0), np.array([8.0] * 5 + [NAN])), 0.95)
    assert all(math.isnan(value) for value in one)


# --- more extreme evidence is never weaker ---------------------------------------------------------------------


@settings(deadline=None)
@given(two_strengths(), st.sampled_from([0.95, 0.8]), st.sampled_from([(8.0, 8.0), (8.0, 16.0)]))
def test_more_extreme_pairs_never_move_an_end_upward(
    strengths: tuple[list[tuple[float, float]], ...], confidence: float, budgets: tuple[float, float]
) -> None:
    weak, strong = (found(pairs, confidence, budgets) for pairs in strengths)
    for end in ("low", "high"):
        assert getattr(strong, end) <= getattr(weak, end) * (1 + 1e-9)


@given(st.permutations(range(8)))
def test_the_order_of_pairs_does_not_matter(order: list[int]) -> None:
    pairs = [(4.0, 3.0), (5.0, 5.0), (NAN, 2.0), (6.0, NAN), (3.0, 1.0), (7.0, 6.0), (NAN, NAN), (2.0, 3.0)]
    assert found([pairs[place] for place in order])[1:] == found(pairs)[1:]


def test_many_experiments_at_once_are_each_as_alone() -> None:
    generator = np.random.default_rng(0)
    before, after = np.minimum(generator.normal(-0.3, 0.4, (2, 5, 8)), 0.0)
    together = walsh_averages(before, after)
    p = p_value(*together, 8)
    for place in range(5):
        alone = walsh_averages(before[place], after[place])
        np.testing.assert_array_equal([table[place] for table in together], alone)
        assert p[place] == p_value(*alone, 8)
