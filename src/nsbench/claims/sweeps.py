"""Numbers of many settings: a sweep of (rho, gamma), the best of it, and a specification curve."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import pandas as pd

from nsbench.claims.curves import STABILITIES, kept_stability
from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.training import SIZES, Convention, found_row, of_ratio, percent
from nsbench.claims.variants import OfTask, Variant, each, joined, of_rows
from nsbench.config.cells import swept
from nsbench.config.settled import FEWER, OPEN

NO_SWEEP = "the grid has no sweep of (rho, gamma) of it"
STAYS = 0.9
"""Share of its highest stability with which a run stays stable."""


class Chosen(OfTask):
    """The best of a sweep of the paper's arm."""

    procedure: Literal["leave_one_out", "equal_tuning"] = "leave_one_out"
    """Beside the baseline as it is, or one chosen in the same way among other settings of its optimiser."""


@claim_quantity("selection", *SIZES)
def _selection(evidence: Evidence, of: Chosen) -> list[Finding]:
    """Steps that the best of a sweep saves, chosen for each seed on the other seeds; in per cent.

    On test data; with `equal_tuning` on the seed's validation data, since runs that end at their target have hardly a
    time on test data.
    """

    def best(variant: Variant, row: pd.Series) -> Finding:
        known = row.to_dict() | {"margin": evidence.margin}
        name, count = "test_steps_ratio", "n_compared"
        if of.procedure == "equal_tuning":
            name, count = "val_steps_ratio", "n_pairs"
            known["n_stopped"] = 0
        ends, extras = percent(pd.Series(known), "fewer_steps_percent", name)
        one = found_row(variant, pd.Series(known), ends, f"best of {row['n_arms']}", count, extras)
        return one if one.status != COUNTS else replace(one, status=ASIDE, why="its pairs share choices: no test")

    why = NO_SWEEP if of.procedure == "leave_one_out" else f"{NO_SWEEP} beside a baseline with other settings"
    return of_rows(evidence, of, "selection", best, why, procedure=of.procedure)


@claim_quantity("sweep_breadth", "settled_share", "refuted_share")
def _sweep_breadth(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Share of the sweep's (rho, gamma) that reach the target in fewer steps, with Wilson's interval.

    `settled_share` is that of settings in which fewer steps are settled, `refuted_share` that in which more steps or
    no effect are.
    """

    def breadth(variant: Variant) -> list[Finding]:
        arms = [cell["arm"] for cell in swept(variant.cells)]
        if len(arms) < 2:
            return [variant.finding(status=MISSING, why=NO_SWEEP)]
        table = evidence.table("paired_effect")
        rows = table[(table["task"] == of.task) & (table["variant"] == variant.name) & table["arm"].isin(arms)]
        counts = [(rows["steps_ratio"] < 1).sum(), (rows["outcome"] == FEWER).sum()]
        counts.append((~rows["outcome"].isin([FEWER, OPEN])).sum())
        return [_share(evidence, variant, "", len(arms), map(int, counts), str(rows["text"].iloc[0]))]

    return each(evidence, of, breadth)


@claim_quantity("sweep_stability", "settled_share", "refuted_share")
def _sweep_stability(evidence: Evidence, of: OfTask) -> list[Finding]:
    """Share of the sweep's (rho, gamma) that keep nine tenths of their highest stability to the end of training.

    As `stability_kept` for each arm, typical run, by each way to compare; extras as of `sweep_breadth`.
    """

    def kept(variant: Variant) -> list[Finding]:
        arms = [cell["arm"] for cell in swept(variant.cells)]
        if len(arms) < 2:
            return [variant.finding(status=MISSING, why=NO_SWEEP)]
        by_arm, found = [kept_stability(evidence, variant, arm) for arm in arms], []
        for series, ones in zip(STABILITIES, zip(*by_arm, strict=True), strict=True):
            if lost := next((one for one in ones if math.isnan(one.value)), None):
                found.append(variant.finding(series, status=MISSING, why=lost.why or lost.note))
                continue
            kept = [one.value >= STAYS for one in ones], [one.low >= STAYS for one in ones]
            counts = (*map(sum, kept), sum(one.high < STAYS for one in ones))
            found.append(_share(evidence, variant, series, len(arms), counts, ones[0].text))
        return found

    return each(evidence, of, kept)


def _share(evidence: Evidence, variant: Variant, what: str, n: int, counts: Iterable[int], text: str) -> Finding:
    """The finding of a share of a sweep's n settings; counts: of those that have it, settled and refuted ones."""
    some, settled, refuted = counts
    return variant.finding(
        what,
        (some / n, *_wilson(some, n, evidence.confidence)),
        n=n,
        n_unit="settings",
        extras={"settled_share": settled / n, "refuted_share": refuted / n},
        text=text,
        note=f"settled in {settled} of {n}",
    )


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
        names = {cell["arm"] for cell in swept(evidence.cells) if cell["task"] == task}
        rows = table[(table["task"] == task) & table["arm"].isin(names)]
        if rows.empty:
            found.append(Finding(task, status=MISSING, why="the grid has no specification curve of it"))
        found += [_curve(row, convention, evidence.margin) for _, row in rows.iterrows()]
    return found


def _curve(row: pd.Series, convention: str, margin: float) -> Finding:
    """The finding of a row of SPECIFICATION_CURVE."""
    ends, extras = percent(pd.Series(row.to_dict() | {"margin": margin}), convention)
    new = (of_ratio(row[f"new_steps_ratio_{end}"], convention) for end in ("high", "low"))
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
        task=row["task"],
    )
