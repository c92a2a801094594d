"""What all figures share: colours, type, footers, medians over seeds, and saving.

One fixed colour per kind of arm, told apart in every common form of colour blindness; arms of one
kind differ by dashes. Nothing here touches matplotlib's global state.
"""

from __future__ import annotations

import contextlib
import io
import math
import textwrap
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, StrMethodFormatter

from nsbench.analysis.statistics.intervals import stopped_runs, unmeasured_runs
from nsbench.arms import ARMS, describe
from nsbench.schemas.metrics import METRICS
from nsbench.storage.atomic import atomic_write

ARM_COLOURS = {
    ("baseline", None): "#3B3B3B",
    ("noise_stability", 1): "#D55E00",
    ("noise_stability", 0): "#8E4FA8",
}
FAMILY_COLOURS = {"cheaper": "#0039E5", "control": "#4C9972", "own": "#7F6A00", "paper": "#7F6A00"}
LOSS_COLOUR = "#0072B2"
STABILITY_COLOUR = "#00845F"
MUTED = "#6B6B6B"
WARNING = "#B00020"
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1))]
COUNTED_LABELS = {"all": "all targets", "unpadded": "without padding", "known": "without padding and unknown words"}
DATA_SIGNS = {
    "modulus": "K = {}",
    "n": "n = {}",
    "k": "k = {}",
    "label_noise": "label noise {}",
    "n_symbols": "vocabulary of {}",
    "length": "{} tokens per example",
    "n_train": "{} training examples",
}
KNOWN_TEXTS = ("", "WikiText-2")
"""Labels of the text that need no remark: no text, and the paper's own."""
DPI = 150

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": "#222222",
    "axes.titlesize": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.6,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "pdf.fonttype": 42,
    "svg.hashsalt": "nsbench",
}


def applied() -> contextlib.AbstractContextManager[None]:
    """The context in which figures are made and saved."""
    return matplotlib.rc_context(_RC)


def arm_colour(arm_settings: dict[str, Any]) -> str:
    """The fixed colour of an arm's kind (and orientation S); one for each family of other arms."""
    of_family = FAMILY_COLOURS[ARMS.find(arm_settings["kind"]).family]
    return ARM_COLOURS.get((arm_settings["kind"], arm_settings.get("orientation")), of_family)


def arm_dashes(cells: list[dict[str, Any]]) -> list[Any]:
    """A line style for each cell of one variant: arms of one colour get different dashes."""
    colours = [arm_colour(cell["arm_settings"]) for cell in cells]
    return [DASHES[colours[:place].count(colour) % len(DASHES)] for place, colour in enumerate(colours)]


def arm_text(cell: dict[str, Any]) -> str:
    """An arm's name with its settings, as `gentle (ρ = 0.25, γ = 0.75, S = 1)`."""
    settings = describe(cell["arm_settings"])
    return f"{cell['arm']} ({settings})" if settings else cell["arm"]


def metric_label(metric: str) -> str:
    """A metric of `schemas.training.HISTORY` in words, losses with their unit."""
    split, quantity, targets = METRICS[metric]
    name = f"{ {'val': 'validation', 'train': 'training'}[split] } {quantity}" + " (nats)" * (quantity == "loss")
    return name if targets == "all" else f"{name},\n{COUNTED_LABELS[targets]}"


def text_lines(table: pd.DataFrame, cells: list[dict[str, Any]]) -> list[str]:
    """A footer's line on the text that was used, where it is not WikiText-2 under its own splits.

    `table` has a column `text` beside those of `schemas.training.CELL`.
    """
    keys = {(cell["task"], cell["variant"], cell["arm"]) for cell in cells}
    labels = [
        row.text
        for row in table[["task", "variant", "arm", "text"]].drop_duplicates().itertuples(index=False)
        if (row.task, row.variant, row.arm) in keys and row.text not in KNOWN_TEXTS
    ]
    return [f"Text: {'; '.join(dict.fromkeys(labels))}."] if labels else []


def blocks(n_variants: int, n_rows: int, max_columns: int = 3) -> tuple[int, int, list[list[tuple[int, int]]]]:
    """Where the panels of variants with `n_rows` panels each go: a column each, wrapped to blocks.

    Returns the rows and columns of the whole and, for every variant, its (row, column) from top to
    bottom. Columns are as many as the fewest blocks need.
    """
    n_blocks = math.ceil(n_variants / max_columns)
    n_columns = math.ceil(n_variants / n_blocks)
    places = [divmod(place, n_columns) for place in range(n_variants)]
    return (
        n_blocks * n_rows,
        n_columns,
        [[(block * n_rows + row, column) for row in range(n_rows)] for block, column in places],
    )


def scale_text(cells: list[dict[str, Any]], scale: str) -> str:
    """What was run and, where that is not all of it or the scale is not the paper's, that it is not."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        data = cell.get("settings", {}).get("data", {})
        for name, sign in DATA_SIGNS.items():
            if name in data:
                found.setdefault(sign, []).append(data[name])
    parts = [sign.format(_span(values)) for sign, values in found.items()]
    if cells:
        parts.append(f"{_span([len(cell['seeds']) for cell in cells])} seeds per arm")
        parts.append(f"budget {_span([cell['budget_steps'] for cell in cells])} steps")
    text = ", ".join(parts)
    part = cells[0].get("partial", "") if cells else ""
    told = [f"PARTIAL: {part}, more may change this."] if part else []
    if scale != "paper":
        told.append(f"{scale.upper()} SCALE, not the paper's setting{': ' if text else ''}{text}.")
    elif text:
        # A sign (n = 20) stays as it is; a word starts the sentence.
        told.append(f"{text if text[1:2] == ' ' else text[:1].upper() + text[1:]}.")
    return " ".join(told)


def _span(values: list[float]) -> str:
    return " to ".join(f"{value:,}" for value in sorted({min(values), max(values)}))


def variants(cells: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Cells by variant, both in grid order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells:
        found.setdefault(cell["variant"], []).append(cell)
    return found


def of_cell(table: pd.DataFrame, cell: dict[str, Any]) -> pd.DataFrame:
    """The rows of a cell's grid seeds, ordered by seed and, where there are steps, by step."""
    rows = table[
        (table["task"] == cell["task"]) & (table["variant"] == cell["variant"]) & (table["arm"] == cell["arm"])
    ]
    return rows[rows["seed"].isin(cell["seeds"])].sort_values([name for name in ("seed", "step") if name in rows])


def by_seed(rows: pd.DataFrame, column: str, seeds: list[int]) -> pd.DataFrame:
    """(steps, seeds): one column per seed; NaN where a seed has no value at a step."""
    return rows.pivot(index="step", columns="seed", values=column).reindex(columns=seeds)


def stopped_seeds(times: pd.DataFrame, cell: dict[str, Any]) -> list[int]:
    """Seeds of the cell's runs that `training.stop` ended early; `times` is `schemas.training.TIME_TO_TARGET`."""
    rows = of_cell(times, cell)
    return rows.loc[rows["status"] == "stopped", "seed"].tolist()


def until_first_stop(curves: pd.DataFrame, stopped: list[int]) -> pd.DataFrame:
    """The rows of (steps, seeds) until the first of the seeds `stopped` ends: later, only slower runs are left.

    Left out too are steps, as of the last checkpoint of a stopped run, that a seed which goes on has no value at.
    """
    if not stopped:
        return curves
    here, goes_on = curves.notna(), curves.bfill().notna()
    return curves[here[stopped].all(axis=1) & (here | ~goes_on).all(axis=1)]


def stopped_line(
    times: pd.DataFrame, cells: list[dict[str, Any]], what: str = "the median ends with the first of an arm"
) -> list[str]:
    """A footer's line on the runs that `training.stop` ended early, where there are such, and `what` that does."""
    found = stopped_runs(pd.concat([of_cell(times, cell) for cell in cells]))
    return [f"Ended early by training.stop: {found}; {what}."] if found else []


def unmeasured_line(runs: pd.DataFrame, cells: list[dict[str, Any]], what: str) -> list[str]:
    """A footer's line on the runs that have no measures (`schemas.training.COLLECTED_RUNS`), where there are such, and
    why; `what` they are left out of."""
    rows = pd.concat([of_cell(runs, cell) for cell in cells])
    found = unmeasured_runs(rows)
    reasons = "; ".join(sorted(set(rows["no_evaluation"]) - {""}))
    return [f"Left out of {what}: {found}; {reasons}."] if found else []


def pointwise_median(curves: pd.DataFrame, worst: float) -> pd.Series:
    """Median over all seeds at each step; a seed without a value (diverged) counts as `worst`."""
    median = curves.fillna(worst).median(axis=1)
    return median.where(np.isfinite(median))


def step_axis(axes: Axes, budget: int) -> None:
    """Steps from 0 to the budget, with thousands separators."""
    axes.set_xlim(-0.02 * budget, 1.04 * budget)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def log_axis(axes: Axes) -> None:
    """Plain numbers at 1, 2, 5 of each decade, or at decades only where there are many."""
    low, high = axes.get_ylim()
    few = high / low < 200
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if few else (1.0,), numticks=9))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def loss_axis(axes: Axes, low: float, high: float) -> None:
    """A vertical axis of losses from `low` to `high`: logarithmic where they span more than a decade."""
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        return
    if low > 0 and high / low > 10:
        axes.set_yscale("log")
        axes.set_ylim(low / 1.15, high * 1.15)
        log_axis(axes)
    else:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


def footer(figure: Figure, lines: list[str], key: list[Line2D] | None = None, n_columns: int = 1) -> None:
    """A key to the signs in `n_columns` and small text, along the bottom edge; room is kept free for them."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    # An equation is kept on one line: textwrap does not break at no-break spaces.
    unbroken = [line.replace(" = ", "\u00a0=\u00a0") for line in lines]
    wrapped = [part.replace("\u00a0", " ") for line in unbroken for part in textwrap.wrap(line, int(width * 17))]
    top = (0.155 * len(wrapped) + 0.1) / height
    figure.text(0.08 / width, top, "\n".join(wrapped), va="top", fontsize=7.5, color=MUTED)
    if key:
        figure.legend(
            handles=key, loc="lower left", bbox_to_anchor=(0, top), ncols=n_columns, handlelength=2.2, borderaxespad=0.3
        ).set_in_layout(False)
        top += (0.19 * math.ceil(len(key) / n_columns) + 0.12) / height
    figure.get_layout_engine().set(rect=(0, top, 1, 1 - top))


def empty(message: str, scale: str) -> Figure:
    """A figure that says why there is nothing in it."""
    with applied():
        figure = Figure(figsize=(6, 2.2), layout="constrained")
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, transform=axes.transAxes)
        footer(figure, [scale_text([], scale)])
    return figure


def save(figure: Figure, out_png: Path | str, out_pdf: Path | str) -> None:
    """Write PNG and PDF, each whole or not at all, the same bytes for the same figure."""
    no_traces = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}
    with applied():
        for path, kind in ((out_png, "png"), (out_pdf, "pdf")):
            # In memory first: on a full disk matplotlib stumbles over what it could not write of a PDF.
            drawn = io.BytesIO()
            figure.savefig(drawn, format=kind, dpi=DPI, metadata=no_traces[kind], facecolor="white")
            with atomic_write(path) as temporary:
                temporary.write_bytes(drawn.getvalue())
