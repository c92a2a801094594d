"""Numbers of the training runs, from the tables that `analyse` makes: one finding per variant of a task."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import pandas as pd

from nsbench.analysis.lead_lag import SERIES
from nsbench.analysis.statistics.paired import PRIMARY
from nsbench.analysis.statistics.signed_rank import typical_between
from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import OfArm, OfOneArm, OfTask, Variant, each, joined, of_rows
from nsbench.config.settled import few, settles, settles_steps

ENDS = ("", "_low", "_high")


Convention = Literal["faster_by_percent", "fewer_steps_percent"]


class Effect(OfArm):
    convention: Convention
    """faster_by: gain in speed; fewer_steps: steps saved."""


SIZES = ("margin_low", "margin_high")
"""The extras of an effect: between which ends it counts as none, in the unit of the claim."""


@claim_quantity("paired_effect", *SIZES)
def _paired_effect(evidence: Evidence, of: Effect) -> list[Finding]:
    """What the regulariser changes in the time to target, in per cent; high is better.

    Where the configuration names a primary comparison of the task it decides alone; the others stand beside it, and
    without it nothing is decided. Else a comparison that is one-sided by itself and not after the correction for false
    discoveries does not count.
    """

    def effect(variant: Variant, row: pd.Series) -> Finding:
        ends, extras = percent(row, of.convention)
        if row["role"] == PRIMARY:
            status, why = COUNTS, ""
        elif primary:
            status, why = ASIDE, "beside the primary comparison"
        else:
            # What a baseline that does not reach its target leaves open, the interval leaves open.
            lost = not settles_steps(row) and settles(row["steps_ratio_low"], row["steps_ratio_high"], neutral=1.0)
            why = "it does not survive the correction for the task's many comparisons" if lost else ""
            status = ASIDE if lost else COUNTS
        cost = "" if math.isnan(row["flops_ratio"]) else f"at {row['flops_ratio']:.2f} times the FLOPs to the target"
        one = found_row(variant, row, ends, row["arm"], "n_pairs", extras, "pairs", cost)
        return replace(one, status=status, why=why)

    primary = evidence.primary.get(of.task)
    if primary and of.variants:  # it decides in whatever variant it is
        of = of.model_copy(update={"variants": [*of.variants, primary.split(" / ")[0]]})
    found = of_rows(evidence, of, "paired_effect", effect)
    if primary and all(one.status != COUNTS for one in found):
        found.append(Finding(primary, status=MISSING, why="the primary comparison is not in the grid"))
    return found


def percent(row: pd.Series, convention: str, name: str = "steps_ratio") -> tuple[list[float], dict[str, float]]:
    """An effect with its ends, in per cent, and the ends of what counts as none; name: of its columns."""
    value, low, high = (of_ratio(row[f"{name}{end}"], convention) for end in ("", "_high", "_low"))
    none = (of_ratio(ratio, convention) for ratio in (1 + row["margin"], 1 / (1 + row["margin"])))
    return [value, low, high], dict(zip(SIZES, none, strict=True))


def of_ratio(ratio: float, convention: str) -> float:
    """A ratio arm / baseline as per cent faster, or as per cent saved; NaN stays NaN."""
    if convention != "faster_by_percent":
        return 100 * (1 - ratio)
    return math.inf if ratio == 0 else 100 * (1 / ratio - 1)


def _ends(row: pd.Series, name: str) -> list[float]:
    """An estimate and the ends of its interval."""
    return [row[f"{name}{end}"] for end in ENDS]


def found_row(
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
        extras={name: float(number) for name, number in extras.items()},
        text=row["text"],
        note=row["note"],
    )
    return replace(one, note=joined(one.note, *notes))


@claim_quantity("steps_to_target", "n_reached", "n_seeds", "budget_steps")
def _steps_to_target(evidence: Evidence, of: OfOneArm) -> list[Finding]:
    """Median steps to the target of one arm; the ends are the first and the last run that reached it.

    Only the variants that the claim lists count: others were chosen so that their baseline reaches the target, which
    their times then are no evidence of.
    """
    demo = "the demo's tasks are smaller, so that their steps do not compare" if evidence.scale == "demo" else ""

    def time(variant: Variant, row: pd.Series) -> Finding:
        why = demo
        if of.variants and not any(variant.name == one or variant.name.startswith(f"{one}-") for one in of.variants):
            why = why or "it was chosen so that its baseline reaches the target"
        reached = f"{row['n_reached']} of {row['n_seeds']} runs reached it in {int(row['budget_steps']):,} steps"
        # Whether it is reached at all is the claim, so that the baseline's success decides nothing here.
        return variant.finding(
            row["arm"],
            [row[f"{which}_step"] for which in ("median", "min", "max")],
            n=int(row["n_seeds"]),
            n_unit="runs",
            extras={name: float(row[name]) for name in ("n_reached", "n_seeds", "budget_steps")},
            status=ASIDE if why else COUNTS,
            why=why,
            text=row["text"],
            note=joined(reached, "the ends are the first and the last run, not an interval"),
        )

    return of_rows(evidence, of, "cells", time)


@claim_quantity("grokking_gap", "resolution_steps")
def _gap(evidence: Evidence, of: OfArm) -> list[Finding]:
    """Steps from reaching the threshold on training data to reaching it on validation data, arm less baseline.

    Typical pair, of the pairs and at the level that the effect is judged by. A run that fits the training data and does
    not generalise has a gap of what is left of the budget at least; a pair is left out where a run does not fit them.
    """

    def gap(variant: Variant, row: pd.Series) -> Finding:
        times = evidence.table("time_to_target")
        times = times[(times["task"] == of.task) & (times["variant"] == variant.name)].set_index(["arm", "seed"])
        least = times["step"].fillna(times["budget_steps"]) - times["train_step"]
        most = least.where(times["step"].notna() | least.isna(), math.inf)
        arm, baseline = row["arm"], row["baseline"]
        seeds = [seed for seed in least[baseline].index if seed in least[arm].index][: row["n_pairs"]]
        ends = pd.DataFrame({"least": least[arm] - most[baseline], "most": most[arm] - least[baseline]}).loc[seeds]
        fits = ends.dropna()
        one = typical_between(fits["least"].to_numpy(float), fits["most"].to_numpy(float), row["confidence"])
        left = len(ends) - len(fits)
        notes = [*few(len(fits), "pairs", row["confidence"]), f"{left} pairs that do not fit left out" if left else ""]
        found = {"n": len(fits), "n_unit": "pairs", "text": row["text"], "note": joined(*notes)}
        return variant.finding(arm, one[:3], extras={"resolution_steps": variant.spacing}, **found)

    return of_rows(evidence, of, "paired_effect", gap)


@claim_quantity("pass_cost")
def _pass_cost(evidence: Evidence, of: OfArm) -> list[Finding]:
    """Operations of a step with the arm over those of the baseline: matrix products, counted in training."""

    def cost(variant: Variant) -> list[Finding]:
        runs = evidence.records("runs")
        runs = runs[(runs["task"] == of.task) & (runs["variant"] == variant.name) & (runs["steps"] > 0)]
        per_step = (runs["flops"] / runs["steps"]).groupby(runs["arm"]).median()
        ratio = float(per_step[variant.arm(of)] / per_step[variant.arm()])
        return [variant.finding(variant.arm(of), [ratio], text=str(runs["text"].iloc[0]), status=COUNTS, why="")]

    return each(evidence, of, cost)


@claim_quantity("lead", "resolution_steps")
def _lead(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps by which a stability moves before validation loss, in baseline runs; a finding for each way to compare.

    Definition 6.1's dot product, which cannot lead, and what anybody could look at as well (training loss, entropy,
    weight norm) stand beside.
    """

    def leads(variant: Variant) -> list[Finding]:
        rows = evidence.table("lead_lag")
        rows = rows[(rows["task"] == of.task) & (rows["variant"] == variant.name) & (rows["arm"] == variant.arm())]
        found = []
        for name, row in rows.set_index("series").iterrows():
            extras = {"resolution_steps": row["resolution_steps"]}
            one = found_row(variant, row, _ends(row, "typical_lead_steps"), str(name), "n_defined", extras, "runs")
            beside = (name == "stability" or SERIES[name].rival) and one.status == COUNTS
            found.append(replace(one, status=ASIDE, why="for comparison") if beside else one)
        return found

    return each(evidence, of, leads)


@claim_quantity("early_rank", "rank_by_val_loss")
def _early_rank(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Rank correlation, over baseline runs, of time to target with early stability; `rank_by_val_loss`: early loss."""

    def rank(variant: Variant, row: pd.Series) -> Finding:
        extras = {"rank_by_val_loss": row["rank_by_val_loss"]}
        return found_row(variant, row, _ends(row, "rank_by_stability"), "baseline", "n_ranked", extras, "runs")

    return of_rows(evidence, of, "early_rank", rank, group="baseline")
