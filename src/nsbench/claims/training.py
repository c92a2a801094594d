"""Numbers of the training runs, from the tables that `analyse` makes: one finding per variant of a task."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Literal

import pandas as pd

from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import OfArm, OfOneArm, OfTask, Variant, each, enough, is_swept, joined, of_rows, row_of
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
        name, differ, n_pairs = of.convention, int(row["n_arm_sooner"] + row["n_baseline_sooner"]), row["n_pairs"]
        extras = {column: row[column] for column in ("n_baseline_reached", "n_arm_reached")}
        extras |= {"n_differ": differ, "baseline_censored": 1 - row["n_baseline_reached"] / max(n_pairs, 1)}
        # A pair of equal times says nothing of a side, and much against a large effect.
        extras |= {"coverage_with_ties": enough(n_pairs, row["confidence"])["coverage"]}
        if name == "less_work_percent":
            ends = _saved(row, "flops_ratio")
            extras |= {"p_value": math.nan}
        else:
            ends = _ends(row, name)
            extras |= {"p_value": row["p_value"], **enough(differ, row["confidence"])}
        notes = [variant.resolution]
        for runs, n_reached, does in (
            ("baseline runs", row["n_baseline_reached"], "understates"),
            ("runs of the arm", row["n_arm_reached"], "overstates"),
        ):
            if n_reached < n_pairs:
                notes.append(f"{n_pairs - n_reached} of {n_pairs} {runs} are censored, which {does} the effect")
        return _found(variant, row, ends, row["arm"], "n_pairs", extras, "pairs", *notes)

    return of_rows(evidence, of, "paired_effect", effect)


def _ends(row: pd.Series, name: str) -> list[float]:
    """An estimate and the ends of its interval."""
    return [row[f"{name}{end}"] for end in ENDS]


def _saved(row: pd.Series, ratio: str) -> list[float]:
    """100 (1 - ratio) and its ends."""
    return [100 * (1 - row[f"{ratio}{end}"]) for end in ("", "_high", "_low")]


def _found(
    variant: Variant,
    row: pd.Series,
    ends: list[float],
    what: str,
    count: str,
    extras: dict[str, float],
    unit: str = "pairs",
    *notes: str,
) -> Finding:
    """A finding of a table's row about pairs or runs (`unit`) of `what` of the variant; `count`: column of n."""
    n_stopped = row.get("n_stopped", 0)
    one = variant.finding(
        what,
        ends,
        stopped=f"{n_stopped} of {row[f'n_{unit}']} {unit} left out: stopped at the target" if n_stopped else "",
        n=int(row[count]),
        n_unit=unit,
        extras=enough(row[count], row["confidence"]) | {name: float(number) for name, number in extras.items()},
        text=row["text"],
        note=row["note"],
    )
    return replace(one, note=joined(one.note, *notes))


@claim_quantity("steps_to_target", "n_reached", "n_seeds", "budget_steps")
def _steps_to_target(evidence: Evidence, of: OfOneArm) -> list[Finding]:
    """Median steps to the target of one arm; the ends are the first and the last run that reached it."""
    # Whether it is reached at all is the claim, so that the baseline's success decides nothing here.
    why = "the demo's tasks are smaller, so that their steps are not to be compared" if evidence.scale == "demo" else ""

    def time(variant: Variant, row: pd.Series) -> Finding:
        reached = f"{row['n_reached']} of {row['n_seeds']} runs reached it in {int(row['budget_steps']):,} steps"
        ends = "the ends are the first and the last run, not an interval"
        return variant.finding(
            row["arm"],
            [row[f"{which}_step"] for which in ("median", "min", "max")],
            n=int(row["n_seeds"]),
            n_unit="runs",
            extras={name: float(row[name]) for name in ("n_reached", "n_seeds", "budget_steps")},
            status=ASIDE if why else COUNTS,
            why=why,
            text=row["text"],
            note=joined(reached, variant.resolution, ends),
        )

    return of_rows(evidence, of, "cells", time)


@claim_quantity("lead", "coverage", "confidence", "resolution_steps")
def _lead(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps by which stability moves before validation loss, in baseline runs."""
    return _estimates(evidence, of, "lead_lag", "mean_lead_steps", "n_defined", "runs", "resolution_steps")


@claim_quantity("early_rank", "coverage", "confidence", "rank_by_val_loss")
def _early_rank(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Rank correlation, over baseline runs, of final accuracy with early stability; `rank_by_val_loss`: early loss."""
    extra = "rank_by_val_loss"
    return _estimates(evidence, of, "early_rank", "rank_by_stability", "n_ranked", "runs", extra, group="baseline")


@claim_quantity("loss_change", "coverage", "confidence")
def _loss_change(evidence: Evidence, of: OfArm) -> list[Finding]:
    """What the regulariser changes in the lowest validation loss."""
    return _estimates(evidence, of, "score_effect", "best_val_loss_difference", "n_compared", "pairs")


def _estimates(
    evidence: Evidence, of: OfTask, table: str, name: str, count: str, unit: str, *extras: str, **where: str
) -> list[Finding]:
    """An estimate of each variant's row of a table as it stands there, with these columns as extras."""

    def estimate(variant: Variant, row: pd.Series) -> Finding:
        more = {extra: row[extra] for extra in extras}
        return _found(variant, row, _ends(row, name), where.get("group") or row["arm"], count, more, unit)

    return of_rows(evidence, of, table, estimate, **where)


@claim_quantity("selection", "coverage", "confidence", "baseline_censored")
def _selection(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps that the best of a sweep saves on test data, chosen for each seed on the other seeds; in per cent.

    `baseline_censored` is the share of the baseline's runs that did not reach the target on validation data.
    """

    def best(variant: Variant, row: pd.Series) -> Finding:
        runs = row_of(evidence.table("cells"), task=of.task, variant=variant.name, arm=row["baseline"])
        censored = math.nan if runs is None else 1 - runs["n_reached"] / runs["n_seeds"]
        note = f"on validation data {100 * censored:.0f}% of baseline runs are censored, which understates the effect"
        ends, extras = _saved(row, "test_steps_ratio"), {"baseline_censored": censored}
        what, note = f"best of {row['n_arms']}", note if censored > 0 else ""
        return _found(variant, row, ends, what, "n_compared", extras, "pairs", note)

    return of_rows(evidence, of, "selection", best, NO_SWEEP, procedure="leave_one_out")


@claim_quantity("sweep_breadth", "coverage", "confidence", "settled_share")
def _sweep_breadth(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Share of the sweep's (rho, gamma) that reach the target in fewer steps, with Wilson's interval."""

    def breadth(variant: Variant) -> list[Finding]:
        arms = [cell["arm"] for cell in variant.cells if is_swept(cell)]
        if len(arms) < 2:
            return [variant.finding(status=MISSING, why=NO_SWEEP)]
        table = evidence.table("paired_effect")
        rows = table[(table["task"] == of.task) & (table["variant"] == variant.name) & table["arm"].isin(arms)]
        fewer = int((rows["steps_ratio"] < 1).sum())
        pairs_enough = rows["n_pairs"].map(lambda n: coverage_of_range(int(n))) >= rows["confidence"]
        settled = int(((rows["steps_ratio_high"] < 1) & pairs_enough).sum())
        ends = (fewer / len(arms), *_wilson(fewer, len(arms), evidence.confidence))
        fewest = enough(rows["n_pairs"].min(), rows["confidence"].iloc[0])
        return [
            variant.finding(
                ends=ends,
                n=len(arms),
                n_unit="settings",
                extras={**fewest, "settled_share": settled / len(arms)},
                text=str(rows["text"].iloc[0]),
                note=f"settled by its interval in {settled} of {len(arms)}",
            )
        ]

    return each(evidence, of, breadth)


def _wilson(count: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval for a share."""
    # Here, because it takes a second that all who need a schema alone would wait for.
    from scipy import stats

    interval = stats.binomtest(count, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@claim_quantity(
    "specification_share",
    *("share_hurts", "share_open", "coverage", "confidence", "share_possible_high"),
    all_needed=True,
)
def _specifications(evidence: Evidence, tasks: list[str]) -> list[Finding]:
    """Share of the specifications that count in which the paper's arm settles to help; one finding per curve.

    tasks: each must have a curve.
    `coverage` is that of the fewest pairs of a counted specification; `share_possible_high` the upper end of Wilson's
    interval for the share that helps or may yet turn out to.
    """
    table, singles, found = evidence.table("specification_share"), evidence.table("specification"), []
    for task in tasks:
        names = {cell["arm"] for cell in evidence.cells if cell["task"] == task and is_swept(cell)}
        rows = table[(table["task"] == task) & table["arm"].isin(names)]
        if rows.empty:
            found.append(Finding(task, status=MISSING, why="the grid has no specification curve of it"))
        found += [_curve(row, singles) for _, row in rows.iterrows()]
    return found


def _curve(row: pd.Series, singles: pd.DataFrame) -> Finding:
    """The finding of a row of SPECIFICATION_SHARE; `singles` is SPECIFICATION."""
    n, curve = int(row["n_counted"]), ["task", "curve", "arm"]
    here = singles["counts"].astype(bool) & (singles[curve] == row[curve]).all(axis=1)
    extras: dict[str, Any] = {name: float(row[name]) for name in ("share_hurts", "share_open")}
    extras |= enough(singles.loc[here, "n_pairs"].min() if here.any() else 0, row["confidence"])
    may_help = int(row["n_helps"] + row["n_open"])
    extras["share_possible_high"] = _wilson(may_help, n, row["confidence"])[1] if n else math.nan
    return Finding(
        " / ".join(row[curve]),
        *(float(end) for end in _ends(row, "share_helps")),
        n=n,
        n_unit="specifications",
        extras=extras,
        status=COUNTS if n else ASIDE,
        why="" if n else "in no specification the baseline reached the target",
        text=row["text"],
        note=joined(row["note"], f"leak: {row['leaks']}" if row["leaks"] else ""),
    )
