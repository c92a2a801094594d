"""The baseline, which every effect is paired against."""

from __future__ import annotations

from nsbench.arms.base import Arm
from nsbench.arms.registry import arm


@arm("baseline")
class Baseline(Arm):
    """No regularisation."""

    family = "paper"
