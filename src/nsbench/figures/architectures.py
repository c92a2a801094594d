"""What figures that compare models share: colours of architectures, laws and matchings in words, points of runs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import by_variant, model_kind
from nsbench.figures.annotations import Axes, Cells, Line2D, Table
from nsbench.schemas.matched import MATCHINGS

KIND_COLOURS = {
    "transformer": "#D55E00",
    "mlp": "#0072B2",
    "cnn": "#00845F",
    "resnet": "#3B3B3B",
    "convmixer": "#8E4FA8",
    "lstm": "#B8860B",
}
OTHER = "#6B6B6B"
MARKERS = ("o", "s", "^", "D", "v")
"""Variants of one kind of model differ by these, and by dashes."""
LAWS = {
    "patch_gaussian": "noise on a patch",
    "scattered_gaussian": "noise on pixels",
    "ornstein_uhlenbeck": "Ornstein–Uhlenbeck",
    "other_patch": "another image's patch",
    "resample": "another token",
}
Look = dict[str, Any]


def looks(cells: Cells) -> dict[tuple[str, str], Look]:
    """(task, variant) -> colour, marker and dashes of a variant."""
    found: dict[tuple[str, str], Look] = {}
    for name, group in by_variant(cells).items():
        kind = model_kind(group[0])
        place = sum(look["kind"] == kind and task == name[0] for (task, _), look in found.items())
        look = {"color": KIND_COLOURS.get(kind, OTHER), "marker": MARKERS[place % len(MARKERS)]}
        found[name] = {**look, "ls": style.DASHES[place % len(style.DASHES)], "kind": kind}
    return found


def key_of(found: dict[tuple[str, str], Look]) -> list[Line2D]:
    """A key to the variants, each once."""
    entries = {variant: look for (_, variant), look in found.items()}
    return [
        style.sign(variant, color=look["color"], marker=look["marker"], ls=look["ls"], ms=4.5, lw=1.6)
        for variant, look in entries.items()
    ]


def law_text(law: str) -> str:
    """A law of `matched.law` in words, as `noise on a patch, σ = 1`."""
    name, _, sigma = law.partition("-")
    return LAWS.get(name, name) + (f", σ = {sigma}" if sigma else "")


def matching_of(matched: Table, cells: Cells) -> str:
    """Where models are compared here: at the matched training accuracy, or the end where most runs never have it."""
    rows = matched[(matched["matching"] == "train_accuracy") & (matched["quantity"] == "sensitivity")]
    known = [len(rows_of) and rows_of["value"].notna().mean() > 0.5 for rows_of in _of_cells(rows, cells)]
    return "train_accuracy" if known and all(known) else "end"


def _of_cells(rows: Table, cells: Cells) -> list[Table]:
    return [comparison.of_cell(rows, cell) for cell in cells]


def compared_at(matching: str) -> str:
    """A line of a footer: where in training models are compared."""
    why = "" if matching == "train_accuracy" else ", as not all reach training accuracy 0.95"
    return f"Compared {MATCHINGS[matching]}{why}."


def remarks(matched: Table, cells: Cells, scale: str, *lines: str) -> list[str]:
    """The lines of a footer: what is given, the data, and the sizes. matched: a table with `text` by cell."""
    return [*lines, *footers.text_lines(matched, cells), footers.scale_text(cells, scale)]


def points(axes: Axes, at: float, values: np.ndarray, look: Look, floor: float) -> None:
    """The runs of a cell at a height: a mark each, the median as a line; without a flip at the floor, hollow."""
    known = values[np.isfinite(values)]
    if not len(known):
        axes.text(
            0.5, at, "none", transform=axes.get_yaxis_transform(), va="center", ha="center", fontsize=7, gid="none"
        )
        return
    spread = np.linspace(-0.16, 0.16, len(known)) if len(known) > 1 else np.zeros(1)
    zero = known <= 0
    common = {"ls": "", "marker": look["marker"], "color": look["color"], "ms": 3.6, "alpha": 0.75}
    axes.plot(known[~zero], at + spread[~zero], gid="run", **common)
    if zero.any():
        axes.plot(np.full(zero.sum(), floor), at + spread[zero], mfc="white", gid="no flip", clip_on=False, **common)
    median = max(float(np.median(known)), floor)
    axes.plot([median] * 2, [at - 0.32, at + 0.32], color=look["color"], lw=2.2, gid="median")


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic horizontal axis with few plain numbers, whatever its range."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = [digit * 10.0**decade for digit in (1, 3, 2, 5, 1.5, 7, 4) for decade in decades]
    near, chosen = 0.22 * math.log(high / low), []
    for tick in every:
        if low <= tick <= high and all(abs(math.log(tick / other)) > near for other in chosen):
            chosen.append(tick)
    style.plain_numbers(axes.xaxis, sorted(chosen))


def log_limits(values: np.ndarray) -> tuple[float, float]:
    """Ends of a logarithmic axis for values, zeros left out; a decade where there is nothing."""
    known = values[np.isfinite(values) & (values > 0)]
    return (known.min() / 1.4, known.max() * 1.4) if len(known) else (1e-3, 1e-2)
