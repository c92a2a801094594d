"""The report's sections on what training shows besides steps: scores and floors, sweeps, and what moves first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from nsbench.config.wording import amount, interval
from nsbench.report.tables import (
    AGAINST,
    ARM,
    DIRECTIONS,
    PAIRS,
    Column,
    Record,
    Split,
    Table,
    confidence,
    number,
    ratio,
    settled,
)
from nsbench.schemas.metrics import TEST_SCORES

COUNTED = {
    "all": "All targets",
    "unpadded": "Targets that are no padding",
    "known": "Targets that are neither padding nor the unknown word",
}
PROCEDURES = {
    "all_seeds": "all seeds",
    "leave_one_out": "leave one out",
    "equal_tuning": "leave one out, the baseline too",
}

ELSEWHERE = ("noise_stability", *TEST_SCORES)
"""Measures that other sections and figures show."""


def section(tables: dict[str, pd.DataFrame], split: Split) -> dict[str, Any]:
    """`scores`, `measures`, `sweep` and `onsets` of the analysis' tables, by name, as texts."""
    selections, effects, leads = tables["selection"], tables["score_effect"], tables["lead_lag"]
    measures = tables["measure"]
    swept = pd.MultiIndex.from_frame(selections[["task", "variant"]])
    of_sweeps = effects[pd.MultiIndex.from_frame(effects[["task", "variant"]]).isin(swept)]
    return {
        "scores": _scores(tables["score"], split),
        "measures": split(measures[~measures["measure"].isin(ELSEWHERE)].assign(note=""), MEASURES),
        "sweep": {
            "choices": split(selections, CHOICES, settled_class("test_steps_ratio", 1.0)),
            "effects": split(of_sweeps, CHANGES, settled_class("best_val_loss_difference")),
            "criterion": "; ".join(selections["criterion"].unique()),
            "confidence": confidence(selections),
        },
        "onsets": {
            "leads": split(leads, LEADS, _lead),
            "ranks": split(tables["early_rank"], RANKS),
            "share": f"{100 * leads['share'].iloc[0]:g}%" if len(leads) else "",
            "confidence": confidence(leads),
        },
    }


def _scores(table: pd.DataFrame, split: Split) -> list[tuple[str, Table]]:
    """(title, table) for each kind of targets, of the tasks that have floors; a kind that counts the same
    targets as the one before is left out."""
    with_floors = table[table["task"].isin(table.loc[table["commonest_accuracy"].notna(), "task"])].assign(note="")
    counts = with_floors.pivot(index=["task", "variant", "arm"], columns="targets", values="n_targets")
    found, before = [], None
    for kind, title in COUNTED.items():
        if kind in counts and (before is None or not counts[kind].equals(counts[before])):
            found.append((title, split(with_floors[with_floors["targets"] == kind], SCORES)))
            before = kind
    return found


def left_out(row: Record) -> str:
    """Which runs a row of scores leaves out, and why."""
    ended = {
        "diverged": row["n_diverged"],
        "stopped at the target: left out": row["n_stopped"],
        "without measures: left out of test scores": row["n_unmeasured"],
    }
    return ", ".join(f"{count} {what}" for what, count in ended.items() if count)


def settled_class(name: str, neutral: float = 0.0) -> Callable[[Record], str]:
    """The class of a row by what its pairs settle of an estimate."""
    return lambda row: DIRECTIONS[settled(row, name, neutral)]


def _lead(row: Record) -> str:
    """Whether it is settled which of the two moves first."""
    return "settled" if settled(row, "typical_lead_steps") else "open"


def _lead_text(row: Record) -> tuple[str, str]:
    """By how much the series begins to move before the loss, with the interval."""
    value, low, high = (row[f"typical_lead_steps{end}"] for end in ("", "_low", "_high"))
    return amount(value, "sooner", form=number), interval(low, high, "sooner", value, number)


def _measure(row: Record) -> tuple[str, str]:
    rho = "" if pd.isna(row["rho"]) else f", ρ = {row['rho']:g}"
    return row["measure"].replace("_", " "), row["reduction"].replace("_", " ") + rho


SCORES = [
    ARM,
    Column("runs", lambda row: (str(row["n_seeds"]), left_out(row))),
    Column("accuracy|final", "{final_val_accuracy:.3f}|{final_val_accuracy_min:.3f} to {final_val_accuracy_max:.3f}"),
    Column("loss|final", "{final_val_loss:.3f}"),
    Column("loss|best", "{best_val_loss:.3f}|step {best_val_loss_step}"),
    *(
        Column(f"{name}|accuracy", f"{{{name}_accuracy:.3f}}|loss {{{name}_loss:.3f}}")
        for name in ("test", "commonest", "bigram")
    ),
    Column("targets", "{n_targets}"),
]
MEASURES = [
    ARM,
    Column("measure", _measure, "name"),
    Column("runs|of all", "{n_measured} / {n_seeds}"),
    Column("value", "{value:.4g}|{value_min:.4g} to {value_max:.4g}"),
    Column("true function", "{target_value:.4g}"),
]
CHOICES = [
    Column("variant", "{variant}|{task}, against {baseline}", "name", True),
    Column("chosen on", lambda row: (PROCEDURES[row["procedure"]], f"{row['n_pairs']} pairs"), "name"),
    Column(
        "chosen arm", lambda row: (row["selected"].replace(" x ", " × ") or "none", f"of {row['n_arms']} arms"), "what"
    ),
    Column("steps ratio|validation", "{val_steps_ratio:.2f}"),
    Column("steps ratio|test", lambda row: ratio(row, "test_steps_ratio"), "n effect"),
    Column("test accuracy|difference", "{test_accuracy_difference:+.4f} ±"),
    Column("test loss|difference, nats", "{test_loss_difference:+.3f} ±"),
]
CHANGES = [
    AGAINST,
    PAIRS,
    Column("final val. accuracy|difference", "{final_val_accuracy_difference:+.4f} ±"),
    Column("best val. loss|difference, nats", "{best_val_loss_difference:+.3f} ±", "n effect"),
]
LEADS = [
    ARM,
    Column("runs with both|of all", "{n_defined} / {n_runs}"),
    Column("series", "{series}", "name"),
    Column("which first|series : together : loss", "{n_series_first} : {n_together} : {n_loss_first}"),
    Column("its onset|median step", "{median_series_onset_step}"),
    Column("onset of loss|median step", "{median_loss_onset_step}"),
    Column("the series begins|steps", _lead_text, "n effect"),
    Column("evaluated|every … steps", "{resolution_steps}"),
]
RANKS = [
    Column("variant", "{variant}|{task}", "name", True),
    Column("runs of", "{group}", "name"),
    Column("runs", "{n_ranked}|{n_seeds} seeds"),
    Column("early step", "{early_step}"),
    Column("by stability", "{rank_by_stability:+.2f} ±"),
    Column("by validation loss", "{rank_by_val_loss:+.2f} ±"),
]
