"""What is noised by how outputs are compared: the regularisers of both papers beside each other, at equal cost."""

from __future__ import annotations

import math

import numpy as np

import nsbench.figures.architectures as models
import nsbench.figures.comparison as comparison
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.arms import describe
from nsbench.config.cells import by_variant
from nsbench.figures.annotations import Axes, Cell, Cells, Figure, Table
from nsbench.figures.registry import figure

PANELS = {
    "test_accuracy": "test accuracy,\narm − baseline",
    "corrupted_accuracy": "accuracy on corrupted images,\narm − baseline",
    "sensitivity": "token sensitivity S,\narm / baseline",
}
PLACES = {"end": (-0.14, True), "equal_flops": (0.14, False)}
"""Where runs are compared -> how far from the row's middle, and whether marks are filled."""


def has_regulariser(group: Cells) -> bool:
    """Whether a variant has the regulariser of low sensitivity."""
    return any(cell["arm_settings"]["kind"] == "sensitivity" for cell in group)


@figure(
    "two_by_two",
    tables=["matched_effects"],
    measures=["token_sensitivity"],
    needs=has_regulariser,
    each_task=True,
    title="{task}: one token or all, squared error or agreement? Regularisers of both papers at equal cost",
    caption="Regularisers that compare outputs for an input and a changed copy: what is changed (one token, or each "
    "token with a chance) and how outputs are compared (mean squared error of logits, or agreement −⟨p, q⟩), and plain "
    "augmentation by the same noise. Each against the baseline, paired by seed: at the end of training, and where the "
    "arm, whose steps cost two passes, has spent what the baseline spends in all (hollow).",
)
def draw(matched_effects: Table, cells: Cells, scale: str) -> Figure:
    """A row for each arm and a column for each of PANELS, S of the first law on training inputs; a block a variant."""
    groups = by_variant(cells)
    arms = {
        name: [cell for cell in group if cell["arm_settings"]["kind"] != "baseline"] for name, group in groups.items()
    }
    heights = [len(found) for found in arms.values()]
    figure = style.new(9.2, 0.42 * sum(heights) + 0.7 * len(groups) + 1.6)
    grid = figure.subplots(len(groups), len(PANELS), squeeze=False, sharey="row", height_ratios=heights)
    rows = matched_effects[matched_effects["variant"] == matched_effects["reference_variant"]]
    law = ""
    for panels, (name, found) in zip(grid, arms.items(), strict=True):
        own = rows[(rows["task"] == name[0]) & (rows["variant"] == name[1])]
        for axes, (quantity, label) in zip(panels, PANELS.items(), strict=True):
            here = own[(own["quantity"] == quantity) & ((own["split"] == "train") | (quantity != "sensitivity"))]
            if quantity == "sensitivity" and len(here):
                law = here["law"].iloc[0]
                here = here[here["law"] == law]
            _panel(axes, here, found, 1.0 if quantity == "sensitivity" else 0.0)
            axes.set_xlabel(label)
        names = [f"{cell['arm']}\n{describe(cell['arm_settings'])}" for cell in found]
        panels[0].set_yticks(range(len(found)), names, fontsize=7.5)
        style.header(panels[0], " / ".join(name), groups[name][0].get("leaks", []), [])
    key = [
        style.sign("at the end of training", marker="o", ms=5, gid="end"),
        style.sign("at the baseline's FLOPs", marker="o", mfc="white", ms=5, gid="equal_flops"),
        style.sign("no effect", lw=1.1, color=style.INK),
    ]
    confidence = footers.interval_text(rows["confidence"])
    lines = [f"Lines: {confidence} intervals, each by itself. S: {models.law_text(law)}, training inputs."]
    style.footer(figure, models.remarks(matched_effects, cells, scale, *lines), key)
    return figure


def _panel(axes: Axes, here: Table, arms: list[Cell], neutral: float) -> None:
    ends = here[here["matching"].isin(PLACES)][["effect", "effect_low", "effect_high"]].to_numpy(float)
    known = ends[np.isfinite(ends)]
    if neutral:
        known = np.array([*known[known > 0], 0.8, 1.25])
        axes.set_xscale("log")
        limits = float(known.min() / 1.1), float(known.max() * 1.1)
        style.ratio_axis(axes.xaxis, *limits)
    else:
        known = np.array([*known, -0.01, 0.01])
        room = 0.06 * (known.max() - known.min())
        limits = float(known.min() - room), float(known.max() + room)
        axes.xaxis.get_major_locator().set_params(nbins=5)
        axes.xaxis.set_major_formatter(lambda value, _: style.minus(f"{value:.2f}"))
    axes.set_xlim(*limits)
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.axvline(neutral, color=style.INK, lw=1.1, zorder=1.5, gid="none")
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)
    for y, cell in enumerate(arms):
        own, colour = comparison.of_cell(here, cell), style.arm_colour(cell["arm_settings"])
        for matching, (off, filled) in PLACES.items():
            row = own[own["matching"] == matching]
            if row.empty or not math.isfinite(row["effect"].iloc[0]):
                continue
            value, low, high = (float(row[f"effect{end}"].iloc[0]) for end in ("", "_low", "_high"))
            style.interval(axes, y + off, low, high, limits, color=colour, lw=1.5)
            axes.plot(
                value, y + off, ls="", marker="o", ms=5, mec=colour, mfc=colour if filled else "white", gid=matching
            )
