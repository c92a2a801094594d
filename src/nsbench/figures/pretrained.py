"""The figures of pretrained models, drawn from the joined tables of all models: Figures 1, 7 and 8."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.schemas.pretrained import TABLES
from nsbench.storage import parquet

FIGURES = ("figure_01", "figure_07", "figure_08")
"""A figure's module has its name. In the report's order."""
SOURCES = {
    "models": "pretrained_models",
    "measured": "pretrained_measured",
    "influence": "pretrained_influence",
    "concentration": "concentration",
}
"""Parameter of `draw` -> the table, of pretrained_records.TABLES."""


def render(
    name: str, spec: PretrainedFigureSpec, tables_folder: Path | str, out_png: Path | str, out_pdf: Path | str
) -> None:
    """Draw figure `name` of FIGURES from `<tables_folder>/<table>.parquet` and save it in both formats.

    Reads only the tables that the figure's `draw` names as parameters. Raises KeyError for an
    unknown name, records.RecordError for a table that is missing.
    """
    # Here, because the workflow asks for names alone, each time it starts.
    from nsbench.figures import style

    if name not in FIGURES:
        raise KeyError(name)
    draw = importlib.import_module(f"nsbench.figures.{name}").draw
    wanted = inspect.signature(draw).parameters
    tables = {
        key: parquet.read_table(Path(tables_folder) / f"{table}.parquet", TABLES[table])
        for key, table in SOURCES.items()
        if key in wanted
    }
    style.save(draw(**tables, spec=spec), out_png, out_pdf)
