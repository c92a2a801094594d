"""How a setting lets answers be seen that a model should find: part of what results say, not of how they come.

A module of its own, so that the stages that show it have it in their digests. Shares of addition and parity are
expected ones, computed from the setting; `nsbench.data.baselines` counts them in each data set.
"""

from __future__ import annotations

import math

from nsbench.config.variant import ModularAdditionData, SparseParityData, Variant

TOLD_FROM = 0.1
"""Smallest share of validation inputs seen in training that counts as a leak."""


def leaks(variant: Variant) -> list[str]:
    """Ways in which the setting lets validation answers be seen, in words; none is the rule."""
    data = variant.data
    if isinstance(data, ModularAdditionData):
        # A pair (a, b) has a mirror image with probability (K - 1) / K, one of the K^2 - 1 other pairs.
        share = data.n_train / (data.modulus * (data.modulus + 1)) if data.split == "pairs" else 0.0
        return [f"about {share:.0%} of validation pairs stand mirrored in training"] if share >= TOLD_FROM else []
    if isinstance(data, SparseParityData):
        # 1 - (1 - 2^-n)^n_train
        share = -math.expm1(data.n_train * math.log1p(-(2.0**-data.n))) if data.split == "independent" else 0.0
        return [f"about {share:.0%} of validation strings are in training too"] if share >= TOLD_FROM else []
    found = []
    if data.split == "random":
        found.append("training and validation windows overlap")
    if data.targets == "every" and variant.model.mask == "none":
        found.append("every position sees its own target")
    return found
