"""Specification curves: an arm's effect under every combination of open choices that was run.

The curves, their specifications and their order come from the grid's `cells` (see
`nsbench.analysis.statistics`), by their keys `curve` and `choices`; the effects are `schemas.statistics.PAIRED_EFFECT`.
A specification counts where its baseline reaches the target in more than half of the pairs: where
it does not, there is nothing that an arm could bring forward. Those that count are pooled (`statistics.pooled`): six
pairs settle little by themselves, and much together.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from nsbench.analysis.statistics.paired import paired_effects
from nsbench.analysis.statistics.pooled import Pooled, by_level, pool
from nsbench.analysis.statistics.times import CELL_KEYS
from nsbench.config.canonical import canonical_json
from nsbench.config.sections import Analysis
from nsbench.config.settled import settles_steps
from nsbench.schemas.analysis import SPECIFICATION, SPECIFICATION_CHOICE, SPECIFICATION_CURVE
from nsbench.schemas.statistics import PAIRED_EFFECT
from nsbench.storage.parquet import RecordError

HELPS, HURTS, OPEN, NOT_COUNTED = "helps", "hurts", "open", "not counted"
"""What an arm does in a specification: fewer steps, more steps, undecided, or its baseline misses the target."""


def curve_effects(
    times: pd.DataFrame, runs: pd.DataFrame, cells: list[dict[str, Any]], settings: Analysis
) -> pd.DataFrame:
    """PAIRED_EFFECT of the specifications of all curves.

    A curve's base is judged as the others are, on their seeds, whatever else it stands for in the grid.
    """
    curves: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for cell in cells:
        if cell.get("curve") is not None:
            curves.setdefault((cell["task"], cell["curve"]), []).append(cell)
    alone, found = settings.model_copy(update={"primary": {}}), []
    for (task, _), of_curve in curves.items():
        others = [cell for cell in of_curve if cell.get("curve_only", False)] or of_curve
        seeds, variants = {seed for cell in others for seed in cell["seeds"]}, {cell["variant"] for cell in of_curve}
        here = (times["task"] == task) & times["variant"].isin(variants) & times["seed"].isin(seeds)
        cells_alike = [{**cell, "curve_only": True} for cell in of_curve]
        found.append(paired_effects(times[here], runs, alone, cells_alike))
    return pd.concat(found) if found else pd.DataFrame(columns=PAIRED_EFFECT.names)


def specifications(effects: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """The effect of every arm in every specification of every curve: columns of SPECIFICATION, in grid order.

    Takes `schemas.statistics.PAIRED_EFFECT`; `effect` is from its `outcome`. Raises RecordError for a specification
    without a row in `effects`.
    """
    by_cell, rows = {tuple(row[key] for key in CELL_KEYS): row for row in effects.to_dict("records")}, []
    for cell in cells:
        if cell.get("curve") is None or cell["arm_settings"]["kind"] == "baseline":
            continue
        key = tuple(cell[name] for name in CELL_KEYS)
        if key not in by_cell:
            raise RecordError(f"{' / '.join(key)}: this specification has no paired effect; analyse the grid again")
        found = by_cell[key]
        counts = found["n_baseline_reached"] > found["n_pairs"] / 2
        reached = f"{found['n_baseline_reached']} of {found['n_pairs']} pairs"
        why = "" if counts else f"not counted: the baseline reached the target in {reached}"
        own = {
            "curve": cell["curve"],
            "leaks": "; ".join(cell.get("leaks", [])),
            "choices": canonical_json(cell.get("choices", {})),
            "base": cell["variant"] == cell["curve"],
            "counts": counts,
            # Fewer steps help.
            "effect": {-1: HELPS, 0: OPEN, 1: HURTS}[settles_steps(found)] if counts else NOT_COUNTED,
            "note": "; ".join(note for note in (why, found["note"]) if note),
        }
        rows.append({"p_value": math.nan, **found, **own})
    return pd.DataFrame(rows, columns=SPECIFICATION.names)


def specification_curves(table: pd.DataFrame, times: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Every curve and arm in one row: its specifications pooled, and how many of them help, hurt or are open.

    Takes SPECIFICATION and `schemas.training.TIME_TO_TARGET`; returns SPECIFICATION_CURVE, in the order of the former.
    Pooled are the log ratios of steps of the specifications that count, over the seeds that all of these have. A pair's
    counts as far as the budget could have shown its opposite too: what a late baseline leaves no room to lose by, it
    leaves no room to win by.
    """
    rows = []
    for names, group, effects_SN in _curves(table, times):
        n = len(effects_SN)
        row = names | {"n_specifications": len(group), "n_counted": n, "n_seeds": effects_SN.shape[1]}
        row |= _labels(group)
        row |= _ratios("steps_ratio", found := pool(effects_SN, confidence))
        row |= {"new_steps_ratio_low": math.exp(found.new_low), "new_steps_ratio_high": math.exp(found.new_high)}
        row |= {"sd_settings": found.sd_settings, "sd_seeds": found.sd_seeds, "confidence": confidence}
        counted, rest = group[group["counts"].astype(bool)], group[~group["counts"].astype(bool)]
        row |= {f"n_{effect}": int((counted["effect"] == effect).sum()) for effect in (HELPS, HURTS, OPEN)}
        row |= {f"{name}_steps_ratio": float(getattr(np, name)(np.exp(_means(effects_SN)))) for name in ("min", "max")}
        notes = [] if math.isfinite(found.low) else ["an interval takes three specifications and two seeds"]
        if len(rest):
            reached = int((rest["n_arm_reached"] > rest["n_pairs"] / 2).sum())
            notes.append(
                f"{len(rest)} of {len(group)} specifications not counted: their baseline does not reach the target; "
                f"in {reached} of them the arm does"
            )
        rows.append({**row, "note": "; ".join(notes)})
    return pd.DataFrame(rows, columns=SPECIFICATION_CURVE.names)


def specification_choices(table: pd.DataFrame, times: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """What each level of each choice does on average: columns of SPECIFICATION_CHOICE, a row for each level.

    Takes what `specification_curves` takes. Levels are compared one choice at a time; the design lets levels of
    different choices meet about equally often, and what is left of the others is in the interval.
    """
    from scipy import stats

    rows = []
    for names, group, effects_SN in _curves(table, times):
        counted, own = group[group["counts"].astype(bool)], []
        chosen = [json.loads(choices) for choices in counted["choices"]]
        for choice in dict.fromkeys(name for choices in chosen for name in choices):
            levels = [canonical_json(choices[choice]) for choices in chosen]
            found, p = by_level(effects_SN, levels, confidence)
            for level, pooled in found.items():
                row = names | {"choice": choice, "level": level, "n_specifications": levels.count(level)}
                own.append(row | _ratios("steps_ratio", pooled) | {"p_value": p})
        tested = {row["choice"]: row["p_value"] for row in own if math.isfinite(row["p_value"])}
        corrected = stats.false_discovery_control(list(tested.values())) if tested else []
        q_values = dict(zip(tested, map(float, corrected), strict=True))
        shared = {"confidence": confidence, **_labels(group)}
        rows += [{**row, **shared, "q_value": q_values.get(row["choice"], math.nan)} for row in own]
    return pd.DataFrame(rows, columns=SPECIFICATION_CHOICE.names)


def _curves(table: pd.DataFrame, times: pd.DataFrame) -> Iterator[tuple[dict[str, Any], pd.DataFrame, np.ndarray]]:
    """Every curve and arm: its names, its specifications, and log ratios of the counted ones (specification, seed)."""
    steps = times["step"].fillna(times["budget_steps"]).astype(float).clip(lower=1.0)
    shares = times.assign(log=np.log(steps / times["budget_steps"]))
    logs = shares.set_index([*CELL_KEYS, "seed"])["log"].sort_index()
    for (task, curve, arm), group in table.groupby(["task", "curve", "arm"], sort=False):
        ratios = []
        for _, row in group[group["counts"].astype(bool)].iterrows():
            after, before = (logs.loc[task, row["variant"], name] for name in (arm, row["baseline"]))
            # Of the seeds that both have. A loss cannot show beyond the budget, so that a gain does not count beyond.
            ratios.append((after - before).clip(lower=before, upper=-before).dropna())
        joined = pd.concat(ratios, axis=1, join="inner").to_numpy().T if ratios else np.empty((0, 0))
        yield {"task": task, "curve": curve, "arm": arm}, group, joined


def _labels(group: pd.DataFrame) -> dict[str, str]:
    """The texts of a curve's specifications, and how their answers leak."""
    return {name: "; ".join(filter(None, dict.fromkeys(group[name]))) for name in ("text", "leaks")}


def _means(effects_SN: np.ndarray) -> np.ndarray:
    """Each setting's mean; NaN for none."""
    return effects_SN.mean(axis=1) if effects_SN.size else np.array([math.nan])


def _ratios(name: str, pooled: Pooled) -> dict[str, float]:
    """A pooled effect and its ends as ratios."""
    return {
        name: math.exp(pooled.mean),
        f"{name}_low": math.exp(pooled.low),
        f"{name}_high": math.exp(pooled.high),
    }
