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

from nsbench.analysis.statistics import CELL_KEYS
from nsbench.config.canonical import canonical_json
from nsbench.config.settled import few, settles_steps
from nsbench.schemas.analysis import SPECIFICATION, SPECIFICATION_SHARE
from nsbench.storage.parquet import RecordError

HELPS, HURTS, OPEN, NOT_COUNTED = "helps", "hurts", "open", "not counted"
EFFECTS = (HELPS, HURTS, OPEN, NOT_COUNTED)
"""What an arm does in a specification: fewer steps, more steps, one cannot tell, or the baseline does not reach."""

_COPIED = [
    "baseline",
    "metric",
    "threshold",
    "hold_evaluations",
    "hold_steps",
    "budget_steps",
    "text",
    "n_pairs",
    "n_baseline_reached",
    "n_arm_reached",
    *(f"{name}{end}" for name in ("steps_ratio", "flops_ratio") for end in ("", "_low", "_high")),
    "confidence",
]


def specifications(effects: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """The effect of every arm in every specification of every curve: columns of SPECIFICATION, in grid order.

    Takes `schemas.statistics.PAIRED_EFFECT`; its `p_value` is used where there is one. `effect` says what
    `intervals.settles_steps` makes of it. Raises RecordError for a
    specification without a row in `effects`.
    """
    by_cell = {tuple(row[key] for key in CELL_KEYS): row for row in effects.to_dict("records")}
    rows = []
    for cell in cells:
        if cell.get("curve") is None or cell["arm_settings"]["kind"] == "baseline":
            continue
        key = tuple(cell[name] for name in CELL_KEYS)
        if key not in by_cell:
            raise RecordError(f"{' / '.join(key)}: this specification has no paired effect; analyse the grid again")
        found = by_cell[key]
        counts = found["n_baseline_reached"] > found["n_pairs"] / 2
        notes = [found["note"]] if found["note"] else []
        if not counts:
            reached = f"{found['n_baseline_reached']} of {found['n_pairs']} pairs"
            notes.insert(0, f"not counted: the baseline reached the target in {reached}")
        rows.append(
            {
                **{name: cell[name] for name in CELL_KEYS},
                **{name: found[name] for name in _COPIED},
                "curve": cell["curve"],
                "leaks": "; ".join(cell.get("leaks", [])),
                "choices": canonical_json(cell.get("choices", {})),
                "base": cell["variant"] == cell["curve"],
                "counts": counts,
                "p_value": found.get("p_value", math.nan),
                "effect": _effect(found) if counts else NOT_COUNTED,
                "note": "; ".join(notes),
            }
        )
    return pd.DataFrame(rows, columns=SPECIFICATION.names)


def _effect(row: dict[str, Any]) -> str:
    """What is settled of steps_ratio: fewer steps help."""
    return {-1: HELPS, 0: OPEN, 1: HURTS}[settles_steps(row)]


def specification_shares(table: pd.DataFrame) -> pd.DataFrame:
    """Of every curve and arm, in how many specifications it helps, hurts, or cannot be told: columns of
    SPECIFICATION_SHARE, in the order of SPECIFICATION, which it takes.

    Shares are of the counted ones. Wilson's interval treats them as independent draws, which
    specifications that share seeds and choices are not; it says how little a few of them can say.
    """
    groups = table.groupby(["task", "curve", "arm"], sort=False)
    return pd.DataFrame([_shares(group) for _, group in groups], columns=SPECIFICATION_SHARE.names)


def _shares(group: pd.DataFrame) -> dict[str, Any]:
    """The row of one curve and arm."""
    # Here, because it takes a second that all who need a schema alone would wait for.
    from scipy import stats

    first, counted = group.iloc[0], group[group["counts"].astype(bool)]
    n, confidence = len(counted), float(first["confidence"])
    numbers = {effect: int((counted["effect"] == effect).sum()) for effect in (HELPS, HURTS, OPEN)}
    ratios = counted["steps_ratio"].astype(float)
    low = high = math.nan
    notes = []
    if n:
        interval = stats.binomtest(numbers[HELPS], n).proportion_ci(confidence, "wilson")
        low, high = float(interval.low), float(interval.high)
        pairs = int(counted["n_pairs"].max())
        notes = [f"none can be settled: {note}" for note in few(pairs, "pairs", confidence)]
    if n < len(group):
        rest = group[~group["counts"].astype(bool)]
        reached = int((rest["n_arm_reached"] > rest["n_pairs"] / 2).sum())
        notes.append(
            f"{len(rest)} of {len(group)} specifications not counted: their baseline does not reach the target; "
            f"in {reached} of them the arm does"
        )
    return {
        **{name: first[name] for name in ("task", "curve", "arm")},
        **{name: _joined(group[name]) for name in ("text", "leaks")},
        "n_specifications": len(group),
        "n_counted": n,
        **{f"n_{effect}": number for effect, number in numbers.items()},
        **{f"share_{effect}": number / n if n else math.nan for effect, number in numbers.items()},
        "share_helps_low": low,
        "share_helps_high": high,
        "median_steps_ratio": float(ratios.median()),
        "min_steps_ratio": float(ratios.min()),
        "max_steps_ratio": float(ratios.max()),
        "confidence": confidence,
        "note": "; ".join(notes),
    }


def _joined(texts: pd.Series) -> str:
    """The different texts of a column, those that are empty left out."""
    return "; ".join(dict.fromkeys(text for text in texts if text))
