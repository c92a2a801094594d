"""Numbers of pretrained models, from their tables: one finding per model and readout.

Models of the paper count. Others stand in: what they show is kept beside, and is no evidence about the paper's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import pandas as pd
from pydantic import Field

from nsbench.claims.evidence import COUNTS, MISSING, STAND_IN, Evidence, Finding, Quantity
from nsbench.config.base import Closed
from nsbench.schemas.pretrained import PAPER

NAMES = {"gpt2": "GPT-2", "bert": "BERT", "roberta": "RoBERTa", "gemma": "Gemma"}


class OfModels(Closed):
    """Influences on the inputs' embeddings."""

    papers: list[str] = Field(default_factory=lambda: list(PAPER))
    """The paper's models that a claim is about."""
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


class OfTable(Closed):
    papers: list[str] = Field(default_factory=lambda: list(PAPER))
    """The paper's models that a claim is about."""


def _models(evidence: Evidence, papers: list[str]) -> Iterator[tuple[str, str, str, str]]:
    """(name, status, why, text) of every model whose weights were asked for, and of the paper's that were not."""
    table = evidence.pretrained_table("pretrained_models")
    table = table[table["weights"] == "pretrained"]
    for _, row in table.iterrows():
        is_of_paper = row["paper"] in papers
        if row["status"] != "measured":
            if is_of_paper:
                yield row["model"], MISSING, f"{NAMES[row['paper']]} is unavailable", ""
            continue
        yield row["model"], COUNTS if is_of_paper else STAND_IN, "", row["text"]
    for paper in papers:
        if paper not in set(table["paper"]):
            yield paper, MISSING, "this model of the paper is not among the configuration's", ""


def _each(
    evidence: Evidence, of: OfModels, site: str, number: Callable[[pd.DataFrame], dict[str, object]]
) -> list[Finding]:
    """What `number` makes of the concentrations (of the mean over sequences) of each model, inputs and readout."""
    table, found = evidence.pretrained_table("concentration"), []
    table = table[(table["site"] == site) & (table["norm"] == of.norm) & (table["of"] == "mean")]
    table = table[(table["weights"] == "pretrained") & table["inputs"].isin(of.inputs)]
    table = table[table["readout"].isin(of.readouts)]
    for name, status, why, text in _models(evidence, of.papers):
        rows = table[table["model"] == name]
        if status == MISSING or rows.empty:
            found.append(Finding(name, status=MISSING, why=why or f"{site} of it were not measured"))
            continue
        for (inputs, readout), group in rows.groupby(["inputs", "readout"], sort=False):
            found.append(Finding(f"{name} / {inputs} / {readout}", status=status, text=text, **number(group)))  # type: ignore[arg-type]
    return found


def _large(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Positions with at least a tenth of the total influence."""
    return _each(evidence, of, "embeddings", lambda rows: _of_positions(rows, float(rows["n_large"].iloc[0])))


def _half(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Share of the positions that hold half of the influence."""
    return _each(
        evidence,
        of,
        "embeddings",
        lambda rows: _of_positions(rows, float((rows["n_half"] / rows["n_positions"]).iloc[0])),
    )


def _ends(evidence: Evidence, of: OfModels) -> list[Finding]:
    """The lower of the ranks of the first and the last position; `best_rank` is the higher."""

    def ranks(rows: pd.DataFrame) -> dict[str, object]:
        ends = [float(rows[f"{end}_rank"].iloc[0]) for end in ("first", "last")]
        note = f"first is number {ends[0]:.0f}, last number {ends[1]:.0f}"
        return _of_positions(rows, max(ends)) | {"extras": {"best_rank": min(ends)}, "note": note}

    return _each(evidence, of, "embeddings", ranks)


def _zero(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Positions without any influence."""
    return _each(evidence, of, "embeddings", lambda rows: _of_positions(rows, float(rows["n_zero"].iloc[0])))


def _of_positions(rows: pd.DataFrame, value: float) -> dict[str, object]:
    return {"value": value, "n": int(rows["n_positions"].iloc[0]), "n_unit": "positions"}


def _depth(evidence: Evidence, of: Depths) -> list[Finding]:
    """Depth of the most influential layer, 0 the first and 1 the last; `least` and `most` are what is claimed."""

    def deepest(rows: pd.DataFrame) -> dict[str, object]:
        layers = rows.set_index("layer")["total"]
        claimed = {"least": of.least, "most": of.most}
        depth = float(layers.idxmax()) / max(int(layers.index.max()), 1)
        return {"value": depth, "n": len(layers), "n_unit": "layers", "extras": claimed}

    return _each(evidence, of, "layer", deepest)


def _weakest(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Influence at the least influential layer over that at the most influential one."""

    def ratio(rows: pd.DataFrame) -> dict[str, object]:
        return {"value": float(rows["total"].min() / rows["total"].max()), "n": len(rows), "n_unit": "layers"}

    return _each(evidence, of, "layer", ratio)


def _heads(evidence: Evidence, of: OfModels) -> list[Finding]:
    """Share of the attention heads in which the first and the last position are the two most influential."""

    def both(rows: pd.DataFrame) -> dict[str, object]:
        share = float((rows[["first_rank", "last_rank"]].max(axis=1) <= 2).mean())
        return {"value": share, "n": len(rows), "n_unit": "heads"}

    return _each(evidence, of, "head", both)


def _table_1(evidence: Evidence, of: OfTable) -> list[Finding]:
    """Our bound over the paper's, for each model and column; value is that of the reading which is nearest.

    Which reading of the bound, which readout and which inputs the paper takes is open: low and high are the smallest
    and the largest ratio over all of them.
    """
    table, found = evidence.pretrained_table("table_1"), []
    table = table[table["weights"] == "pretrained"]
    for name, status, why, text in _models(evidence, of.papers):
        rows = table[(table["model"] == name) & table["ratio"].gt(0)]
        if status == STAND_IN:
            continue
        if status == MISSING or rows.empty:
            found.append(Finding(name, status=MISSING, why=why or "it has no row with a number of the paper"))
            continue
        for bound, group in rows.groupby("bound_from", sort=False):
            nearest = group.loc[group["ratio"].map(lambda ratio: abs(math.log(ratio))).idxmin()]
            found.append(
                Finding(
                    f"{name} / from {bound}",
                    float(nearest["ratio"]),
                    float(group["ratio"].min()),
                    float(group["ratio"].max()),
                    n=len(group),
                    n_unit="readings",
                    text=text,
                    note=f"nearest: {nearest['inputs']}, {nearest['readout']}, {nearest['reading']}; the ends are the "
                    "smallest and the largest of the readings, not an interval",
                )
            )
    return found


def _smaller_bound(evidence: Evidence, of: OfTable) -> list[Finding]:
    """Share of the functions (inputs and readout) for which the proved bound from stability is the smaller one.

    Both are divided by E[f^2]; that from stability is the least over rho.
    """
    table, found = evidence.pretrained_table("table_1"), []
    table = table[(table["weights"] == "pretrained") & table["proved"] & table["rho"].isna()]
    table = table[table["divided_by"] == "norm2"]
    for name, status, why, text in _models(evidence, of.papers):
        rows = table[table["model"] == name]
        bounds = rows.pivot_table(
            index=["inputs", "readout"], columns="bound_from", values="value", aggfunc="min"
        ).dropna()
        if status == MISSING or bounds.empty or len(bounds.columns) < 2:
            found.append(Finding(name, status=MISSING, why=why or "it has no inputs for which both bounds are proved"))
            continue
        share = float((bounds["stability"] < bounds["influence"]).mean())
        found.append(Finding(name, share, n=len(bounds), n_unit="functions", status=status, text=text))
    return found


def _quantity(measure: Callable[..., list[Finding]], parameters: type[Closed], *extras: str) -> Quantity:
    return Quantity(measure, parameters, extras, source="pretrained", all_needed=True)


QUANTITIES = {
    "n_large_positions": _quantity(_large, OfModels),
    "half_share": _quantity(_half, OfModels),
    "end_rank": _quantity(_ends, OfModels, "best_rank"),
    "n_zero_positions": _quantity(_zero, OfModels),
    "peak_depth": _quantity(_depth, Depths, "least", "most"),
    "weakest_layer": _quantity(_weakest, OfModels),
    "heads_with_both_ends": _quantity(_heads, OfModels),
    "table_1_ratio": _quantity(_table_1, OfTable),
    "stability_bound_smaller": _quantity(_smaller_bound, OfTable),
}
