"""Figure 7: geometric influence by layer and position as heat maps, each model beside its random copy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import nsbench.figures.pretrained_panels as panels
import nsbench.figures.style as style
from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.figures.annotations import Axes, Figure, Normalize, Table
from nsbench.figures.registry import figure
from nsbench.schemas.pretrained import NONE, WEIGHTS

COLOURS = "viridis"
ZERO = "#D9D9D9"
DECADES = 4.0
"""How far a model's scale of colours reaches down from its largest value, at most."""
WIDTH = 11.0
_WHAT = (
    "Rows are layers, from the embeddings (emb.) upwards; a layer's influence is of the readout's gradient at what "
    "enters it. Colours: influence of a position, divided by the total over positions at the embeddings of the same "
    "weights; one scale for a model and its random copy, which stops where its bar has a point. Grey: none. Right of "
    "each map: the layer's total, divided likewise."
)


class Map(NamedTuple):
    """Influences of one model's weights, relative to the total at the embeddings; or why there are none."""

    relative_LT: np.ndarray
    """(layers + 1, positions), the embeddings first."""
    labels: list[str]
    """Of the rows."""
    problem: str = ""
    """What is wrong, and why; empty where it can be drawn."""


@figure(
    "figure_07",
    tables=["models", "measured", "influence"],
    title="Figure 7 of the paper: geometric influence by layer and position, by model",
    caption="Each row is the influence of what enters a layer, from the embeddings upwards, relative to the total at "
    "the embeddings of the same weights; to the right of each map are the layers' totals. The paper sees a very "
    "influential middle layer in Gemma-2-2B; of RoBERTa and GPT-2 it says that “the few layers are more "
    "influential”, where a word is missing, probably “first”. Gradients at different layers have different units: "
    "a layer whose inputs are large can have small gradients for that reason alone." + panels.READING,
)
def draw(models: Table, measured: Table, influence: Table, spec: PretrainedFigureSpec) -> Figure:
    """A row for each model of the spec: heat map and totals of the pretrained weights, then of the control.

    Tables are MODEL, MEASURED and INFLUENCE of schemas.pretrained.
    """
    influence = panels.narrowed(influence, spec.figures)
    subjects = panels.subjects(models, measured, spec)
    found = [{weights: _map(influence, subject, weights) for weights in WEIGHTS} for subject in subjects]
    heights = [0.75 if maps["pretrained"].problem else 1.45 + 0.045 * len(maps["pretrained"].labels) for maps in found]
    figure = style.new(WIDTH, sum(heights) + 1.0 * len(subjects) + 1.5)
    figure.get_layout_engine().set(hspace=0.05, wspace=0.01, h_pad=0.08, w_pad=0.05)
    rows = figure.add_gridspec(len(subjects), 1, height_ratios=heights)
    for row, subject, maps in zip(rows, subjects, found, strict=True):
        if problem := maps["pretrained"].problem:
            axes = figure.add_subplot(row)
            panels.notice(axes, problem, 0.8 * WIDTH, max_lines=5)
            panels.head(axes, subject, 0.8 * WIDTH, [])
            continue
        grid = row.subgridspec(1, 5, width_ratios=[1.0, 0.2, 1.0, 0.2, 0.028])
        drawn = [one for one in maps.values() if not one.problem]
        colours = _colours(drawn)
        for (weights, one), column in zip(maps.items(), (0, 2), strict=True):
            if one.problem:
                axes = figure.add_subplot(grid[column : column + 2])
                panels.notice(axes, one.problem, 0.36 * WIDTH, max_lines=4)
            else:
                axes, side = (figure.add_subplot(grid[at]) for at in (column, column + 1))
                _heat(axes, one, colours, f"map {weights}", labelled=column == 0)
                _totals(side, one, drawn, weights)
            entry = style.sign(panels.NAMES[weights], color=panels.COLOURS[weights], lw=3)
            panels.head(axes, subject, 0.4 * WIDTH, [entry], first=column == 0)
        _bar(figure, figure.add_subplot(grid[4]), colours, drawn)
    panels.foot(figure, _WHAT, models, spec)
    return figure


def _map(influence: Table, subject: panels.Subject, weights: str) -> Map:
    """A map, or what stands in its place."""
    rows = panels.at(influence, subject, weights)
    rows = rows[rows["site"].isin(["embeddings", "layer"])]
    values = rows.pivot(index="layer", columns="position", values="value").sort_index()
    total = values.loc[NONE].sum() if NONE in values.index else 0.0
    problem = subject.problem or subject.weights.get(weights, "no control: no random copy was measured")
    if not problem and NONE not in values.index:
        problem = "not measured: the tables have no influences of this case"
    if not problem and len(values) < 2:
        problem = "no layers: no layer of this model was measured"
    if not problem and not 0 < total < np.inf:
        problem = panels.NOTHING
    if problem:
        return Map(np.zeros((0, 0)), [], problem)
    return Map(values.to_numpy(float) / total, ["emb." if layer == NONE else str(layer) for layer in values.index])


def _colours(maps: list[Map]) -> Normalize:
    """One scale of log10 for all maps of a model, from the largest value down."""
    from matplotlib.colors import Normalize

    values = np.concatenate([one.relative_LT.ravel() for one in maps])
    values = np.log10(values[values > 0])
    high = values.max()
    low = max(np.quantile(values, 0.005), high - DECADES)
    return Normalize(low if low < high else high - 1.0, high)


def _bar(figure: Figure, axes: Axes, colours: Normalize, maps: list[Map]) -> None:
    """The scale of colours, with a point at its lower end where a map has less."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import MaxNLocator

    least = min(one.relative_LT[one.relative_LT > 0].min() for one in maps)
    extend = "min" if np.log10(least) < colours.vmin else "neither"
    bar = figure.colorbar(ScalarMappable(colours, COLOURS), axes, extend=extend)
    bar.set_label("log₁₀ of relative influence")
    bar.locator = MaxNLocator(5, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_formatter(lambda value, _: style.minus(f"{value:g}"))
    axes.grid(False)


def _heat(axes: Axes, found: Map, colours: Normalize, gid: str, labelled: bool) -> None:
    """The heat map, the embeddings at the bottom; layers of no influence in grey."""
    with np.errstate(divide="ignore"):
        logs = np.ma.masked_invalid(np.log10(found.relative_LT))
    look = {"cmap": COLOURS, "norm": colours, "aspect": "auto", "origin": "lower", "interpolation": "nearest"}
    image = axes.imshow(logs, gid=gid, **look)
    image.set_cmap(image.get_cmap().with_extremes(bad=ZERO))
    axes.grid(False)
    panels.position_axis(axes, logs.shape[1])
    axes.set_xlim(-0.5, logs.shape[1] - 0.5)
    axes.set_xlabel("position (token from 0)")
    n_rows = len(found.labels)
    step = max(1, -(-(n_rows - 1) // 6))  # the first two, the last and a few between have a label
    shown = [0, *(place for place in range(1, n_rows - 1, step) if n_rows - 1 - place >= step), n_rows - 1]
    axes.set_yticks(shown, [found.labels[place] for place in shown])
    axes.tick_params(labelleft=labelled)
    axes.set_ylabel("layer" if labelled else "")


def _totals(axes: Axes, found: Map, maps: list[Map], weights: str) -> None:
    """The layers' totals beside their rows, on one axis for all maps of a model."""
    from matplotlib.ticker import LogLocator, MaxNLocator

    totals = np.concatenate([one.relative_LT.sum(1) for one in maps])
    positive, n_rows = totals[totals > 0], len(found.labels)
    look = {"color": panels.COLOURS[weights], "ms": 2.6, "lw": 1.1, "gid": f"totals {weights}"}
    axes.plot(found.relative_LT.sum(1), np.arange(n_rows), "o-", **look)
    axes.axvline(1.0, color=style.MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1.5)
    low, high = positive.min(), positive.max()
    if high / low > 20:
        axes.set_xscale("log", nonpositive="clip")
        axes.set_xlim(max(low, high * 1e-6) / 1.6, high * 1.6)
        style.plain_numbers(axes.xaxis, LogLocator(numticks=3))
    else:
        axes.set_xlim(0.0, high * 1.12)
        style.plain_numbers(axes.xaxis, MaxNLocator(2))
    axes.set_ylim(-0.5, n_rows - 0.5)
    axes.set_yticks([])
    axes.set_xlabel("total")
