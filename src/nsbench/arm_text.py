"""An arm's settings in words, and which kinds of arm are the paper's.

Apart from `nsbench.arms`, whose edits redraw nothing: these words stand in figures and tables.
"""

from __future__ import annotations

from typing import Any

PAPER_KINDS = ("baseline", "noise_stability")
"""The kinds that the paper trains; other arms are ours."""
CHEAPER_KINDS = ("cheap_noise_stability",)
CONTROL_KINDS = ("augmentation", "entropy", "grokfast", "dropout", "weight_decay")

_SIGNS = {
    "rho": "ρ",
    "gamma": "γ",
    "orientation": "S",
    "alpha": "α",
    "lamb": "λ",
    "rate": "dropout",
    "value": "weight decay",
}


def describe(settings: dict[str, Any]) -> str:
    """An arm's settings as `ρ = 0.25, γ = 0.75, S = 1, every 10th step`; "" for the baseline.

    settings: as of `arms.Arm.model_dump()`; an unknown kind is told by those of its fields that have a sign.
    """
    parts = [f"{sign} = {settings[name]:g}" for name, sign in _SIGNS.items() if settings.get(name) is not None]
    if settings["kind"] == "entropy":
        parts = [*parts[:-1], "entropy punished" if settings.get("orientation") else "entropy rewarded"]
    every, share, branch = (settings.get(name) for name in ("every", "share", "branch"))
    if every is not None and every > 1:
        parts.append(f"every {_ordinal(every)} step")
    if share is not None and share < 1:
        parts.append(f"{100 * share:g}% of the batch")
    if branch is not None and branch != "both":
        parts.append(f"gradient through M({'X' if branch == 'clean' else 'Y'}) alone")
    return ", ".join(parts)


def _ordinal(number: int) -> str:
    """2nd, 3rd, 4th, 11th, 21st."""
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
