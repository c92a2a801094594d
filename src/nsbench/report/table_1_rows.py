"""The rows of the report on Table 1 as texts: bounds, their readings, and which are nearest to the paper's numbers."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from nsbench.analysis import pretrained_tables as bounds
from nsbench.report.pretrained_rows import INPUTS, READOUTS, UNKNOWN, Row, Rows, at, short
from nsbench.report.rows import NONE

N_NEAREST = 3
"""Readings shown for each column of the paper's table and each unit."""


def section(rows: Rows, tail: pd.DataFrame) -> dict[str, Any]:
    """What the report shows of Table 1 (schema TAIL): proved bounds, all readings by model, the nearest ones."""
    found = {
        tuple(row[name] for name in [*bounds.CASE_NAMES, "divided_by"]): row
        for row in bounds.smaller_bounds(tail).to_dict("records")
    }
    published = tail.dropna(subset="published").groupby(["model", "bound_from"])["published"].first().to_dict()
    proved = []
    for inputs in [kind for kind in dict.fromkeys(bounds.PROVED.values()) if kind in rows.inputs]:

        def cells(model: str, weights: str, readout: str, inputs: str = inputs) -> list[str]:
            divided = [found.get((model, weights, inputs, readout, name)) for name in (bounds.NORM2, bounds.VARIANCE)]
            if None in divided:
                return []
            values = [_bound(row[bound_from]) for row in divided for bound_from in ("influence", "stability")]
            return [*values, divided[0]["smaller"]]

        made = list(rows.each(inputs, cells, _absent))
        proved.append((INPUTS[inputs], [_with_published(row, published) for row in made] if published else made))
    rhos = sorted(tail["rho"].dropna().unique())
    return {
        "bounds": proved,
        "published": bool(published),
        "degree": "k" if tail.empty else str(tail["degree"].iloc[0]),
        "readings": [
            {"model": model, "missing": reason} if (reason := rows.unavailable(model)) else _readings(model, tail, rhos)
            for model in rows.names
        ],
        "reading_rhos": [*at(rhos), ("least", "over ρ")],
        "divisors": [("divided by", label) for label in bounds.DIVISORS.values()],
        **_nearest(tail),
    }


def _with_published(row: Row, published: dict[tuple[str, str], float]) -> Row:
    """A row of the proved bounds with the paper's numbers as its last cell."""
    if "cells" not in row:
        return row
    ours = [published.get((row["name"], bound_from), math.nan) for bound_from in ("influence", "stability")]
    cell = (NONE, "") if math.isnan(ours[0]) else (f"{ours[0]:g}", f"stability {ours[1]:g}")
    return row | {"cells": [*row["cells"], cell]}


def _readings(model: str, tail: pd.DataFrame, rhos: list[float]) -> Row:
    """All readings of a model: from influence by divisor, from stability by rho."""
    keys = ["inputs", "readout", "bound_from", "reading"]
    made: dict[str, Any] = {"model": model, "missing": "", "influence": [], "stability": []}
    for (inputs, readout, bound_from, reading), group in tail[tail["model"] == model].groupby(keys, sort=False):
        under = [READOUTS.get(readout, readout), INPUTS.get(inputs, inputs)]
        if group["proved"].any():
            under[-1] += ", proved"
        by_divisor = group.groupby("divided_by", sort=False)
        if bound_from == "influence":
            columns = [(part["weights"], part["value"]) for _, part in by_divisor]
            cells = [_beside(dict(zip(*column, strict=True))) for column in columns]
            made["influence"].append({"name": bounds.READINGS[reading], "under": under, "cells": cells})
            continue
        for divisor, part in by_divisor:
            values = {
                (weights, None if math.isnan(rho) else rho): value
                for weights, rho, value in zip(part["weights"], part["rho"], part["value"], strict=True)
            }
            cells = [
                _beside({kind: values[kind, rho] for kind in part["weights"].unique() if (kind, rho) in values})
                for rho in [*rhos, None]
            ]
            lines = [*under, f"divided by {bounds.DIVISORS[divisor]}"]
            made["stability"].append({"name": bounds.READINGS[reading], "under": lines, "cells": cells})
    return made


def _beside(values: dict[str, float]) -> tuple[str, str]:
    """A bound and that of the control, neither with a remark."""
    control = f"control {short(values['random'])}" if "random" in values else ""
    return short(values.get("pretrained", math.nan)), control


def _nearest(tail: pd.DataFrame) -> dict[str, Any]:
    """The readings nearest to each column of Table 1, its numbers read as shares and as percentages."""
    ranked = bounds.nearest_reading(tail)
    first = ranked.groupby(["bound_from", "unit"], sort=False).head(N_NEAREST)
    nearest = []
    for row in first.sort_values(["bound_from", "unit"], ascending=[True, False], kind="stable").to_dict("records"):
        least = "least over ρ" if row["bound_from"] == "stability" else ""
        under = [
            READOUTS.get(row["readout"], row["readout"]),
            INPUTS.get(row["inputs"], row["inputs"]),
            f"divided by {bounds.DIVISORS[row['divided_by']]}",
            least if math.isnan(row["rho"]) else f"ρ = {row['rho']:g}",
        ]
        factors = [(short(row[name]), "") for name in ("largest_factor", "mean_factor")]
        cells = [(row["bound_from"], ""), (row["unit"], ""), (str(row["n_models"]), ""), *factors]
        name = bounds.READINGS[row["reading"]]
        nearest.append({"name": name, "under": [line for line in under if line], "cells": cells})
    return {"nearest": nearest, "n_readings": f"{len(ranked):,}"}


def _absent(readout: str) -> str:
    """Why a readout that was measured has no bound."""
    return "no bound: its labels are the tokens that are redrawn" if readout == "cross_entropy" else UNKNOWN


def _bound(value: float) -> str:
    """A bound on a share."""
    return f"says nothing ({short(value)})" if value >= 1 else short(value)
