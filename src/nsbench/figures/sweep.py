"""The sweep of (rho, gamma): what each arm changes against the baseline, as heat maps."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from nsbench.config.settled import settles, settles_steps
from nsbench.figures import comparison, curves, style

STEPS, LOSS = "fewer_steps_percent", "best_val_loss_difference"
LABELS = {STEPS: "fewer steps to target, %", LOSS: "best validation loss,\narm − baseline (nats)"}
COLOURS = {STEPS: "RdBu", LOSS: "RdBu_r"}
"""Blue is better: fewer steps, a lower loss."""
FORMS = {STEPS: "{:+.0f}%", LOSS: "{:+.3g}"}
NO_LOSS = "the best validation loss is of the pairs without them"
CROWD = 0.9
"""Share of the fields that the colours tell apart: one enormous effect must not pale all others."""
SELECTED = {
    "fill": False,
    "ec": "black",
    "lw": 2.2,
    "zorder": 4,
    "path_effects": [withStroke(linewidth=5, foreground="white")],
}


def draw(
    effects: pd.DataFrame,
    score_effects: pd.DataFrame,
    selections: pd.DataFrame,
    cells: list[dict[str, Any]],
    task: str,
    scale: str,
    times: pd.DataFrame | None = None,
) -> Figure:
    """Per variant of `task` with a sweep: the effect on steps to target and, below it, on the best
    validation loss, over gamma (across) and rho (up).

    Takes `schemas.statistics.PAIRED_EFFECT`, `schemas.analysis.SCORE_EFFECT` and `schemas.analysis.SELECTION`; `times`
    (`schemas.training.TIME_TO_TARGET`) tells which runs were stopped early. A field has
    the estimate and its interval, bold with a dot where that settles it; hatched fields
    are those in which no run reached the target; the arm that validation selects is framed.
    Panels of one kind share their colours. Without a sweep the figure says that there is none.
    """
    groups = {
        name: group
        for name, group in style.variants([cell for cell in cells if cell["task"] == task]).items()
        if comparison.has_sweep(group)
    }
    if not groups:
        return style.empty(f"Sweep: the grid has no sweep of (ρ, γ) of {task}", scale)
    shown = [cell for group in groups.values() for cell in group]
    tables = {STEPS: effects, LOSS: score_effects}
    norms = {column: _norm(table, column, shown) for column, table in tables.items()}
    n_gammas, n_rhos = (max(len(_values(group)[place]) for group in groups.values()) for place in (1, 0))
    n_rows, n_columns, places = style.blocks(len(groups), 2)
    with style.applied():
        width = max((0.95 * n_gammas + 0.75) * n_columns + 1.0, 6.2)
        figure = Figure(figsize=(width, (0.5 * n_rhos + 0.95) * n_rows + 1.4), layout="constrained")
        grid = figure.subplots(n_rows, n_columns, squeeze=False)
        for axes in grid.flat:
            axes.set_axis_off()
        for (variant, group), at in zip(groups.items(), places, strict=True):
            chosen = comparison.selected(group, selections)
            for (column_name, table), place in zip(tables.items(), at, strict=True):
                axes = grid[place]
                axes.set_axis_on()
                _panel(axes, group, table, column_name, norms[column_name], chosen)
                if place[1] == 0:
                    axes.set_ylabel("ρ")
            curves.header(grid[at[0]], variant, group[0]["leaks"], [])
            grid[at[1]].set_xlabel("γ")
        for place in range(n_rows):
            column_name = (STEPS, LOSS)[place % 2]
            _colour_bar(figure, list(grid[place]), column_name, norms[column_name])
        lines = [
            _reading(pd.concat([effects["confidence"], score_effects["confidence"]])),
            *([] if times is None else style.stopped_line(times, shown, NO_LOSS)),
            *style.text_lines(score_effects, shown),
            style.scale_text(shown, scale),
        ]
        style.footer(figure, lines, _key(), n_columns=3 if width > 8 else 2)
    return figure


def _values(group: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """The rho and the gamma of a variant's sweep, each in order."""
    pairs = [comparison.pair(cell) for cell in comparison.swept(group)]
    return sorted({rho for rho, _ in pairs}), sorted({gamma for _, gamma in pairs})


def _rows(table: pd.DataFrame, cells: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of the swept arms of one or more variants."""
    keys = [(cell["task"], cell["variant"], cell["arm"]) for cell in comparison.swept(cells)]
    found = pd.MultiIndex.from_frame(table[["task", "variant", "arm"]]).isin(keys)
    return table[found]


def _norm(table: pd.DataFrame, column: str, cells: list[dict[str, Any]]) -> Normalize:
    """Colours centred on 0, up to an effect that most fields of all variants stay under."""
    values = _rows(table, cells)[column].astype(float)
    sizes = values[np.isfinite(values)].abs()
    limit = sizes.quantile(CROWD, interpolation="lower") if len(sizes) else 0.0
    return Normalize(-limit or -1.0, limit or 1.0)


def _panel(
    axes: Axes, group: list[dict[str, Any]], table: pd.DataFrame, column: str, norm: Normalize, chosen: str | None
) -> None:
    """One heat map: a field for every swept arm of the variant."""
    rhos, gammas = _values(group)
    colours = matplotlib.colormaps[COLOURS[column]]
    rows = {row["arm"]: row for row in _rows(table, group).to_dict("records")}
    for cell in comparison.swept(group):
        rho, gamma = comparison.pair(cell)
        x, y = gammas.index(gamma), rhos.index(rho)
        row = rows.get(cell["arm"])
        value = float(row[column]) if row else math.nan
        look = {"fc": colours(norm(value))} if math.isfinite(value) else {"fc": "white", "hatch": "////"}
        field = Rectangle((x - 0.5, y - 0.5), 1, 1, ec="white" if math.isfinite(value) else "#C4C4C4", lw=1, **look)
        field.set_gid("field" if math.isfinite(value) else "field empty")
        axes.add_patch(field)
        _write(axes, x, y, row, column, norm)
        if cell["arm"] == chosen:
            axes.add_patch(Rectangle((x - 0.46, y - 0.45), 0.92, 0.90, gid="selected", **SELECTED))
    axes.set(xlim=(-0.5, len(gammas) - 0.5), ylim=(-0.5, len(rhos) - 0.5))
    axes.set_xticks(range(len(gammas)), [f"{gamma:g}" for gamma in gammas])
    axes.set_yticks(range(len(rhos)), [f"{rho:g}" for rho in rhos])
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _write(axes: Axes, x: int, y: int, row: dict[str, Any] | None, column: str, norm: Normalize) -> None:
    """A field's estimate and interval."""
    value = float(row[column]) if row else math.nan
    if not math.isfinite(value):
        text = "not reached" if column == STEPS and row and not _reached(row) else "none"
        box = {"fc": "white", "ec": "none", "pad": 1.0}
        axes.text(x, y, text, ha="center", va="center", fontsize=7, color=style.MUTED, gid="field text", bbox=box)
        return
    low, high = float(row[f"{column}_low"]), float(row[f"{column}_high"])
    if column == STEPS:
        settled = settles_steps(row) != 0
    else:
        settled = settles(low, high, row["n_compared"], row["confidence"], n_stopped=row["n_stopped"]) != 0
    ink = "white" if abs(norm(value) - 0.5) > 0.34 else "#1A1A1A"
    look = {"ha": "center", "color": ink, "gid": "field text"}
    form = FORMS[column]
    main = form.format(value) + (" •" if settled else "")
    weight = "bold" if settled else "normal"
    has_interval = math.isfinite(low) and math.isfinite(high)
    axes.text(x, y + 0.16 * has_interval, _signed(main), va="center", fontsize=8.5, weight=weight, **look)
    if has_interval:
        interval = f"{form.format(low)} to {form.format(high)}".replace("%", "")
        axes.text(x, y - 0.22, _signed(interval), va="center", fontsize=6.3, **look)


def _reached(row: dict[str, Any]) -> bool:
    """Whether any run of the pair of arms reached the target."""
    return bool(row["n_baseline_reached"] + row["n_arm_reached"])


def _signed(text: str) -> str:
    return text.replace("-", "−")


def _colour_bar(figure: Figure, panels: list[Axes], column: str, norm: Normalize) -> None:
    """The colours of a row of panels."""
    bar = figure.colorbar(
        ScalarMappable(norm, COLOURS[column]), ax=panels, shrink=0.9, aspect=12, pad=0.02, fraction=0.06, extend="both"
    )
    bar.set_label(LABELS[column], fontsize=8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=2)
    bar.ax.grid(False)


def _reading(confidences: pd.Series) -> str:
    """What the fields say."""
    levels = " or ".join(f"{100 * level:g}%" for level in sorted(confidences.dropna().unique())) or "bootstrap"
    return (
        f"Each field: an arm against the baseline of its variant, paired by seed, with its {levels} interval over "
        "seeds. Blue is better: fewer steps, or a lower best validation loss. With this many fields some leave zero "
        "by chance."
    )


def _key() -> list[Any]:
    return [
        Line2D([], [], ls="", marker="o", ms=3, color="black", label="bold: settled, interval without zero"),
        Rectangle((0, 0), 1, 1, label="selected on validation data", **SELECTED),
        Rectangle((0, 0), 1, 1, fc="white", ec="#C4C4C4", hatch="////", label="no run reached the target"),
    ]
