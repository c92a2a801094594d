"""Bootstrap intervals over seeds or pairs that keep their confidence when these are few."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence

import numpy as np


def expanded(confidence: float, n: int) -> float:
    """The level at which a percentile interval of `n` >= 2 values covers `confidence` about.

    Resampling n values knows neither that their spread is estimated nor that the sample's variance
    is (n - 1)/n of the population's: plain percentile intervals are too short, by the factor
    sqrt((n - 1)/n) z / t. The level is that of a normal interval longer by this factor, 2 Phi(t
    sqrt(n/(n - 1))) - 1 with Student's t of n - 1 degrees of freedom (Hesterberg 2015, The American
    Statistician 69, section 4.4: the expanded percentile interval).
    """
    from scipy import stats

    longer = stats.t.ppf((1 + confidence) / 2, n - 1) * math.sqrt(n / (n - 1))
    return float(2 * stats.norm.cdf(longer) - 1)


def percentile_interval(
    samples: Sequence[np.ndarray],
    statistic: Callable[..., np.ndarray],
    confidence: float,
    n_resamples: int,
    generator: np.random.Generator,
) -> tuple[float, float]:
    """Both ends of the expanded percentile interval of `statistic`, resampling `samples`, each (n,), together.

    NaN where a resample has no statistic. Needs n >= 2.
    """
    # Here, because it takes a second that all who need a schema alone would wait for.
    from scipy import stats

    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        low, high = stats.bootstrap(
            tuple(samples),
            statistic,
            paired=len(samples) > 1,
            vectorized=True,
            method="percentile",
            confidence_level=expanded(confidence, len(samples[0])),
            n_resamples=n_resamples,
            rng=generator,
        ).confidence_interval
    return float(low), float(high)
