"""The report's section on the theory: how each formula fits its simulated points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.figures import FIGURES, of_kind
from nsbench.report.pictures import Pictures
from nsbench.report.tables import Cell, Column, Record, Table, number, table
from nsbench.schemas import theory_labels
from nsbench.schemas.theory import THEORY
from nsbench.storage.parquet import read_table


def section(table_file: Path | str | None, pictures: Pictures) -> dict[str, Any]:
    """Rows that say how each formula fits the simulation, by what the formula is to it, and the figures; empty
    where the theory is left out. Raises RecordError for a missing table."""
    if table_file is None:
        return {}
    points = read_table(table_file, THEORY)
    named = {FIGURES[name].experiment: name for name in of_kind("theory") if "points" in FIGURES[name].tables}
    keys = ["experiment", "reading", "formula", "status"]

    def formulas(*statuses: str) -> Table:
        groups = points[points["status"].isin(statuses)].groupby(keys, sort=False)
        found = [dict(zip(keys, key, strict=True)) | _fit(group) for key, group in groups]
        shown = [row | {"figure": named[row["experiment"]], "known": pictures.names} for row in found]
        return table(FORMULAS, shown)

    intervals = points[points["status"].isin(("lower", "upper"))].groupby(["reading", "formula"], sort=False)
    return {
        "right": formulas("exact", "limit"),
        "printed": formulas("published", "approximation"),
        "bounds": table(BOUNDS, [{"reading": key[0], "formula": key[1]} | _bounds(group) for key, group in intervals]),
        "elsewhere": pictures.elsewhere(*of_kind("theory")),
        "figures": pictures.take(*of_kind("theory")),
    }


def _fit(points: pd.DataFrame) -> dict[str, Any]:
    """How a formula fits its simulated points (rows of schemas.theory.THEORY)."""
    spread = points["z"].abs()
    worst = points.loc[points["difference"].abs().idxmax(), ["difference", "series", "x"]].to_dict()
    return worst | {"n": len(points), "z": spread.median(), "largest_z": spread.max()}


def _bounds(points: pd.DataFrame) -> dict[str, Any]:
    """How tight a method's bounds are on simulated points (rows of schemas.theory.THEORY).

    A bound counts as held where the simulated value is within it, or outside by at most four standard
    errors. Ratios are those of the mean moment after the first attention and after the last ReLU layer.
    """
    known = points[points["theory"].notna()]
    sign = known["status"].map({"lower": 1, "upper": -1})
    held = sign * known["difference"] >= -4 * known["standard_error"]
    return {
        "held": f"{int(held.sum())} of {len(points)}",
        "first": _tightness(points, "attention", 1.0),
        "last": _tightness(points, "MLP", points["x"].max()),
    }


def _tightness(points: pd.DataFrame, part: str, layer: float) -> str:
    """The bounds on the mean moment after a part of a layer, as multiples of the simulated value."""
    here = points[(points["series"] == theory_labels.entry_moments(part, "mean")) & (points["x"] == layer)]
    ratios = here.dropna(subset="ratio").groupby("status")["ratio"].first()
    return " – ".join(number(ratios.get(status), ".3g") for status in ("lower", "upper"))


def _figure(row: Record) -> Cell:
    name = row["figure"]
    return Cell(name.replace("_", " "), link=name if name in row["known"] else "")


def _in_errors(row: Record) -> list[str]:
    """The median and the largest difference in standard errors."""
    return ["over 1,000" if row[name] >= 1000 else number(row[name], ".1f") for name in ("z", "largest_z")]


FORMULAS = [
    Column("figure", _figure, "name"),
    Column("reading", "{reading}", ""),
    Column("formula", "{formula}|{status}", "name", True),
    Column("points", "{n}"),
    Column("largest difference|simulated − formula", "{difference:+.2g}|{series}, at {x:g}"),
    Column("size of z|median, largest", _in_errors),
]
BOUNDS = [
    Column("reading", "{reading}", ""),
    Column("bounds", "{formula}", "name", True),
    Column("held", "{held}"),
    Column("after the first attention|bound / simulated", "{first}"),
    Column("after the last ReLU layer|bound / simulated", "{last}"),
]
