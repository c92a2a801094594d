"""Token sensitivity against accuracy on corrupted images, with that on clean ones, and against sharpness."""

from __future__ import annotations

from typing import Any

import numpy as np

import nsbench.figures.architectures as models
import nsbench.figures.style as style
from nsbench.config import wording
from nsbench.figures.annotations import Cells, Figure, Table
from nsbench.figures.registry import figure

PANELS = (
    ("corrupted_accuracy", "", "accuracy"),
    ("weight_flips", "absolute", "flips, weights + N(0, 0.05²)"),
    ("weight_flips", "filter", "flips, noise a tenth\nof each filter's size"),
)
"""Quantity, scale of noise, and what the axis says."""
GROUP = "all arms"


@figure(
    "sensitivity_robustness",
    tables=["matched", "rank_agreement"],
    measures=["token_sensitivity", "corruptions", "weight_noise"],
    each_task=True,
    compares_models=True,
    title="{task}: do less sensitive models withstand corrupted images, and lie in flatter minima?",
    caption="Each mark is a run at the end of training, arms of regularisers smaller than baselines. Left: accuracy on "
    "corrupted images (marks) and on the same images clean (the other end of the thin line): what counts is whether "
    "less sensitive models have higher corrupted accuracy than their clean accuracy explains, which the partial rank "
    "correlation says. Right: how many decisions change where noise is added to the weights. Noise of one size for "
    "all weights asks more of models with small weights; that in units of each filter's weights does not.",
)
def draw(matched: Table, rank_agreement: Table, cells: Cells, scale: str) -> Figure:
    """A panel over S of the first law on training inputs for each of PANELS that was measured."""
    found, task = models.looks(cells), cells[0]["task"]
    rows = matched[(matched["task"] == task) & (matched["matching"] == "end")]
    sensitivity = rows[(rows["quantity"] == "sensitivity") & (rows["split"] == "train")]
    law = sensitivity["law"].iloc[0] if len(sensitivity) else ""
    index = ["variant", "arm", "seed"]
    s = sensitivity[sensitivity["law"] == law].set_index(index)["value"]
    clean = rows[rows["quantity"] == "clean_accuracy"].set_index(index)["value"]
    panels = [one for one in PANELS if (rows["quantity"] == one[0]).any()]
    figure, columns = style.columns(max(len(panels), 1), 1, 3.1, 2.9, below=1.2)
    limits = models.log_limits(s.to_numpy(float))
    for (axes,), (quantity, scale_of, label) in zip(columns, panels, strict=False):
        here = rows[(rows["quantity"] == quantity) & (rows["law"] == scale_of)].set_index(index)["value"]
        for cell in cells:
            look = found[task, cell["variant"]]
            is_arm = cell["arm_settings"]["kind"] != "baseline"
            mark = {"marker": look["marker"], "color": look["color"], "ls": "", "ms": 2.6 if is_arm else 4.6}
            for seed in cell["seeds"]:
                name = cell["variant"], cell["arm"], seed
                at, value = max(s.get(name, np.nan), limits[0]), here.get(name, np.nan)
                if quantity == "corrupted_accuracy":
                    ends = [value, clean.get(name, np.nan)]
                    axes.plot([at] * 2, ends, color=look["color"], lw=0.5, alpha=0.3, gid="clean")
                    axes.plot(at, ends[1], color=look["color"], marker="_", ms=4, alpha=0.7)
                axes.plot(at, value, alpha=0.8, gid="arm" if is_arm else "run", **mark)
        models.log_axis(axes, *limits)
        axes.set_xlabel("S")
        axes.set_ylabel(label)
        style.header(axes, *_correlation(rank_agreement, task, law, quantity, scale_of), handlelength=0)
    key = [*models.key_of(found), style.sign("to accuracy on clean images", lw=0.8, gid="clean")]
    key += [style.sign("a regulariser's run", marker="o", ms=2.6, gid="arm")]
    for entry in key[: len(found)]:
        entry.set_linestyle("")
    line = f"S: {models.law_text(law)}, training inputs. Intervals are over seeds, for these architectures and arms."
    style.footer(figure, models.remarks(matched, cells, scale, line), key)
    return figure


def _correlation(ranked: Table, task: str, law: str, against: str, scale_of: str) -> tuple[str, list[str], list[Any]]:
    """A panel's header: its title, no leaks, and the rank correlation in words."""
    is_partial = against == "corrupted_accuracy"
    title = "corrupted images" if is_partial else f"noise on weights, {scale_of}"
    here = (ranked["task"] == task) & (ranked["law"] == law) & (ranked["against"] == against)
    here &= (ranked["against_law"] == scale_of) & (ranked["group"] == GROUP) & (ranked["split"] == "train")
    here &= (ranked["matching"] == "end") & (ranked["quantity"] == "sensitivity")
    if ranked[here].empty:
        return title, [], []
    row = ranked[here].iloc[0]
    number = wording.told(row["rank"], row["rank_low"], row["rank_high"], "1")
    what = "partial rank correlation given clean" if is_partial else "rank correlation"
    return title, [], [style.sign(f"{what}:\n{number}", ls="")]
