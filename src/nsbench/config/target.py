"""When a run has reached its target: the one rule that training stops by and tables count by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nsbench.schemas.metrics import METRICS


def first_held(values: Sequence[float], steps: Sequence[int], target: Mapping[str, Any]) -> int | None:
    """Index of the first evaluation that reaches the target and holds it, or None.

    values: the target's metric at each evaluation, in order of `steps` (optimiser steps); accuracy must be >= the
    threshold, loss <= it; NaN never reaches. target: `metric`, `threshold`, `hold_evaluations`, `hold_steps`. The
    evaluation and those after it must reach until at least `hold_evaluations` of them, the first included, have, and
    `hold_steps` steps have passed since the first; a stretch that the end of the run cuts short is not held.
    """
    held = held_until(values, steps, target)
    return None if held is None else held[0]


def held_until(values: Sequence[float], steps: Sequence[int], target: Mapping[str, Any]) -> tuple[int, int] | None:
    """`first_held`, and the index of the evaluation that completes the hold."""
    start = None
    for index, reached in enumerate(reaches(values, target).tolist()):
        if not reached:
            start = None
            continue
        start = index if start is None else start
        if index - start + 1 >= target["hold_evaluations"] and steps[index] - steps[start] >= target["hold_steps"]:
            return start, index
    return None


def reaches(values: Sequence[float], target: Mapping[str, Any]) -> np.ndarray:
    """Whether each value of a metric like the target's is at the threshold or better; NaN is not."""
    values = np.asarray(values, dtype=float)
    return values <= target["threshold"] if METRICS[target["metric"]].is_loss else values >= target["threshold"]


def hold_span(target: Mapping[str, Any], eval_every_steps: int) -> int:
    """Optimiser steps that a target must be held for, its hold in evaluations included."""
    least = max((target["hold_evaluations"] - 1) * eval_every_steps, target["hold_steps"])
    return -(-least // eval_every_steps) * eval_every_steps
