"""Partial work: what is known of every run of a grid, and how results name it."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import RUN, label, number

FINISHED, UNFINISHED, STALE = "finished", "unfinished", "stale"
STATES = {
    FINISHED: "trained and evaluated by the current settings and code, its files whole: part of every number here",
    UNFINISHED: "not begun, in training, not evaluated, or without a finished baseline to compare it with",
    STALE: "made with other settings or code; the next full run makes it again",
}
"""What a run can be -> what that means. All but the first are left out of partial results."""

RUN_STATE = pa.schema(
    [
        *RUN,
        label("pack", "the pack that the run is trained in"),
        label("state", f"one of: {', '.join(STATES)}"),
        number("share_trained", "1", "how much of its training is done"),
        label("reason", "what is missing, stale or bad; empty for a finished run", "text"),
    ]
)
"""One row per run of the grid, in grid order."""
