"""How a setting lets answers be seen that a model should find: part of what results say, not of how they come.

A module of its own, so that the stages that show it have it in their digests.
"""

from __future__ import annotations

import math

from nsbench.settings import ModularAdditionData, SparseParityData, Variant

TOLD_FROM = 0.01
"""Share of validation from which what training has of it is told."""


def leaks(variant: Variant) -> list[str]:
    """Ways in which the setting lets validation answers be seen, in words; none is the rule."""
    data = variant.data
    if isinstance(data, ModularAdditionData):
        share = data.n_train / data.modulus**2 if data.split == "pairs" else 0.0
        return [f"about {share:.0%} of validation pairs stand mirrored in training"] if share >= TOLD_FROM else []
    if isinstance(data, SparseParityData):
        share = -math.expm1(data.n_train * math.log1p(-(2.0**-data.n))) if data.split == "independent" else 0.0
        return [f"about {share:.0%} of validation strings are in training too"] if share >= TOLD_FROM else []
    found = []
    if data.split == "random":
        found.append("training and validation windows overlap")
    if data.targets == "every" and variant.model.mask == "none":
        found.append("every position sees its own target")
    return found
