"""The report on Table 1: bounds, their readings, and which are nearest to the paper's numbers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from nsbench.analysis import pretrained_tables
from nsbench.report.model_rows import INPUTS, READOUTS, UNKNOWN, Rows, listing, named, title
from nsbench.report.tables import NONE, Cell, Row, Table, number

N_NEAREST = 3
"""Readings shown for each column of the paper's table and each unit."""
FROM = ("influence", "stability")
DIVIDED = [
    *("from influence|of E f²", "from stability|of E f²", "from influence|of the variance"),
    *("from stability|of the variance", "smaller|of E f²"),
]
NEAREST = ["bound from", "paper's unit", "models", "largest factor", "mean factor"]


def section(rows: Rows, tail: pd.DataFrame) -> dict[str, Any]:
    """What the report shows of Table 1 (schema TAIL): proved bounds, all readings by model, the nearest ones."""
    nearest = pretrained_tables.nearest_reading(tail)
    return {
        "bounds": _proved(rows, tail),
        "degree": "k" if tail.empty else str(tail["degree"].iloc[0]),
        "nearest": listing("reading", NEAREST, _nearest(nearest)),
        "n_readings": f"{len(nearest):,}",
    }


def _proved(rows: Rows, tail: pd.DataFrame) -> list[tuple[str, Table]]:
    """The proved bounds by kind of inputs, with the paper's numbers beside those of its models."""
    found = {
        tuple(row[name] for name in [*pretrained_tables.CASE_NAMES, "divided_by"]): row
        for row in pretrained_tables.smaller_bounds(tail).to_dict("records")
    }
    published = tail.dropna(subset="published").groupby(["model", "bound_from"])["published"].first().to_dict()
    heads = DIVIDED + (["the paper's|influence"] if published else [])

    def papers(model: str) -> list[Cell]:
        influence, stability = (published.get((model, bound_from)) for bound_from in FROM)
        there = [Cell(NONE) if influence is None else Cell(f"{influence:g}", (f"stability {stability:g}",))]
        return there if published else []

    def of(inputs: str) -> Table:
        def cells(model: str, weights: str, readout: str) -> list[str]:
            divided = [
                found.get((model, weights, inputs, readout, name))
                for name in (pretrained_tables.NORM2, pretrained_tables.VARIANCE)
            ]
            if None in divided:
                return []
            return [*(_bound(row[name]) for row in divided for name in FROM), divided[0]["smaller"]]

        return rows.table("model", heads, inputs, cells, _absent, papers)

    kinds = dict.fromkeys(pretrained_tables.PROVED.values())
    return [(title(kind), of(kind)) for kind in kinds if kind in rows.inputs]


def _nearest(ranked: pd.DataFrame) -> list[Row]:
    """The readings nearest to each column of Table 1, its numbers read as shares and as percentages."""
    first = ranked.groupby(["bound_from", "unit"], sort=False).head(N_NEAREST)
    rows = []
    for row in first.sort_values(["bound_from", "unit"], ascending=[True, False], kind="stable").to_dict("records"):
        least = "least over ρ" if row["bound_from"] == "stability" else ""
        name = named(
            pretrained_tables.READINGS[row["reading"]],
            READOUTS.get(row["readout"], row["readout"]),
            INPUTS.get(row["inputs"], row["inputs"]),
            f"divided by {pretrained_tables.DIVISORS[row['divided_by']]}",
            least if math.isnan(row["rho"]) else f"ρ = {row['rho']:g}",
        )
        factors = (_short(row[factor]) for factor in ("largest_factor", "mean_factor"))
        rows.append(Row([name, *map(Cell, (row["bound_from"], row["unit"], str(row["n_models"]), *factors))]))
    return rows


def _absent(readout: str) -> str:
    """Why a readout that was measured has no bound."""
    return "no bound: its labels are the tokens that are redrawn" if readout == "cross_entropy" else UNKNOWN


def _short(value: float | None) -> str:
    return number(value, ".3g")


def _bound(value: float) -> str:
    """A bound on a share."""
    return f"says nothing ({_short(value)})" if value >= 1 else _short(value)
