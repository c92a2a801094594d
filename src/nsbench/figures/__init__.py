"""Figures of the paper, drawn from the collected records: DataFrames in, PNG and PDF out.

Figure modules are imported by name when drawn, so that editing one leaves the others' source
digests, and so their files, as they are.
"""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

from nsbench import records
from nsbench.figures import style

FIGURES: dict[str, tuple[str, dict[str, Any]]] = {
    "figure_05_modular_addition": ("figure_05", {"task": "modular_addition"}),
    "figure_05_sparse_parity": ("figure_05", {"task": "sparse_parity"}),
    "figure_11": ("figure_11", {}),
}
"""Figure name -> its module in this package and the keyword arguments of its `draw`."""


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
    module, arguments = FIGURES[name]
    draw = importlib.import_module(f"nsbench.figures.{module}").draw
    sources = {
        "history": (Path(collected_folder) / "history.parquet", records.HISTORY),
        "evaluation": (Path(collected_folder) / "evaluation.parquet", records.EVALUATION),
        "times": (Path(tables_folder) / "time_to_target.parquet", records.TIME_TO_TARGET),
    }
    wanted = inspect.signature(draw).parameters
    tables = {key: records.read_table(*source) for key, source in sources.items() if key in wanted}
    style.save(draw(**tables, cells=cells, scale=scale, **arguments), out_png, out_pdf)
