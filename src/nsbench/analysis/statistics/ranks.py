"""Rank correlations over runs, with intervals by a bootstrap of the seeds: all runs of a seed are drawn together."""

from __future__ import annotations

import math

import numpy as np

from nsbench.analysis.statistics.intervals import Interval, expanded
from nsbench.config.settled import few

N_RESAMPLES = 1999
"""Bootstrap resamples of the seeds."""
ROUNDING = 1e-12


def resamples(n_seeds: int) -> np.ndarray:
    """How often each resample of `n_seeds` seeds holds each of them: (N_RESAMPLES, n_seeds), always the same."""
    return np.random.default_rng(0).multinomial(n_seeds, np.full(n_seeds, 1 / n_seeds), N_RESAMPLES)


def percentile_interval(value: float, resampled: np.ndarray, n_seeds: int, confidence: float) -> Interval:
    """A correlation with its expanded percentile interval; resamples without ranks are left out, with a note."""
    if math.isnan(value):
        return Interval(math.nan, math.nan, math.nan, ["alike in all runs, no ranks"])
    defined = resampled[np.isfinite(resampled)]
    level = expanded(confidence, n_seeds) if n_seeds > 1 else confidence
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]) if len(defined) else (0.0, 0.0)
    lost = 1 - len(defined) / len(resampled)
    notes = [f"{lost:.0%} of the resamples have no ranks and are left out"] if lost > 0.01 else []
    if too_few := few(n_seeds, "seeds", confidence) or ["no resample has ranks"] * (not len(defined)):
        return Interval(float(value), math.nan, math.nan, notes + too_few)
    return Interval(float(value), float(low), float(high), notes)


def spearman(x: np.ndarray, y: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    """Spearman's correlation (B,) of x and y (N,) in B resamples that hold value i `counts_BN[b, i]` times.

    Ties share their mean rank. NaN where a resample has x or y constant. Values may be infinite.
    """
    return correlation(centred_ranks(x, counts_BN), centred_ranks(y, counts_BN), counts_BN)


def centred_ranks(values: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    """Mean ranks (B, N) of `values` (N,) in each resample, less their mean."""
    counts_BN = counts_BN.astype(float)
    return _ranks_of_resamples(values, counts_BN) - (counts_BN.sum(axis=1, keepdims=True) + 1) / 2


def correlation(x_BN: np.ndarray, y_BN: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    """The correlation (B,) of two `centred_ranks`; NaN where one is constant."""
    counts_BN = counts_BN.astype(float)
    products = [np.einsum("bn,bn,bn->b", counts_BN, a, b) for a, b in ((x_BN, y_BN), (x_BN, x_BN), (y_BN, y_BN))]
    scale_B = np.sqrt(products[1] * products[2])
    return np.divide(products[0], scale_B, out=np.full(len(counts_BN), np.nan), where=scale_B > 0)


def partial(xy_B: np.ndarray, xz_B: np.ndarray, yz_B: np.ndarray) -> np.ndarray:
    """The correlation (B,) of x and y given z, of the three correlations; NaN where z settles x or y."""
    left_B = (1 - xz_B**2) * (1 - yz_B**2)
    settled = left_B < ROUNDING
    return np.where(settled, np.nan, (xy_B - xz_B * yz_B) / np.sqrt(np.where(settled, 1.0, left_B)))


def _ranks_of_resamples(values: np.ndarray, counts_BN: np.ndarray) -> np.ndarray:
    """Mean ranks (B, N) of `values` (N,) in each resample."""
    levels, place = np.unique(values, return_inverse=True)
    held_BL = counts_BN @ (place[:, None] == np.arange(len(levels))).astype(float)
    # The m values of a level share the ranks from (all below) + 1 to (all below) + m.
    return (held_BL.cumsum(axis=1) - (held_BL - 1) / 2)[:, place]
