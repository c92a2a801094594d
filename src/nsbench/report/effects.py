"""The report's sections on time to target: effects, what they cost, the times, and how many seeds would tell."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

import nsbench.report.rows as rows
from nsbench.report.pictures import Pictures
from nsbench.report.split import Split, confidence

PARTS_OF_BUDGET = (0.25, 0.5, 0.75, 1.0)
"""Where the table of Kaplan-Meier shares reads the curves."""


def section(tables: dict[str, pd.DataFrame], split: Split, pictures: Pictures) -> dict[str, Any]:
    """Effects, costs, times and power of the analysis' tables, by name, as texts, with their two figures."""
    effects = tables["paired_effect"]
    costs = split(effects, rows.cost)
    return {
        "effects": split(effects, rows.effect),
        "confidence": confidence(effects),
        "costs": costs,
        "answer": _answer([row["signs"] for row in costs["shown"]]),
        "arms": pictures.take("arms"),
        "times": split(tables["cells"], rows.summary),
        "waiting": split(_by_part(tables["kaplan_meier"]), _waiting),
        "curves": pictures.take("time_to_target"),
        "power": split(_powers(tables["power"]), _power),
        "wanted": "" if tables["power"].empty else f"{100 * tables['power']['power_wanted'].iloc[0]:g}%",
        "asked": [f"{value:g}%" for value in sorted(tables["power"]["effect_percent"].unique())],
    }


def _answer(signs: list[tuple[int, int]]) -> str:
    """Whether fewer steps is less work, in a sentence; signs: what is settled of steps and FLOPs, -1 being fewer."""
    fewer = [flops for steps, flops in signs if steps < 0]
    if not signs:
        return ""
    if not fewer:
        return "No comparison shown here settles that an arm needs fewer steps."
    less, more = sum(flops < 0 for flops in fewer), sum(flops > 0 for flops in fewer)
    return (
        f"Of {len(signs)} comparisons shown here {len(fewer)} {'settles' if len(fewer) == 1 else 'settle'} that an arm "
        f"needs fewer steps. Of these {less} also {_need(less)} less work (FLOPs), {more} {_need(more)} more, and for "
        f"{len(fewer) - less - more} it is open."
    )


def _need(count: int) -> str:
    return "needs" if count == 1 else "need"


def _by_part(curves: pd.DataFrame) -> pd.DataFrame:
    """A row for each cell with what its Kaplan-Meier curve says at parts of the budget."""
    found = []
    for (task, variant, arm), curve in curves.groupby(["task", "variant", "arm"], sort=False):
        steps, budget = curve["step"].to_numpy(), curve["step"].max()
        at = [max(int(np.searchsorted(steps, part * budget, side="right")) - 1, 0) for part in PARTS_OF_BUDGET]
        points = [curve.iloc[index].to_dict() for index in at]
        found.append(
            {"task": task, "variant": variant, "arm": arm, "text": curve["text"].iloc[0], "points": points}
            | {"note": curve["note"].iloc[0], "budget": budget}
        )
    return pd.DataFrame(found, columns=["task", "variant", "arm", "text", "points", "note", "budget"])


def _waiting(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `_by_part` as texts."""
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "note")},
        "budget": rows.number(row["budget"]),
        "points": [_point(point) for point in row["points"]],
    }


def _point(point: dict[str, float]) -> tuple[str, str]:
    low, high = (rows.number(100 * point[name], "{:.0f}%") for name in ("low", "high"))
    known = not (pd.isna(point["low"]) or pd.isna(point["high"]))
    return rows.number(100 * point["not_reached"], "{:.0f}%"), f"{low} to {high}" if known else ""


def _powers(power: pd.DataFrame) -> pd.DataFrame:
    """A row for each comparison with the seeds for each effect asked about."""
    keys = ["task", "variant", "arm", "baseline", "text"]
    found = [
        dict(zip(keys, key, strict=True)) | {"of": group.sort_values("effect_percent").to_dict("records")}
        for key, group in power.groupby(keys, sort=False)
    ]
    return pd.DataFrame(found, columns=[*keys, "of"])


def _power(row: dict[str, Any]) -> dict[str, Any]:
    """A row of `_powers` as texts."""
    of = row["of"]
    notes = dict.fromkeys(part for found in of for part in found["note"].split("; ") if part)
    return {
        **{name: row[name] for name in ("task", "variant", "arm", "baseline")},
        "n_pairs": of[0]["n_pairs"],
        "spread": rows.with_interval(of[0], "spread", "{:.3f}"),
        "censored": rows.number(100 * of[0]["censored_share"], "{:.0f}%"),
        "seeds": [rows.with_interval(found, "n_seeds", "{:,.0f}") for found in of],
        "now": ", ".join(dict.fromkeys(rows.number(100 * found["power_now"], "{:.0f}%") for found in of)),
        "note": "; ".join(notes),
    }
