"""Figure 9: stability of one ReLU against the correlation of its inputs, exact and quadratic, with their errors."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nsbench.config.theory import ReluExperiment
from nsbench.figures import style
from nsbench.figures import theory_panels as panels
from nsbench.schemas import theory_labels as readings
from nsbench.theory.relu import relu_stability

ZERO = {"color": panels.INK, "lw": 1.0, "zorder": 1.6}
_WHAT = (
    "X and Y are normal with correlation ρ and standard deviation 1; errors are value minus exact formula. The same "
    "draws serve all ρ, so that neighbouring points err together."
)


def draw(
    curves: pd.DataFrame, points: pd.DataFrame, examples: pd.DataFrame, settings: ReluExperiment, scale: str
) -> Figure:
    """Left the series that has an approximation (mean 0), right the others; below, errors on the same axis.

    `curves` and `points` are of `schemas.theory.CURVES` and SIMULATION; `examples` is not used. Errors
    are value minus `relu_stability` at the same correlation: first of the approximation, with its
    largest marked, then of the points of each series.
    """
    if panels.nothing(curves, points):
        return style.empty("Figure 9: nothing was computed", scale)
    means = {readings.mean(value): value for value in settings.means}
    rough = panels.every("series", [curves[curves["status"] == "approximation"]])
    looks = panels.looks(
        panels.ordered(panels.every("series", [curves, points]), [*rough, *means]), panels.CATEGORY_COLOURS
    )
    names = list(looks)
    sides = [side for side in (names[:1], names[1:]) if side]
    with style.applied():
        figure = Figure(figsize=(11.0 if len(sides) == 2 else 6.6, 8.2), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.1)
        columns = figure.add_gridspec(1, len(sides), width_ratios=[1.35, 1.0][: len(sides)])
        found = []
        for place, side in enumerate(sides):
            shown = [name for name in side if name in rough]
            n_errors = len(shown) + len(side)
            at = columns[place].subgridspec(1 + n_errors, 1, height_ratios=[1.4 * n_errors, *[1.0] * n_errors])
            top = figure.add_subplot(at[0])
            errors = [figure.add_subplot(at[1 + row], sharex=top) for row in range(n_errors)]
            found.append((top, panels.draw_curves(top, curves, {name: looks[name] for name in side})))
            panels.draw_points(top, points, {name: looks[name] for name in side})
            for name, axes in zip(shown, errors, strict=False):
                _approximation_error(axes, curves[curves["series"] == name], means[name], looks[name])
            for name, axes in zip(side, errors[len(shown) :], strict=True):
                _points_error(axes, points[points["series"] == name], name, means[name], looks[name])
            for axes in (top, *errors[:-1]):
                axes.tick_params(labelbottom=False)
            errors[-1].set_xlabel("correlation ρ of the inputs")
        for (top, formulas), title in zip(found, (names[0], "other means"), strict=False):
            panels.head(top, title, formulas, max(len(some) for _, some in found))
        found[0][0].set_ylabel("E[ReLU(X) ReLU(Y)]")
        sizes = [f"{settings.n_draws:,} draws × {settings.n_pairs:,} pairs of numbers"]
        panels.foot(
            figure, [_WHAT, panels.POINTS_LINE], sizes, scale, panels.series_signs(looks, [top for top, _ in found])
        )
    return figure


def _approximation_error(axes: Axes, curves: pd.DataFrame, mean: float, look: panels.Look) -> None:
    """Approximation minus exact, with the ends of largest error marked by their values."""
    axes.axhline(0.0, gid="zero", **ZERO)
    for formula, rows in curves[curves["status"] == "approximation"].groupby("formula", sort=False):
        rows = rows.sort_values("x")
        x = rows["x"].to_numpy(float)
        error = rows["value"].to_numpy(float) - relu_stability(x, mean)
        stroke = panels.STROKES["approximation"]
        axes.plot(x, error, color=look.colour, gid="approximation error", **stroke)
        largest = abs(error).max()
        for end in (x[0], x[-1]):
            value = error[x == end][0]
            if abs(value) < 0.999 * largest:
                continue
            axes.plot(end, value, "o", ms=4, color=look.colour, clip_on=False, gid="largest error")
            axes.annotate(
                f"{value:+.4f}".replace("-", "−"),
                (end, value),
                (8 if end < 0 else -8, 0),
                textcoords="offset points",
                ha="left" if end < 0 else "right",
                va="center",
                fontsize=8,
                color=look.colour,
            )
        axes.set_title(f"{formula} − exact", loc="left", fontsize=8.5)
    axes.margins(y=0.18)
    panels.plain_axis(axes)


def _points_error(axes: Axes, points: pd.DataFrame, name: str, mean: float, look: panels.Look) -> None:
    """Simulated mean minus exact, with error bars."""
    axes.axhline(0.0, gid="zero", **ZERO)
    x = points["x"].to_numpy(float)
    errors = points.assign(value=points["value"] - relu_stability(x, mean))
    panels.draw_points(axes, errors, {name: look})
    axes.set_title(f"simulation − exact, {name}", loc="left", fontsize=8.5)
    panels.plain_axis(axes)
