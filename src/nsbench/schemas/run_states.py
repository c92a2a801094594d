"""Partial work: what is known of every run of a grid, and how results name it."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import RUN, field

FINISHED = "finished"
NOT_BEGUN = "not begun"
IN_TRAINING = "in training"
NOT_EVALUATED = "trained, not evaluated"
NOT_JOINED = "finished, not joined"
OUTDATED = "outdated"
BAD_FILE = "bad file"
NO_BASELINE = "no baseline yet"
STATES = {
    FINISHED: "trained and evaluated by these settings and this code, its files whole: part of every number here",
    NOT_BEGUN: "nothing of it is there",
    IN_TRAINING: "begun; at work, or interrupted and to be resumed",
    NOT_EVALUATED: "its measures are not there yet",
    NOT_JOINED: "trained and evaluated; the next full run joins it with its pack, and trains nothing of it",
    OUTDATED: "made with other settings or code, and made again by the next full run",
    BAD_FILE: "a file of it is damaged or gone",
    NO_BASELINE: "finished, but no baseline run of its variant is, so there is nothing to compare it with",
}
"""What a run can be -> what that means. All but the first are left out of partial results."""

RUN_STATE = pa.schema(
    [
        *RUN,
        field("pack", pa.string(), "name", "the pack that the run is trained in"),
        field("state", pa.string(), "name", f"one of: {', '.join(STATES)}"),
        field("share_trained", pa.float64(), "1", "how much of its training is done"),
        field("reason", pa.string(), "text", "what exactly is missing, outdated or bad; may be empty"),
    ]
)
"""One row per run of the grid, in grid order."""
