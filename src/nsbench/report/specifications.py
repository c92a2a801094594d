"""The report's section on specification curves: in how many settings the regulariser helps, and in which."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

import nsbench.report.rows as rows
from nsbench.figures.curves import LEAK
from nsbench.figures.specification_curve import choice_text, level_text
from nsbench.report.claims import CURVE
from nsbench.report.pictures import Pictures
from nsbench.report.split import confidence, labels

CLASSES = {"helps": "fewer", "hurts": "more"}
"""Effect of a specification -> the class that colours its row."""


def section(
    shares: pd.DataFrame, specifications: pd.DataFrame, cells: list[dict[str, Any]], pictures: Pictures
) -> dict[str, Any]:
    """Shares and single specifications by task, as texts, with each task's figure; empty without any.

    `shares` and `specifications` are those of specifications.SPECIFICATION_SHARE and SPECIFICATION.
    """
    if shares.empty and specifications.empty:
        return {}
    tasks = dict.fromkeys(cell["task"] for cell in cells)
    found = []
    for task in tasks:
        here = specifications[specifications["task"] == task]
        summed = shares[shares["task"] == task]
        if len(here) or len(summed):
            found.append(
                {
                    "task": task,
                    "title": task.replace("_", " ").capitalize(),
                    "shares": [_share(row) for row in summed.to_dict("records")],
                    "single": [_single(row) for row in _sorted(here).to_dict("records")],
                    "figures": pictures.take(f"{CURVE}{task}"),
                }
            )
    return {"tasks": found, "confidence": confidence(shares), "labels": labels(specifications)}


def _sorted(specifications: pd.DataFrame) -> pd.DataFrame:
    """Those that count first, then by the ratio of steps, which the figure shows in the same order."""
    order = ["arm", "counts", "steps_ratio"]
    return specifications.sort_values(order, ascending=[True, False, True], kind="stable")


def _share(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of shares as texts; `bar` are percentages of the counted specifications."""
    counted = row["n_counted"]
    low, high = (_percent(row[f"share_helps_{end}"]) for end in ("low", "high"))
    return {
        **{name: row[name] for name in ("curve", "arm", "note")},
        "leaks": _leaks(row["leaks"]),
        "counted": f"{counted} of {row['n_specifications']}",
        "bar": [
            (name, 100 * row[f"n_{name}"] / counted, row[f"n_{name}"])
            for name in ("helps", "open", "hurts")
            if counted and row[f"n_{name}"]
        ],
        "helps": (f"{row['n_helps']} of {counted}" if counted else rows.NONE, f"{low} to {high}" if counted else ""),
        "hurts": f"{row['n_hurts']} of {counted}" if counted else rows.NONE,
        "open": f"{row['n_open']} of {counted}" if counted else rows.NONE,
        "median": rows.number(row["median_steps_ratio"], "{:.2f}"),
        "range": (
            " to ".join(rows.number(row[f"{name}_steps_ratio"], "{:.2f}") for name in ("min", "max")) if counted else ""
        ),
    }


def _single(row: dict[str, Any]) -> dict[str, Any]:
    """A row of the table of specifications as texts."""
    return {
        **{name: row[name] for name in ("variant", "arm", "baseline", "note", "n_pairs", "effect", "base")},
        "leaks": _leaks(row["leaks"]),
        "class": CLASSES.get(row["effect"], "open"),
        "choices": choices(row["choices"]),
        "reached": f"{row['n_baseline_reached']} → {row['n_arm_reached']}",
        "steps": rows.with_interval(row, "steps_ratio", "{:.2f}"),
        "flops": rows.with_interval(row, "flops_ratio", "{:.2f}"),
        "p": rows.probability(row["p_value"]),
    }


def choices(text: str) -> list[str]:
    """Canonical JSON of a specification's choices as phrases: `norm pre`."""
    return [f"{choice_text(field)} {level_text(level)}" for field, level in json.loads(text or "{}").items()]


def _leaks(text: str) -> list[str]:
    """The leaks of a row, each marked as one."""
    return [LEAK + leak for leak in text.split("; ") if leak]


def _percent(value: float) -> str:
    return rows.number(100 * value, "{:.0f}%")
