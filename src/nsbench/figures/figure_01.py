"""Figure 1: geometric influence of each position, models side by side, each before its random copy."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.figures import pretrained_panels as panels
from nsbench.figures import pretrained_shares as shares
from nsbench.figures import style

WIDTH, HEIGHT = 3.7, 3.5
"""Of a panel, in inches."""
_WHAT = (
    "Influence of a position: the mean over sequences of the norm of the readout's gradient at that token's embedding, "
    "here as share of the sum over positions, on a logarithmic axis."
)


def draw(
    models: pd.DataFrame,
    measured: pd.DataFrame,
    influence: pd.DataFrame,
    concentration: pd.DataFrame,
    spec: PretrainedFigureSpec,
) -> Figure:
    """A panel for each model of the spec, wrapped to three columns, with one axis of shares.

    Tables are MODEL, MEASURED, INFLUENCE and CONCENTRATION of pretrained_records. Counts above a
    panel are of the mean over sequences.
    """
    influence, concentration = (panels.narrowed(table, spec.figures) for table in (influence, concentration))
    found = panels.subjects(models, measured, spec)
    n_rows, n_columns, places = style.blocks(len(found), 1)
    by_model = [
        {weights: shares.shares(panels.at(influence, subject, weights, "embeddings")) for weights in subject.weights}
        for subject in found
    ]
    limits = shares.share_limits(by_model)
    with style.applied():
        figure = Figure(figsize=(max(WIDTH * n_columns, 6.2), HEIGHT * n_rows + 1.5), layout="constrained")
        figure.get_layout_engine().set(hspace=0.04, h_pad=0.08, w_pad=0.08)
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat[len(found) :]:
            axes.set_axis_off()
        width = figure.get_figwidth() / n_columns - 0.6
        filled: list[Axes] = []
        labelled: set[int] = set()
        for subject, by_weights, [(at, column)] in zip(found, by_model, places, strict=True):
            axes, lines = grid[at, column], panels.title(subject, width)
            if any(subject.problem):
                panels.notice(axes, *subject.problem, width)
            else:
                rows = shares.concentration_rows(concentration, subject, "embeddings")
                lines += shares.count_lines(subject, rows)
                if any(len(table) for table in by_weights.values()):
                    shares.draw_shares(axes, by_weights, shares.rank_labels(rows["pretrained"]), limits)
                    axes.set_xlabel("position (token from 0)")
                    if at not in labelled:
                        axes.set_ylabel("share of the total influence")
                        labelled.add(at)
                    filled.append(axes)
                else:
                    panels.notice(axes, *panels.NOTHING, width)
            panels.head(axes, lines)
        panels.foot(figure, _WHAT, models, spec, shares.key(filled))
    return figure
