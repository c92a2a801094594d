"""Numbers of the training runs, from the tables that `analyse` makes: one finding per variant of a task."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pandas as pd

from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import (
    OfArm,
    OfOneArm,
    OfTask,
    Variant,
    enough,
    is_swept,
    joined,
    of_rows,
    row_of,
    variants,
)
from nsbench.config.settled import coverage_of_range

NO_SWEEP = "the grid has no sweep of (rho, gamma) of it"
ENDS = ("", "_low", "_high")


class Effect(OfArm):
    convention: Literal["faster_by_percent", "fewer_steps_percent", "less_work_percent"]
    """faster_by: gain in speed; fewer_steps: steps saved; less_work: FLOPs saved."""


@claim_quantity(
    "paired_effect",
    *("coverage", "confidence", "n_baseline_reached", "n_arm_reached", "n_differ", "baseline_censored"),
    *("coverage_with_ties", "p_value"),
)
def _paired_effect(evidence: Evidence, of: Effect) -> list[Finding]:
    """What the regulariser changes in the time to target, in per cent.

    Of effects in steps `coverage` is that of the pairs that differ, and `p_value` that of the table; of FLOPs, which no
    test is made of and in which pairs that tie in steps may differ, `coverage` is that of all pairs.
    """

    def effect(variant: Variant, row: pd.Series) -> Finding:
        name, differ = of.convention, int(row["n_arm_sooner"] + row["n_baseline_sooner"])
        extras = {column: row[column] for column in ("n_baseline_reached", "n_arm_reached")}
        extras |= {"n_differ": differ, "baseline_censored": 1 - row["n_baseline_reached"] / max(row["n_pairs"], 1)}
        # A pair of equal times says nothing of a side, and much against a large effect.
        extras |= {"coverage_with_ties": enough(row["n_pairs"], float(row["confidence"]))["coverage"]}
        if name == "less_work_percent":
            ends = _saved(row, "flops_ratio")
            extras |= {"p_value": math.nan}
        else:
            ends = [row[f"{name}{end}"] for end in ENDS]
            extras |= {"p_value": row["p_value"], **enough(differ, float(row["confidence"]))}
        return _paired(variant, row, ends, row["arm"], "n_pairs", extras, notes=(variant.resolution, *_censored(row)))

    return of_rows(evidence, of, "paired_effect", effect)


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


def _saved(row: pd.Series, ratio: str) -> list[float]:
    """100 (1 - ratio) and its ends."""
    return [100 * (1 - row[f"{ratio}{end}"]) for end in ("", "_high", "_low")]


def _paired(
    variant: Variant,
    row: pd.Series,
    ends: list[float],
    what: str,
    count: str,
    extras: dict[str, float] | None = None,
    unit: str = "pairs",
    notes: tuple[str, ...] = (),
) -> Finding:
    """A finding of a table's row about pairs or runs (`unit`) of `what` of the variant."""
    value, low, high = map(float, ends)
    more = {name: float(number) for name, number in (extras or {}).items()}
    n_stopped = row.get("n_stopped", 0)
    one = variant.finding(
        stopped=f"{n_stopped} of {row[f'n_{unit}']} {unit} left out: stopped at the target" if n_stopped else "",
        setting=f"{variant.name} / {what}",
        value=value,
        low=low,
        high=high,
        n=int(row[count]),
        n_unit=unit,
        extras=enough(row[count], float(row["confidence"])) | more,
        text=row["text"],
        note=row["note"],
    )
    return replace(one, note=joined(one.note, *notes))


@claim_quantity("steps_to_target", "n_reached", "n_seeds", "budget_steps")
def _steps_to_target(evidence: Evidence, of: OfOneArm) -> list[Finding]:
    """Median steps to the target of one arm; the ends are the first and the last run that reached it."""
    # Whether it is reached at all is the claim, so that the baseline's success decides nothing here.
    demo = evidence.scale == "demo"

    def time(variant: Variant, row: pd.Series) -> Finding:
        reached = f"{row['n_reached']} of {row['n_seeds']} runs reached it in {int(row['budget_steps']):,} steps"
        ends = "the ends are the first and the last run, not an interval"
        return variant.finding(
            setting=f"{variant.name} / {row['arm']}",
            value=float(row["median_step"]),
            low=float(row["min_step"]),
            high=float(row["max_step"]),
            n=int(row["n_seeds"]),
            n_unit="runs",
            extras={name: float(row[name]) for name in ("n_reached", "n_seeds", "budget_steps")},
            status=ASIDE if demo else COUNTS,
            why="the demo's tasks are smaller, so that their steps are not to be compared" if demo else "",
            text=row["text"],
            note=joined(reached, variant.resolution, ends),
        )

    return of_rows(evidence, of, "cells", time)


@claim_quantity("lead", "coverage", "confidence", "resolution_steps")
def _lead(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps by which stability moves before validation loss, in baseline runs."""

    def lead(variant: Variant, row: pd.Series) -> Finding:
        ends, resolution = [row[f"mean_lead_steps{end}"] for end in ENDS], row["resolution_steps"]
        return _paired(variant, row, ends, row["arm"], "n_defined", {"resolution_steps": resolution}, "runs")

    return of_rows(evidence, of, "lead_lag", lead)


@claim_quantity("early_rank", "coverage", "confidence", "rank_by_val_loss")
def _early_rank(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Rank correlation, over baseline runs, of final accuracy with early stability; `rank_by_val_loss`: early loss."""

    def rank(variant: Variant, row: pd.Series) -> Finding:
        ends, by_loss = [row[f"rank_by_stability{end}"] for end in ENDS], row["rank_by_val_loss"]
        return _paired(variant, row, ends, "baseline", "n_ranked", {"rank_by_val_loss": by_loss}, "runs")

    return of_rows(evidence, of, "early_rank", rank, group="baseline")


@claim_quantity("selection", "coverage", "confidence", "baseline_censored")
def _selection(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps that the best of a sweep saves on test data, chosen for each seed on the other seeds; in per cent.

    `baseline_censored` is the share of the baseline's runs that did not reach the target on validation data.
    """

    def best(variant: Variant, row: pd.Series) -> Finding:
        runs = row_of(evidence.table("cells"), task=of.task, variant=variant.name, arm=row["baseline"])
        censored = math.nan if runs is None else 1 - runs["n_reached"] / runs["n_seeds"]
        note = f"on validation data {100 * censored:.0f}% of baseline runs are censored, which understates the effect"
        what, extras = f"best of {row['n_arms']}", {"baseline_censored": censored}
        notes = (note,) if censored > 0 else ()
        return _paired(variant, row, _saved(row, "test_steps_ratio"), what, "n_compared", extras, notes=notes)

    return of_rows(evidence, of, "selection", best, NO_SWEEP, procedure="leave_one_out")


@claim_quantity("loss_change", "coverage", "confidence")
def _loss_change(evidence: Evidence, of: OfArm) -> list[Finding]:
    """What the regulariser changes in the lowest validation loss."""

    def change(variant: Variant, row: pd.Series) -> Finding:
        ends = [row[f"best_val_loss_difference{end}"] for end in ENDS]
        return _paired(variant, row, ends, row["arm"], "n_compared")

    return of_rows(evidence, of, "score_effect", change)


@claim_quantity("sweep_breadth", "coverage", "confidence", "settled_share")
def _sweep_breadth(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Share of the sweep's (rho, gamma) that reach the target in fewer steps, with Wilson's interval."""
    from scipy import stats

    chosen, found = variants(evidence, of), []
    table = evidence.table("paired_effect")
    for variant in chosen:
        arms = [cell["arm"] for cell in variant.cells if is_swept(cell)]
        if variant.status == MISSING or len(arms) < 2:
            found.append(variant.missing(NO_SWEEP))
            continue
        rows = table[(table["task"] == of.task) & (table["variant"] == variant.name) & table["arm"].isin(arms)]
        fewer = int((rows["steps_ratio"] < 1).sum())
        pairs_enough = rows["n_pairs"].map(lambda n: coverage_of_range(int(n))) >= rows["confidence"]
        settled = int(((rows["steps_ratio_high"] < 1) & pairs_enough).sum())
        share = stats.binomtest(fewer, len(arms)).proportion_ci(evidence.confidence, method="wilson")
        fewest = enough(rows["n_pairs"].min(), float(rows["confidence"].iloc[0]))
        found.append(
            variant.finding(
                value=fewer / len(arms),
                low=float(share.low),
                high=float(share.high),
                n=len(arms),
                n_unit="settings",
                extras={**fewest, "settled_share": settled / len(arms)},
                text=str(rows["text"].iloc[0]),
                note=f"settled by its interval in {settled} of {len(arms)}",
            )
        )
    return found
