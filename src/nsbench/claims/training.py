"""Numbers of the training runs, from the tables that `analyse` makes: one finding per variant of a task."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding, Quantity
from nsbench.claims.variants import OfArm, OfTask, Variant, enough, paper_arm, row_of, variants, with_arm
from nsbench.config.base import Closed
from nsbench.config.settled import coverage_of_range
from nsbench.schemas.run_states import parts


class Effect(OfArm):
    convention: Literal["faster_by_percent", "fewer_steps_percent", "less_work_percent"]
    """faster_by: gain in speed; fewer_steps: steps saved; less_work: FLOPs saved."""


class Time(OfTask):
    arm: Literal["baseline", "regularised"]
    """Whose steps to the target."""
    rho: float = math.nan
    """Of the regularised arm."""
    gamma: float = math.nan
    """Of the regularised arm."""


def _paired_effect(evidence: Evidence, of: Effect) -> list[Finding]:
    """What the regulariser changes in the time to target, in per cent.

    Of effects in steps `coverage` is that of the pairs that differ, and `p_value` that of the table; of FLOPs, which no
    test is made of and in which pairs that tie in steps may differ, `coverage` is that of all pairs.
    """
    chosen, found = list(with_arm(evidence, of)), []
    table = evidence.table("paired_effect")
    for variant, arm in chosen:
        row = row_of(table, task=of.task, variant=variant.name, arm=arm)
        if variant.status == MISSING or row is None:
            found.append(variant.finding(**({} if variant.status == MISSING else _no_row("paired_effect"))))
            continue
        name, differ = of.convention, int(row["n_arm_sooner"] + row["n_baseline_sooner"])
        extras = {column: row[column] for column in ("n_baseline_reached", "n_arm_reached")}
        extras |= {"n_differ": differ, "baseline_censored": 1 - row["n_baseline_reached"] / max(row["n_pairs"], 1)}
        # A pair of equal times says nothing of a side, and much against a large effect.
        extras |= {"coverage_with_ties": enough(row["n_pairs"], float(row["confidence"]))["coverage"]}
        if name == "less_work_percent":
            ends = [100 * (1 - row[f"flops_ratio{end}"]) for end in ("", "_high", "_low")]
            extras |= {"p_value": math.nan}
        else:
            ends = [row[f"{name}{end}"] for end in ("", "_low", "_high")]
            extras |= {"p_value": row["p_value"], **enough(differ, float(row["confidence"]))}
        one = _paired(variant, row, ends, f"{variant.name} / {arm}", "n_pairs", extras)
        found.append(_with_notes(one, variant.resolution, *_censored(row)))
    return found


def _censored(row: pd.Series) -> list[str]:
    """What runs that never reached the target do to an effect, of both arms of a row of PAIRED_EFFECT."""
    notes = []
    for whose, column, does in (
        ("baseline runs", "n_baseline_reached", "understates"),
        ("runs of the arm", "n_arm_reached", "overstates"),
    ):
        if row[column] < row["n_pairs"]:
            never = int(row["n_pairs"] - row[column])
            notes.append(f"{never} of {row['n_pairs']} {whose} are censored, which {does} the effect")
    return notes


def _with_notes(one: Finding, *notes: str) -> Finding:
    return replace(one, note="; ".join(note for note in (one.note, *notes) if note))


def _paired(
    variant: Variant,
    row: pd.Series,
    ends: list[float],
    setting: str,
    count: str,
    extras: dict[str, float] | None = None,
    unit: str = "pairs",
) -> Finding:
    """A finding of a table's row about pairs or runs (`unit`)."""
    value, low, high = map(float, ends)
    more = {name: float(number) for name, number in (extras or {}).items()}
    n_stopped = row.get("n_stopped", 0)
    return variant.finding(
        stopped=f"{n_stopped} of {row[f'n_{unit}']} {unit} left out: stopped at the target" if n_stopped else "",
        setting=setting,
        value=value,
        low=low,
        high=high,
        n=int(row[count]),
        n_unit=unit,
        extras=enough(row[count], float(row["confidence"])) | more,
        text=row["text"],
        note=row["note"],
    )


def _no_row(table: str) -> dict[str, str]:
    return {"status": MISSING, "why": f"the table {table} has no row of it"}


def _steps_to_target(evidence: Evidence, of: Time) -> list[Finding]:
    """Median steps to the target of one arm; the ends are the first and the last run that reached it."""
    chosen, found = variants(evidence, of), []
    table = evidence.table("cells")
    for variant in chosen:
        if variant.status == MISSING:
            found.append(variant.finding())
            continue
        arm = variant.baseline["arm"] if of.arm == "baseline" else paper_arm(variant, of.rho, of.gamma)
        row = row_of(table, task=of.task, variant=variant.name, arm=arm)
        if row is None:
            found.append(variant.finding(**_no_row("cells")))
            continue
        # Whether it is reached at all is the claim, so that the baseline's success decides nothing here.
        demo = parts(evidence.scale)[0] == "demo"
        found.append(
            variant.finding(
                setting=f"{variant.name} / {arm}",
                value=float(row["median_step"]),
                low=float(row["min_step"]),
                high=float(row["max_step"]),
                n=int(row["n_seeds"]),
                n_unit="runs",
                extras={name: float(row[name]) for name in ("n_reached", "n_seeds", "budget_steps")},
                status=ASIDE if demo else COUNTS,
                why="the demo's tasks are smaller, so that their steps are not to be compared" if demo else "",
                text=row["text"],
                note=f"{row['n_reached']} of {row['n_seeds']} runs reached it in {int(row['budget_steps']):,} steps; "
                f"{variant.resolution}; the ends are the first and the last run, not an interval",
            )
        )
    return found


def _lead(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps by which stability moves before validation loss, in baseline runs."""
    chosen, found = variants(evidence, of), []
    table = evidence.table("lead_lag")
    for variant in chosen:
        row = (
            None
            if variant.status == MISSING
            else row_of(table, task=of.task, variant=variant.name, arm=variant.baseline["arm"])
        )
        if row is None:
            found.append(variant.finding(**({} if variant.status == MISSING else _no_row("lead_lag"))))
            continue
        ends = [row[f"mean_lead_steps{end}"] for end in ("", "_low", "_high")]
        resolution = {"resolution_steps": row["resolution_steps"]}
        found.append(_paired(variant, row, ends, f"{variant.name} / {row['arm']}", "n_defined", resolution, "runs"))
    return found


def _early_rank(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Rank correlation, over baseline runs, of final accuracy with early stability; `rank_by_val_loss`: early loss."""
    chosen, found = variants(evidence, of), []
    table = evidence.table("early_rank")
    for variant in chosen:
        row = None if variant.status == MISSING else row_of(table, task=of.task, variant=variant.name, group="baseline")
        if row is None:
            found.append(variant.finding(**({} if variant.status == MISSING else _no_row("early_rank"))))
            continue
        ends = [row[f"rank_by_stability{end}"] for end in ("", "_low", "_high")]
        by_loss = {"rank_by_val_loss": row["rank_by_val_loss"]}
        found.append(_paired(variant, row, ends, f"{variant.name} / baseline", "n_ranked", by_loss, "runs"))
    return found


def _selection(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps that the best of a sweep saves on test data, chosen for each seed on the other seeds; in per cent.

    `baseline_censored` is the share of the baseline's runs that did not reach the target on validation data.
    """
    chosen, found = variants(evidence, of), []
    table, cells = evidence.table("selection"), evidence.table("cells")
    for variant in chosen:
        row = row_of(table, task=of.task, variant=variant.name, procedure="leave_one_out")
        if variant.status == MISSING or row is None:
            why = {"status": MISSING, "why": "the grid has no sweep of (rho, gamma) of it"}
            found.append(variant.finding(**({} if variant.status == MISSING else why)))
            continue
        ends = [100 * (1 - row[f"test_steps_ratio{end}"]) for end in ("", "_high", "_low")]
        runs = row_of(cells, task=of.task, variant=variant.name, arm=row["baseline"])
        censored = math.nan if runs is None else 1 - runs["n_reached"] / runs["n_seeds"]
        extras = {"baseline_censored": censored}
        one = _paired(variant, row, ends, f"{variant.name} / best of {row['n_arms']}", "n_compared", extras)
        note = f"on validation data {100 * censored:.0f}% of baseline runs are censored, which understates the effect"
        found.append(_with_notes(one, note if censored > 0 else ""))
    return found


def _loss_change(evidence: Evidence, of: OfArm) -> list[Finding]:
    """What the regulariser changes in the lowest validation loss."""
    chosen, found = list(with_arm(evidence, of)), []
    table = evidence.table("score_effect")
    for variant, arm in chosen:
        row = row_of(table, task=of.task, variant=variant.name, arm=arm)
        if variant.status == MISSING or row is None:
            found.append(variant.finding(**({} if variant.status == MISSING else _no_row("score_effect"))))
            continue
        ends = [row[f"best_val_loss_difference{end}"] for end in ("", "_low", "_high")]
        found.append(_paired(variant, row, ends, f"{variant.name} / {arm}", "n_compared"))
    return found


def _sweep_breadth(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Share of the sweep's (rho, gamma) that reach the target in fewer steps, with Wilson's interval."""
    from scipy import stats

    chosen, found = variants(evidence, of), []
    table = evidence.table("paired_effect")
    for variant in chosen:
        arms = [cell["arm"] for cell in variant.cells if is_swept(cell)]
        if variant.status == MISSING or len(arms) < 2:
            why = {"status": MISSING, "why": "the grid has no sweep of (rho, gamma) of it"}
            found.append(variant.finding(**({} if variant.status == MISSING else why)))
            continue
        rows = table[(table["task"] == of.task) & (table["variant"] == variant.name) & table["arm"].isin(arms)]
        fewer = int((rows["steps_ratio"] < 1).sum())
        fewest = enough(rows["n_pairs"].min(), float(rows["confidence"].iloc[0]))
        pairs_enough = rows["n_pairs"].map(lambda n: coverage_of_range(int(n))) >= rows["confidence"]
        settled = int(((rows["steps_ratio_high"] < 1) & pairs_enough).sum())
        share = stats.binomtest(fewer, len(arms)).proportion_ci(evidence.confidence, method="wilson")
        found.append(
            variant.finding(
                value=fewer / len(arms),
                low=float(share.low),
                high=float(share.high),
                n=len(arms),
                n_unit="settings",
                extras={**fewest, "settled_share": settled / len(arms)},
                text=variant_text(table, of.task, variant.name),
                note=f"settled by its interval in {settled} of {len(arms)}",
            )
        )
    return found


def is_swept(cell: dict[str, Any]) -> bool:
    """Whether a cell's arm is the paper's regulariser, with whatever (rho, gamma)."""
    arm = cell["arm_settings"]
    return arm["kind"] == "noise_stability" and arm["orientation"] == 1


def variant_text(table: pd.DataFrame, task: str, variant: str) -> str:
    """The text that a variant's data were cut from, by a table that says so."""
    row = row_of(table, task=task, variant=variant)
    return "" if row is None else str(row["text"])


def _effect_quantity(measure: Callable[..., list[Finding]], parameters: type[Closed], *extras: str) -> Quantity:
    return Quantity(measure, parameters, ("coverage", "confidence", *extras))


_EFFECT_EXTRAS = (
    "n_baseline_reached",
    "n_arm_reached",
    "n_differ",
    "baseline_censored",
    "coverage_with_ties",
    "p_value",
)
QUANTITIES = {
    "paired_effect": _effect_quantity(_paired_effect, Effect, *_EFFECT_EXTRAS),
    "steps_to_target": Quantity(_steps_to_target, Time, ("n_reached", "n_seeds", "budget_steps")),
    "lead": _effect_quantity(_lead, OfTask, "resolution_steps"),
    "early_rank": _effect_quantity(_early_rank, OfTask, "rank_by_val_loss"),
    "selection": _effect_quantity(_selection, OfTask, "baseline_censored"),
    "loss_change": _effect_quantity(_loss_change, OfArm),
    "sweep_breadth": _effect_quantity(_sweep_breadth, OfTask, "settled_share"),
}
