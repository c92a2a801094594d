"""Figures 1 and 8: geometric influence of each position on a model's readout and on two attention heads, models side by
side, each before its random copy."""

from __future__ import annotations

import numpy as np

import nsbench.figures.pretrained_panels as panels
import nsbench.figures.style as style
from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.figures.annotations import Axes, Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas.pretrained import NONE

LARGE = 0.1
"""The share of the total that `schemas.pretrained.CONCENTRATION` counts positions by."""
FLOOR = 1e-6
"""The lowest share that an axis reaches to."""
BAND = 2.0
"""Half the height of a band, in standard errors."""
SITES = {
    "embeddings": (1, 3.5, 1.5, "share of the total influence"),
    "head": (2, 2.85, 1.6, "share of the head's total"),
}
"""Where influence is taken -> panels of a model, their height, that of the footer (inches), and the axis' label."""
_WHAT = (
    "Influence of a position: the mean over sequences of the norm of the readout's gradient at {at}, here as share of "
    "the sum over positions, on a logarithmic axis.{counts} Above a panel: how many have {large:g} of it, how "
    "many hold half of it, and the ranks of the first and the last."
)
_SAYS = {
    "embeddings": _WHAT.format(at="that token's embedding", counts="", large=LARGE),
    "head": _WHAT.format(at="that head's output for that token", counts=" Layers and heads count from 0.", large=LARGE),
}
WIDTH = 3.1
"""Of the text above a panel (inches)."""
THRESHOLD = {"color": style.TEXT, "lw": 0.8, "ls": (0, (4, 3))}
TABLES = ["models", "measured", "influence", "concentration"]
Shares = dict[str, Table]
"""Weights -> `_shares`."""


@figure(
    "figure_08",
    tables=TABLES,
    options={"site": "head"},
    title="Figure 8 of the paper: geometric influence of each position on two attention heads, by model",
    caption="As Figure 1, with the gradient at the output of one attention head for each token, as share of that "
    "head's sum. The paper sees the same in two heads of each of four models, few positions with most of the "
    "influence, the first and the last above all, and does not say which heads it shows; which are shown here is a "
    "setting. At most 10 positions can have a tenth of the total (dashed)." + panels.READING,
)
@figure(
    "figure_01",
    tables=TABLES,
    options={"site": "embeddings"},
    title="Figure 1 of the paper: geometric influence of each position, by model",
    caption="The influence of a position is the mean norm of the readout's gradient at that token's embedding, here as "
    "share of the sum over positions. The paper sees 5 to 10 positions with at least 0.1 I[f] (dashed), the first "
    "and the last most influential, and none without influence. At most 10 positions can have a tenth of the "
    "total, whatever the function: few such positions are no sign of concentration by themselves, which is why "
    "the fewest positions that hold half of the total are counted beside them. Counts and ranks are of the mean "
    "over sequences; a sequence by itself can be more concentrated than the mean." + panels.READING,
)
def draw(
    models: Table, measured: Table, influence: Table, concentration: Table, spec: PretrainedFigureSpec, site: str
) -> Figure:
    """A panel, or two of heads, for each model of the spec, wrapped to three columns, with one axis of shares.

    Tables are MODEL, MEASURED, INFLUENCE and CONCENTRATION of schemas.pretrained; site: of SITES. Heads are the first
    two that INFLUENCE has of a model.
    """
    influence, concentration = (panels.narrowed(table, spec.figures) for table in (influence, concentration))
    subjects = panels.subjects(models, measured, spec)
    n_panels, height, below, label = SITES[site]
    found = [_places(influence, subject, site, n_panels) for subject in subjects]
    shown = [
        table["share"].to_numpy(float) for places in found for shares in places.values() for table in shares.values()
    ]
    values = np.concatenate([*shown, [LARGE]])
    limits = values[values >= FLOOR].min() / 1.5, values.max() * 2.0
    figure, columns = style.columns(len(subjects), n_panels, 3.7, height, below)
    figure.get_layout_engine().set(hspace=0.04, h_pad=0.08, w_pad=0.08)
    labelled: set[int] = set()
    for subject, places, column in zip(subjects, found, columns, strict=True):
        first, *others = column
        if not places:
            panels.notice(first, subject.problem or "no heads: no attention head was measured", WIDTH)
            panels.head(first, subject, WIDTH, [])
            for axes in others:
                axes.set_axis_off()
            continue
        for axes, ((layer, head), shares) in zip(column, places.items(), strict=False):
            of_mean = {"site": site, "layer": layer, "head": head, "of": "mean"}
            entries = [style.sign(f"layer {layer}, head {head}", ls="")] * (site == "head")
            for weights, why in subject.weights.items():
                text = why or _counts(panels.at(concentration, subject, weights, **of_mean))
                text = panels.wrapped(f"{panels.NAMES[weights]}: {text}", WIDTH)
                entries.append(style.sign(text, color=panels.COLOURS[weights], lw=1.4))
            panels.head(axes, subject, WIDTH, entries, axes is first)
            if any(map(len, shares.values())):
                _draw_shares(axes, shares, limits)
                row = axes.get_subplotspec().rowspan.start
                axes.set(xlabel="position (token from 0)" if axes is column[len(places) - 1] else "")
                axes.set(ylabel="" if row in labelled else label)
                labelled.add(row)
            else:
                panels.notice(axes, panels.NOTHING, WIDTH)
        for axes in column[len(places) :]:
            panels.notice(axes, "no second head: one head of this model was measured", WIDTH)
    key = [
        style.sign(
            f"± {BAND:g} standard errors over sequences (the total taken as given)", lw=6, alpha=0.3, gid="band"
        ),
        style.sign("first and last position", marker="o", ms=5.5, gid="ends"),
        style.sign(f"{LARGE:g} of the total", gid="threshold", **THRESHOLD),
        style.sign(f"less than {FLOOR:g} of the total, or none", marker="v", ms=5, gid="below"),
    ]
    panels.foot(figure, _SAYS[site], models, spec, key)
    return figure


def _places(influence: Table, subject: panels.Subject, site: str, most: int) -> dict[tuple[int, int], Shares]:
    """(layer, head) -> weights -> shares by position; none where there is a problem."""
    if subject.problem:
        return {}
    places = panels.at(influence, subject, "pretrained", site=site)[["layer", "head"]].drop_duplicates().to_numpy()
    places = sorted(map(tuple, places.tolist()))[:most] or [(NONE, NONE)] * (site == "embeddings")
    return {
        (layer, head): {
            weights: _shares(panels.at(influence, subject, weights, site=site, layer=layer, head=head))
            for weights in subject.weights
        }
        for layer, head in places
    }


def _shares(rows: Table) -> Table:
    """Position, share of the total, and its standard error with the total taken as given, by position.

    `rows` are of one site of INFLUENCE. Empty where there are none, or no total above 0 to take shares of.
    """
    rows, total = rows.sort_values("position"), rows["value"].sum()
    if not (np.isfinite(total) and total > 0):
        rows = rows.iloc[:0]
    shares = rows.assign(share=rows["value"].astype(float) / total, error=rows["standard_error"].astype(float) / total)
    return shares[["position", "share", "error"]]


def _counts(rows: Table) -> str:
    """Positions with a tenth of the total, positions that hold half, zeros, and the ranks of both ends; `rows` are one
    row of CONCENTRATION, or none."""
    if rows.empty:
        return "no influence at any position"
    row = rows.iloc[0]
    text = f"{row['n_large']:g} ≥ {LARGE:g}, {row['n_half']:g} hold half"
    text += f", {row['n_zero']:g} have none" if row["n_zero"] else ""
    return f"{text}; ends rank {row['first_rank']:g}, {row['last_rank']:g}"


def _draw_shares(axes: Axes, by_weights: Shares, limits: tuple[float, float]) -> None:
    """Shares by position on a logarithmic axis, the control behind; first and last marked. A share below FLOOR, 0 as
    well, is a triangle on the edge."""
    style.log_axis(axes, *limits)
    axes.axhline(LARGE, gid="threshold", zorder=1.5, **THRESHOLD)
    for order, weights in ((2.0, "random"), (3.0, "pretrained")):
        table = by_weights.get(weights)
        if table is None or table.empty:
            continue
        colour = panels.COLOURS[weights]
        position, share = table["position"].to_numpy(), table["share"].to_numpy()
        seen = np.where(share >= FLOOR, share, np.nan)
        low, high = (np.maximum(share + sign * BAND * table["error"], FLOOR / 10) for sign in (-1, 1))
        band = {"color": colour, "alpha": 0.22, "lw": 0, "zorder": order - 0.1, "gid": f"band {weights}"}
        axes.fill_between(position, low, high, **band)
        axes.plot(position, seen, color=colour, lw=1.2, zorder=order, gid=f"shares {weights}")
        marks = {"color": colour, "ls": "", "zorder": order + 2, "clip_on": False}
        ends = {"marker": "o", "ms": 5, "mec": "white", "mew": 0.7, "gid": f"ends {weights}"}
        axes.plot(position[[0, -1]], seen[[0, -1]], **ends, **marks)
        if np.isnan(seen).any():
            below = position[np.isnan(seen)]
            edge = {"transform": axes.get_xaxis_transform(), "marker": "v", "ms": 5, "gid": f"below {weights}"}
            axes.plot(below, [0.0] * len(below), **edge, **marks)
    panels.position_axis(axes, max(int(table["position"].max()) for table in by_weights.values() if len(table)) + 1)
