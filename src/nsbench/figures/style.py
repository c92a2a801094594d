"""What all figures share: colours, type, panels, footers, medians over seeds, and saving.

One fixed colour per kind of arm, told apart in every common form of colour blindness; arms of one kind differ by
dashes. Nothing here touches matplotlib's global state, and matplotlib is imported only where something is drawn.
"""

from __future__ import annotations

import io
import math
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nsbench.arms import ARMS, describe
from nsbench.figures.annotations import Axes, Axis, Cell, Cells, Figure, Line2D, Series, Table
from nsbench.schemas.metrics import METRICS
from nsbench.storage.atomic import atomic_write

if TYPE_CHECKING:
    import contextlib

ARM_COLOURS = {
    ("baseline", None): "#3B3B3B",
    ("noise_stability", 1): "#D55E00",
    ("noise_stability", 0): "#8E4FA8",
}
FAMILY_COLOURS = {"cheaper": "#0039E5", "control": "#4C9972", "own": "#7F6A00", "paper": "#7F6A00"}
LOSS_COLOUR = "#0072B2"
STABILITY_COLOUR = "#00845F"
MUTED, TEXT, INK = "#6B6B6B", "#222222", "#3B3B3B"
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
RATIO_TICKS = (0.02, 0.05, 0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 5, 10, 20, 50)
MOST_NAMED = 4
"""Arms that a line of the footer names each by itself."""
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
DPI = 150

_RC = {
    "font.family": "DejaVu Sans",
    "font.size": 8.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": TEXT,
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
    import matplotlib

    return matplotlib.rc_context(_RC)


# --- words and colours ---------------------------------------------------------------------------------


def arm_colour(arm_settings: dict[str, Any]) -> str:
    """The fixed colour of an arm's kind (and orientation S); one for each family of other arms."""
    of_family = FAMILY_COLOURS[ARMS.find(arm_settings["kind"]).family]
    return ARM_COLOURS.get((arm_settings["kind"], arm_settings.get("orientation")), of_family)


def arm_dashes(cells: Cells) -> list[Any]:
    """A line style for each cell of one variant: arms of one colour get different dashes."""
    colours = [arm_colour(cell["arm_settings"]) for cell in cells]
    return [DASHES[colours[:place].count(colour) % len(DASHES)] for place, colour in enumerate(colours)]


def arm_text(cell: Cell) -> str:
    """An arm's name with its settings, as `gentle (ρ = 0.25, γ = 0.75, S = 1)`."""
    settings = describe(cell["arm_settings"])
    return f"{cell['arm']} ({settings})" if settings else cell["arm"]


def arms_text(cells: Cells) -> str:
    """The arms of cells with their settings, each once."""
    return f"Arms: {'; '.join(dict.fromkeys(map(arm_text, cells)))}."


def metric_label(metric: str) -> str:
    """A metric of `schemas.training.HISTORY` in words, losses with their unit."""
    split, quantity, targets = METRICS[metric]
    name = f"{ {'val': 'validation', 'train': 'training'}[split] } {quantity}" + " (nats)" * (quantity == "loss")
    return name if targets == "all" else f"{name},\n{COUNTED_LABELS[targets]}"


def minus(text: str) -> str:
    """A number's text with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


def text_lines(table: Table, cells: Cells) -> list[str]:
    """A footer's line on the text that was used, where it is not WikiText-2 under its own splits.

    `table` has a column `text` beside those of `schemas.training.CELL`.
    """
    texts = dict.fromkeys(text for cell in cells for text in of_cell(table, cell)["text"].unique())
    labels = [text for text in texts if text not in KNOWN_TEXTS]
    return [f"Text: {'; '.join(labels)}."] if labels else []


def scale_text(cells: Cells, scale: str) -> str:
    """What was run and, where that is not all of it or the scale is not the paper's, that it is not."""
    data = [cell.get("settings", {}).get("data", {}) for cell in cells]
    found = {name: [one[name] for one in data if name in one] for name in DATA_SIGNS}
    parts = [sign.format(span(found[name])) for name, sign in DATA_SIGNS.items() if found[name]]
    if cells:
        parts.append(f"{span([len(cell['seeds']) for cell in cells])} seeds per arm")
        parts.append(f"budget {span([cell['budget_steps'] for cell in cells])} steps")
    part = cells[0].get("partial", "") if cells else ""
    told = f"PARTIAL: {part}, more may change this. " if part else ""
    return told + sizes_text(parts, scale, "")


def sizes_text(sizes: list[str], scale: str, start: str = "Sizes: ") -> str:
    """Sizes in a sentence and, where the scale is not the paper's, that it is not."""
    text = ", ".join(sizes)
    if scale != "paper":
        return f"{scale.upper()} SCALE, not the paper's setting{': ' if text else ''}{text}."
    # A sign (n = 20) stays as it is; a word starts the sentence.
    text = start + text if start or text[1:2] == " " else text[:1].upper() + text[1:]
    return f"{text}." if sizes else ""


def span(values: Any) -> str:
    """The least and the largest of some numbers, `10 to 20`; one where they are the same."""
    return " to ".join(f"{value:,}" for value in sorted({min(values), max(values)}))


# --- rows of tables ------------------------------------------------------------------------------------


def of_cell(table: Table, cell: Cell) -> Table:
    """A cell's rows: those of its grid seeds, ordered by seed, where there are seeds, and by step."""
    here = (table["task"] == cell["task"]) & (table["variant"] == cell["variant"]) & (table["arm"] == cell["arm"])
    if "seed" in table:
        here &= table["seed"].isin(cell["seeds"])
    order = [name for name in ("seed", "step") if name in table]
    return table[here].sort_values(order) if order else table[here]


def by_seed(rows: Table, column: str, seeds: list[int]) -> Table:
    """(steps, seeds): one column per seed; NaN where a seed has no value at a step."""
    return rows.pivot(index="step", columns="seed", values=column).reindex(columns=seeds)


def median_time(rows: Table) -> float:
    """The median of times to target (`TIME_TO_TARGET`), censored ones later than any; it may be inf."""
    return float(rows["step"].astype(float).fillna(np.inf).median())


def stopped_seeds(times: Table, cell: Cell) -> list[int]:
    """Seeds of the cell's runs that `training.stop` ended early; `times` is `schemas.training.TIME_TO_TARGET`."""
    rows = of_cell(times, cell)
    return rows.loc[rows["status"] == "stopped", "seed"].tolist()


def until_first_stop(curves: Table, stopped: list[int]) -> Table:
    """The rows of (steps, seeds) until the first of the seeds `stopped` ends: later, only slower runs are left.

    Left out too are steps, as of the last checkpoint of a stopped run, that a seed which goes on has no value at.
    """
    if not stopped:
        return curves
    here, goes_on = curves.notna(), curves.bfill().notna()
    return curves[here[stopped].all(axis=1) & (here | ~goes_on).all(axis=1)]


def pointwise_median(curves: Table, worst: float) -> Series:
    """Median over all seeds at each step; a seed without a value (diverged) counts as `worst`."""
    median = curves.fillna(worst).median(axis=1)
    return median.where(np.isfinite(median))


def stopped_line(times: Table, cells: Cells, what: str = "the median ends with the first of an arm") -> list[str]:
    """A footer's line on the runs that `training.stop` ended early, where there are such, and `what` that does."""
    found = _counted(cells, [of_cell(times, cell)["status"] == "stopped" for cell in cells])
    return [f"Ended early by training.stop: {found.format('stopped at their target')}; {what}."] if found else []


def unmeasured_line(runs: Table, cells: Cells, what: str) -> list[str]:
    """A footer's line on the runs that have no measures (`schemas.training.COLLECTED_RUNS`), where there are such, and
    why; `what` they are left out of. A diverged run needs none."""
    rows = [of_cell(runs, cell) for cell in cells]
    found = _counted(cells, [(of["no_evaluation"] != "") & (of["status"] != "diverged") for of in rows])
    reasons = sorted({reason for of in rows for reason in of["no_evaluation"]} - {""})
    return [f"Left out of {what}: {found.format('without measures')}; {'; '.join(reasons)}."] if found else []


def _counted(cells: Cells, chosen: list[Series]) -> str:
    """How many of the cells' runs are chosen, and of which arms, `2 of 8 runs {} (gentle 2)`; empty: none."""
    arms: dict[str, int] = {}
    for cell, here in zip(cells, chosen, strict=True):
        arms[cell["arm"]] = arms.get(cell["arm"], 0) + int(here.sum())
    counts = [f"{arm} {count}" for arm, count in arms.items() if count]
    named = ", ".join(counts) if len(counts) <= MOST_NAMED else f"of {len(counts)} arms"
    return f"{sum(arms.values())} of {sum(map(len, chosen))} runs {{}} ({named})" if counts else ""


# --- axes ----------------------------------------------------------------------------------------------


def step_axis(axes: Axes, budget: int) -> None:
    """Steps from 0 to the budget, with thousands separators."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_xlim(-0.02 * budget, 1.04 * budget)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))


def plain_numbers(axis: Axis, locator: Any) -> None:
    """Plain numbers at what a locator, or a list, says, and no minor ticks; small powers of ten as such."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

    axis.set_major_locator(FixedLocator(locator) if isinstance(locator, list) else locator)
    axis.set_major_formatter(FuncFormatter(lambda value, _: _plain_or_power(value)))
    axis.set_minor_formatter(NullFormatter())
    axis.set_minor_locator(NullLocator())


def _plain_or_power(value: float) -> str:
    exponent = round(math.log10(value)) if 0 < value < 0.0005 else 0
    if exponent and math.isclose(value, 10.0**exponent):
        return f"10{str(exponent).translate(SUPERSCRIPTS)}"
    return minus(f"{value:g}")


def log_axis(axes: Axes) -> None:
    """Plain numbers at 1, 2, 5 of each decade, or at decades only where there are many."""
    from matplotlib.ticker import LogLocator

    low, high = axes.get_ylim()
    plain_numbers(axes.yaxis, LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,), numticks=9))


def ratio_ticks(axis: Axis, low: float, high: float) -> None:
    """Few enough plain numbers on a logarithmic axis of ratios, 1 among them."""
    near, chosen = 0.09 * math.log(high / low), [1.0]
    for tick in sorted(RATIO_TICKS, key=lambda tick: abs(math.log(tick))):
        if low <= tick <= high and all(abs(math.log(tick / other)) > near for other in chosen):
            chosen.append(tick)
    plain_numbers(axis, sorted(chosen))


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


# --- figures -------------------------------------------------------------------------------------------


def new(width: float, height: float) -> Figure:
    """An empty figure (inches)."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def sign(label: str, **look: Any) -> Line2D:
    """An entry of a legend: a line, or with `marker` a mark, in grey unless `look` has a colour."""
    from matplotlib.lines import Line2D

    look = {"color": MUTED, **({"ls": ""} if "marker" in look else {}), **look}
    return Line2D([], [], label=label, **look)


def blocks(count: int, n_rows: int, max_columns: int = 3) -> tuple[int, int, list[list[tuple[int, int]]]]:
    """Where the panels of `count` variants with `n_rows` panels each go: a column each, wrapped to blocks.

    Returns the rows and columns of the whole and, for every variant, its (row, column) from top to
    bottom. Columns are as many as the fewest blocks need.
    """
    n_columns = math.ceil(count / math.ceil(count / max_columns))
    places = [divmod(place, n_columns) for place in range(count)]
    found = [[(block * n_rows + row, column) for row in range(n_rows)] for block, column in places]
    return math.ceil(count / max_columns) * n_rows, n_columns, found


def columns(
    count: int, n_rows: int, width: float, height: float, below: float, max_columns: int = 3, **shared: Any
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a column of `n_rows` panels for each of `count` variants, wrapped to `blocks`, from top to bottom.

    width, height: of a panel; below: of the footer (inches). shared: of `Figure.subplots`.
    """
    rows, n_columns, places = blocks(count, n_rows, max_columns)
    figure = new(max(width * n_columns, 6.2), height * rows + below)
    grid = figure.subplots(rows, n_columns, squeeze=False, **shared)
    for axes in grid.flat:
        axes.set_axis_off()
    found = [[grid[at] for at in places_of] for places_of in places]
    for axes in (axes for column in found for axes in column):
        axes.set_axis_on()
    return figure, found


def is_first(axes: Axes) -> bool:
    """Whether a panel is in the first column."""
    return axes.get_subplotspec().is_first_col()


def footer(figure: Figure, lines: list[str], key: list[Line2D] | None = None, n_columns: int = 0) -> None:
    """A key to the signs and small text, along the bottom edge; room is kept free for them.

    n_columns: of the key; 0: as many as fit.
    """
    width, height = figure.get_figwidth(), figure.get_figheight()
    # An equation is kept on one line: textwrap does not break at no-break spaces.
    unbroken = [line.replace(" = ", "\u00a0=\u00a0") for line in lines]
    wrapped = [part.replace("\u00a0", " ") for line in unbroken for part in textwrap.wrap(line, int(width * 17))]
    top = (0.155 * len(wrapped) + 0.1) / height
    figure.text(0.08 / width, top, "\n".join(wrapped), va="top", fontsize=7.5, color=MUTED)
    if key:
        if not n_columns:
            most = max(1, int((width - 0.1) / (max(len(entry.get_label()) for entry in key) * 0.071 + 0.5)))
            n_columns = math.ceil(len(key) / math.ceil(len(key) / most))
        figure.legend(
            handles=key, loc="lower left", bbox_to_anchor=(0, top), ncols=n_columns, handlelength=2.2, borderaxespad=0.3
        ).set_in_layout(False)
        top += (0.19 * math.ceil(len(key) / n_columns) + 0.12) / height
    figure.get_layout_engine().set(rect=(0, top, 1, 1 - top))


def empty(message: str, scale: str) -> Figure:
    """A figure that says why there is nothing in it."""
    with applied():
        figure = new(6, 2.2)
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
