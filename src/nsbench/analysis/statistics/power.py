"""How many seeds an effect on time to target needs, given the spread that was seen: pure functions of DataFrames."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.paired import pairs
from nsbench.config.settled import coverage_of_range
from nsbench.schemas.statistics import POWER

EFFECTS_PERCENT = (10.0, 20.0, 35.0)
"""Effects asked about: per cent fewer steps."""
POWER_WANTED = 0.8
MOST_SEEDS = 10_000
"""The search for a number of seeds ends here."""


def power(times: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Seeds needed to find effects of EFFECTS_PERCENT: columns of POWER, for comparisons with two pairs or more.

    Takes `schemas.training.TIME_TO_TARGET`. The test is a paired t test of the log ratios of restricted steps
    at alpha = 1 - `confidence`, two-sided, with the spread (n - 1 in its denominator) seen over the
    pairs. Raises RecordError for a variant without an arm of kind baseline.
    """
    rows = []
    for names, baseline, arm in pairs(times):
        if len(arm) < 2:
            continue
        shared = {**names, **_spread(baseline, arm, confidence), "confidence": confidence}
        rows += [{**shared, **_seeds(shared, effect, confidence)} for effect in EFFECTS_PERCENT]
    return pd.DataFrame(rows, columns=POWER.names)


def power_of(effect: float, spread: float, n_pairs: int, alpha: float) -> float:
    """Power of a two-sided paired t test of `n_pairs` >= 2 log ratios of mean `effect` and sd `spread` > 0.

    The noncentral t distribution with n - 1 degrees of freedom and noncentrality sqrt(n) |effect| /
    spread, beyond either critical value of level `alpha`.
    """
    from scipy import stats

    df, shift = n_pairs - 1, math.sqrt(n_pairs) * abs(effect) / spread
    critical = stats.t.isf(alpha / 2, df)
    # The lower tail is the upper one of -T: scipy's nct.cdf gives NaN where it is next to nothing.
    return float(stats.nct.sf(critical, df, shift) + stats.nct.sf(critical, df, -shift))


def seeds_needed(effect: float, spread: float, alpha: float) -> int:
    """The fewest pairs, 2 to MOST_SEEDS, with which `power_of` is POWER_WANTED; MOST_SEEDS also where it is not yet."""
    low, high = 1, 2
    while high < MOST_SEEDS and power_of(effect, spread, high, alpha) < POWER_WANTED:
        low, high = high, min(2 * high, MOST_SEEDS)
    while high - low > 1:
        middle = (low + high) // 2
        enough = power_of(effect, spread, middle, alpha) >= POWER_WANTED
        low, high = (low, middle) if enough else (middle, high)
    return high


def fewest_pairs(confidence: float) -> int:
    """Pairs below which neither a permutation test of pairs nor their range can have this confidence."""
    return next(n for n in range(1, 1100) if coverage_of_range(n) >= confidence)


def _spread(baseline: pd.DataFrame, arm: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """The spread over pairs, given in one order, with its interval, and what speaks against using it."""
    from scipy import stats

    n = len(arm)
    n_censored = int((~baseline["reached"]).sum() + (~arm["reached"]).sum())
    found: dict[str, Any] = {"n_pairs": n, "censored_share": n_censored / (2 * n), "power_wanted": POWER_WANTED}
    before, after = (table["step"].fillna(table["budget_steps"]).to_numpy(float) for table in (baseline, arm))
    if n_censored == 2 * n:
        return {**found, "note": "no run reached the target: no spread"}
    if not (np.all(before > 0) and np.all(after > 0)):
        return {**found, "note": "a run reached the target at step 0: no log ratio"}
    notes = []
    if n_censored:
        notes.append(f"{n_censored} of {2 * n} runs censored: the spread, and so n_seeds, are likely too low")
    ratios = np.log(after / before)
    spread = float(ratios.std(ddof=1))
    if spread <= 1e-12 * max(1.0, float(np.abs(ratios).max())):
        return {**found, "spread": 0.0, "note": "; ".join([*notes, "no spread among the pairs: no power"])}
    tails = ((1 + confidence) / 2, (1 - confidence) / 2)
    low, high = (spread * math.sqrt((n - 1) / stats.chi2.ppf(tail, n - 1)) for tail in tails)
    return {**found, "spread": spread, "spread_low": low, "spread_high": high, "note": "; ".join(notes)}


def _seeds(shared: dict[str, Any], effect_percent: float, confidence: float) -> dict[str, Any]:
    """Seeds and power for one effect at the spread seen and at the ends of its interval."""
    effect, alpha = math.log(1 - effect_percent / 100), 1 - confidence
    row: dict[str, Any] = {"effect_percent": effect_percent}
    if not shared.get("spread"):
        return row
    for end in ("", "_low", "_high"):
        row[f"n_seeds{end}"] = float(seeds_needed(effect, shared[f"spread{end}"], alpha))
    notes = [shared["note"]] if shared["note"] else []
    capped = [name for name in ("n_seeds", "n_seeds_high") if row[name] == MOST_SEEDS]
    if capped:
        notes.append(f"{' and '.join(capped)}: {MOST_SEEDS:,} or more")
    fewest = fewest_pairs(confidence)
    if row["n_seeds"] < fewest:
        notes.append(f"n_seeds is of a t test: a verdict at {confidence:.0%} confidence takes {fewest} pairs at least")
    return {**row, "power_now": power_of(effect, shared["spread"], shared["n_pairs"], alpha), "note": "; ".join(notes)}
