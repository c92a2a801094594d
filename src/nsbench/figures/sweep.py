"""The sweep of (rho, gamma): what each arm changes against the baseline, as heat maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nsbench.figures.comparison as comparison
import nsbench.figures.curves as curves
import nsbench.figures.footers as footers
import nsbench.figures.style as style
from nsbench.config.cells import swept
from nsbench.config.settled import FEWER, MORE, OPEN, no_effect
from nsbench.config.wording import amount, interval
from nsbench.figures.annotations import Axes, Cells, Figure, Normalize, Table
from nsbench.figures.registry import figure

STEPS, LOSS = "fewer_steps_percent", "best_val_loss_difference"
LABELS = {STEPS: "steps to target", LOSS: "best validation loss,\narm − baseline (nats)"}
COLOURS = {STEPS: "RdBu", LOSS: "RdBu_r"}
"""Blue is better: fewer steps, a lower loss."""
NO_LOSS = "the best validation loss is of the pairs without them"
_OF_LOSSES = ", or a lower best validation loss. With this many fields some losses' intervals leave zero by chance."
_OF_BOUNDS = " With ≤ or ≥: too few runs reached the target for more than a bound."
CROWD = 0.9
"""Share of the fields that the colours tell apart: one enormous effect must not pale all others."""
EMPTY = {"fc": "white", "ec": "#C4C4C4", "hatch": "////"}


@figure(
    "sweep",
    tables=["effects", "score_effects", "selections", "times"],
    each_task=True,
    needs=comparison.has_sweep,
    title="{task}: what each (ρ, γ) of the regulariser changes",
    caption="Each field compares an arm with the baseline of its variant, pair by pair of seeds: above, steps to "
    "target, below, the lowest validation loss. Blue is better. Bold is settled, after the correction for many "
    "comparisons: with a dot as fewer or more steps, with an equals sign as no effect larger than the margin. Losses "
    "are described, not judged: each interval stands by itself. The framed arm is the one that the validation data "
    "select; the best of many fields is lucky as well as good, so read it beside the leave-one-out row of the sweep's "
    "table.",
    notes={"next_token": curves.PROTOCOLS},
)
def draw(effects: Table, score_effects: Table, selections: Table, times: Table, cells: Cells, scale: str) -> Figure:
    """Per variant: the effect on steps to target and, below it, on the best validation loss, over gamma (across) and
    rho (up).

    A field has the estimate and its interval; where the typical ratio is beyond the budget, its bound. What is
    settled of steps (`outcome` of PAIRED_EFFECT) is bold, with a dot or, where there is no effect, an equals sign.
    Hatched fields have no estimate; the arm that validation selects is framed. Panels of one kind share their colours.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.patches import Rectangle

    groups = curves.groups_of(cells)
    arms = [comparison.key(cell) for cell in swept(cells)]
    tables = {STEPS: effects, LOSS: score_effects}
    losses = comparison.by_cell(score_effects)
    if not any(math.isfinite(_field(losses.get(key), LOSS)[0]) for key in arms):
        del tables[LOSS]  # as of runs that end at their target
    norms = {column: _norm(table, column, cells) for column, table in tables.items()}
    sizes = [list(map(len, comparison.sweep_values(group))) for group in groups.values()]
    n_rhos, n_gammas = map(max, zip(*sizes, strict=True))
    figure, columns = style.columns(len(groups), len(tables), 0.95 * n_gammas + 1.25, 0.5 * n_rhos + 0.95, below=1.4)
    for (variant, group), panels in zip(groups.items(), columns, strict=True):
        chosen = comparison.selected(group, selections)
        for axes, (column, table) in zip(panels, tables.items(), strict=True):
            _panel(axes, group, comparison.by_cell(table), column, norms[column], chosen)
            if style.is_first(axes):
                axes.set_ylabel("ρ")
        style.header(panels[0], variant, group[0]["leaks"], [])
        panels[-1].set_xlabel("γ")
    grid = np.array(figure.axes).reshape(-1, columns[0][0].get_gridspec().ncols).tolist()
    for row, column in zip(grid, tuple(tables) * len(grid), strict=False):
        look = {"shrink": 0.9, "aspect": 12, "pad": 0.02, "fraction": 0.06, "extend": "both"}
        bar = figure.colorbar(ScalarMappable(norms[column], COLOURS[column]), ax=row, **look)
        bar.set_label(LABELS[column], fontsize=8)
        if column == STEPS:
            bar.ax.yaxis.set_major_formatter(lambda value, _: amount(value, "% fewer") if value else "equal")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=7, length=2)
        bar.ax.grid(False)
    level = footers.interval_text([*effects["confidence"].dropna(), *score_effects["confidence"].dropna()])
    bounds = any(_field(row, column)[1] for column, table in tables.items() for row in table.to_dict("records"))
    lines = [
        f"Each field: an arm against the baseline of its variant, paired by seed, with its {level} interval over "
        f"seeds. Blue is better: fewer steps{_OF_LOSSES if LOSS in tables else '.'}{_OF_BOUNDS if bounds else ''}",
        *footers.remarks(times, cells, scale, stopped=NO_LOSS if LOSS in tables else ""),
    ]
    margin, steps = float(effects["margin"].max()), comparison.by_cell(effects)
    outcomes = {steps[key]["outcome"] for key in arms if key in steps}
    side = style.sign("bold: settled, fewer or more steps", marker="o", ms=3, color="black")
    neither = style.sign(f"bold: settled, {no_effect(margin)}", marker="$=$", ms=6, mew=0, color="black")
    signs = [
        *([side] if outcomes & {FEWER, MORE} else []),
        *([neither] if outcomes - {FEWER, MORE, OPEN} else []),
        Rectangle((0, 0), 1, 1, label="selected on validation data", gid="selected", **_frame()),
        Rectangle((0, 0), 1, 1, label="no estimate", gid="field empty", **EMPTY),
    ]
    style.footer(figure, lines, signs)
    return figure


def _norm(table: Table, column: str, cells: Cells) -> Normalize:
    """Colours centred on 0, up to an effect that most fields of all variants stay under, or to the margin of steps."""
    from matplotlib.colors import Normalize

    rows = comparison.by_cell(table)
    sizes = [abs(_field(rows[key], column)[0]) for key in map(comparison.key, swept(cells)) if key in rows]
    sizes = [size for size in sizes if math.isfinite(size)]
    limit = float(np.quantile(sizes, CROWD, method="lower")) if sizes else 0.0
    if column == STEPS:  # what counts as no effect is pale
        limit = max(limit, 100 * float(table["margin"].max()))
    return Normalize(-limit or -1.0, limit or 1.0)


def _panel(axes: Axes, group: Cells, rows: dict[Any, Any], column: str, norm: Normalize, chosen: str | None) -> None:
    """One heat map: a field for every swept arm of the variant."""
    import matplotlib
    from matplotlib.patches import Rectangle

    rhos, gammas = comparison.sweep_values(group)
    colours = matplotlib.colormaps[COLOURS[column]]
    for cell in swept(group):
        rho, gamma = comparison.pair(cell)
        x, y = gammas.index(gamma), rhos.index(rho)
        row = rows.get(comparison.key(cell))
        value, _ = _field(row, column)
        look = {"fc": colours(norm(value)), "ec": "white"} if math.isfinite(value) else EMPTY
        gid = "field" if math.isfinite(value) else "field empty"
        axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, lw=1, gid=gid, **look))
        _write(axes, x, y, row, column, norm)
        if cell["arm"] == chosen:
            axes.add_patch(Rectangle((x - 0.46, y - 0.45), 0.92, 0.90, gid="selected", **_frame()))
    axes.set(xlim=(-0.5, len(gammas) - 0.5), ylim=(-0.5, len(rhos) - 0.5))
    axes.set_xticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas])
    axes.set_yticks(range(len(rhos)), [f"{rho:g}" for rho in rhos])
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _field(row: dict[str, Any] | None, column: str) -> tuple[float, int]:
    """What a field shows, and where that is a bound its side: at most (-1) or at least (1) so much; NaN: nothing."""
    value, low, high = (float(row[f"{column}{end}"]) if row else math.nan for end in ("", "_low", "_high"))
    if math.isfinite(value) or math.isnan(low) or math.isfinite(low) == math.isfinite(high):
        return value, 0
    return (high, -1) if math.isfinite(high) else (low, 1)


def _write(axes: Axes, x: int, y: int, row: dict[str, Any] | None, column: str, norm: Normalize) -> None:
    """A field's estimate and interval, or its bound."""
    value, side = _field(row, column)
    if not math.isfinite(value):
        reached = row and row.get("n_baseline_reached", 1) + row.get("n_arm_reached", 1)
        text = "not reached" if row and not reached else "none"
        look = {"fontsize": 7, "color": style.MUTED, "bbox": {"fc": "white", "ec": "none", "pad": 1.0}}
        axes.text(x, y, text, ha="center", va="center", gid="field text", **look)
        return
    unit, form = ("% fewer", _whole) if column == STEPS else ("1", _signed)
    if column == STEPS and form(abs(value)) == "0":
        value, unit = 0.0, "%"
    settled = row["outcome"] if column == STEPS else OPEN
    ink = "white" if abs(norm(value) - 0.5) > 0.34 else "#1A1A1A"
    look = {"ha": "center", "va": "center", "color": ink, "gid": "field text"}
    main = amount(value, unit, side, form) + {OPEN: "", FEWER: " •", MORE: " •"}.get(settled, " =")
    weight = "normal" if settled == OPEN else "bold"
    ends = [float(row[f"{column}{end}"]) for end in ("_low", "_high")]
    has_interval = not (side or np.isnan(ends).any())
    axes.text(x, y + 0.16 * has_interval, main, fontsize=8.5, weight=weight, **look)
    if has_interval:
        axes.text(x, y - 0.22, interval(*ends, "fewer" if column == STEPS else unit, value, form), fontsize=6.3, **look)


def _whole(value: float) -> str:
    return style.minus(f"{value:.0f}".replace("inf", "∞"))


def _signed(value: float) -> str:
    return style.minus(f"{value:+.3g}")


def _frame() -> dict[str, Any]:
    """The look of the frame around the arm that is selected."""
    from matplotlib.patheffects import withStroke

    effects = [withStroke(linewidth=5, foreground="white")]
    return {"fill": False, "ec": "black", "lw": 2.2, "zorder": 4, "path_effects": effects}
