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

from nsbench.claims.evidence import COUNTS, MISSING, STAND_IN, Evidence, Finding
from nsbench.claims.registry import Parameters, claim_quantity
from nsbench.schemas.pretrained import PAPER

NAMES = {"gpt2": "GPT-2", "bert": "BERT", "roberta": "RoBERTa", "gemma": "Gemma"}
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
    for model in models.to_dict("records"):
        name, is_of_paper = model["model"], model["paper"] in papers
        own = rows[rows["model"] == name]
        if not (is_of_paper or stand_ins):
            continue
        if model["status"] == "measured" and not own.empty:
            found += make(name, own, {"status": COUNTS if is_of_paper else STAND_IN, "text": model["text"]})
        elif model["status"] == "measured":
            found.append(Finding(name, status=MISSING, why=without))
        elif is_of_paper:
            found.append(Finding(name, status=MISSING, why=f"{NAMES[model['paper']]} is unavailable"))
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
        groups = rows.groupby(["inputs", "readout"], sort=False)
        return [Finding(" / ".join((name, *key)), **common, **number(group)) for key, group in groups]

    rows = table[table["readout"].isin(of.readouts)]
    return _of_models(evidence, of.papers, rows, f"{site} of it were not measured", findings)


def _of_positions(rows: pd.DataFrame, value: float) -> dict[str, Any]:
    return {"value": float(value), "n": int(rows["n_positions"].iloc[0]), "n_unit": "positions"}


@quantity("n_large_positions")
def _large(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Positions with at least a tenth of the total influence."""
    return _each(evidence, of, "embeddings", lambda rows: _of_positions(rows, rows["n_large"].iloc[0]))


@quantity("half_share")
def _half(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Share of the positions that hold half of the influence."""
    share = lambda rows: _of_positions(rows, (rows["n_half"] / rows["n_positions"]).iloc[0])  # noqa: E731
    return _each(evidence, of, "embeddings", share)


@quantity("n_zero_positions")
def _zero(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Positions without any influence."""
    return _each(evidence, of, "embeddings", lambda rows: _of_positions(rows, rows["n_zero"].iloc[0]))


@quantity("end_rank", "best_rank")
def _ends(evidence: Evidence, of: OfModels) -> list[Finding]:
    """The lower of the ranks of the first and the last position; `best_rank` is the higher."""

    def ranks(rows: pd.DataFrame) -> dict[str, Any]:
        first, last = (float(rows[f"{end}_rank"].iloc[0]) for end in ("first", "last"))
        note = f"first is number {first:.0f}, last number {last:.0f}"
        return _of_positions(rows, max(first, last)) | {"extras": {"best_rank": min(first, last)}, "note": note}

    return _each(evidence, of, "embeddings", ranks)


@quantity("peak_depth", "least", "most")
def _depth(evidence: Evidence, of: Depths) -> list[Finding]:
    """Depth of the most influential layer, 0 the first and 1 the last; `least` and `most` are what is claimed."""

    def deepest(rows: pd.DataFrame) -> dict[str, Any]:
        layers = rows.set_index("layer")["total"]
        claimed = {"least": of.least, "most": of.most}
        depth = float(layers.idxmax()) / max(int(layers.index.max()), 1)
        return {"value": depth, "n": len(layers), "n_unit": "layers", "extras": claimed}

    return _each(evidence, of, "layer", deepest)


@quantity("weakest_layer")
def _weakest(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Influence at the least influential layer over that at the most influential one."""

    def ratio(rows: pd.DataFrame) -> dict[str, Any]:
        return {"value": float(rows["total"].min() / rows["total"].max()), "n": len(rows), "n_unit": "layers"}

    return _each(evidence, of, "layer", ratio)


@quantity("heads_with_both_ends")
def _heads(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Share of the attention heads in which the first and the last position are the two most influential."""

    def both(rows: pd.DataFrame) -> dict[str, Any]:
        share = float((rows[["first_rank", "last_rank"]].max(axis=1) <= 2).mean())
        return {"value": share, "n": len(rows), "n_unit": "heads"}

    return _each(evidence, of, "head", both)


@quantity("table_1_ratio")
def _table_1(evidence: Evidence, of: OfTable) -> list[Finding]:
    """Our bound over the paper's, for each model and column; value is that of the reading which is nearest.

    Which reading of the bound, which readout and which inputs the paper takes is open: low and high are the smallest
    and the largest ratio over all of them.
    """

    def nearest(name: str, rows: pd.DataFrame, common: dict[str, str]) -> list[Finding]:
        found = []
        for bound, group in rows.groupby("bound_from", sort=False):
            nearest = group.loc[group["ratio"].map(lambda ratio: abs(math.log(ratio))).idxmin()]
            ends = [float(ratio) for ratio in (nearest["ratio"], group["ratio"].min(), group["ratio"].max())]
            note = (
                f"nearest: {nearest['inputs']}, {nearest['readout']}, {nearest['reading']}; the ends are the smallest "
                "and the largest of the readings, not an interval"
            )
            setting = f"{name} / from {bound}"
            found.append(Finding(setting, *ends, n=len(group), n_unit="readings", note=note, **common))
        return found

    table = evidence.pretrained_table("table_1")
    rows = table[(table["weights"] == "pretrained") & table["ratio"].gt(0)]
    return _of_models(evidence, of.papers, rows, "it has no row with a number of the paper", nearest, stand_ins=False)


@quantity("stability_bound_smaller")
def _smaller_bound(evidence: Evidence, of: OfTable) -> list[Finding]:
    """Share of the functions (inputs and readout) for which the proved bound from stability is the smaller one.

    Both are divided by E[f^2]; that from stability is the least over rho.
    """

    def share(name: str, rows: pd.DataFrame, common: dict[str, str]) -> list[Finding]:
        smaller = float((rows["stability"] < rows["influence"]).mean())
        return [Finding(name, smaller, n=len(rows), n_unit="functions", **common)]

    table = evidence.pretrained_table("table_1")
    table = table[(table["weights"] == "pretrained") & table["proved"] & table["rho"].isna()]
    table = table[table["divided_by"] == "norm2"]
    function = ["model", "inputs", "readout"]
    bounds = table.pivot_table(index=function, columns="bound_from", values="value", aggfunc="min")
    rows = bounds.reindex(columns=["influence", "stability"]).dropna().reset_index()
    without = "it has no inputs for which both bounds are proved"
    return _of_models(evidence, of.papers, rows, without, share)
