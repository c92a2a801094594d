"""The specification curve of token sensitivity: other architectures over the transformer, by law, inputs, matching."""

from __future__ import annotations

from typing import Any

import numpy as np

import nsbench.figures.architectures as models
import nsbench.figures.comparison as comparison
import nsbench.figures.footers as footers
import nsbench.figures.specification_panels as panels
import nsbench.figures.style as style
from nsbench.config.cells import of_baseline
from nsbench.figures.annotations import Axes, Cells, Figure, Table
from nsbench.figures.registry import figure

EFFECTS = {"lower": "helps", "higher": "hurts"}
"""Outcome of a comparison -> the look of `specification_panels.LOOKS`: blue below 1, red above."""
SHORT = {"end": "end", "train_accuracy": "train accuracy 0.95", "equal_test_accuracy": "equal test accuracy"}
FORMS = {"sensitivity": "as it is", "sensitivity_normalised": "normalised"}


@figure(
    "sensitivity_laws",
    tables=["matched_effects"],
    measures=["token_sensitivity"],
    each_task=True,
    compares_models=True,
    title="{task}: is the transformer the less sensitive one? Other architectures over it, by every way to ask",
    caption="Each column is one way to compare: a law by which tokens are changed, training or test inputs, where in "
    "training, and S as it is or divided by how often two inputs get different answers. Above, the ratio of token "
    "sensitivity to the transformer's, typical pair of seeds, with its interval, in order; below, what was chosen. "
    "Blue marks lie below 1: the architecture is less sensitive than the transformer. If a choice sorts the columns, "
    "the answer is the choice's.",
)
def draw(matched_effects: Table, cells: Cells, scale: str) -> Figure:
    """A block for each other architecture, from top to bottom: its ratios in order, and the choices of each."""
    cells = of_baseline(cells)
    task = cells[0]["task"]
    rows = matched_effects[(matched_effects["task"] == task) & matched_effects["quantity"].isin(FORMS)]
    rows = rows[rows["matching"].isin(SHORT) & (rows["reference_variant"] != rows["variant"]) & rows["effect"].notna()]
    others = [cell for cell in cells if len(comparison.of_cell(rows, cell))]
    levels = _levels(rows)
    n_lines = sum(map(len, levels.values()))
    heights = [1.5, 0.125 * n_lines]
    figure = style.new(9.4, (sum(heights) + 0.55) * max(len(others), 1) + 1.15)
    grid = figure.subplots(2 * max(len(others), 1), 1, squeeze=False, height_ratios=heights * max(len(others), 1))
    ends = rows[["effect", "effect_low", "effect_high"]].to_numpy(float)
    limits = panels.limits(ends, None, []) if len(rows) else (0.5, 2.0)
    for (upper, lower), cell in zip(grid[:, 0].reshape(-1, 2), others, strict=False):
        own = comparison.of_cell(rows, cell).sort_values("effect", kind="stable", ignore_index=True)
        own = own.assign(place=range(len(own)), effect_name=own["outcome"].map(EFFECTS).fillna("open"))
        _ratios(upper, own, limits)
        group = [{"choices": _choices(row)} for row in own.to_dict("records")]
        places = np.arange(len(own), dtype=float)
        panels.matrix(lower, group, own.assign(effect=own["effect_name"]), places, levels)
        for axes in (upper, lower):
            axes.set_xlim(-0.8, len(own) - 0.2)
        lower.set_ylim(n_lines - 0.4, -0.6)
        style.header(upper, f"{cell['variant']} over {own['reference_variant'].iloc[0]}", [], [_counts(own)])
    confidence = footers.interval_text(rows["confidence"])
    lines = [f"Each by its own {confidence} interval, paired by seed; some leave 1 by chance."]
    key = [
        style.sign(text, ms=4, mew=1, gid=name, **panels.LOOKS[name])
        for name, text in {"helps": "less sensitive", "open": "open, or no effect", "hurts": "more sensitive"}.items()
    ]
    style.footer(figure, models.remarks(matched_effects, cells, scale, *lines), key)
    return figure


def _choices(row: dict[str, Any]) -> dict[str, str]:
    return {
        "law": models.law_text(row["law"]),
        "inputs": f"{row['split']} inputs",
        "matching": SHORT[row["matching"]],
        "form": FORMS[row["quantity"]],
    }


def _levels(rows: Table) -> panels.Levels:
    """The choices and their levels, in the tables' order."""
    found: panels.Levels = {"law": [], "inputs": [], "matching": [], "form": []}
    for row in rows.to_dict("records"):
        for choice, level in _choices(row).items():
            if level not in found[choice]:
                found[choice].append(level)
    return found


def _ratios(axes: Axes, own: Table, limits: tuple[float, float]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(*limits)
    axes.axhline(1, zorder=1, gid="one", **panels.NO_EFFECT)
    for row in own.to_dict("records"):
        look = panels.LOOKS[row["effect_name"]]
        ends = row["effect_low"], row["effect_high"]
        style.interval(axes, row["place"], *ends, limits, True, color=look["color"], lw=1.0)
        axes.plot(row["place"], row["effect"], ls="", ms=3.6, mew=0.9, zorder=3, gid=row["effect_name"], **look)
    style.ratio_axis(axes.yaxis, *limits)
    axes.set_ylabel("ratio of S")
    axes.grid(False, axis="x")
    axes.tick_params(axis="x", length=0, labelbottom=False)


def _counts(own: Table) -> Any:
    """How many ways to ask say what."""
    counts = own["effect_name"].value_counts()
    words = {"helps": "less sensitive in {}", "hurts": "more in {}", "open": "open or none in {}"}
    parts = [text.format(counts[name]) for name, text in words.items() if name in counts]
    return style.sign(f"of {len(own)} ways to compare: {', '.join(parts)}", ls="")
