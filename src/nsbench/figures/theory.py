"""The theory's figures, drawn from formulas and simulated points: no training is needed for them."""

from __future__ import annotations

import importlib
from pathlib import Path

from nsbench.config.base import Closed
from nsbench.config.canonical import canonical_json
from nsbench.config.theory import ExperimentSpec
from nsbench.schemas.theory import CURVES, EXAMPLE, SIMULATION
from nsbench.storage import parquet


class TheoryFigureSpec(Closed):
    """All that a figure of the theory reads from config."""

    scale: str
    experiment: ExperimentSpec


FIGURES = {
    "figure_02": "attention",
    "figure_03": "patterns",
    "figure_04a": "feed_forward",
    "figure_04b": "recurrence",
    "figure_09": "relu",
    "figure_10": "transformer",
    "intervals": "intervals",
}
"""Figure -> experiment; a figure's module has its name. In the report's order."""


def render(
    name: str,
    spec: ExperimentSpec,
    scale: str,
    curves_file: Path | str,
    points_file: Path | str,
    examples_file: Path | str,
    out_png: Path | str,
    out_pdf: Path | str,
) -> None:
    """Draw figure `name` of FIGURES and save it in both formats; `spec` is that of its experiment.

    Raises KeyError for an unknown name, records.RecordError for a table that is missing or was made under
    other settings.
    """
    # Here, because the workflow asks for names alone, each time it starts.
    from nsbench.figures import style

    tables = []
    for path, schema in ((curves_file, CURVES), (points_file, SIMULATION), (examples_file, EXAMPLE)):
        tables.append(parquet.read_table(path, schema))
        if parquet.read_stamp(path).get("spec") != canonical_json(spec):
            raise parquet.RecordError(f"{path}: was made under other settings; run its stage again")
    draw = importlib.import_module(f"nsbench.figures.{name}").draw
    style.save(draw(*tables, spec.parsed(), scale), out_png, out_pdf)
