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
from nsbench.claims.variants import OfArm, OfOneArm, OfTask, Variant, each, is_swept, joined, of_rows
from nsbench.config.settled import FEWER, OPEN, few, settles, settles_steps

NO_SWEEP = "the grid has no sweep of (rho, gamma) of it"
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
        ends, extras = _percent(row, of.convention)
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
        one = _found(variant, row, ends, row["arm"], "n_pairs", extras, "pairs", cost)
        return replace(one, status=status, why=why)

    primary = evidence.primary.get(of.task)
    found = of_rows(evidence, of, "paired_effect", effect)
    if primary and all(one.status != COUNTS for one in found):
        found.append(Finding(primary, status=MISSING, why="the primary comparison is not in the grid"))
    return found


def _percent(row: pd.Series, convention: str, name: str = "steps_ratio") -> tuple[list[float], dict[str, float]]:
    """An effect with its ends, in per cent, and the ends of what counts as none; name: of its columns."""
    value, low, high = (_of_ratio(row[f"{name}{end}"], convention) for end in ("", "_high", "_low"))
    none = (_of_ratio(ratio, convention) for ratio in (1 + row["margin"], 1 / (1 + row["margin"])))
    return [value, low, high], dict(zip(SIZES, none, strict=True))


def _of_ratio(ratio: float, convention: str) -> float:
    """A ratio arm / baseline as per cent faster, or as per cent saved; NaN stays NaN."""
    if convention != "faster_by_percent":
        return 100 * (1 - ratio)
    return math.inf if ratio == 0 else 100 * (1 / ratio - 1)


def _ends(row: pd.Series, name: str) -> list[float]:
    """An estimate and the ends of its interval."""
    return [row[f"{name}{end}"] for end in ENDS]


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
            one = _found(variant, row, _ends(row, "typical_lead_steps"), str(name), "n_defined", extras, "runs")
            beside = (name == "stability" or SERIES[name].rival) and one.status == COUNTS
            found.append(replace(one, status=ASIDE, why="for comparison") if beside else one)
        return found

    return each(evidence, of, leads)


@claim_quantity("early_rank", "rank_by_val_loss")
def _early_rank(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Rank correlation, over baseline runs, of time to target with early stability; `rank_by_val_loss`: early loss."""

    def rank(variant: Variant, row: pd.Series) -> Finding:
        extras = {"rank_by_val_loss": row["rank_by_val_loss"]}
        return _found(variant, row, _ends(row, "rank_by_stability"), "baseline", "n_ranked", extras, "runs")

    return of_rows(evidence, of, "early_rank", rank, group="baseline")


@claim_quantity("selection", *SIZES)
def _selection(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Steps that the best of a sweep saves on test data, chosen for each seed on the other seeds; in per cent."""

    def best(variant: Variant, row: pd.Series) -> Finding:
        known = row.to_dict() | {"margin": evidence.margin}
        ends, extras = _percent(pd.Series(known), "fewer_steps_percent", "test_steps_ratio")
        one = _found(variant, row, ends, f"best of {row['n_arms']}", "n_compared", extras)
        return one if one.status != COUNTS else replace(one, status=ASIDE, why="its pairs share choices: no test")

    return of_rows(evidence, of, "selection", best, NO_SWEEP, procedure="leave_one_out")


@claim_quantity("sweep_breadth", "settled_share", "refuted_share")
def _sweep_breadth(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Share of the sweep's (rho, gamma) that reach the target in fewer steps, with Wilson's interval.

    `settled_share` is that of settings in which fewer steps are settled, `refuted_share` that in which more steps or
    no effect are.
    """

    def breadth(variant: Variant) -> list[Finding]:
        arms = [cell["arm"] for cell in variant.cells if is_swept(cell)]
        if len(arms) < 2:
            return [variant.finding(status=MISSING, why=NO_SWEEP)]
        table = evidence.table("paired_effect")
        rows = table[(table["task"] == of.task) & (table["variant"] == variant.name) & table["arm"].isin(arms)]
        fewer, settled = int((rows["steps_ratio"] < 1).sum()), int((rows["outcome"] == FEWER).sum())
        refuted = int((~rows["outcome"].isin([FEWER, OPEN])).sum())
        ends = (fewer / len(arms), *_wilson(fewer, len(arms), evidence.confidence))
        return [
            variant.finding(
                ends=ends,
                n=len(arms),
                n_unit="settings",
                extras={"settled_share": settled / len(arms), "refuted_share": refuted / len(arms)},
                text=str(rows["text"].iloc[0]),
                note=f"settled in {settled} of {len(arms)}",
            )
        ]

    return each(evidence, of, breadth)


def _wilson(count: int, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's interval for a share."""
    # Here, because it takes a second that all who need a schema alone would wait for.
    from scipy import stats

    interval = stats.binomtest(count, n).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


@claim_quantity("pooled_effect", "new_low", "new_high", "hurts_low", *SIZES, all_needed=True)
def _pooled_effect(
    evidence: Evidence, tasks: list[str], convention: Convention = "fewer_steps_percent"
) -> list[Finding]:
    """What the paper's arm changes in the time to target over the specifications that count, pooled; one per curve.

    tasks: each must have a curve. `new_low` and `new_high` are the ends of what to expect in a new setting, `hurts_low`
    the lower end of Wilson's interval for the share of settings that it is settled to make later.
    """
    table, found = evidence.table("specification_curve"), []
    for task in tasks:
        names = {cell["arm"] for cell in evidence.cells if cell["task"] == task and is_swept(cell)}
        rows = table[(table["task"] == task) & table["arm"].isin(names)]
        if rows.empty:
            found.append(Finding(task, status=MISSING, why="the grid has no specification curve of it"))
        found += [_curve(row, convention, evidence.margin) for _, row in rows.iterrows()]
    return found


def _curve(row: pd.Series, convention: str, margin: float) -> Finding:
    """The finding of a row of SPECIFICATION_CURVE."""
    ends, extras = _percent(pd.Series(row.to_dict() | {"margin": margin}), convention)
    new = (_of_ratio(row[f"new_steps_ratio_{end}"], convention) for end in ("high", "low"))
    n = int(row["n_counted"])
    extras["hurts_low"] = _wilson(int(row["n_hurts"]), n, row["confidence"])[0] if n else math.nan
    return Finding(
        " / ".join(row[["task", "curve", "arm"]]),
        *ends,
        n=n,
        n_unit="specifications",
        extras=extras | dict(zip(("new_low", "new_high"), new, strict=True)),
        status=COUNTS if row["n_counted"] else ASIDE,
        why="" if row["n_counted"] else "in no specification the baseline reached the target",
        text=row["text"],
        note=joined(row["note"], f"leak: {row['leaks']}" if row["leaks"] else ""),
    )
