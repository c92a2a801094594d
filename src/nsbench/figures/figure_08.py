"""Figure 8: geometric influence of each position on the output of two attention heads, models side by side."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.figures import pretrained_panels as panels
from nsbench.figures import pretrained_shares as shares
from nsbench.figures import style

N_HEADS = 2
WIDTH, HEIGHT = 3.7, 2.5
"""Of a panel, in inches."""
_WHAT = (
    "Influence of a position: the mean over sequences of the norm of the readout's gradient at that head's output for "
    "that token, here as share of the sum over positions, on a logarithmic axis. Layers and heads count from 0."
)


def draw(
    models: pd.DataFrame,
    measured: pd.DataFrame,
    influence: pd.DataFrame,
    concentration: pd.DataFrame,
    spec: PretrainedFigureSpec,
) -> Figure:
    """A column of two heads for each model of the spec, wrapped to blocks of three columns, with one axis of shares.

    Tables are MODEL, MEASURED, INFLUENCE and CONCENTRATION of pretrained_records; the heads are the
    first two that INFLUENCE has of a model. Counts above a panel are of the mean over sequences.
    """
    influence, concentration = (panels.narrowed(table, spec.figures) for table in (influence, concentration))
    found = panels.subjects(models, measured, spec)
    n_rows, n_columns, places = style.blocks(len(found), N_HEADS)
    by_model = [_heads(influence, subject) for subject in found]
    limits = shares.share_limits([head for heads in by_model for head in heads.values()])
    with style.applied():
        height = HEIGHT * n_rows + 0.7 * n_rows / N_HEADS + 1.6
        figure = Figure(figsize=(max(WIDTH * n_columns, 6.2), height), layout="constrained")
        figure.get_layout_engine().set(hspace=0.03, h_pad=0.08, w_pad=0.08)
        grid = figure.add_gridspec(n_rows, n_columns)
        width = figure.get_figwidth() / n_columns - 0.6
        filled: list[Axes] = []
        labelled: set[int] = set()
        for subject, heads, cells in zip(found, by_model, places, strict=True):
            about = panels.title(subject, width)
            if any(subject.problem) or not heads:
                axes = figure.add_subplot(grid[cells[0][0] : cells[-1][0] + 1, cells[0][1]])
                missing = ("no heads", "no attention head of this model was measured")
                panels.notice(axes, *(subject.problem if any(subject.problem) else missing), width)
                panels.head(axes, about)
                continue
            column: list[Axes] = []
            for place, (row, at) in enumerate(cells):
                axes = figure.add_subplot(grid[row, at])
                lines = about if place == 0 else []
                if place >= len(heads):
                    panels.notice(axes, "no second head", "one head of this model was measured", width)
                else:
                    (layer, head), by_weights = list(heads.items())[place]
                    rows = shares.concentration_rows(concentration, subject, "head", layer, head)
                    lines = [*lines, (f"layer {layer}, head {head}", style.MUTED, True)]
                    lines += shares.count_lines(subject, rows)
                    if any(len(table) for table in by_weights.values()):
                        shares.draw_shares(axes, by_weights, shares.rank_labels(rows["pretrained"]), limits)
                        column.append(axes)
                        if row not in labelled:
                            axes.set_ylabel("share of the head's total")
                            labelled.add(row)
                    else:
                        panels.notice(axes, *panels.NOTHING, width)
                if lines:
                    panels.head(axes, lines)
            if column:
                column[-1].set_xlabel("position (token from 0)")
            filled += column
        panels.foot(figure, _WHAT, models, spec, shares.key(filled))
    return figure


def _heads(influence: pd.DataFrame, subject: panels.Subject) -> dict[tuple[int, int], dict[str, pd.DataFrame]]:
    """(layer, head) -> weights -> shares by position; no head where there is a problem."""
    by_weights = {name: panels.at(influence, subject, name, "head") for name in subject.weights}
    if "pretrained" not in by_weights:
        return {}
    heads = by_weights["pretrained"][["layer", "head"]].drop_duplicates()
    return {
        (layer, head): {
            name: shares.shares(rows[(rows["layer"] == layer) & (rows["head"] == head)])
            for name, rows in by_weights.items()
        }
        for layer, head in sorted(map(tuple, heads.to_numpy().tolist()))[:N_HEADS]
    }
