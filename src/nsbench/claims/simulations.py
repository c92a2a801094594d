"""Numbers of the theory's table: how far formulas are from simulated points, one finding per reading and series."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from nsbench.claims.evidence import ASIDE, Evidence, Finding
from nsbench.claims.registry import claim_quantity

FAMILY = 0.01
"""Chance that noise alone takes any point of a line outside its limit."""


@claim_quantity("formula_difference", source="theory")
def _agreement(
    evidence: Evidence,
    experiment: str,
    formula: str,
    series: Sequence[str] = (),
    readings: Sequence[str] = (),
    last_only: bool = False,
) -> list[Finding]:
    """Worst difference of a line's points from the formula, as a share of the formula's largest value there.

    experiment: section of the theory's settings. formula: as the table names it. series, readings: lines that count;
    none: all that have the formula. last_only: whether only the largest x counts, what is left after all layers.

    The ends take the points' noise off and add it: low is what noise cannot explain. The limit is Student's t over
    the draws, so that all points of a line together leave it by chance with probability FAMILY.
    """
    table = evidence.theory_table()
    here = (table["experiment"] == experiment) & (table["formula"] == formula)
    for column, names in (("series", series), ("reading", readings)):
        here &= table[column].isin(names or table[column])
    found = []
    for (reading, line), rows in table[here].groupby(["reading", "series"], sort=False):
        points = rows[rows["x"] == rows["x"].max()] if last_only else rows
        found.append(Finding(f"{reading} / {line}", *_worst(points), n=len(points), n_unit="points"))
    why = f"the table of the theory has no {formula} of {experiment}"
    return found or [Finding(formula, status=ASIDE, why=why)]


def _worst(points: pd.DataFrame) -> tuple[float, ...]:
    difference = points["difference"].abs().to_numpy(float)
    noise = _limit(points, len(points)) * points["standard_error"].fillna(0.0).to_numpy(float)
    scale = float(points["theory"].abs().max())
    ends = (difference, np.maximum(difference - noise, 0), difference + noise)
    return tuple(float(end.max()) / scale for end in ends)


def _limit(points: pd.DataFrame, n_points: int) -> float:
    """Standard errors within which all of `n_points` points of a line lie with probability 1 - FAMILY."""
    from scipy import stats

    n_draws = int(points["n_draws"].min())
    return float(stats.t.ppf(1 - FAMILY / 2 / n_points, n_draws - 1)) if n_draws > 1 else math.inf


@claim_quantity("dampening", source="theory")
def _dampening(evidence: Evidence, below_one: bool) -> list[Finding]:
    """Simulated stability after the last layer over the paper's candidate fixed point 2 / (pi (4 - gamma^2)).

    below_one: whether gamma < 1 is meant, else gamma = 1.
    """
    table = evidence.theory_table()
    rows = table[(table["experiment"] == "transformer") & (table["status"] != "published")]
    found = []
    for (reading, series), line in rows.groupby(["reading", "series"], sort=False):
        gamma = float(str(series).split("=")[1])
        if (gamma < 1) != below_one or gamma > 1:
            continue
        last = line[line["x"] == line["x"].max()]
        point, candidate = last.iloc[0], 2 / (math.pi * (4 - gamma**2))
        noise = _limit(last, 1) * float(point["standard_error"])
        ends = [(float(point["simulated"]) + part) / candidate for part in (0.0, -noise, noise)]
        n, layers = int(point["n_draws"]), int(point["x"])
        found.append(Finding(f"{reading} / {series}", *ends, n=n, n_unit="draws", note=f"after {layers} layers"))
    return found or [Finding("transformer", status=ASIDE, why="the table of the theory has no such gamma")]


@claim_quantity("bound_over_simulated", source="theory")
def _bound(evidence: Evidence, formula: str, series: str) -> list[Finding]:
    """An upper bound on second moments after the last layer over what is simulated there; one finding per network.

    formula: how the bound is made, as the table names it; series: the moments that it is on.
    """
    table = evidence.theory_table()
    names = {"experiment": "intervals", "formula": formula, "series": series, "status": "upper"}
    rows = table[(table[list(names)] == pd.Series(names)).all(axis=1)]
    found = []
    for reading, line in rows.groupby("reading", sort=False):
        last = line.loc[line["x"].idxmax()]
        note = f"after {int(last['x'])} layers"
        found.append(Finding(str(reading), float(last["ratio"]), n=int(last["n_draws"]), n_unit="draws", note=note))
    return found or [Finding(formula, status=ASIDE, why="the table of the theory has no such bound")]
