"""How a setting lets answers be seen that a model should find: part of what results say, not of how they come.

A module of its own, so that the stages that show it have it in their digests.
"""

from __future__ import annotations

from nsbench.settings import NextTokenData, Variant


def leaks(variant: Variant) -> list[str]:
    """Ways in which the setting lets validation answers be seen, in words; none is the rule."""
    data = variant.data
    if not isinstance(data, NextTokenData):
        return []
    found = []
    if data.split == "random":
        found.append("training and validation windows overlap")
    if data.targets == "every" and variant.model.mask == "none":
        found.append("every position sees its own target")
    return found
