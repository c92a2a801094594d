"""Does token sensitivity move before anything else does? From the checkpoints of baseline runs."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pandas as pd

from nsbench.analysis.lead_lag import onset
from nsbench.analysis.statistics.intervals import typical
from nsbench.claims.architectures import NOT_MEASURED
from nsbench.claims.evidence import MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import OfTask, Variant, each, joined

OVER = {
    "train_loss": "down",
    "test_loss": "down",
    "test_accuracy": "either",
    "weight_norm": "either",
    "stability": "either",
}
"""What sensitivity may lead -> how its onset is found (`analysis.lead_lag.onset`). stability: flips where half of the
tokens are kept, or what is nearest to it."""
NEAREST = 0.5


class Lead(OfTask):
    """Sensitivity and what it may lead, at the same checkpoints."""

    over: Literal[tuple(OVER)]
    split: Literal["train", "test"] = "train"
    """Inputs that sensitivity was measured on."""


@claim_quantity("sensitivity_lead", "resolution_steps")
def _lead(evidence: Evidence, of: Lead) -> list[Finding]:
    """Steps by which token sensitivity begins to move before something else, in baseline runs; typical run.

    Both at the checkpoints, without smoothing; where either does not move, or a run ended early, the run is left out
    and the note says so. Under the law that was measured first.
    """

    def lead(variant: Variant) -> list[Finding]:
        runs, share = evidence.records("runs"), evidence.table("onset")["share"]
        arm, cell = variant.arm(), variant.cells[0]
        runs = runs[(runs["task"] == of.task) & (runs["variant"] == variant.name) & (runs["arm"] == arm)]
        own = evidence.records("evaluation")
        own = own[(own["task"] == of.task) & (own["variant"] == variant.name) & (own["arm"] == arm)]
        flips = own[own["measure"] == "token_sensitivity"]
        flips = flips[flips["reduction"].str.fullmatch(rf".*-{of.split}")]
        if flips.empty:
            return [variant.finding(status=MISSING, why=NOT_MEASURED)]
        law = flips["reduction"].iloc[0]
        other = _series(evidence, own, of, variant, law)
        leads = []
        for seed, status in zip(runs["seed"], runs["status"], strict=True):
            one = flips[(flips["reduction"] == law) & (flips["seed"] == seed)].sort_values("step")
            its = other[other["seed"] == seed].sort_values("step")
            its = its[its["step"].isin(one["step"])]
            if status != "completed" or one.empty or its.empty:
                continue
            first = onset(one["step"].to_numpy(), one["value"].to_numpy(float), share.iloc[0], "either")
            then = onset(its["step"].to_numpy(), its["value"].to_numpy(float), share.iloc[0], OVER[of.over])
            leads.append(then - first)
        known = np.array([one for one in leads if math.isfinite(one)])
        lost = f"{len(runs) - len(known)} of {len(runs)} runs undefined" if len(known) < len(runs) else ""
        one = typical(known, "runs", evidence.confidence)
        steps = np.unique(flips["step"])
        spacing = float(np.diff(steps).max()) if len(steps) > 1 else float(cell["budget_steps"])
        note = joined(law, lost, *one.notes)
        about = {"n": len(known), "n_unit": "runs", "extras": {"resolution_steps": spacing}, "note": note}
        return [variant.finding(of.over, one[:3], text=str(runs["text"].iloc[0]), **about)]

    return each(evidence, of, lead)


def _series(evidence: Evidence, own: pd.DataFrame, of: Lead, variant: Variant, law: str) -> pd.DataFrame:
    """What sensitivity may lead, as rows of seed, step and value; own: the rows of the cell's evaluation."""
    if of.over in ("test_loss", "test_accuracy"):
        return own[(own["measure"] == of.over) & (own["reduction"] == "all")]
    if of.over == "stability":
        kept = own[own["reduction"].str.fullmatch(rf"{law}-kept[^-]+")]
        if kept.empty:
            return kept
        shares = kept["reduction"].str.extract(r"-kept(.+)$")[0].astype(float)
        nearest = shares.iloc[(shares - NEAREST).abs().argsort().iloc[0]]
        return kept[shares == nearest]
    rows = evidence.records("history")
    here = (rows["task"] == of.task) & (rows["variant"] == variant.name) & (rows["arm"] == variant.arm())
    return rows[here].assign(value=rows.loc[here, of.over]).dropna(subset="value")
