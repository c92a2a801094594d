"""Figures 1 and 8: geometric influence of each position on a model's readout and on two attention heads, models side by
side, each before its random copy."""

from __future__ import annotations

import numpy as np

import nsbench.figures.pretrained_panels as panels
import nsbench.figures.style as style
from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.figures.annotations import Axes, Figure, Line2D, Series, Table
from nsbench.figures.registry import figure
from nsbench.schemas.pretrained import NONE, WEIGHTS

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
TABLES = ["models", "measured", "influence", "concentration"]
Shares = dict[str, Table]
"""Weights -> `_shares`."""


@figure(
    "figure_08",
    tables=TABLES,
    options={"site": "head"},
    title="Figure 8: geometric influence of each position on two attention heads, by model",
    caption="As Figure 1, with the gradient at the output of one attention head for each token, as share of that "
    "head's sum. The paper sees the same in two heads of each of four models, few positions with most of the "
    "influence, the first and the last above all, and does not say which heads it shows; which are shown here is a "
    "setting. At most 10 positions can have a tenth of the total (dashed)." + panels.READING,
)
@figure(
    "figure_01",
    tables=TABLES,
    options={"site": "embeddings"},
    title="Figure 1: geometric influence of each position, by model",
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
    limits = _limits([shares for places in found for shares in places.values()])
    n_rows, n_columns, at = style.blocks(len(subjects), n_panels)
    figure = style.new(max(3.7 * n_columns, 6.2), height * n_rows + below)
    grid = figure.add_gridspec(n_rows, n_columns)
    figure.get_layout_engine().set(hspace=0.04, h_pad=0.08, w_pad=0.08)
    width = figure.get_figwidth() / n_columns - 0.6
    filled, labelled = [], set()
    for subject, places, cells in zip(subjects, found, at, strict=True):
        about = panels.title(subject, width)
        if any(subject.problem) or not places:
            missing = subject.problem if any(subject.problem) else ("no heads", "no attention head was measured")
            axes = figure.add_subplot(grid[cells[0][0] : cells[-1][0] + 1, cells[0][1]])
            panels.notice(axes, *missing, width)
            panels.head(axes, about)
            continue
        column = [figure.add_subplot(grid[cell]) for cell in cells]
        for axes, ((layer, head), shares) in zip(column, places.items(), strict=False):
            rows = _concentration(concentration, subject, site, layer, head)
            lines = about + [(f"layer {layer}, head {head}", style.MUTED, True)] * (site == "head")
            panels.head(axes, lines + _count_lines(subject, rows, width))
            about = []
            if not any(map(len, shares.values())):
                panels.notice(axes, *panels.NOTHING, width)
                continue
            _draw_shares(axes, shares, limits)
            row = axes.get_subplotspec().rowspan.start
            if row not in labelled:
                axes.set_ylabel(label)
            labelled.add(row)
            filled.append(axes)
        for axes in column[len(places) :]:
            panels.notice(axes, "no second head", "one head of this model was measured", width)
        last = [axes for axes in column if axes in filled][-1:]
        for axes in last:
            axes.set_xlabel("position (token from 0)")
    panels.foot(figure, _SAYS[site], models, spec, _key(filled))
    return figure


def _places(influence: Table, subject: panels.Subject, site: str, most: int) -> dict[tuple[int, int], Shares]:
    """(layer, head) -> weights -> shares by position; none where there is a problem."""
    rows = {weights: panels.at(influence, subject, weights, site) for weights in subject.weights}
    if "pretrained" not in rows:
        return {}
    places = rows["pretrained"][["layer", "head"]].drop_duplicates().to_numpy().tolist()
    places = sorted(map(tuple, places))[:most] or [(NONE, NONE)] * (site == "embeddings")
    return {
        (layer, head): {
            weights: _shares(of[(of["layer"] == layer) & (of["head"] == head)]) for weights, of in rows.items()
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


def _concentration(
    concentration: Table, subject: panels.Subject, site: str, layer: int, head: int
) -> dict[str, Series | None]:
    """Weights -> the site's row of CONCENTRATION (`narrowed`), of the mean over sequences; None without influence."""
    found: dict[str, Series | None] = {}
    for weights in subject.weights:
        rows = panels.at(concentration, subject, weights, site)
        rows = rows[(rows["layer"] == layer) & (rows["head"] == head) & (rows["of"] == "mean")]
        found[weights] = rows.iloc[0] if len(rows) else None
    return found


def _count_lines(subject: panels.Subject, rows: dict[str, Series | None], width: float) -> list[panels.HeadLine]:
    """Lines of a panel's head: positions with a tenth of the total, positions that hold half, zeros, and the
    ranks of both ends."""
    lines = []
    for weights, row in rows.items():
        text = subject.weights[weights] or "no influence at any position"
        if row is not None and not subject.weights[weights]:
            text = f"{row['n_large']:g} ≥ {LARGE:g}, {row['n_half']:g} hold half"
            text += f", {row['n_zero']:g} have none" if row["n_zero"] else ""
            text += f"; ends rank {row['first_rank']:g}, {row['last_rank']:g}"
        lines += panels.wrapped(f"{panels.NAMES[weights]}: {text}", width, panels.COLOURS[weights])
    return lines


def _draw_shares(axes: Axes, by_weights: Shares, limits: tuple[float, float]) -> None:
    """Shares by position on a logarithmic axis, the control behind; first and last marked. A share below FLOOR, 0 as
    well, is a triangle on the edge."""
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(*limits)
    axes.axhline(LARGE, color=style.TEXT, lw=0.8, ls=(0, (4, 3)), gid="threshold", zorder=1.5)
    for weights in reversed(WEIGHTS):
        table = by_weights.get(weights)
        if table is None or table.empty:
            continue
        own = weights == "pretrained"
        colour, order = panels.COLOURS[weights], 3.0 if own else 2.0
        position, share = table["position"].to_numpy(), table["share"].to_numpy()
        seen = np.where(share >= FLOOR, share, np.nan)
        low, high = (np.maximum(share + sign * BAND * table["error"], FLOOR / 10) for sign in (-1, 1))
        band = {"color": colour, "alpha": 0.22, "lw": 0, "zorder": order - 0.1, "gid": f"band {weights}"}
        axes.fill_between(position, low, high, **band)
        axes.plot(position, seen, color=colour, lw=1.2 if own else 1.0, zorder=order, gid=f"shares {weights}")
        ends = {"color": colour, "marker": "o", "ms": 5.5 if own else 4.5, "mec": "white", "mew": 0.7, "ls": ""}
        axes.plot(position[[0, -1]], seen[[0, -1]], zorder=order + 2, clip_on=False, gid=f"ends {weights}", **ends)
        if np.isnan(seen).any():
            edge = {"transform": axes.get_xaxis_transform(), "clip_on": False, "ls": "", "marker": "v", "ms": 5}
            below = position[np.isnan(seen)]
            axes.plot(below, [0.0] * len(below), color=colour, zorder=order + 2, gid=f"below {weights}", **edge)
    style.log_axis(axes)
    panels.position_axis(axes, max(int(table["position"].max()) for table in by_weights.values() if len(table)) + 1)


def _limits(shown: list[Shares]) -> tuple[float, float]:
    """The limits of a logarithmic axis that all panels share: all shares from FLOOR on, and the threshold."""
    values = np.concatenate([table["share"].to_numpy(float) for panel in shown for table in panel.values()] or [[]])
    values = values[values >= FLOOR]
    return min(values.min(initial=LARGE), LARGE) / 1.5, max(values.max(initial=LARGE), LARGE) * 2.0


def _key(drawn: list[Axes]) -> list[Line2D]:
    """The legend's entries for what the panels have of `_draw_shares`."""
    gids = {artist.get_gid() for axes in drawn for artist in axes.get_children()}
    names = {"pretrained": "pretrained", "random": "random copy (control)"}
    signs = [
        style.sign(names[weights], color=panels.COLOURS[weights], lw=1.4)
        for weights in WEIGHTS
        if f"shares {weights}" in gids
    ]
    if not signs:
        return []
    signs += [
        style.sign(f"± {BAND:g} standard errors over sequences (the total taken as given)", lw=6, alpha=0.3),
        style.sign("first and last position", marker="o", ms=5.5),
        style.sign(f"{LARGE:g} of the total", color=style.TEXT, lw=0.8, ls=(0, (4, 3))),
    ]
    if any(f"below {weights}" in gids for weights in WEIGHTS):
        signs.append(style.sign(f"less than {FLOOR:g} of the total, or none", marker="v", ms=5))
    return signs
