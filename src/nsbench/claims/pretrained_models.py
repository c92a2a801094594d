"""Numbers of pretrained models, from their tables: one finding per model and readout.

Models of the paper count. Others stand in: what they show is kept beside, and is no evidence about the paper's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import pandas as pd
from pydantic import Field

from nsbench.analysis.pretrained_tables import smaller_bounds
from nsbench.claims.evidence import COUNTS, MISSING, STAND_IN, Evidence, Finding
from nsbench.claims.registry import Parameters, claim_quantity
from nsbench.schemas.pretrained import PAPER, PAPER_NAMES

UNITS = {"embeddings": "positions", "layer": "layers", "head": "heads"}
"""Site of a gradient -> what its numbers are taken over."""
quantity = functools.partial(claim_quantity, source="pretrained", all_needed=True)


class OfTable(Parameters):
    """Table 1's bounds."""

    papers: list[str] = Field(default_factory=lambda: list(PAPER))
    """The paper's models that a claim is about."""


class OfModels(OfTable):
    """Influences on the inputs' embeddings."""

    inputs: list[str] = Field(default_factory=lambda: ["text", "uniform"])
    """Inputs: the paper has both."""
    readouts: list[str] = Field(default_factory=lambda: ["top_logit_last", "mean_top_logit", "pooled_norm"])
    """Readouts: which one the paper takes is open."""
    norm: str = "l1"
    """Norm of a token's gradient: the paper's I^G is of L1."""


class Depths(OfModels):
    least: float
    """Depth, 0 the first layer and 1 the last, from which on the most influential layer is claimed to lie."""
    most: float
    """Depth up to which."""


Make = Callable[[str, pd.DataFrame, dict[str, str]], list[Finding]]
"""(model, its rows, status and text of its findings) -> its findings."""


def _of_models(
    evidence: Evidence, papers: list[str], rows: pd.DataFrame, without: str, make: Make, stand_ins: bool = True
) -> list[Finding]:
    """What `make` finds of every model whose weights were asked for; the paper's that cannot be had are missing.

    without: why a measured model has no number where it has no rows. stand_ins: whether models that are not the paper's
    are looked at.
    """
    models, found = evidence.pretrained_table("pretrained_models"), []
    models = models[models["weights"] == "pretrained"]
    for name, paper, status, text in models[["model", "paper", "status", "text"]].itertuples(index=False, name=None):
        is_of_paper, own = paper in papers, rows[rows["model"] == name]
        if status != "measured" and is_of_paper:
            found.append(Finding(name, status=MISSING, why=f"{PAPER_NAMES[paper]} is unavailable"))
        elif status == "measured" and (is_of_paper or stand_ins):
            common = {"status": COUNTS if is_of_paper else STAND_IN, "text": text}
            found += [Finding(name, status=MISSING, why=without)] if own.empty else make(name, own, common)
    why = "this model of the paper is not among the configuration's"
    return found + [Finding(paper, status=MISSING, why=why) for paper in papers if paper not in set(models["paper"])]


def _each(
    evidence: Evidence, of: OfModels, site: str, number: Callable[[pd.DataFrame], dict[str, Any]]
) -> list[Finding]:
    """What `number` makes of the concentrations (of the mean over sequences) of each model, inputs and readout."""
    table = evidence.pretrained_table("concentration")
    table = table[(table["site"] == site) & (table["norm"] == of.norm) & (table["of"] == "mean")]
    table = table[table["weights"].eq("pretrained") & table["inputs"].isin(of.inputs)]

    def findings(name: str, rows: pd.DataFrame, common: dict[str, str]) -> list[Finding]:
        found = []
        for key, group in rows.groupby(["inputs", "readout"], sort=False):
            # At the embeddings there is one row, of all positions.
            n = int(group["n_positions"].iloc[0]) if site == "embeddings" else len(group)
            found.append(Finding(" / ".join((name, *key)), n=n, n_unit=UNITS[site], **common, **number(group)))
        return found

    rows = table[table["readout"].isin(of.readouts)]
    return _of_models(evidence, of.papers, rows, f"{site} of it were not measured", findings)


@quantity("n_large_positions")
def _large(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Positions with at least a tenth of the total influence."""
    return _each(evidence, of, "embeddings", lambda rows: {"value": float(rows["n_large"].iloc[0])})


@quantity("half_share")
def _half(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Share of the positions that hold half of the influence."""
    return _each(
        evidence, of, "embeddings", lambda rows: {"value": float((rows["n_half"] / rows["n_positions"]).iloc[0])}
    )


@quantity("n_zero_positions")
def _zero(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Positions without any influence."""
    return _each(evidence, of, "embeddings", lambda rows: {"value": float(rows["n_zero"].iloc[0])})


@quantity("end_rank", "best_rank")
def _ends(evidence: Evidence, of: OfModels) -> list[Finding]:
    """The lower of the ranks of the first and the last position; `best_rank` is the higher."""

    def ranks(rows: pd.DataFrame) -> dict[str, Any]:
        first, last = (float(rows[f"{end}_rank"].iloc[0]) for end in ("first", "last"))
        note = f"first is number {first:.0f}, last number {last:.0f}"
        return {"value": max(first, last), "extras": {"best_rank": min(first, last)}, "note": note}

    return _each(evidence, of, "embeddings", ranks)


@quantity("peak_depth", "least", "most")
def _depth(evidence: Evidence, of: Depths) -> list[Finding]:
    """Depth of the most influential layer, 0 the first and 1 the last; `least` and `most` are what is claimed."""

    def deepest(rows: pd.DataFrame) -> dict[str, Any]:
        layers = rows.set_index("layer")["total"]
        depth = float(layers.idxmax()) / max(int(layers.index.max()), 1)
        return {"value": depth, "extras": {"least": of.least, "most": of.most}}

    return _each(evidence, of, "layer", deepest)


@quantity("weakest_layer")
def _weakest(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Influence at the least influential layer over that at the most influential one."""
    return _each(evidence, of, "layer", lambda rows: {"value": float(rows["total"].min() / rows["total"].max())})


@quantity("heads_with_both_ends")
def _heads(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Share of the attention heads in which the first and the last position are the two most influential."""

    def both(rows: pd.DataFrame) -> dict[str, Any]:
        return {"value": float((rows[["first_rank", "last_rank"]].max(axis=1) <= 2).mean())}

    return _each(evidence, of, "head", both)


@quantity("stability_bound_smaller")
def _smaller_bound(evidence: Evidence, of: OfTable) -> list[Finding]:
    """Share of the functions (inputs and readout) for which the proved bound from stability is the smaller one.

    low: the share for which the 99% interval of the bounds' ratio says so; high: all but those for which it says the
    opposite.
    """

    def share(name: str, rows: pd.DataFrame, common: dict[str, str]) -> list[Finding]:
        smaller, larger = rows["over_influence_high"] < 1, rows["over_influence_low"] > 1
        open_cases = [
            f"{row['inputs']}, {row['readout']} {_interval(row)}"
            for row in rows[~(smaller | larger)].to_dict("records")
        ]
        note = (
            f"not settled, 99% interval of stability's bound over influence's: {'; '.join(open_cases)}"
            if open_cases
            else ""
        )
        ends = [float(share.mean()) for share in (rows["stability"] < rows["influence"], smaller, ~larger)]
        return [Finding(name, *ends, len(rows), "functions", note=note, **common)]

    bounds = smaller_bounds(evidence.pretrained_table("table_1"))
    bounds = bounds[(bounds["weights"] == "pretrained") & (bounds["divided_by"] == "norm2")]
    # Where both are 1 or more neither says anything.
    rows = bounds[bounds["smaller"] != "neither"].dropna(subset=["influence", "stability"])
    without = "it has no inputs for which both bounds are proved"
    return _of_models(evidence, of.papers, rows, without, share)


def _interval(row: dict[str, Any]) -> str:
    """The interval of the ratio of a function's bounds."""
    ends = [row[f"over_influence_{end}"] for end in ("low", "high")]
    return "unknown" if any(map(math.isnan, ends)) else f"{ends[0]:.2g} to {ends[1]:.2g}"
