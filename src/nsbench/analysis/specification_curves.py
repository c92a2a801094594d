"""Specification curves: an arm's effect under every combination of open choices that was run.

The curves, their specifications and their order come from the grid's `cells` (see
`nsbench.analysis.statistics`), by their keys `curve` and `choices`; the effects are `schemas.statistics.PAIRED_EFFECT`.
A specification counts where its baseline reaches the target in more than half of the pairs: where
it does not, there is nothing that an arm could bring forward.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from nsbench.analysis.statistics.times import CELL_KEYS
from nsbench.config.canonical import canonical_json
from nsbench.config.settled import few, settles_steps
from nsbench.schemas.analysis import SPECIFICATION, SPECIFICATION_SHARE
from nsbench.storage.parquet import RecordError

HELPS, HURTS, OPEN, NOT_COUNTED = "helps", "hurts", "open", "not counted"
"""What an arm does in a specification: fewer steps, more steps, undecided, or its baseline misses the target."""


def specifications(effects: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """The effect of every arm in every specification of every curve: columns of SPECIFICATION, in grid order.

    Takes `schemas.statistics.PAIRED_EFFECT`; its `p_value` is used where there is one. `effect` is from
    `config.settled.settles_steps`. Raises RecordError for a specification without a row in `effects`.
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


def specification_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Of every curve and arm, in how many specifications it helps, hurts, or is undecided: columns of
    SPECIFICATION_SHARE, in the order of SPECIFICATION, which it takes.

    Shares are of the counted ones. Wilson's interval treats them as independent draws, which
    specifications that share seeds and choices are not; it says how little a few of them can say.
    """
    from scipy import stats

    rows = []
    for (task, curve, arm), group in table.groupby(["task", "curve", "arm"], sort=False):
        counted, rest = group[group["counts"].astype(bool)], group[~group["counts"].astype(bool)]
        n, confidence = len(counted), float(group["confidence"].iloc[0])
        row = {"task": task, "curve": curve, "arm": arm, "n_specifications": len(group), "n_counted": n}
        row |= {name: "; ".join(filter(None, dict.fromkeys(group[name]))) for name in ("text", "leaks")}
        for effect in (HELPS, HURTS, OPEN):
            row[f"n_{effect}"] = int((counted["effect"] == effect).sum())
            row[f"share_{effect}"] = row[f"n_{effect}"] / n if n else math.nan
        notes = []
        if n:
            interval = stats.binomtest(row["n_helps"], n).proportion_ci(confidence, "wilson")
            row |= {"share_helps_low": float(interval.low), "share_helps_high": float(interval.high)}
            pairs = int(counted["n_pairs"].max())
            notes = [f"none can be settled: {note}" for note in few(pairs, "pairs", confidence)]
        if len(rest):
            reached = int((rest["n_arm_reached"] > rest["n_pairs"] / 2).sum())
            notes.append(
                f"{len(rest)} of {len(group)} specifications not counted: their baseline does not reach the target; "
                f"in {reached} of them the arm does"
            )
        ratios = counted["steps_ratio"].astype(float)
        row |= {f"{name}_steps_ratio": float(getattr(ratios, name)()) for name in ("median", "min", "max")}
        rows.append({**row, "confidence": confidence, "note": "; ".join(notes)})
    return pd.DataFrame(rows, columns=SPECIFICATION_SHARE.names)
