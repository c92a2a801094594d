"""Shares of the influence by position, on a logarithmic axis: what Figures 1 and 8 share."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from nsbench.figures import pretrained_panels as panels
from nsbench.figures import style
from nsbench.measures.concentration import LARGE
from nsbench.schemas.pretrained import NONE, WEIGHTS

FLOOR = 1e-6
"""The lowest share that an axis reaches to."""
LABEL_REACH = 0.35
"""How far a label of the first or the last position reaches into a panel, as share of its width."""
BAND = 2.0
"""Half the height of a band, in standard errors."""


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Position, share of the total, and its standard error with the total taken as given, by position.

    `rows` are of one site of INFLUENCE. Empty where there are none, or no total above 0 to take shares of.
    """
    rows = rows.sort_values("position")
    total = rows["value"].sum()
    if not (np.isfinite(total) and total > 0):
        return pd.DataFrame({"position": [], "share": [], "error": []})
    return pd.DataFrame(
        {
            "position": rows["position"].to_numpy(),
            "share": rows["value"].to_numpy(float) / total,
            "error": rows["standard_error"].to_numpy(float) / total,
        }
    )


def concentration_rows(
    concentration: pd.DataFrame, subject: panels.Subject, site: str, layer: int = NONE, head: int = NONE
) -> dict[str, pd.DataFrame]:
    """Weights -> the site's row of CONCENTRATION (`narrowed`), of the mean over sequences; none without influence."""
    found = {}
    for weights in subject.weights:
        rows = panels.at(concentration, subject, weights, site)
        found[weights] = rows[(rows["layer"] == layer) & (rows["head"] == head) & (rows["of"] == "mean")]
    return found


def count_lines(subject: panels.Subject, rows: dict[str, pd.DataFrame]) -> list[panels.HeadLine]:
    """Lines of a panel's head, of `concentration_rows`: what each weights' influences are concentrated on."""
    return [
        (f"{panels.NAMES[name]}: {subject.weights[name] or _counts(row)}", panels.COLOURS[name], False)
        for name, row in rows.items()
    ]


def _counts(row: pd.DataFrame) -> str:
    """Of a row of CONCENTRATION: positions with a tenth of the total, positions that hold half, and zeros."""
    if row.empty:
        return "no influence at any position"
    found = row.iloc[0]
    plural = "" if found["n_large"] == 1 else "s"
    text = f"{found['n_large']:g} position{plural} ≥ {LARGE:g}, {found['n_half']:g} hold half"
    return text + (f", {found['n_zero']:g} have none" if found["n_zero"] else "")


def rank_labels(row: pd.DataFrame) -> tuple[str, str]:
    """What stands beside the first and the last position, of a row of CONCENTRATION."""
    if row.empty:
        return "first", "last"
    return tuple(f"{end} (rank {row.iloc[0][f'{end}_rank']:g})" for end in ("first", "last"))  # type: ignore[return-value]


def draw_shares(
    axes: Axes, by_weights: dict[str, pd.DataFrame], ranks: tuple[str, str], limits: tuple[float, float]
) -> None:
    """Shares by position (`shares`) on a logarithmic axis, the control behind; first and last marked.

    ranks: what is said beside the first and the last mark of the pretrained weights. A share below
    FLOOR, 0 as well, is a triangle on the edge.
    """
    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(*limits)
    axes.axhline(LARGE, color=panels.INK, lw=0.8, ls=(0, (4, 3)), gid="threshold", zorder=1.5)
    for weights in reversed(WEIGHTS):
        table = by_weights.get(weights)
        if table is None or table.empty:
            continue
        own = weights == "pretrained"
        colour, order = panels.COLOURS[weights], 3.0 if own else 2.0
        position, share = table["position"].to_numpy(), table["share"].to_numpy()
        seen = np.where(share >= FLOOR, share, np.nan)
        low, high = (np.maximum(share + sign * BAND * table["error"], FLOOR / 10) for sign in (-1, 1))
        axes.fill_between(
            position, low, high, color=colour, alpha=0.22, lw=0, zorder=order - 0.1, gid=f"band {weights}"
        )
        axes.plot(position, seen, color=colour, lw=1.2 if own else 1.0, zorder=order, gid=f"shares {weights}")
        ends = {"color": colour, "marker": "o", "ms": 5.5 if own else 4.5, "mec": "white", "mew": 0.7, "ls": ""}
        axes.plot(position[[0, -1]], seen[[0, -1]], zorder=order + 2, clip_on=False, gid=f"ends {weights}", **ends)
        if np.isnan(seen).any():
            edge = {"transform": axes.get_xaxis_transform(), "clip_on": False, "ls": "", "marker": "v", "ms": 5}
            below = position[np.isnan(seen)]
            axes.plot(below, [0.0] * len(below), color=colour, zorder=order + 2, gid=f"below {weights}", **edge)
        if own:
            _label_ends(axes, by_weights, position, np.maximum(np.nan_to_num(seen), limits[0]), ranks)
    style.log_axis(axes)
    panels.position_axis(axes, max(int(table["position"].max()) for table in by_weights.values() if len(table)) + 1)


def _label_ends(
    axes: Axes,
    by_weights: dict[str, pd.DataFrame],
    position: NDArray[np.int64],
    share: NDArray[np.float64],
    ranks: tuple[str, str],
) -> None:
    """Say which marks are the first and the last: beside a mark that stands out, else above what lies near it."""
    near = max(1, int(LABEL_REACH * len(position)))
    found = [table["share"].to_numpy() for table in by_weights.values() if len(table)]
    for text, end, inside in zip(ranks, (0, -1), (slice(1, near), slice(-near, -1)), strict=True):
        others = max(values[inside].max(initial=0.0) for values in found)
        clear = share[end] > 2.0 * others
        rise = 0 if abs(np.log10(share[end] / LARGE)) > 0.2 else (7 if share[end] >= LARGE else -7)
        leader = {"arrowstyle": "-", "lw": 0.8, "ls": ":", "color": panels.INK, "relpos": (-end, 0), "shrinkA": 0}
        axes.annotate(
            text,
            (position[end], share[end]),
            (8 if end == 0 else -8, rise) if clear else (position[end], 1.4 * max(others, share[end])),
            textcoords="offset points" if clear else "data",
            ha="left" if end == 0 else "right",
            va="center" if clear else "bottom",
            fontsize=7.5,
            color=panels.COLOURS["pretrained"],
            arrowprops=None if clear else leader,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
            zorder=8,
            gid="end",
        )


def share_limits(shown: list[dict[str, pd.DataFrame]]) -> tuple[float, float]:
    """The limits of a logarithmic axis that all panels share: all shares from FLOOR on, and the threshold."""
    values = np.concatenate([table["share"].to_numpy(float) for panel in shown for table in panel.values()] or [[]])
    values = values[values >= FLOOR]
    return min(values.min(initial=LARGE), LARGE) / 1.5, max(values.max(initial=LARGE), LARGE) * 2.0


def key(drawn: list[Axes]) -> list[Line2D]:
    """The legend's entries for what the panels have of `draw_shares`."""
    gids = {artist.get_gid() for axes in drawn for artist in axes.get_children()}
    signs = [
        Line2D(
            [],
            [],
            color=panels.COLOURS[weights],
            lw=1.4,
            label=f"{panels.NAMES[weights]}{' (control)' * (weights == 'random')}",
        )
        for weights in WEIGHTS
        if f"shares {weights}" in gids
    ]
    if not signs:
        return []
    grey = {"color": style.MUTED}
    signs.append(
        Line2D(
            [],
            [],
            lw=6,
            alpha=0.3,
            label=f"± {BAND:g} standard errors over sequences (the total taken as given)",
            **grey,
        )
    )
    signs.append(Line2D([], [], ls="", marker="o", ms=5.5, label="first and last position", **grey))
    signs.append(Line2D([], [], color=panels.INK, lw=0.8, ls=(0, (4, 3)), label=f"{LARGE:g} of the total"))
    if any(f"below {weights}" in gids for weights in WEIGHTS):
        signs.append(
            Line2D([], [], ls="", marker="v", ms=5, label=f"less than {FLOOR:g} of the total, or none", **grey)
        )
    return signs
