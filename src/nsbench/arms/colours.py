"""One fixed colour per kind of arm, told apart in every common form of colour blindness."""

from __future__ import annotations

from typing import Any

from nsbench.arms.registry import ARMS

ARM_COLOURS = {
    ("baseline", None): "#3B3B3B",
    ("noise_stability", 1): "#D55E00",
    ("noise_stability", 0): "#8E4FA8",
}
FAMILY_COLOURS = {"cheaper": "#0039E5", "control": "#4C9972", "own": "#7F6A00", "paper": "#7F6A00"}


def arm_colour(arm_settings: dict[str, Any]) -> str:
    """The colour of an arm's kind (and orientation S); one for each family of other arms.

    Raises ConfigError for an unknown kind.
    """
    of_family = FAMILY_COLOURS[ARMS.find(arm_settings["kind"]).family]
    return ARM_COLOURS.get((arm_settings["kind"], arm_settings.get("orientation")), of_family)
