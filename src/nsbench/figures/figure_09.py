"""Figure 9: stability of one ReLU against the correlation of its inputs, exact and quadratic, with their errors."""

from __future__ import annotations

import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.config.theory import ReluExperiment
from nsbench.figures.annotations import Axes, Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as labels

_WHAT = (
    "X and Y are normal with correlation ρ and standard deviation 1; errors are value minus exact formula. The same "
    "draws serve all ρ, so that neighbouring points err together."
)


@figure(
    "figure_09",
    tables=panels.TABLES,
    experiment="relu",
    title="Figure 9 of the paper: stability of one ReLU, exact and quadratic",
    caption="Theorem 5.1 and its quadratic approximation, Equation 4, on all of [−1, 1]. The cubic term is 0; the "
    "approximation is at most 1/4 − 3/(4π) ≈ 0.0113 too low, at both ends, and at −1 it is negative. Below, what "
    "is left when the exact formula is subtracted. Other means of the inputs have an exact form as well."
    + panels.READING,
)
def draw(curves: Table, points: Table, settings: ReluExperiment, scale: str) -> Figure:
    """Left the series that has an approximation (mean 0), right the others; below, errors on the same axis: value minus
    `relu_stability`, first of the approximation, with its largest marked, then of the points of each series."""
    from nsbench.theory.relu import relu_stability

    means = {labels.mean(value): value for value in settings.means}
    rough = panels.ordered("series", [curves[curves["status"] == "approximation"]], [])
    names = panels.ordered("series", [curves, points], [*rough, *means])
    looks = panels.looks(names, panels.CATEGORY_COLOURS)
    sides = [side for side in (names[:1], names[1:]) if side]
    figure = style.new(11.0 if len(sides) == 2 else 6.6, 8.2)
    figure.get_layout_engine().set(w_pad=0.1)
    columns = figure.add_gridspec(1, len(sides), width_ratios=[1.35, 1.0][: len(sides)])
    tops, found = [], []
    for place, side in enumerate(sides):
        shown = [name for name in side if name in rough]
        n_errors = len(shown) + len(side)
        at = columns[place].subgridspec(1 + n_errors, 1, height_ratios=[1.4 * n_errors, *[1.0] * n_errors])
        top = figure.add_subplot(at[0])
        errors = [figure.add_subplot(at[1 + row], sharex=top) for row in range(n_errors)]
        found.append(panels.draw_curves(top, curves, {name: looks[name] for name in side}))
        panels.draw_points(top, points, {name: looks[name] for name in side})
        for axes, name in zip(errors, [*shown, *side], strict=True):
            if axes in errors[: len(shown)]:
                here = curves[(curves["series"] == name) & (curves["status"] == "approximation")].sort_values("x")
                error = here.assign(value=here["value"] - relu_stability(here["x"].to_numpy(float), means[name]))
                panels.error_axis(axes, points.iloc[:0], {}, None)
                _approximation_error(axes, error, looks[name])
            else:
                panels.error_axis(axes, points, {name: looks[name]}, lambda x, name: relu_stability(x, means[name]))
                axes.set_title(f"simulation − exact, {name}", loc="left", fontsize=8.5)
        for axes in (top, *errors[:-1]):
            axes.tick_params(labelbottom=False)
        errors[-1].set_xlabel("correlation ρ of the inputs")
        tops.append(top)
    panels.heads(tops, [names[0], "other means"][: len(tops)], found)
    tops[0].set_ylabel("E[ReLU(X) ReLU(Y)]")
    sizes = [panels.replicates(settings, "", "numbers")]
    panels.foot(figure, _WHAT, sizes, scale, panels.series_signs(looks, tops))
    return figure


def _approximation_error(axes: Axes, error: Table, look: panels.Look) -> None:
    """Approximation minus exact, with the ends of largest error marked by their values."""
    for formula, rows in error.groupby("formula", sort=False):
        x, values = rows["x"].to_numpy(float), rows["value"].to_numpy(float)
        axes.plot(x, values, color=look.colour, gid="approximation error", **panels.STATUSES["approximation"][1])
        for place, side in ((0, 1), (-1, -1)):
            end, value = x[place], values[place]
            if abs(value) >= 0.999 * abs(values).max():
                axes.plot(end, value, "o", ms=4, color=look.colour, clip_on=False, gid="largest error")
                at = {"textcoords": "offset points", "ha": "left" if side > 0 else "right", "va": "center"}
                text = style.minus(f"{value:+.4f}")
                axes.annotate(text, (end, value), (8 * side, 0), fontsize=8, color=look.colour, **at)
        axes.set_title(f"{formula} − exact", loc="left", fontsize=8.5)
    axes.margins(y=0.18)
