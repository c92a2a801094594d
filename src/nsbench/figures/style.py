"""What all figures share: type, axes, panels with their headers, footers, and saving.

Each kind of arm has a fixed colour (`arms.colours`); arms of one kind differ by dashes. Nothing here touches
matplotlib's global state, and matplotlib is imported only where something is drawn.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nsbench.arms import describe
from nsbench.arms.colours import arm_colour
from nsbench.figures.annotations import Axes, Axis, Cell, Cells, Figure, Line2D
from nsbench.figures.frame import drawn_only
from nsbench.schemas.metrics import METRICS
from nsbench.storage.atomic import atomic_write

LOSS_COLOUR = "#0072B2"
STABILITY_COLOUR = "#00845F"
MUTED, TEXT, INK = "#6B6B6B", "#222222", "#3B3B3B"
WARNING = "#B00020"
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1))]
COUNTED_LABELS = {"all": "all targets", "unpadded": "without padding", "known": "without padding and unknown words"}
KNOWN_TEXTS = ("", "WikiText-2")
"""Labels of the text that need no remark: no text, and the paper's own."""
RATIO_TICKS = (0.02, 0.05, 0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 1, 1.1, 1.25, 1.5, 2, 3, 4, 5, 10, 20, 50)
TIPS = {
    "left": [(1, 0.8), (0, 0), (1, -0.8)],
    "right": [(-1, 0.8), (0, 0), (-1, -0.8)],
    "down": [(-0.8, 1), (0, 0), (0.8, 1)],
    "up": [(-0.8, -1), (0, 0), (0.8, -1)],
}
"""Where an interval goes on -> the mark of its tip."""
LEAK = "LEAK: "
BOLD_WIDTH = 38
"""Characters to a line of a leak, above a panel."""
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
    "text.parse_math": False,
}


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """The context in which figures are made and saved: matplotlib's own defaults with ours, whatever a matplotlibrc
    says. Text is no mathematics unless `parse_math=True`: a `$` may be in a name."""
    matplotlib = _matplotlib()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def _matplotlib() -> ModuleType:
    """matplotlib, which cannot be imported where the environment names a backend that is not installed, as a notebook's
    may be. None is needed, for no window is opened."""
    backend = None if "matplotlib" in sys.modules else os.environ.pop("MPLBACKEND", None)
    import matplotlib

    if backend is not None:
        os.environ["MPLBACKEND"] = backend
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
    return matplotlib


# --- words and colours ---------------------------------------------------------------------------------


def arm_dashes(cells: Cells) -> list[Any]:
    """A line style for each cell of one variant: arms of one colour get different dashes."""
    colours = [arm_colour(cell["arm_settings"]) for cell in cells]
    return [DASHES[colours[:place].count(colour) % len(DASHES)] for place, colour in enumerate(colours)]


def arm_text(cell: Cell) -> str:
    """An arm's name with its settings, as `gentle (ρ = 0.25, γ = 0.75, S = 1)`."""
    settings = describe(cell["arm_settings"])
    return f"{cell['arm']} ({settings})" if settings else cell["arm"]


def metric_label(metric: str) -> str:
    """A metric of `schemas.training.HISTORY` in words, losses with their unit."""
    split, quantity, targets = METRICS[metric]
    name = f"{ {'val': 'validation', 'train': 'training'}[split] } {quantity}" + " (nats)" * (quantity == "loss")
    return name if targets == "all" else f"{name},\n{COUNTED_LABELS[targets]}"


def minus(text: str) -> str:
    """A number's text with a minus sign instead of a hyphen."""
    return text.replace("-", "−")


# --- axes ----------------------------------------------------------------------------------------------


def step_axis(axes: Axes, budget: int) -> None:
    """Steps from 0 to the budget, with thousands separators."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(-0.02 * budget, 1.04 * budget)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.xaxis.set_major_formatter("{x:,.0f}")


def plain_numbers(axis: Axis, locator: Any) -> None:
    """Plain numbers at what a locator, or a list, says, and no minor ticks; small powers of ten as such."""
    from matplotlib.ticker import FixedLocator, NullLocator

    axis.set_major_locator(FixedLocator(locator) if isinstance(locator, list) else locator)
    axis.set_major_formatter(lambda value, _: _plain_or_power(value))
    axis.set_minor_locator(NullLocator())


def _plain_or_power(value: float) -> str:
    exponent = round(math.log10(value)) if 0 < value < 0.0005 else 0
    if exponent and math.isclose(value, 10.0**exponent):
        return power_of_ten(exponent)
    return minus(f"{value:g}")


def power_of_ten(exponent: int) -> str:
    """As `10⁻⁴`."""
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def log_axis(axes: Axes, low: float, high: float) -> None:
    """A logarithmic vertical axis: plain numbers at 1, 2, 5 of each decade, or at decades only where there are many."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log", nonpositive="clip")
    axes.set_ylim(low, high)
    plain_numbers(axes.yaxis, LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 200 else (1.0,), numticks=9))


def ratio_axis(axis: Axis, low: float, high: float) -> None:
    """Few enough plain numbers on a logarithmic axis of ratios, 1 among them."""
    near, chosen = 0.12 * math.log(high / low), [1.0]
    for tick in sorted(RATIO_TICKS, key=lambda tick: abs(math.log(tick))):
        if low <= tick <= high and all(abs(math.log(tick / other)) > near for other in chosen):
            chosen.append(tick)
    plain_numbers(axis, sorted(chosen))


def bound(value: float, low: float, high: float) -> tuple[float, int]:
    """Where a ratio is marked: at its value (0), or, without one, at the known end of its interval: it is at least (1)
    or at most (-1) that. NaN where it has neither."""
    if math.isfinite(value):
        return value, 0
    if low > 0 and math.isinf(high):
        return low, 1
    return (high, -1) if low == 0 and math.isfinite(high) else (math.nan, 0)


def interval(
    axes: Axes, at: float, low: float, high: float, limits: tuple[float, float], vertical: bool = False, **look: Any
) -> None:
    """A line from end to end, at `at` on the other axis; where an end lies beyond the axis' limits, as 0 and infinity
    do on a logarithmic one, a tip on its edge. Nothing where an end is NaN."""
    if math.isnan(low) or math.isnan(high):
        return
    ends = [max(low, limits[0]), min(high, limits[1])]
    axes.plot(*(([at] * 2, ends) if vertical else (ends, [at] * 2)), solid_capstyle="butt", gid="interval", **look)
    sides = ("down", "up") if vertical else ("left", "right")
    for end, is_beyond, side in zip(ends, (low < limits[0], high > limits[1]), sides, strict=True):
        if is_beyond:
            tip = {**look, "lw": 0, "marker": TIPS[side], "ms": 6, "mfc": "none", "mew": 1.3, "clip_on": False}
            axes.plot(*((at, end) if vertical else (end, at)), gid=f"tip {side}", **tip)


def loss_axis(axes: Axes, low: float, high: float) -> None:
    """A vertical axis of losses from `low` to `high`: logarithmic where they span more than a decade."""
    if not (np.isfinite(low) and np.isfinite(high) and low < high):
        return
    if low > 0 and high / low > 10:
        log_axis(axes, low / 1.15, high * 1.15)
    else:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))


# --- figures -------------------------------------------------------------------------------------------


def new(width: float, height: float) -> Figure:
    """An empty figure (inches)."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def columns(
    count: int, n_rows: int, width: float, height: float, below: float, max_columns: int = 3, **shared: Any
) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a column of `n_rows` panels for each of `count` variants, from top to bottom; columns wrap to as
    few blocks as `max_columns` allows.

    width, height: of a panel; below: of the footer (inches). shared: of `Figure.subplots`.
    """
    n_blocks = math.ceil(count / max_columns)
    n_columns = math.ceil(count / n_blocks)
    figure = new(max(width * n_columns, 6.2), height * n_rows * n_blocks + below)
    grid = figure.subplots(n_blocks * n_rows, n_columns, squeeze=False, **shared)
    by_column = grid.reshape(n_blocks, n_rows, n_columns).swapaxes(1, 2).reshape(-1, n_rows).tolist()
    for axes in (axes for column in by_column[count:] for axes in column):
        axes.set_axis_off()
    return figure, by_column[:count]


def is_first(axes: Axes) -> bool:
    """Whether a panel is in the first column."""
    return axes.get_subplotspec().is_first_col()


def sign(label: str, **look: Any) -> Line2D:
    """An entry of a legend: a line, or with `marker` a mark, in grey unless `look` has a colour; with a `gid` it stands
    in a figure's key only where something with that gid is drawn."""
    from matplotlib.lines import Line2D
    from matplotlib.markers import MarkerStyle

    look = {"color": MUTED, **({"ls": ""} if "marker" in look else {}), **look}
    if str(look.get("marker")).startswith("$"):
        with _matplotlib().rc_context({"text.parse_math": True}):
            look["marker"] = MarkerStyle(look["marker"])
    return Line2D([], [], label=label, **look)


def header_height(leaks: list[str], entries: list[Line2D]) -> float:
    """The height (inches) that `header` takes."""
    lines = [line for leak in leaks for line in textwrap.wrap(LEAK + leak, BOLD_WIDTH)]
    return 0.15 * (1 + len(lines) + sum(1 + entry.get_label().count("\n") for entry in entries))


def header(axes: Axes, title: str, leaks: list[str], entries: list[Line2D], **look: Any) -> None:
    """Above the panel: its title, the leaks of its data in a warning colour, and the legend's entries; look: of the
    legend."""
    texts = [textwrap.fill(LEAK + leak, BOLD_WIDTH) for leak in leaks]
    warnings = [sign(text, marker="^", ms=6, color=WARNING) for text in texts]
    legend = axes.legend(
        handles=[*warnings, *entries],
        title=title,
        title_fontproperties={"weight": "bold", "size": 9},
        alignment="left",
        loc="lower left",
        bbox_to_anchor=(-0.02, 0.99),
        borderpad=0.1,
        labelspacing=0.25,
        **{"handlelength": 1.6, **look},
    )
    for text in legend.get_texts()[: len(warnings)]:
        text.set(color=WARNING, weight="bold", gid="leak")


def footer(figure: Figure, lines: list[str], key: list[Line2D] | None = None) -> None:
    """A key to the signs that are drawn and small text, along the bottom edge, placed in inches; room is kept free."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    # An equation is kept on one line: textwrap does not break at no-break spaces.
    unbroken = [line.replace(" = ", "\u00a0=\u00a0") for line in lines]
    wrapped = [part.replace("\u00a0", " ") for line in unbroken for part in textwrap.wrap(line, int(width * 17))]
    top, inches = 0.155 * len(wrapped) + 0.1, figure.dpi_scale_trans
    figure.text(0.08, top, "\n".join(wrapped), va="top", fontsize=7.5, color=MUTED, transform=inches)
    if key := drawn_only(figure, key or []):
        needed = [len(entry.get_label()) * 0.071 + 0.5 for entry in key]  # inches
        fitting = (n for n in range(len(key), 1, -1) if sum(map(max, np.array_split(needed, n))) < width - 0.1)
        n_columns = next(fitting, 1)
        at = {"loc": "lower left", "bbox_to_anchor": (0, top), "bbox_transform": inches}
        legend = figure.legend(handles=key, ncols=n_columns, handlelength=2.2, borderaxespad=0.3, **at)
        legend.set_in_layout(False)
        top += 0.19 * math.ceil(len(key) / n_columns) + 0.12
    figure.get_layout_engine().set(rect=(0, top / height, 1, 1 - top / height))


def empty(message: str, remark: str) -> Figure:
    """A figure that says why there is nothing in it, with a remark below."""
    with applied():
        figure = new(6, 2.2)
        axes = figure.add_subplot()
        axes.set_axis_off()
        axes.text(0.5, 0.5, message, ha="center", va="center", color=MUTED, transform=axes.transAxes)
        footer(figure, [remark])
    return figure


def save(figure: Figure, out_png: Path | str, out_pdf: Path | str) -> None:
    """Write PNG and PDF, each whole or not at all, the same bytes for the same figure."""
    no_traces = {"png": {"Software": None}, "pdf": {"Creator": None, "Producer": None, "CreationDate": None}}
    with applied():
        # The layout once for both: a figure that has an engine is drawn once more for each file.
        figure.set_dpi(DPI)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)
        for path, kind in ((out_png, "png"), (out_pdf, "pdf")):
            # In memory first: on a full disk matplotlib stumbles over what it could not write of a PDF.
            drawn = io.BytesIO()
            look = {"pil_kwargs": {"compress_level": 0}} if kind == "png" else {}
            figure.savefig(drawn, format=kind, dpi=DPI, metadata=no_traces[kind], facecolor="white", **look)
            with atomic_write(path) as temporary:
                temporary.write_bytes(_few_colours(drawn.getvalue()) if kind == "png" else drawn.getvalue())


def _few_colours(png: bytes) -> bytes:
    """A picture in 256 colours, a third of the size: the report holds them all."""
    from PIL import Image

    small = io.BytesIO()
    with Image.open(io.BytesIO(png)) as image:
        few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
        few.save(small, "PNG", dpi=(DPI, DPI))
    return small.getvalue()
