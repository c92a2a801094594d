"""Do sensitivity and noise stability rank models alike, and what do they rank beside? Pure functions of DataFrames."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.analysis.matched import is_control
from nsbench.analysis.statistics.intervals import Interval, shared_notes, typical
from nsbench.analysis.statistics.ranks import centred_ranks, correlation, partial, percentile_interval, resamples
from nsbench.analysis.statistics.times import CELL_KEYS
from nsbench.config.cells import of_baseline
from nsbench.schemas.matched import RANK_AGREEMENT

GROUPS = ("baselines", "all arms")
RANKED = ("sensitivity", "flips")
CORRUPTED, GIVEN = "corrupted_accuracy", "clean_accuracy"
SHARPNESS = (("weight_logits", "absolute"), *(("weight_flips", scale) for scale in ("absolute", "relative", "filter")))
"""What is asked of weights' noise: the paper's two, and those that do not depend on the weights' scale."""
FEWEST = 4
"""Runs that a correlation needs, and variants that a tau does."""
_WHAT = ["quantity", "law", "split", "kept"]
Key = tuple[str, str, str, float]
"""Of a column: quantity, law, split and kept, -1 for none."""


class Runs(NamedTuple):
    """Runs that are ranked: their values (a row per run, a column per Key), seeds and variants."""

    values: pd.DataFrame
    seeds: np.ndarray
    variants: np.ndarray
    notes: list[str]


def rank_agreement(matched: pd.DataFrame, cells: list[dict[str, Any]], confidence: float) -> pd.DataFrame:
    """Rank correlations of sensitivity, and of flips under joint noise, for each law, inputs and matching: columns of
    RANK_AGREEMENT, `text` empty.

    tau: Kendall's tau-b of sensitivity and flips over the variants' baselines, of each seed; the typical seed's, with
    its interval (`statistics.intervals.typical`). Few flips make ranks noisy and tau small, so read it beside the one
    where most tokens are kept, which is near 1 but for that. rho: Spearman's over runs, beside SHARPNESS; partial:
    beside corrupted accuracy given clean accuracy, both on the same images, the partial correlation of ranks. Their
    intervals resample seeds, for the variants (and arms) there are: other architectures are not in them.

    Runs with permuted labels are left out, and so are those that lack one of the numbers at a matching.
    """
    rows = []
    baselines = {tuple(cell[name] for name in CELL_KEYS) for cell in of_baseline(cells)}
    controls = {tuple(cell[name] for name in CELL_KEYS) for cell in cells if is_control(cell)}
    names = list(zip(*(matched[name] for name in CELL_KEYS), strict=True))
    matched = matched.assign(baseline=[name in baselines for name in names])
    matched = matched[np.array([name not in controls for name in names], bool)]
    # At equal FLOPs baselines are at their end.
    matched = matched[matched["matching"] != "equal_flops"]
    for (task, matching), here in matched.groupby(["task", "matching"], sort=False):
        for group in GROUPS:
            chosen = here if group == "all arms" else here[here["baseline"].astype(bool)]
            runs = _runs(chosen)
            about = {"task": task, "matching": matching, "group": group, "confidence": confidence}
            about |= {"n_runs": len(runs.values), "n_seeds": len(set(runs.seeds))}
            found = list(_taus(runs, confidence)) if group == "baselines" else []
            rows += [about | row for row in [*found, *_over_runs(runs, confidence)]]
    return pd.DataFrame(rows, columns=RANK_AGREEMENT.names)


def _runs(chosen: pd.DataFrame) -> Runs:
    """The runs of some rows of MATCHED_MEASURE that have all numbers which most have."""
    asked = chosen[chosen["quantity"].isin([*RANKED, CORRUPTED, GIVEN, *(name for name, _ in SHARPNESS)])]
    asked = asked.assign(kept=asked["kept"].fillna(-1.0))
    index = ["variant", "arm", "seed"]
    wide = asked.pivot(index=index, columns=_WHAT, values="value") if len(asked) else pd.DataFrame()
    whole = wide.dropna() if len(wide) else wide
    lost = len(wide) - len(whole)
    notes = [f"{lost} of {len(wide)} runs left out: not all numbers"] if lost else []
    seeds, variants = (
        np.array(whole.index.get_level_values(name)) if len(whole) else np.array([]) for name in ("seed", "variant")
    )
    return Runs(whole, seeds, variants, notes)


def _columns(key: Key, against: str, law: str, statistic: str) -> dict[str, Any]:
    named = dict(zip(_WHAT, key, strict=True))
    named["kept"] = math.nan if key[3] < 0 else key[3]
    return named | {"against": against, "against_law": law, "statistic": statistic}


def _flips(runs: Runs) -> Iterator[tuple[Key, Key]]:
    """Each column of flips with that of sensitivity under the same law on the same inputs."""
    for key in runs.values.columns:
        if key[0] == "flips" and ("sensitivity", *key[1:3], -1.0) in runs.values.columns:
            yield key, ("sensitivity", *key[1:3], -1.0)


def _taus(runs: Runs, confidence: float) -> Iterator[dict[str, Any]]:
    from scipy import stats

    for key, single in _flips(runs):
        pair, taus = runs.values[[single, key]].to_numpy(float), []
        for seed in dict.fromkeys(runs.seeds):
            of_seed = pair[runs.seeds == seed]
            taus.append(float(stats.kendalltau(*of_seed.T).statistic) if len(of_seed) >= FEWEST else math.nan)
        known = np.array(taus)[np.isfinite(taus)]
        medians = pd.DataFrame(pair).groupby(runs.variants).median().to_numpy()
        of_medians = float(stats.kendalltau(*medians.T).statistic) if len(medians) >= FEWEST else math.nan
        interval = typical(known, "seeds", confidence)
        notes = [f"{len(taus) - len(known)} of {len(taus)} seeds without ranks"] if len(known) < len(taus) else []
        row = _columns(key, "sensitivity", key[1], "tau") | interval.columns("rank")
        yield row | {"rank_of_medians": of_medians, "note": "; ".join([*runs.notes, *notes, *interval.notes])}


def _over_runs(runs: Runs, confidence: float) -> Iterator[dict[str, Any]]:
    """The correlations with accuracy on corrupted images and with sharpness."""
    if len(runs.values) < FEWEST:
        return
    seeds, place = np.unique(runs.seeds, return_inverse=True)
    # The first is the runs as they are.
    counts_BN = np.vstack([np.ones((1, len(place)), int), resamples(len(seeds))[:, place]])
    ranks = {key: centred_ranks(runs.values[key].to_numpy(float), counts_BN) for key in runs.values.columns}

    def rho(one: Key, other: Key) -> np.ndarray:
        return correlation(ranks[one], ranks[other], counts_BN)

    def made(found_B: np.ndarray) -> Interval:
        return percentile_interval(found_B[0], found_B[1:], len(seeds), confidence)

    asked = [(name, law, (name, law, "train", -1.0)) for name, law in SHARPNESS]
    given, corrupted = ((name, "", "test", -1.0) for name in (GIVEN, CORRUPTED))
    asked += [(CORRUPTED, "", corrupted)]
    singles = dict(_flips(runs))
    for against, law, column in asked:
        if column not in ranks or (against == CORRUPTED and given not in ranks):
            continue
        is_partial, found = against == CORRUPTED, {}
        of_given = rho(column, given) if is_partial else None
        for key in ranks:
            if key[0] in RANKED:
                found[key] = rho(key, column)
                if of_given is not None:
                    found[key] = partial(found[key], rho(key, given), of_given)
        for key, values_B in found.items():
            intervals = {"rank": made(values_B)}
            if key in singles:
                intervals["beyond"] = made(values_B - found[singles[key]])
            row = _columns(key, against, law, "partial" if is_partial else "rho")
            row |= {name: end for which, one in intervals.items() for name, end in one.columns(which).items()}
            yield row | {"note": "; ".join([*runs.notes, *shared_notes(intervals)])}
