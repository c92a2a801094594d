"""What moves first while a model groks: sensitivity, stability, the test loss or the norm of the weights."""

from __future__ import annotations

import math

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import of_baseline
from nsbench.figures.annotations import Axes, Cells, Figure, Series, Table
from nsbench.figures.registry import figure
from nsbench.schemas.metrics import BESIDE_SENSITIVITY, at_checkpoints

LOOKS = {
    "sensitivity": ("token sensitivity S", "#CC3311"),
    "stability": ("flips, half of the tokens kept", style.STABILITY_COLOUR),
    "test_loss": ("test loss", style.LOSS_COLOUR),
    "weight_norm": ("norm of the weights", "#7A5195"),
}
SMOOTHED = 0.25
"""Share of the budget: the released plots average 5,000 of up to 20,000 epochs."""
DASHES = (0, (3, 1.2))


@figure(
    "sensitivity_grokking",
    tables=["evaluation", "history", "onsets", "times"],
    tasks=["modular_addition"],
    measures=["token_sensitivity", "test_scores"],
    of_baselines=True,
    title="Modular addition: what moves first, sensitivity, stability, test loss or the norm of the weights",
    caption="Each curve as a share of its whole change, so that all begin at 0 and reach 1: of the test loss its fall "
    "from the start, of the others the largest departure from the start, up or down. Thin: single runs; bold: the "
    "median. Dashed: the median of the same test loss under a trailing mean over a quarter of the budget, about what "
    "the second paper's released plots do to the loss and not to sensitivity; a lead over that curve alone is made by "
    "smoothing. The strip on top marks where each run's curves begin to move.",
)
def draw(evaluation: Table, history: Table, onsets: Table, times: Table, cells: Cells, scale: str) -> Figure:
    """A panel for each variant whose baseline has sensitivity at its checkpoints (`at_checkpoints`)."""
    found = {}
    for cell in of_baseline(cells):
        law, series = at_checkpoints(comparison.of_cell(evaluation, cell), comparison.of_cell(history, cell))
        if law:
            found[cell["variant"]] = cell, law.removesuffix("-train"), series
    if not found:
        return style.empty("No run of modular addition has token sensitivity.", footers.scale_text(cells, scale))
    share = float(onsets["share"].iloc[0])
    figure, columns = style.columns(len(found), 1, 5.6 if len(found) < 2 else 4.0, 3.2, below=1.2, max_columns=2)
    for (cell, law, series), (axes,) in zip(found.values(), columns, strict=True):
        for place, name in enumerate(LOOKS):
            wide = series[name].pivot_table(index="step", columns="seed", values="value").astype(float)
            _plot(axes, wide, name, place, share)
        axes.axhline(share, color=style.MUTED, lw=0.8, ls=":", zorder=1, gid="share")
        low = axes.dataLim.y0 - 0.05
        axes.set_ylim(low, low + (1.05 - low) / (1 - len(LOOKS) * curves.STRIP))
        axes.set_yticks([0, 0.5, 1])
        style.step_axis(axes, cell["budget_steps"])
        axes.set_xlabel("optimiser step")
        if style.is_first(axes):
            axes.set_ylabel("share of the whole change")
        style.header(axes, cell["variant"], cell.get("leaks", []), [style.sign(f"law: {law}", ls="")], handlelength=0)
    key = [
        *(style.sign(text, color=colour, lw=2, gid=f"median {name}") for name, (text, colour) in LOOKS.items()),
        style.sign("test loss, smoothed", color=LOOKS["test_loss"][1], lw=1.4, ls=DASHES, gid="smoothed"),
        style.sign("a seed's onset", marker="|", ms=7, mew=1.2, gid="onset"),
    ]
    lines = [f"A curve begins to move where it has made {share:.0%} of its whole change (dotted), by its checkpoints."]
    drawn = [cell for cell, *_ in found.values()]
    style.footer(figure, [*lines, *footers.remarks(times, drawn, scale, stopped="")], key)
    return figure


def _plot(axes: Axes, wide: Table, name: str, place: int, share: float) -> None:
    """The runs of a series and their median, and the row of the strip; wide: (step, seed)."""
    colour, direction = LOOKS[name][1], BESIDE_SENSITIVITY.get(name, "either")
    changes = wide.apply(_share, direction=direction)
    for _, run in changes.items():
        axes.plot(run.index, run, color=colour, lw=0.6, alpha=0.3, gid=f"seed {name}")
    axes.plot(changes.index, changes.median(axis=1), color=colour, lw=2, gid=f"median {name}")
    if name == "test_loss":
        smooth = wide.rolling(max(1, round(SMOOTHED * (len(wide) - 1))), min_periods=1).mean()
        middle = smooth.apply(_share, direction=direction).median(axis=1)
        axes.plot(middle.index, middle, color=colour, lw=1.4, ls=DASHES, gid="smoothed")
    first = [run.index[run >= share][0] for _, run in changes.items() if (run >= share).any()]
    height, across = 1 - curves.STRIP * (place + 0.5), axes.get_xaxis_transform()
    look = {"ms": 7, "mew": 1.2, "color": colour, "transform": across, "ls": ""}
    if first:  # an empty line would count in the layout
        axes.plot(first, [height] * len(first), marker="|", gid="onset", label=name, **look)


def _share(run: Series, direction: str) -> Series:
    """A run's departures from its first value, over its whole change as onsets have it; NaN where it has none."""
    departures = run - run.iloc[0]
    change = departures.iloc[departures.abs().argmax() if direction == "either" else departures.argmin()]
    return departures / (change or math.nan)
