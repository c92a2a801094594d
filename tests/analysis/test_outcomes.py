"""Outcomes after the correction for false discoveries, of steps and of FLOPs."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from nsbench.analysis.statistics import paired
from nsbench.config.settled import no_effect, settles_flops, settles_steps
from nsbench.schemas.statistics import PAIRED_EFFECT

SMALL = no_effect(0.1)


def corrected(rows: list[dict[str, object]]) -> pd.DataFrame:
    """Secondary comparisons of one task after the correction."""
    shared = {"task": "a", "role": paired.SECONDARY, "margin": 0.1, "flops_outcome": "open"}
    columns = [*PAIRED_EFFECT.names, "flops_p_value"]
    return paired._corrected(pd.DataFrame([shared | row for row in rows], columns=columns), 0.05)


@pytest.mark.parametrize(
    ("ends", "outcome"),
    [((0.95, 0.99), SMALL), ((0.8, 0.99), "open"), ((1.02, 1.09), SMALL), ((1.5, math.inf), "open")],
)
def test_what_is_no_discovery_may_be_settled_to_be_small(ends: tuple[float, float], outcome: str) -> None:
    """A narrow interval beside 1 that the correction rejects says no less than one that reaches over 1."""
    one = dict(zip(("steps_ratio_low", "steps_ratio_high"), ends, strict=True), p_value=0.016, outcome="fewer steps")
    others = [{"p_value": 0.9, "outcome": "open"}] * 5
    assert corrected([one, *others])["outcome"].tolist()[0] == outcome
    assert corrected([one])["outcome"].tolist() == ["fewer steps"]


def test_flops_have_an_outcome_by_the_same_rules() -> None:
    one = {"flops_ratio_low": 1.8, "flops_ratio_high": 2.1, "flops_outcome": "more work", "outcome": "open"}
    weak, strong = ({**one, "flops_p_value": p} for p in (0.04, 0.008))
    others = [{"flops_p_value": 0.9, "outcome": "open"}] * 5
    rows = [corrected([row, *others]).to_dict("records")[0] for row in (weak, strong)]
    assert [row["flops_outcome"] for row in rows] == ["open", "more work"]
    assert [settles_flops(row) for row in rows] == [0, 1]
    sides = ("less work", "more work", SMALL, "open")
    assert [settles_flops({"flops_outcome": side}) for side in sides] == [-1, 1, 0, 0]
    assert [settles_steps({"outcome": side}) for side in ("fewer steps", "more steps", SMALL)] == [-1, 1, 0]
