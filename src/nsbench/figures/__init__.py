"""Figures of the paper, drawn from the collected records: DataFrames in, PNG and PDF out.

Figure modules are imported by name when drawn, so that editing one leaves the others' source
digests, and so their files, as they are.
"""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from nsbench.analysis.scores import by_variant
from nsbench.arms import ARMS
from nsbench.figures import comparison
from nsbench.schemas import analysis, statistics
from nsbench.schemas import training as records
from nsbench.schemas.statistics import KAPLAN_MEIER
from nsbench.storage import parquet
from nsbench.storage.atomic import FileError, write_text

logger = logging.getLogger(__name__)

NOT_DRAWN = "not_drawn.txt"


class Drawing(NamedTuple):
    """How a figure is drawn, and what a grid must have for it."""

    module: str
    """In this package; its `draw` makes the figure."""
    arguments: dict[str, Any]
    """Keyword arguments of `draw` besides tables, cells and scale."""
    task: str | None = None
    """The task that it is of; None: all of them."""
    needs: str = ""
    """What some variant must have (NEEDS); nothing in particular where empty."""


NEEDS: dict[str, Callable[[list[dict[str, Any]]], bool]] = {
    "": bool,
    "sweep": comparison.has_sweep,
    "other arms": lambda group: any(ARMS.find(cell["arm_settings"]["kind"]).family != "paper" for cell in group),
    "curve": lambda group: any(cell.get("curve") for cell in group),
}
"""What a figure may need, asked of the cells of one variant."""


TASKS = ("modular_addition", "sparse_parity", "next_token")
FIGURES: dict[str, Drawing] = {
    "figure_05_modular_addition": Drawing("figure_05", {"task": "modular_addition"}, "modular_addition"),
    "figure_05_sparse_parity": Drawing("figure_05", {"task": "sparse_parity"}, "sparse_parity"),
    "figure_06": Drawing("figure_06", {}, "next_token"),
    "figure_11": Drawing("figure_11", {}, "sparse_parity"),
    "figure_12": Drawing("figure_12", {}, "next_token"),
    "figure_13_train": Drawing("figure_13", {"metric": "train_loss"}, "next_token", "sweep"),
    "figure_13_val": Drawing("figure_13", {"metric": "val_loss"}, "next_token", "sweep"),
    "figure_14": Drawing("figure_14", {}, "next_token"),
    **{f"sweep_{task}": Drawing("sweep", {"task": task}, task, "sweep") for task in TASKS},
    "time_to_target": Drawing("time_to_target", {}),
    "arms": Drawing("arms", {}, needs="other arms"),
    **{f"specification_curve_{task}": Drawing("specification_curve", {"task": task}, task, "curve") for task in TASKS},
}
"""Every figure that a grid may have, by name, in the report's order."""

COLLECTED = {
    "history": ("history", records.HISTORY),
    "runs": ("runs", records.COLLECTED_RUNS),
    "evaluation": ("evaluation", records.EVALUATION),
    "floors": ("floors", records.FLOORS),
}
TABLES = {
    "times": ("time_to_target", records.TIME_TO_TARGET),
    "effects": ("paired_effect", statistics.PAIRED_EFFECT),
    "scores": ("score", analysis.SCORE),
    "score_effects": ("score_effect", analysis.SCORE_EFFECT),
    "selections": ("selection", analysis.SELECTION),
    "kaplan_meier": ("kaplan_meier", KAPLAN_MEIER),
    "specifications": ("specification", analysis.SPECIFICATION),
    "shares": ("specification_share", analysis.SPECIFICATION_SHARE),
}
"""Parameter of `draw` -> the file's stem and its schema."""


def module_of(name: str) -> str:
    """The module, in this package, that draws a figure. Raises KeyError for an unknown name."""
    return FIGURES[name].module


def figures_for(cells: list[dict[str, Any]]) -> list[str]:
    """The figures that a grid can fill, in the order of FIGURES: those whose task it has, with a variant that
    has what they need."""
    groups = by_variant(cells)
    return [
        name
        for name, drawing in FIGURES.items()
        if any(drawing.task in (None, task) and NEEDS[drawing.needs](group) for (task, _), group in groups.items())
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
    unknown name, records.RecordError for a table that is missing. Variants that are in the grid only for a
    specification curve are on that figure alone.
    """
    # Here, because the workflow asks for names alone, each time it starts.
    from nsbench.figures import style

    module, arguments, _, needs = FIGURES[name]
    if needs != "curve":
        cells = comparison.ordinary(cells)
    draw = importlib.import_module(f"nsbench.figures.{module}").draw
    wanted = inspect.signature(draw).parameters
    tables = {
        key: parquet.read_table(Path(folder) / f"{stem}.parquet", schema)
        for folder, sources in ((collected_folder, COLLECTED), (tables_folder, TABLES))
        for key, (stem, schema) in sources.items()
        if key in wanted
    }
    style.save(draw(**tables, cells=cells, scale=scale, **arguments), out_png, out_pdf)


def render_all(
    collected_folder: Path | str, tables_folder: Path | str, cells: list[dict[str, Any]], scale: str, out: Path | str
) -> None:
    """Draw every figure that the grid can fill into the folder `out`, as PNG and PDF.

    For partial work: one that cannot be drawn from these runs is logged, left out and named in the folder's NOT_DRAWN,
    a name a line. Raises FileError where a table cannot be read or a figure cannot be written.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    left_out = []
    for name in figures_for(cells):
        files = folder / f"{name}.png", folder / f"{name}.pdf"
        try:
            render(name, collected_folder, tables_folder, cells, scale, *files)
        except FileError:
            raise
        except Exception:
            logger.exception("%s: left out, since these runs do not fill it", name)
            left_out.append(name)
            for file in files:
                file.unlink(missing_ok=True)
    write_text(folder / NOT_DRAWN, "".join(f"{name}\n" for name in left_out))
