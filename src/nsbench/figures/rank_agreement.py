"""Do sensitivity and noise stability rank models alike, and which predicts robustness? By how many tokens are kept."""

from __future__ import annotations

import numpy as np

import nsbench.figures.architectures as models
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.figures.annotations import Axes, Cells, Figure, Table
from nsbench.figures.registry import figure

COLOURS = ("#D55E00", "#0072B2", "#00845F", "#8E4FA8", "#B8860B", "#3B3B3B")
ALIKE = 0.9
NOTHING = {"ha": "center", "va": "center", "fontsize": 8, "color": style.MUTED, "gid": "nothing"}


@figure(
    "rank_agreement",
    tables=["rank_agreement", "matched"],
    measures=["token_sensitivity"],
    each_task=True,
    compares_models=True,
    title="{task}: do sensitivity and noise stability rank models alike, and which goes with robustness?",
    caption="Sensitivity S changes one token, noise stability changes each with a chance, under the same law. Left: "
    "Kendall's tau of the two rankings of architectures, typical seed: where most tokens are kept they must agree, but "
    "for the noise of few flips. Right: how S (far left) and the chance of a flip under joint noise rank with accuracy "
    "on corrupted images given accuracy on clean ones, over runs of all arms; below 0 the less sensitive or more "
    "stable model is the more robust one. On training inputs at the end of training.",
)
def draw(rank_agreement: Table, matched: Table, cells: Cells, scale: str) -> Figure:
    """Left tau by the share of tokens that is kept, right the partial correlation with corrupted accuracy; by law."""
    rows = rank_agreement[(rank_agreement["task"] == cells[0]["task"]) & (rank_agreement["matching"] == "end")]
    rows = rows[rows["split"] == "train"]
    tau = rows[rows["statistic"] == "tau"]
    partial = rows[(rows["statistic"] == "partial") & (rows["group"] == "all arms")]
    laws = list(dict.fromkeys([*tau["law"], *partial["law"]]))
    figure, columns = style.columns(1 + len(partial.index[:1]), 1, 4.2, 2.9, below=1.3)
    left, *others = (axes for (axes,) in columns)
    shares = sorted({*tau["kept"].dropna(), *partial["kept"].dropna()}, reverse=True)
    for axes, table in ((left, tau), *((axes, partial) for axes in others)):
        names = [] if axes is left else ["S"]
        names += [f"{100 * share:g}%" for share in shares]
        for place, law in enumerate(laws):
            own = table[table["law"] == law].sort_values("kept", ascending=False, na_position="first")
            own = own[own["kept"].notna()] if axes is left else own
            first = 0 if axes is left else 1
            at = [0.0 if np.isnan(kept) else shares.index(kept) + first for kept in own["kept"]]
            _line(axes, np.array(at) + 0.09 * (place - (len(laws) - 1) / 2), own, COLOURS[place % len(COLOURS)])
        axes.set_xticks(range(len(names)), names)
        axes.set_xlim(-0.5, max(len(names), 1) - 0.5)
        if not table["rank"].notna().any():
            axes.text(
                0.5, 0.6, "fewer than four variants, or runs\nalike: no ranks", **NOTHING, transform=axes.transAxes
            )
        axes.grid(axis="x", visible=False)
        axes.axhline(0, color=style.MUTED, lw=0.8, zorder=1)
        axes.set_ylim(-1.05, 1.05)
        axes.set_ylabel("Kendall's tau" if axes is left else "partial rank correlation")
        axes.set_xlabel("tokens kept, the others changed")
    left.axhline(ALIKE, color=style.MUTED, lw=1, ls=(0, (4, 2)), zorder=1, gid="alike")
    style.header(left, "ranking of architectures", [], [], handlelength=0)
    for axes in others:
        style.header(axes, "with robustness, given clean accuracy", [], [], handlelength=0)
    key = [
        style.sign(models.law_text(law), color=COLOURS[place % len(COLOURS)], marker="o", ms=4, ls="-")
        for place, law in enumerate(laws)
    ]
    key.append(style.sign(f"alike: {ALIKE:g}", lw=1, ls=(0, (4, 2)), gid="alike"))
    confidence = footers.interval_text(rows["confidence"])
    line = f"{confidence} intervals over seeds; they do not cover other architectures."
    style.footer(figure, models.remarks(matched, cells, scale, line), key)
    return figure


def _line(axes: Axes, at: np.ndarray, own: Table, colour: str) -> None:
    """The correlations of a law with their intervals, joined where they are of joint noise."""
    values = own["rank"].to_numpy(float)
    joint = own["kept"].notna().to_numpy()
    axes.plot(at[joint], values[joint], color=colour, lw=1, alpha=0.6)
    axes.plot(at, values, ls="", marker="o", ms=3.8, color=colour, gid="rank")
    for place, low, high in zip(at, own["rank_low"], own["rank_high"], strict=True):
        style.interval(axes, float(place), float(low), float(high), (-1.05, 1.05), True, color=colour, lw=1)
