"""Figures of the paper, drawn from the collected records: DataFrames in, PNG and PDF out.

Figure modules are imported by name when drawn, so that editing one leaves the others' source
digests, and so their files, as they are.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any, NamedTuple

from nsbench import records, scores, selection, statistics
from nsbench.figures import comparison, style


class Drawing(NamedTuple):
    """How a figure is drawn, and what a grid must have for it."""

    module: str
    """In this package; its `draw` makes the figure."""
    arguments: dict[str, Any]
    """Keyword arguments of `draw` besides tables, cells and scale."""
    task: str
    sweep: bool = False
    """Whether some variant of the task needs a sweep of (rho, gamma) (`comparison.has_sweep`)."""


FIGURES: dict[str, Drawing] = {
    "figure_05_modular_addition": Drawing("figure_05", {"task": "modular_addition"}, "modular_addition"),
    "figure_05_sparse_parity": Drawing("figure_05", {"task": "sparse_parity"}, "sparse_parity"),
    "figure_06": Drawing("figure_06", {}, "next_token"),
    "figure_11": Drawing("figure_11", {}, "sparse_parity"),
    "figure_12": Drawing("figure_12", {}, "next_token"),
    "figure_13_train": Drawing("figure_13", {"metric": "train_loss"}, "next_token", sweep=True),
    "figure_13_val": Drawing("figure_13", {"metric": "val_loss"}, "next_token", sweep=True),
    "figure_14": Drawing("figure_14", {}, "next_token"),
    **{
        f"sweep_{task}": Drawing("sweep", {"task": task}, task, sweep=True)
        for task in ("modular_addition", "sparse_parity", "next_token")
    },
}
"""Every figure that a grid may have, by name, in the report's order."""

COLLECTED = {
    "history": ("history", records.HISTORY),
    "runs": ("runs", records.RUNS),
    "evaluation": ("evaluation", records.EVALUATION),
    "floors": ("floors", records.FLOORS),
}
TABLES = {
    "times": ("time_to_target", records.TIME_TO_TARGET),
    "effects": ("paired_effect", statistics.PAIRED_EFFECT),
    "scores": ("score", scores.SCORE),
    "score_effects": ("score_effect", scores.SCORE_EFFECT),
    "selections": ("selection", selection.SELECTION),
}
"""Parameter of `draw` -> the file's stem and its schema."""


def module_of(name: str) -> str:
    """The module, in this package, that draws a figure. Raises KeyError for an unknown name."""
    return FIGURES[name].module


def figures_for(cells: list[dict[str, Any]]) -> list[str]:
    """The figures that a grid can fill, in the order of FIGURES: its tasks', and the sweep's where a
    variant of the task has one."""
    groups = {
        task: style.variants([cell for cell in cells if cell["task"] == task]).values()
        for task in dict.fromkeys(cell["task"] for cell in cells)
    }
    return [
        name
        for name, drawing in FIGURES.items()
        if drawing.task in groups
        and (not drawing.sweep or any(comparison.has_sweep(group) for group in groups[drawing.task]))
    ]


def render(
    name: str,
    collected_folder: Path | str,
    tables_folder: Path | str,
    cells: list[dict[str, Any]],
    scale: str,
    out_png: Path | str,
    out_pdf: Path | str,
) -> None:
    """Draw figure `name` from the collected records and the tables, and save it in both formats.

    Reads only the tables that the figure's `draw` names as parameters. Raises KeyError for an
    unknown name, records.RecordError for a table that is missing.
    """
    module, arguments, *_ = FIGURES[name]
    draw = importlib.import_module(f"nsbench.figures.{module}").draw
    wanted = inspect.signature(draw).parameters
    tables = {
        key: records.read_table(Path(folder) / f"{stem}.parquet", schema)
        for folder, sources in ((collected_folder, COLLECTED), (tables_folder, TABLES))
        for key, (stem, schema) in sources.items()
        if key in wanted
    }
    style.save(draw(**tables, cells=cells, scale=scale, **arguments), out_png, out_pdf)
