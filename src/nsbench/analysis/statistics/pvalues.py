"""Tests of paired times and Holm's correction for several of them: pure functions of arrays."""

from __future__ import annotations

import numpy as np

EXACT_PAIRS = 12
"""Up to so many pairs every way of swapping is counted: 2^12 are quickly done."""


def permutation_p(baseline: np.ndarray, arm: np.ndarray, n_resamples: int, generator: np.random.Generator) -> float:
    """Two-sided p-value of the ratio of means, arm / baseline, when arm and baseline swap within pairs.

    `baseline` and `arm` (pairs,) are finite times in one order. Under the hypothesis that the arm
    changes nothing, either time of a pair is as likely the arm's. Exact where the 2^n swaps are at
    most `n_resamples` or the pairs EXACT_PAIRS, else from that many random ones. A swap leaves the
    sum of all times as it was, so log(mean(arm) / mean(baseline)) rises and falls with the
    difference of means, which is what is computed: it needs no means above 0, and exchanging arm
    and baseline gives the same p-value. NaN with fewer than two pairs.
    """
    from scipy import stats

    if len(arm) < 2:
        return float("nan")

    def difference(x: np.ndarray, y: np.ndarray, axis: int = -1) -> np.ndarray:
        return y.mean(axis=axis) - x.mean(axis=axis)

    return float(
        stats.permutation_test(
            (baseline, arm),
            difference,
            permutation_type="samples",
            vectorized=True,
            n_resamples=max(n_resamples, 2 ** min(len(arm), EXACT_PAIRS)),
            alternative="two-sided",
            rng=generator,
        ).pvalue
    )


def smallest_p(n_differ: int) -> float:
    """The smallest two-sided p-value of the exact test where `n_differ` pairs differ: 2^(1 - n), at most 1."""
    return min(1.0, 2.0 ** (1 - n_differ))


def holm(p_values: np.ndarray) -> np.ndarray:
    """Holm's step-down correction of `p_values` (tests,): the chance of any false rejection stays below alpha.

    The i-th smallest of m is multiplied by m - i + 1, is at least the one before it and at most 1.
    NaN stays NaN and is not counted in m. Source: S. Holm, A simple sequentially rejective multiple
    test procedure, Scandinavian Journal of Statistics 6 (1979) 65-70.
    """
    corrected = np.full(len(p_values), np.nan)
    defined = np.flatnonzero(~np.isnan(p_values))
    order = defined[np.argsort(p_values[defined], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return corrected
