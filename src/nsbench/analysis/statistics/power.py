"""How likely the looks are to settle an effect, given the spread that was seen: the rule itself, simulated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.paired import pairs
from nsbench.analysis.statistics.signed_rank import ROUNDING, tail_probabilities
from nsbench.config.sections import Analysis, Looks
from nsbench.schemas.statistics import POWER

EFFECTS_PERCENT = (10.0, 20.0, 35.0)
"""Effects asked about: per cent fewer steps."""
N_SIMULATED = 1000
"""Experiments; their share is known to about 1.6 points."""
SEED = 0


def power(
    times: pd.DataFrame, settings: Analysis | None = None, cells: list[dict[str, Any]] | None = None
) -> pd.DataFrame:
    """The chance to settle effects of EFFECTS_PERCENT by each look: columns of POWER.

    Takes `schemas.training.TIME_TO_TARGET`; a row for each comparison with two pairs or more, effect and look, those
    that are in the grid only for a specification curve left out. Raises RecordError for a variant without an arm of
    kind baseline.
    """
    settings, rows = settings or Analysis(), []
    of_curve = {(cell["task"], cell["variant"]) for cell in cells or [] if cell.get("curve_only", False)}
    for names, baseline, arm in pairs(times):
        if len(arm) < 2 or (names["task"], names["variant"]) in of_curve:
            continue
        shared = {**names, **_spread(baseline, arm, settings.confidence), "confidence": settings.confidence}
        before = (baseline["step"] / baseline["budget_steps"]).to_numpy(float)
        for effect in EFFECTS_PERCENT:
            spreads = {"": "spread", "_low": "spread_high", "_high": "spread_low"}
            known = {end: shared[name] for end, name in spreads.items() if shared.get("spread")}
            powers = {end: power_by_looks(effect, spread, before, settings.looks) for end, spread in known.items()}
            for at, look in enumerate(settings.looks.pairs):
                found = {f"power{end}": values[at] for end, values in powers.items()}
                rows.append({**shared, "effect_percent": effect, "look": look, **found})
    return pd.DataFrame(rows, columns=POWER.names)


def power_by_looks(effect_percent: float, spread: float, baseline: np.ndarray, looks: Looks) -> list[float]:
    """The share of simulated experiments in which fewer steps are settled by each look (looks,).

    An experiment's baseline times are drawn from `baseline`, shares of the budget (runs,), NaN where censored; its
    arm's are those times a lognormal ratio with median 1 - effect and standard deviation `spread` of the logarithm,
    censored at the budget. The arm of a baseline that is censored counts as censored too.
    """
    random, most = np.random.default_rng(SEED), max(looks.pairs)
    before = np.log(np.where(baseline > 0, baseline, 1.0))[random.integers(len(baseline), size=(N_SIMULATED, most))]
    ratio = math.log(1 - effect_percent / 100) + spread * random.standard_normal(before.shape)
    after = np.where(before < 0, np.minimum(before + ratio, 0.0), 0.0)
    # Where `walsh_averages` lie of 0, without the places themselves.
    first, second = np.triu_indices(most)
    sums, settled, found = (after - before)[:, first] + (after - before)[:, second], np.zeros(N_SIMULATED, bool), []
    for look in looks.pairs:
        here = sums[:, second < look]
        above, below = (here >= -ROUNDING).sum(axis=-1), (here <= ROUNDING).sum(axis=-1)
        settled |= (2 * tail_probabilities(look)[np.minimum(above, below)] <= looks.alpha) & (above < below)
        found.append(float(settled.mean()))
    return found


def _spread(baseline: pd.DataFrame, arm: pd.DataFrame, confidence: float) -> dict[str, Any]:
    """The spread over pairs, given in one order, with its interval, and what speaks against using it."""
    from scipy import stats

    n = len(arm)
    n_censored = int((~baseline["reached"]).sum() + (~arm["reached"]).sum())
    found: dict[str, Any] = {"n_pairs": n, "censored_share": n_censored / (2 * n)}
    before, after = (table["step"].fillna(table["budget_steps"]).to_numpy(float) for table in (baseline, arm))
    if n_censored == 2 * n:
        return {**found, "note": "no run reached the target: no spread"}
    if not (np.all(before > 0) and np.all(after > 0)):
        return {**found, "note": "a run reached the target at step 0: no log ratio"}
    notes = []
    if n_censored:
        notes.append(f"{n_censored} of {2 * n} runs censored: the spread is likely too low, and so the power too high")
    ratios = np.log(after / before)
    spread = float(ratios.std(ddof=1))
    if spread <= 1e-12 * max(1.0, float(np.abs(ratios).max())):
        return {**found, "spread": 0.0, "note": "; ".join([*notes, "no spread among the pairs: no power"])}
    tails = ((1 + confidence) / 2, (1 - confidence) / 2)
    low, high = (spread * math.sqrt((n - 1) / stats.chi2.ppf(tail, n - 1)) for tail in tails)
    return {**found, "spread": spread, "spread_low": low, "spread_high": high, "note": "; ".join(notes)}
