"""Figure 3: which token each row of attention looks at, for a pair of inputs and on average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.config.theory import PatternsExperiment
from nsbench.figures.annotations import Axes, Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as labels

if TYPE_CHECKING:
    from matplotlib.image import AxesImage

AGREE = "#D55E00"
GUTTER = -0.12
"""Where a row's mark stands, in widths of the right matrix from its edge."""
_MARK: dict[str, Any] = {"marker": "D", "ms": 4.5, "color": AGREE, "ls": ""}
_WHAT = (
    "Rows are tokens that attend, columns tokens attended to; W has entries N(0, 1), logits are not scaled. Left: one "
    "pair of inputs. Right: the share of rows whose largest weight is on the same token for X and for Y."
)


@figure(
    "figure_03",
    tables=[*panels.TABLES, "examples"],
    experiment="patterns",
    title="Figure 3 of the paper: attention patterns of an input and of its noisy copy",
    caption="Attention matrices A_X and A_Y for W with entries N(0, 1), nearly one token a row each. Diamonds mark "
    "rows that attend most to the same token in both; n s(ρ) such rows are to be expected, which is about 1 where ρ is"
    " near 0, by chance alone. Right, the share of such rows over many pairs beside s(ρ) of Theorem 5.3, and what"
    " is left between them: s(ρ) is the limit for large d." + panels.READING,
)
def draw(curves: Table, points: Table, examples: Table, settings: PatternsExperiment, scale: str) -> Figure:
    """Left A_X beside A_Y for each number of tokens; right the share of rows that agree, and its error.

    Rows whose largest weight is on the same token in both matrices are marked and counted, beside the count n s(rho)
    that is to be expected; the error is the simulated share minus s(rho).
    """
    from nsbench.theory.attention import attention_pattern_stability as expected_share

    tokens = {labels.n_tokens(n): n for n in sorted(settings.n_tokens)}
    looks = panels.looks(panels.ordered("series", [curves, points, examples], tokens))
    figure = style.new(10.6, max(2.5 * len(tokens), 5.2) + 2.2)
    sides = figure.add_gridspec(1, 2, width_ratios=[1.08, 1.0])
    grid = sides[0].subgridspec(len(tokens) + 1, 2, height_ratios=[*[1.0] * len(tokens), 0.05])
    for row, (name, n) in enumerate(tokens.items()):
        pair = [figure.add_subplot(grid[row, column]) for column in (0, 1)]
        title = f"{name}, ρ = {settings.shown_rho:g}"
        expected = n * float(expected_share(settings.shown_rho, n))
        image = _pair(pair, examples[examples["series"] == name], title, expected)
    for axes in pair:
        axes.set_xlabel("token attended to")
    bar = figure.colorbar(image, figure.add_subplot(grid[-1, :]), orientation="horizontal")
    bar.set_label("attention weight")
    bar.ax.grid(False)
    at = sides[1].subgridspec(2, 1, height_ratios=[2.0, 1.0])
    top, bottom = (figure.add_subplot(part) for part in at)
    formulas = panels.draw_curves(top, curves, looks)
    panels.draw_points(top, points, looks)
    panels.error_axis(bottom, points, looks, lambda rho, name: expected_share(rho, tokens[name]))
    for axes in (top, bottom):
        panels.rho_axis(axes)
    top.set(ylim=(-0.03, 1.04), ylabel="share of rows with the same token", xlabel="")
    top.tick_params(labelbottom=False)
    bottom.set_ylabel("simulation − s(ρ)")
    panels.heads([top], [labels.PATTERNS_READING], [formulas])
    key = [*panels.series_signs(looks, [top]), style.sign("same token in A_X and in A_Y", gid="same row", **_MARK)]
    panels.foot(figure, _WHAT, [f"d = {settings.d_model}", panels.replicates(settings)], scale, key)
    return figure


def _pair(pair: list[Axes], rows: Table, title: str, expected: float) -> AxesImage:
    """Both attention matrices of one pair; a mark between them at each row that agrees."""
    from matplotlib.patches import Rectangle

    of_matrix = {
        name: part.pivot(index="row", columns="column", values="value") for name, part in rows.groupby("matrix")
    }
    first, second = (of_matrix[name].to_numpy(float).argmax(axis=1) for name in ("A_X", "A_Y"))
    same, n = np.flatnonzero(first == second), len(first)
    for axes, name in zip(pair, ("A_X", "A_Y"), strict=True):
        image = axes.imshow(of_matrix[name], cmap="Blues", vmin=0.0, vmax=1.0, gid=name, interpolation="nearest")
        axes.grid(False)
        axes.spines[["top", "right"]].set_visible(True)
        axes.set(xticks=[0, n - 1], yticks=[0, n - 1])
        # The empty line is the pair's title's.
        axes.set_title(f"\n${name}$", fontsize=9, pad=4, linespacing=1.7, parse_math=True)
        for row in same:
            look = {"fill": False, "ec": AGREE, "lw": 1.3, "gid": "same token"}
            axes.add_patch(Rectangle((first[row] - 0.5, row - 0.5), 1, 1, **look))
    pair[0].set_ylabel("token that attends")
    pair[1].tick_params(labelleft=False)
    if len(same):  # an empty line would count in the layout, as a mark in the figure's corner
        at = {"transform": pair[1].get_yaxis_transform(), "clip_on": False, "gid": "same row"}
        pair[1].plot([GUTTER] * len(same), same, **at, **_MARK)
    # Wider than its panel, which the layout would make room for at the side.
    text = f"{title}: {len(same)} of {n} rows agree, {expected:.1f} expected"
    at = {"xycoords": "axes fraction", "textcoords": "offset points"}
    note = pair[0].annotate(text, (0, 1), (-2, 17), weight="bold", fontsize=9, gid="pair title", **at)
    note.set_in_layout(False)
    return image
