"""Figure 7: geometric influence by layer and position as heat maps, each model beside its random copy."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray

from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.figures import pretrained_panels as panels
from nsbench.figures import style
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
    """Influences of one model's weights, relative to the total at the embeddings."""

    relative_LT: NDArray[np.float64]
    """(layers + 1, positions), the embeddings first."""
    totals_L: NDArray[np.float64]
    labels: list[str]
    """Of the rows."""


def draw(models: pd.DataFrame, measured: pd.DataFrame, influence: pd.DataFrame, spec: PretrainedFigureSpec) -> Figure:
    """A row for each model of the spec: heat map and totals of the pretrained weights, then of the control.

    Tables are MODEL, MEASURED and INFLUENCE of pretrained_records.
    """
    influence = panels.narrowed(influence, spec.figures)
    found = panels.subjects(models, measured, spec)
    by_model = [{weights: _map(influence, subject, weights) for weights in subject.weights} for subject in found]
    heights = [_height(maps.get("pretrained")) for maps in by_model]
    with style.applied():
        figure = Figure(figsize=(WIDTH, sum(heights) + 1.0 * len(found) + 1.5), layout="constrained")
        figure.get_layout_engine().set(hspace=0.05, wspace=0.01, h_pad=0.08, w_pad=0.05)
        rows = figure.add_gridspec(len(found), 1, height_ratios=heights)
        for row, (subject, maps) in enumerate(zip(found, by_model, strict=True)):
            about = panels.title(subject, 0.4 * WIDTH)
            problem = subject.problem if any(subject.problem) else _without(maps.get("pretrained"))
            if problem:
                axes = figure.add_subplot(rows[row])
                panels.notice(axes, *problem, 0.8 * WIDTH, max_lines=5)
                panels.head(axes, about)
                continue
            grid = rows[row].subgridspec(1, 5, width_ratios=[1.0, 0.2, 1.0, 0.2, 0.028])
            own = {weights: one for weights, one in maps.items() if one and not _without(one)}
            colours = _colours(list(own.values()))
            labelled = False
            for weights, column in zip(WEIGHTS, (0, 2), strict=True):
                lines = [(panels.NAMES[weights], panels.COLOURS[weights], True)]
                if weights not in own:
                    axes = figure.add_subplot(grid[column : column + 2])
                    panels.notice(axes, *_no_control(subject, maps), 0.36 * WIDTH, max_lines=4)
                else:
                    axes, side = (figure.add_subplot(grid[at]) for at in (column, column + 1))
                    _heat(axes, own[weights], colours, f"map {weights}")
                    _totals(side, own[weights], list(own.values()), weights)
                    if labelled:
                        axes.set_ylabel("")
                        axes.tick_params(labelleft=False)
                    labelled = True
                panels.head(axes, [*(about if column == 0 else []), *lines])
            _bar(figure, figure.add_subplot(grid[4]), colours, list(own.values()))
        panels.foot(figure, _WHAT, models, spec)
    return figure


def _height(found: Map | None) -> float:
    """Of a model's row, in inches."""
    return 0.75 if _without(found) else 1.45 + 0.045 * len(found.labels)  # type: ignore[union-attr]


def _map(influence: pd.DataFrame, subject: panels.Subject, weights: str) -> Map | None:
    """None where the weights were not measured in this case."""
    if subject.weights[weights]:
        return None
    sites = [panels.at(influence, subject, weights, site) for site in ("embeddings", "layer")]
    values = pd.concat(sites).pivot(index="layer", columns="position", values="value").sort_index()
    if NONE not in values.index:
        return None
    total = values.loc[NONE].sum()
    relative = values.to_numpy(float) / total if 0 < total < np.inf else np.zeros(values.shape)
    return Map(relative, relative.sum(1), ["emb." if layer == NONE else str(layer) for layer in values.index])


def _without(found: Map | None) -> tuple[str, str] | None:
    """What is wrong with a map, and why; nothing where it can be drawn."""
    if found is None:
        return "not measured", "the tables have no influences of this case"
    if len(found.labels) < 2:
        return "no layers", "no layer of this model was measured"
    if not found.totals_L[0] > 0:
        return panels.NOTHING
    return None


def _no_control(subject: panels.Subject, maps: dict[str, Map | None]) -> tuple[str, str]:
    """What stands in the place of the control's map, and why."""
    if "random" not in subject.weights:
        return "no control", "no random copy was measured"
    return _without(maps["random"]) if maps["random"] else (subject.weights["random"], "")  # type: ignore[return-value]


def _colours(maps: list[Map]) -> Normalize:
    """One scale of log10 for all maps of a model, from the largest value down."""
    values = np.concatenate([one.relative_LT.ravel() for one in maps])
    values = np.log10(values[values > 0])
    high = values.max()
    low = max(np.quantile(values, 0.005), high - DECADES)
    return Normalize(low if low < high else high - 1.0, high)


def _bar(figure: Figure, axes: Axes, colours: Normalize, maps: list[Map]) -> None:
    """The scale of colours, with a point at its lower end where a map has less."""
    least = min(one.relative_LT[one.relative_LT > 0].min() for one in maps)
    extend = "min" if np.log10(least) < colours.vmin else "neither"
    bar = figure.colorbar(ScalarMappable(colours, COLOURS), axes, extend=extend)
    bar.set_label("log₁₀ of relative influence")
    bar.locator = MaxNLocator(5, steps=[1, 2, 5, 10])
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}".replace("-", "−")))
    axes.grid(False)


def _heat(axes: Axes, found: Map, colours: Normalize, gid: str) -> None:
    """The heat map, the embeddings at the bottom; layers of no influence in grey."""
    with np.errstate(divide="ignore"):
        image = axes.imshow(
            np.ma.masked_invalid(np.log10(found.relative_LT)),
            cmap=COLOURS,
            norm=colours,
            aspect="auto",
            origin="lower",
            interpolation="nearest",
            gid=gid,
        )
    image.set_cmap(image.get_cmap().with_extremes(bad=ZERO))
    axes.grid(False)
    panels.position_axis(axes, found.relative_LT.shape[1])
    axes.set_xlim(-0.5, found.relative_LT.shape[1] - 0.5)
    axes.set_xlabel("position (token from 0)")
    axes.set_ylabel("layer")
    shown = _ticks(len(found.labels))
    axes.set_yticks(shown, [found.labels[place] for place in shown])


def _ticks(n_rows: int) -> list[int]:
    """Which rows have a label: the embeddings, the first and the last layer, and a few at equal steps."""
    step = max(1, -(-(n_rows - 1) // 6))
    inner = [place for place in range(1, n_rows - 1, step) if n_rows - 1 - place >= step]
    return [0, *inner, n_rows - 1]


def _totals(axes: Axes, found: Map, maps: list[Map], weights: str) -> None:
    """The layers' totals beside their rows, on one axis for all maps of a model."""
    totals = np.concatenate([one.totals_L for one in maps])
    positive = totals[totals > 0]
    colour, rows = panels.COLOURS[weights], np.arange(len(found.totals_L))
    axes.plot(found.totals_L, rows, "o-", color=colour, ms=2.6, lw=1.1, gid=f"totals {weights}")
    axes.axvline(1.0, color=style.MUTED, lw=0.8, ls=(0, (2, 2)), zorder=1.5)
    if positive.max() / positive.min() > 20:
        low, high = max(positive.min(), positive.max() * 1e-6), positive.max()
        axes.set_xscale("log", nonpositive="clip")
        axes.set_xlim(low / 1.6, high * 1.6)
        axes.xaxis.set_major_locator(LogLocator(numticks=3))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0.0, positive.max() * 1.12)
        axes.xaxis.set_major_locator(MaxNLocator(2))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_ylim(-0.5, len(rows) - 0.5)
    axes.set_yticks([])
    axes.set_xlabel("total")
