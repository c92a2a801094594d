"""Effects of many settings pooled: mean, spread between settings, and what to expect in a new one.

A crossed random-effects model of effects y of S settings and n seeds, which all settings share,

    y_si = mean + setting_s + seed_i + error_si,

by the two-way analysis of variance: Var(mean) = (MS_setting + MS_seed - MS_error) / (S n), with Satterthwaite's degrees
of freedom (Searle, Casella and McCulloch, Variance Components, 1992, section 4.3). benchmarks/verdicts.py has how often
its intervals cover.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Pooled(NamedTuple):
    """Mean of effects on a log scale with its interval, the interval of a new setting's, and standard deviations.

    NaN where there is none.
    """

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    new_low: float = math.nan
    new_high: float = math.nan
    sd_settings: float = math.nan
    sd_seeds: float = math.nan


def pool(effects_SN: np.ndarray, confidence: float) -> Pooled:
    """Pool finite effects of settings x seeds, on a log scale. Intervals need three settings and two seeds."""
    from scipy import stats

    n_settings, n_seeds = effects_SN.shape
    if effects_SN.size == 0:
        return Pooled()
    mean = float(effects_SN.mean())
    if n_settings < 3 or n_seeds < 2:
        return Pooled(mean)
    ms_setting, ms_seed, ms_error = _mean_squares(effects_SN)
    of_seeds = max(ms_seed - ms_error, 0.0)
    between = math.sqrt(max(ms_setting - ms_error, 0.0) / n_seeds)
    variance = (ms_setting + of_seeds) / effects_SN.size
    # What enters the variance, each with its degrees of freedom.
    parts = [(ms_setting, n_settings - 1)]
    if of_seeds:
        parts += [(ms_seed, n_seeds - 1), (ms_error, (n_settings - 1) * (n_seeds - 1))]
    total = sum(square**2 / df for square, df in parts)
    df = (ms_setting + of_seeds) ** 2 / total if total else n_settings - 1
    reach = stats.t.ppf((1 + confidence) / 2, df) * math.sqrt(variance)
    new = stats.t.ppf((1 + confidence) / 2, min(df, n_settings - 2)) * math.sqrt(between**2 + variance)
    sd_seeds = math.sqrt(of_seeds / n_settings)
    return Pooled(mean, mean - reach, mean + reach, mean - new, mean + new, between, sd_seeds)


def by_level(effects_SN: np.ndarray, levels: list[str], confidence: float) -> tuple[dict[str, Pooled], float]:
    """What settings with each level of a choice have on average, and the p-value of no difference between levels.

    levels: that of each setting. The variance between settings is taken as the same at all levels. The test is the
    analysis of variance of the settings' means; seeds, which all share, cancel in it. p is NaN where no level but one
    has a setting, or where no two settings have the same one.
    """
    from scipy import stats

    if effects_SN.size == 0:
        return dict.fromkeys(levels, Pooled()), math.nan
    means_S, names = effects_SN.mean(axis=1), list(dict.fromkeys(levels))
    groups = {name: means_S[[level == name for level in levels]] for name in names}
    df = len(means_S) - len(names)
    if df < 1:
        return {name: Pooled(float(group.mean())) for name, group in groups.items()}, math.nan
    within = sum(float(((group - group.mean()) ** 2).sum()) for group in groups.values()) / df
    _, ms_seed, ms_error = _mean_squares(effects_SN) if min(effects_SN.shape) > 1 else (0.0, 0.0, 0.0)
    of_seeds = max(ms_seed - ms_error, 0.0) / effects_SN.size
    found = {}
    for name, group in groups.items():
        reach = stats.t.ppf((1 + confidence) / 2, df) * math.sqrt(within / len(group) + of_seeds)
        mean = float(group.mean())
        found[name] = Pooled(mean, mean - reach, mean + reach)
    if len(names) < 2:
        return found, math.nan
    with np.errstate(all="ignore"):
        return found, float(stats.f_oneway(*groups.values()).pvalue)


def _mean_squares(effects_SN: np.ndarray) -> tuple[float, float, float]:
    """Mean squares between settings, between seeds and of the rest."""
    n_settings, n_seeds = effects_SN.shape
    mean, of_setting, of_seed = effects_SN.mean(), effects_SN.mean(axis=1), effects_SN.mean(axis=0)
    rest = effects_SN - of_setting[:, None] - of_seed[None, :] + mean
    ms_setting = n_seeds * ((of_setting - mean) ** 2).sum() / (n_settings - 1)
    ms_seed = n_settings * ((of_seed - mean) ** 2).sum() / (n_seeds - 1)
    return float(ms_setting), float(ms_seed), float((rest**2).sum() / ((n_settings - 1) * (n_seeds - 1)))
