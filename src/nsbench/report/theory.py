"""The report's section on the theory: how each formula fits its simulated points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.figures import FIGURES, of_kind
from nsbench.report.pictures import Pictures
from nsbench.report.rows import NONE
from nsbench.schemas import theory_labels as readings
from nsbench.schemas.theory import THEORY
from nsbench.storage.parquet import read_table


def section(table_file: Path | str | None, pictures: Pictures) -> dict[str, Any]:
    """Rows that say how each formula fits the simulation, by what the formula is to it, and the figures; empty
    where the theory is left out. Raises records.RecordError for a missing table."""
    if table_file is None:
        return {}
    table = read_table(table_file, THEORY)
    named = {FIGURES[name].experiment: name for name in of_kind("theory")}

    def rows(*statuses: str) -> list[dict[str, Any]]:
        groups = table[table["status"].isin(statuses)].groupby(
            ["experiment", "reading", "formula", "status"], sort=False
        )
        return [
            {"figure": named[key[0]], "reading": key[1], "formula": key[2], "status": key[3]} | formula(group)
            for key, group in groups
        ]

    intervals = table[table["status"].isin(("lower", "upper"))].groupby(["reading", "formula"], sort=False)
    return {
        "right": rows("exact", "limit"),
        "printed": rows("published", "approximation"),
        "bounds": [{"reading": key[0], "formula": key[1]} | bounds(group) for key, group in intervals],
        "elsewhere": pictures.elsewhere(*of_kind("theory")),
        "figures": pictures.take(*of_kind("theory")),
        "known": pictures.names,
    }


def formula(points: pd.DataFrame) -> dict[str, str]:
    """How a formula fits its simulated points (rows of theory_records.THEORY), as texts."""
    worst = points.loc[points["difference"].abs().idxmax()]
    spread = points["z"].dropna().abs()
    return {
        "points": str(len(points)),
        "difference": f"{worst['difference']:+.2g}" if worst["difference"] else "0",
        "where": f"{worst['series']}, at {worst['x']:g}",
        "z": _errors(spread.median()) if len(spread) else NONE,
        "largest_z": _errors(spread.max()) if len(spread) else NONE,
    }


def _errors(z: float) -> str:
    """A difference in standard errors."""
    return f"{z:.1f}" if z < 1000 else "over 1,000"


def bounds(points: pd.DataFrame) -> dict[str, Any]:
    """How tight a method's bounds are on simulated points (rows of theory_records.THEORY), as texts.

    A bound counts as held where the simulated value is within it, or outside by at most four standard
    errors. Ratios are those of the mean moment after the first attention and after the last ReLU layer.
    """
    known = points[points["theory"].notna()]
    sign = known["status"].map({"lower": 1, "upper": -1})
    held = sign * known["difference"] >= -4 * known["standard_error"]
    last = points["x"].max()
    return {
        "held": f"{int(held.sum())} of {len(points)}",
        "first": [_tightness(points, "attention", 1.0, status) for status in ("lower", "upper")],
        "last": [_tightness(points, "MLP", last, status) for status in ("lower", "upper")],
    }


def _tightness(points: pd.DataFrame, part: str, layer: float, status: str) -> str:
    """A bound on the mean moment after a part of a layer, as a multiple of the simulated value."""
    series = readings.entry_moments(part, "mean")
    ratio = points.loc[
        (points["series"] == series) & (points["x"] == layer) & (points["status"] == status), "ratio"
    ].dropna()
    return f"{ratio.iloc[0]:.3g}".replace("inf", "∞") if len(ratio) else NONE
