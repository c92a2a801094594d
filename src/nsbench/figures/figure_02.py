"""Figure 2: stability of one attention layer against the correlation of its inputs, by the kind of W."""

from __future__ import annotations

import nsbench.figures.style as style
import nsbench.figures.theory_panels as panels
from nsbench.config.theory import AttentionExperiment
from nsbench.figures.annotations import Figure, Table
from nsbench.figures.registry import figure
from nsbench.schemas import theory_labels as labels

UNSTRUCTURED = [labels.UNSTRUCTURED, labels.SMALL_UNSTRUCTURED]
KINDS = ("identity and low rank", "independent entries")
"""Upper and lower row."""
COLOURS = ["#D55E00", "#B8428C", "#7F6A00"]
"""Of W = I, and of the two unstructured kinds; ranks have `panels.shades`, from high (dark) to low (light)."""
_WHAT = (
    "One attention layer f(X) = softmax(X W Xᵀ) X W_V with W_V = I, whose columns have norm 1; X and Y are standard "
    "Gaussian matrices with correlation ρ. U has independent entries N(0, 1/k); the paper gives ρ for every rank k "
    "far below d."
)


@figure(
    "figure_02",
    tables=panels.TABLES,
    experiment="attention",
    title="Figure 2 of the paper: stability of one attention layer, by the kind of W",
    caption="Noise stability of attention with W_V = I against the correlation ρ of its inputs. With W = W_Q W_Kᵀ = I "
    "each token attends to itself and the stability is ρ (Theorem 5.2). With independent entries each token "
    "attends to one at random, and the stability is ρ s(ρ), s(ρ) being the chance that it is the same token for "
    "both inputs (Theorem 5.3). The paper lets low rank reduce to the identity wherever k is far below d; k must "
    "also be well above log n, so that small ranks fall below the line. The paper prints logits without 1/√d: "
    "both readings are shown. Theorem 5.3 needs entries of variance 1 once logits are divided by √d: with "
    "variance 1/d attention then stays spread over many tokens." + panels.READING,
)
def draw(curves: Table, points: Table, settings: AttentionExperiment, scale: str) -> Figure:
    """A column per reading of the logits: W = I and low rank above, W of independent entries below, where a thin line
    is rho, the stability with W = I."""
    tables = [curves, points]
    names = panels.ordered("reading", tables, labels.ATTENTION_SCALINGS)
    structured = [labels.IDENTITY, *(labels.low_rank(rank) for rank in sorted(settings.ranks, reverse=True))]
    series = panels.ordered("series", tables, [*structured, *UNSTRUCTURED])
    upper, lower = ([name for name in series if (name in UNSTRUCTURED) == below] for below in (False, True))
    colours = COLOURS[:1] + panels.shades(len(upper) - 1)
    looks_of = panels.looks(upper, colours), panels.looks(lower, COLOURS[1:])
    figure = style.new(max(4.4 * len(names), 6.2), 8.3)
    grid = figure.subplots(2, len(names), squeeze=False, sharex=True, sharey="row")
    key = []
    for row, kind, looks in zip(grid, KINDS, looks_of, strict=True):
        found = []
        for axes, name in zip(row, names, strict=True):
            if kind == KINDS[1]:
                axes.plot([0, 1], [0, 1], gid="reference", zorder=1.5, **panels.REFERENCE)
            found.append(panels.draw_panel(axes, curves, points, name, looks))
            panels.rho_axis(axes)
            axes.label_outer()
        panels.heads(row, [f"{name}: {kind}" for name in names], found)
        row[0].set_ylabel("E[f(X) f(Y)] per output entry")
        key += panels.series_signs(looks, row)
    key.append(style.sign("ρ, to compare with", **panels.REFERENCE))
    sizes = [f"n = {settings.n_tokens} tokens", f"d = {settings.d_model}", panels.replicates(settings)]
    panels.foot(figure, _WHAT, sizes, scale, key)
    return figure
