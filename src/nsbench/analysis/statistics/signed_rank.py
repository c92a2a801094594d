"""Typical values, and typical ratios of paired, censored times: interval and p-value of one exact signed-rank test.

The interval holds every value that Wilcoxon's signed-rank test does not reject, so that interval and p-value never
disagree: it is that of ordered Walsh averages (Hollander, Wolfe and Chicken, Nonparametric Statistical Methods, 3rd
ed., section 3.3), of ratios where the times lie far within the budget. Ties and zeros count against a rejection on
either side (closed intervals: Noether 1967, JASA 62, 184-188), so that more extreme values never weaken what it says.

The model of a ratio: within a pair, the arm's time divided by the ratio and the baseline's time may change places
without a change in their distribution. At a ratio that is asked about, both times of a pair are censored at what can
be seen of either, which makes their restricted log ratios symmetric about 0: the test is exact with censored pairs too.
"""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np

SOONEST = 1e-9
"""The share of a budget that a time of 0 counts as: it has no logarithm."""
ROUNDING = 1e-12
"""What differs by less is equal."""


class Typical(NamedTuple):
    """A typical value, the ends of its interval, and the two-sided p-value of no effect (a value of 0, a ratio of 1).

    The ends are NaN where no interval of so few values has the confidence. Of a ratio an end is 0 or infinite where
    the pairs set no bound on that side, and the value NaN where it lies beyond the budget.
    """

    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    p_value: float = math.nan


def typical_value(values: np.ndarray, confidence: float) -> Typical:
    """The typical one of finite values (n,), independent and symmetric about it.

    The estimate is Hodges and Lehmann's: the median of the averages of every two values and of each with itself.
    """
    i, j = np.triu_indices(len(values))
    averages = np.sort(_without_rounding((values[i] + values[j]) / 2))
    return _typical(averages, averages, len(values), confidence)


def typical_between(least: np.ndarray, most: np.ndarray, confidence: float) -> Typical:
    """The typical one of values that are known to lie between two ends, (n,) each; an end may be infinite."""
    i, j = np.triu_indices(len(least))
    lower, upper = (np.sort((ends[i] + ends[j]) / 2) for ends in (least, most))
    return _typical(lower, upper, len(least), confidence)


def typical_ratio(
    baseline: np.ndarray, arm: np.ndarray, budgets: tuple[np.ndarray, np.ndarray], confidence: float
) -> Typical:
    """The typical ratio arm / baseline of costs to target (pairs,), NaN where a run is censored at its budget.

    It is the `typical_value` of the log ratios, with what censoring leaves of them. budgets: what each run of the
    baseline and of the arm costs to its end, (pairs,) each; the arms may differ in it, as they do in FLOPs. Where a
    budget is not known nothing is.
    """
    if not np.isfinite(budgets).all():
        return Typical()
    before, after = (
        np.log(np.clip(np.where(np.isnan(times), budget, times) / budget, SOONEST, 1.0))
        for times, budget in zip((baseline, arm), budgets, strict=True)
    )
    lower, upper = walsh_averages(before, after, np.log(budgets[1] / budgets[0]))
    found = _typical(lower, upper, len(arm), confidence)
    return Typical(*np.exp(found[:3]).tolist(), found.p_value)


def _typical(lower: np.ndarray, upper: np.ndarray, n: int, confidence: float) -> Typical:
    """From the sorted Walsh averages of n values; `lower` and `upper` differ where censoring leaves them open."""
    if n == 0:
        return Typical()
    place, middles = critical_place(n, 1 - confidence), np.array([np.median(lower), np.median(upper)])
    low, high = (float(lower[place - 1]), float(upper[-place])) if place else (math.nan, math.nan)
    value = float(middles.mean()) if np.isfinite(middles).all() else math.nan
    return Typical(value, low, high, float(p_value(lower, upper, n)))


def walsh_averages(before: np.ndarray, after: np.ndarray, shift: np.ndarray | float = 0.0) -> tuple[np.ndarray, ...]:
    """Where the sum of two pairs' restricted log ratios changes its sign, for all n (n + 1) / 2 of them, sorted.

    before and after: log(time / budget) of the baseline and the arm, (..., pairs), 0 where censored; shift: the
    logarithm of the arm's budget over the baseline's. A pair's log ratio is d = after + shift - before; at a log ratio
    t that is asked about, with both times censored at what can be seen of either, it is

        z(t) = d - clip(t, after + shift, shift - before).

    For two pairs far within the budget z_i + z_j is 0 at (d_i + d_j) / 2. Returns the least and the largest t at which
    it is 0, (..., sums) each: they differ only where both arms' runs or both baselines' are censored, which sets no
    bound above or below.
    """
    i, j = np.triu_indices(before.shape[-1])
    d, least, most = (np.broadcast_to(x, before.shape) for x in (after + shift - before, after + shift, shift - before))
    total = d[..., i] + d[..., j]
    # The sum of the clipped t rises twice as fast where both are seen as where one is.
    zero = total - np.clip(total / 2, np.maximum(least[..., i], least[..., j]), np.minimum(most[..., i], most[..., j]))
    zero = _without_rounding(zero)
    lower = np.where((before[..., i] == 0) & (before[..., j] == 0), -np.inf, zero)
    upper = np.where((after[..., i] == 0) & (after[..., j] == 0), np.inf, zero)
    return np.sort(lower, axis=-1), np.sort(upper, axis=-1)


def _without_rounding(averages: np.ndarray) -> np.ndarray:
    """Averages of values that cancel are 0."""
    return np.where(np.abs(averages) < ROUNDING, 0.0, averages)


def p_value(lower: np.ndarray, upper: np.ndarray, n_pairs: int) -> np.ndarray:
    """Two-sided p-value of a ratio of 1 from `walsh_averages`, (...)."""
    at_least = np.minimum((upper >= 0).sum(-1), (lower <= 0).sum(-1))
    return np.minimum(1.0, 2 * tail_probabilities(n_pairs)[at_least])


@functools.cache
def tail_probabilities(n_pairs: int) -> np.ndarray:
    """P(W <= w) for w = 0 ... n (n + 1) / 2, W the sum of those ranks 1 ... n that a fair coin each chooses."""
    probability = np.ones(1)
    for rank in range(1, n_pairs + 1):
        chosen = np.zeros(len(probability) + rank)
        chosen[: len(probability)] += probability / 2
        chosen[rank:] += probability / 2
        probability = chosen
    return np.minimum(np.cumsum(probability), 1.0)


def critical_place(n_pairs: int, alpha: float) -> int:
    """Which Walsh average from either end bounds the interval of two-sided level `alpha`; 0 where there is none.

    There is none below 1 - log2(alpha) pairs: six at 0.05, seven at 0.018.
    """
    return int((2 * tail_probabilities(n_pairs) <= alpha * (1 + ROUNDING)).sum()) if n_pairs else 0
