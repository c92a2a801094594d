"""The theory's figures, drawn from formulas and simulated points: no training is needed for them."""

from __future__ import annotations

import importlib
from pathlib import Path

from nsbench import records
from nsbench.closed import parse
from nsbench.figures import style
from nsbench.theory_records import CURVES, EXAMPLE, SIMULATION
from nsbench.theory_settings import Theory

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
    settings: dict[str, object],
    scale: str,
    curves_file: Path | str,
    points_file: Path | str,
    examples_file: Path | str,
    out_png: Path | str,
    out_pdf: Path | str,
) -> None:
    """Draw figure `name` of FIGURES and save it in both formats; `settings` are its experiment's.

    Raises KeyError for an unknown name, records.RecordError for a table that is missing.
    """
    experiment = FIGURES[name]
    model = parse(Theory.model_fields[experiment].annotation, settings, "spec.settings")
    curves, points, examples = (
        table[table["experiment"] == experiment].reset_index(drop=True)
        for table in (
            records.read_table(curves_file, CURVES),
            records.read_table(points_file, SIMULATION),
            records.read_table(examples_file, EXAMPLE),
        )
    )
    draw = importlib.import_module(f"nsbench.figures.{name}").draw
    style.save(draw(curves, points, examples, model, scale), out_png, out_pdf)
