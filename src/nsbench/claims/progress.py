"""Does token sensitivity move before anything else does? From the checkpoints of baseline runs."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from nsbench.analysis.lead_lag import onset
from nsbench.analysis.statistics.intervals import typical
from nsbench.claims.architectures import NOT_MEASURED
from nsbench.claims.evidence import MISSING, Evidence, Finding
from nsbench.claims.registry import claim_quantity
from nsbench.claims.variants import OfTask, Variant, each, joined
from nsbench.schemas.metrics import BESIDE_SENSITIVITY, at_checkpoints


class Lead(OfTask):
    """Sensitivity and what it may lead, at the same checkpoints."""

    over: Literal[tuple(BESIDE_SENSITIVITY)]


@claim_quantity("sensitivity_lead", "resolution_steps")
def _lead(evidence: Evidence, of: Lead) -> list[Finding]:
    """Steps by which token sensitivity begins to move before something else, in baseline runs; typical run.

    Both at the checkpoints, without smoothing; where either does not move, or a run ended early, the run is left out
    and the note says so. Under the law that was measured first, on training inputs.
    """

    def lead(variant: Variant) -> list[Finding]:
        runs, evaluation, history = (
            rows[(rows["task"] == of.task) & (rows["variant"] == variant.name) & (rows["arm"] == variant.arm())]
            for rows in map(evidence.records, ("runs", "evaluation", "history"))
        )
        law, curves = at_checkpoints(evaluation, history)
        if not law:
            return [variant.finding(status=MISSING, why=NOT_MEASURED)]
        share, steps = evidence.table("onset")["share"].iloc[0], np.unique(curves["sensitivity"]["step"])

        def first(name: str, seed: int, direction: str) -> float:
            rows = curves[name][curves[name]["seed"] == seed]
            return onset(rows["step"].to_numpy(), rows["value"].to_numpy(float), share, direction)

        ended = runs.loc[runs["status"] == "completed", "seed"]
        leads = [
            first(of.over, seed, BESIDE_SENSITIVITY[of.over]) - first("sensitivity", seed, "either") for seed in ended
        ]
        known = np.array([one for one in leads if math.isfinite(one)])
        lost = f"{len(runs) - len(known)} of {len(runs)} runs undefined" if len(known) < len(runs) else ""
        one = typical(known, "runs", evidence.confidence)
        spacing = float(np.diff(steps).max()) if len(steps) > 1 else float(variant.cells[0]["budget_steps"])
        note = joined(law, lost, *one.notes)
        about = {"n": len(known), "n_unit": "runs", "extras": {"resolution_steps": spacing}, "note": note}
        return [variant.finding(of.over, one[:3], text=str(runs["text"].iloc[0]), **about)]

    return each(evidence, of, lead)
