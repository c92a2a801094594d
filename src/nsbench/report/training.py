"""The report's sections on what training shows besides steps: scores and floors, sweeps, and what moves first."""

from __future__ import annotations

from typing import Any

import pandas as pd

import nsbench.report.rows as rows
from nsbench.report.split import Split, confidence

COUNTED = {
    "all": "All targets",
    "unpadded": "Targets that are no padding",
    "known": "Targets that are neither padding nor the unknown word",
}

ELSEWHERE = ("noise_stability", "test_accuracy", "test_loss")
"""Measures that other sections and figures show."""


def section(tables: dict[str, pd.DataFrame], split: Split) -> dict[str, Any]:
    """`scores`, `measures`, `sweep` and `onsets` of the analysis' tables, by name, as texts."""
    return {
        "scores": _scores(tables["score"], split),
        "measures": split(tables["measure"][~tables["measure"]["measure"].isin(ELSEWHERE)], rows.measure),
        "sweep": _sweep(tables["selection"], tables["score_effect"], split),
        "onsets": _onsets(tables["lead_lag"], tables["early_rank"], split),
    }


def _scores(table: pd.DataFrame, split: Split) -> list[tuple[str, dict[str, Any]]]:
    """(title, rows) for each kind of targets, of the tasks that have floors; a kind that counts the same
    targets as the one before is left out."""
    with_floors = table[table["task"].isin(table.loc[table["commonest_accuracy"].notna(), "task"])]
    counts = with_floors.pivot(index=["task", "variant", "arm"], columns="targets", values="n_targets")
    found, before = [], None
    for kind, title in COUNTED.items():
        if kind in counts and (before is None or not counts[kind].equals(counts[before])):
            found.append((title, split(with_floors[with_floors["targets"] == kind], rows.score)))
            before = kind
    return found


def _sweep(selections: pd.DataFrame, effects: pd.DataFrame, split: Split) -> dict[str, Any]:
    """The choices of each sweep, and what every arm of it changes in the scores."""
    swept = pd.MultiIndex.from_frame(selections[["task", "variant"]])
    here = effects[pd.MultiIndex.from_frame(effects[["task", "variant"]]).isin(swept)]
    return {
        "choices": split(selections, rows.choice),
        "effects": split(here, rows.score_effect),
        "criterion": "; ".join(selections["criterion"].unique()),
        "confidence": confidence(selections),
    }


def _onsets(leads: pd.DataFrame, ranks: pd.DataFrame, split: Split) -> dict[str, Any]:
    """Which curve moves first in a run, and which early value tells how runs end."""
    return {
        "leads": split(leads, rows.lead),
        "ranks": split(ranks, rows.rank),
        "share": f"{100 * leads['share'].iloc[0]:g}%" if len(leads) else "",
        "confidence": confidence(leads),
    }
