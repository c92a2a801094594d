"""Which code a stage runs, by its settings: the digest that the workflow plans, and that the stage is held to."""

from __future__ import annotations

from typing import Any

from nsbench.figures import FIGURES, find
from nsbench.workflow.digests import USES, digest
from nsbench.workflow.plugins import added_to


def stage_code(stage: str, settings: dict[str, Any], figure: str = "", model: str = "") -> str:
    """Digest of the code that a stage runs with these settings, those of its spec.

    figure: the name of the one that is drawn; model: the kind of the evaluated one, which no spec of that stage has.
    Raises KeyError or TypeError for settings that are no spec of the stage.
    """
    if stage in USES:
        kinds = {"task": lambda: settings["task"], "arm": lambda: settings["arm_settings"]["kind"]}
        kinds["model"] = lambda: model or settings["model"]["kind"]
        measures = settings["evaluation"]["measures"] if stage == "evaluate" else ()
        return digest(stage, *(kinds[use]() for use in USES[stage]), measures=measures)
    plugins = settings.get("plugins", [])
    if stage == "simulate":
        return digest(stage, settings["experiment"])
    if stage == "figure":
        drawing = find(figure)[0]
        return digest("figure" if drawing.kind == "training" else "figure-without-arms", drawing.root, plugins=plugins)
    if stage in ("figures", "report"):
        shown = [drawing.root for drawing in FIGURES.values() if stage == "report" or drawing.kind == "training"]
        return digest(stage, *shown, plugins=plugins)
    if stage == "claims":
        return digest(stage, *(quantity.root for quantity in added_to("claim quantity")))
    return digest(stage, plugins=plugins)
