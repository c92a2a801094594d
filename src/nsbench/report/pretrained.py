"""The report's section on pretrained models."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.analysis import pretrained_tables
from nsbench.figures import of_kind, style
from nsbench.report.model_rows import Cells, Rows
from nsbench.report.pictures import Pictures
from nsbench.report.tables import NONE, Cell, Column, Record, Table, number, table
from nsbench.schemas.pretrained import INPUTS, NORMS, TABLES
from nsbench.storage.parquet import read_table

SHOWN = ("l1", "squared_l2")
"""Norms whose patterns are shown: the geometric influence, and the one that bounds the mass in high degrees."""
PATTERNS = ["at least 0.1|positions", "hold half|positions", "first|share", "last|share", "without influence|positions"]
CHANGES = {
    "decision": "changed answers|positions, summed",
    "probability_distance": "distance of probabilities|summed",
}
"""Reduction of average sensitivity -> head of its column."""
OUTPUT = {
    "probability_dot": "product of the probabilities",
    "probability_cosine": "cosine of the probabilities",
    "decision": "positions with the same answer",
}
"""Reductions of the whole output, under resampling."""
FROM = ("influence", "stability")
DIVIDED = [
    *("from influence|of E f²", "from stability|of E f²", "from influence|of the variance"),
    *("from stability|of the variance", "smaller|stability's over influence's"),
]
Titled = list[tuple[str, Table]]
"""Tables with their titles."""


def section(folder: Path | None, pictures: Pictures) -> dict[str, Any]:
    """The tables of pretrained models, and their figures; empty where there are none.

    `folder` has the tables of schemas.pretrained.TABLES. Raises RecordError for a missing one.
    """
    if folder is None:
        return {}
    # The influences are for the figures alone.
    names = [name for name in TABLES if name != "pretrained_influence"]
    tables = {name: read_table(folder / f"{name}.parquet", TABLES[name]) for name in names}
    models = tables["pretrained_models"]
    rows = Rows(models, tables["pretrained_measured"])
    return {
        "models": table(MODELS, [_described(model) for model in models.to_dict("records")]),
        "labels": _labels(models),
        **_patterns(rows, tables["concentration"]),
        **_stability(rows, tables["pretrained_stability"]),
        **_table_1(rows, tables["table_1"]),
        "elsewhere": pictures.elsewhere(*of_kind("pretrained")),
        "figures": pictures.take(*of_kind("pretrained")),
    }


# --- models ---------------------------------------------------------------------------------------------


def _described(row: Record) -> Record:
    """A model with what it is in words."""
    control, count = row["weights"] == "random", row["n_parameters"]
    known = row["status"] == "measured"
    return row | {
        "control": "control: random weights" * control,
        "strange": "not one of the paper's models" * (not (row["paper"] or control)),
        # The origin of a control is its seed.
        "from": row["origin"] if known and control else f"{row['source']}: {row['origin']}",
        "parameters": "" if not known else f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,}",
    }


def _known(head: str, form: str, css: str = "n") -> Column:
    """A column of what is known of a model that was measured."""
    return Column(head, form, css).where(lambda row: row["status"] == "measured")


MODELS = [
    Column("model", lambda row: (row["model"], row["control"], row["remark"], row["strange"]), "what", True),
    Column("status", lambda row: (row["status"], row["reason"]), "status"),
    Column("from", "{from}", "from"),
    _known("kind", "{kind}|{architecture}", ""),
    _known("parameters", "{parameters}|{n_layers} layers of {n_heads} heads, width {d_model}"),
    Column("text", lambda row: (row["status"] == "measured" and row["text"]) or NONE, "from"),
    _known("tokens|of a sequence", "{n_tokens}|{n_special} special"),
    _known("sequences", "{n_sequences}"),
]


def _labels(models: pd.DataFrame) -> list[str]:
    """What of the results is not the paper's."""
    strange = list(models.loc[models["paper"] == "", "model"].unique())
    texts = [text for text in models["text"].unique() if text not in style.KNOWN_TEXTS]
    found = [f"Not the paper's models: {', '.join(strange)}."] if strange else []
    return [*found, *(f"Not the paper's text: {text}." for text in texts)]


# --- influence, stability, sensitivity ------------------------------------------------------------------


def _patterns(rows: Rows, concentration: pd.DataFrame) -> dict[str, Any]:
    """The paper's three patterns at the embeddings, by norm, of the mean over sequences and of each one."""
    inputs = "text" if "text" in rows.inputs else next(iter(rows.inputs), "text")
    here = concentration[(concentration["site"] == "embeddings") & (concentration["inputs"] == inputs)]
    keys = ["model", "weights", "readout", "norm", "of"]
    found = {tuple(row[key] for key in keys): _pattern(row) for row in here.to_dict("records")}

    def by_norm(of: str) -> Titled:
        def cells(norm: str) -> Cells:
            return lambda model, weights, readout: found.get((model, weights, readout, norm, of), [])

        absent = "no influence at any position"
        return [(_title(NORMS[norm]), rows.table("model", PATTERNS, inputs, cells(norm), absent)) for norm in SHOWN]

    return {"inputs": INPUTS[inputs], "patterns": by_norm("mean"), "patterns_each": by_norm("each")}


def _title(label: str) -> str:
    return label[0].upper() + label[1:]


def _pattern(row: Record) -> list[str]:
    ends = [f"{100 * row[f'{end}_share']:.2g}%, rank {_count(row[f'{end}_rank'])}" for end in ("first", "last")]
    counts = [f"{_count(row[name])} of {row['n_positions']:,}" for name in ("n_large", "n_half")]
    return [*counts, *ends, _count(row["n_zero"])]


def _count(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"


def _stability(rows: Rows, stability: pd.DataFrame) -> dict[str, Any]:
    """Stability of the output and of each readout at each rho, and average sensitivity; inputs apart, text first."""
    rhos = sorted(stability["rho"].dropna().unique())
    heads = [f"ρ = {rho:g}" for rho in rhos]
    keys = ["model", "weights", "inputs", "readout", "noise", "reduction"]
    found = {
        (*(row[key] for key in keys), None if math.isnan(row["rho"]) else row["rho"]): _estimate(row)
        for row in stability.to_dict("records")
    }

    def cells(inputs: str, noise: str, reductions: Iterable[str], at: Collection[float | None] = rhos) -> Cells:
        """The cells of a row: at each reduction and rho."""
        where = [(reduction, rho) for reduction in reductions for rho in at]

        def texts(model: str, weights: str, readout: str) -> list[str]:
            made = [found.get((model, weights, inputs, readout, noise, *key), "") for key in where]
            return made if any(made) else []

        return texts

    outputs, sensitivity, gaussian = [], [], []
    for kind in rows.inputs:
        title, first = _title(INPUTS[kind]), f"readout, {INPUTS[kind]}"
        gaussian.append((title, rows.table(first, heads, kind, cells(kind, "gaussian", ["pearson"]))))
        if kind != "gaussian":
            first = f"output, {INPUTS[kind]}"
            by_label = {label: cells(kind, "resampling", [reduction]) for reduction, label in OUTPUT.items()}
            changed = {"": cells(kind, "replacement", CHANGES, [None])}
            outputs.append((title, rows.of_output(first, heads, kind, by_label)))
            sensitivity.append((title, rows.of_output(first, list(CHANGES.values()), kind, changed)))
    return {"outputs": outputs, "gaussian": gaussian, "sensitivity": sensitivity}


def _estimate(row: Record) -> str:
    value, error = (number(row[name], ".3f") for name in ("value", "standard_error"))
    return value if NONE in (value, error) else f"{value} ± {error}"


# --- Table 1 --------------------------------------------------------------------------------------------


def _table_1(rows: Rows, tail: pd.DataFrame) -> dict[str, Any]:
    """Table 1 (schema TAIL): proved bounds."""
    return {"bounds": _proved(rows, tail), "degree": "k" if tail.empty else str(tail["degree"].iloc[0])}


def _proved(rows: Rows, tail: pd.DataFrame) -> Titled:
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
            names = (pretrained_tables.NORM2, pretrained_tables.VARIANCE)
            divided = [found.get((model, weights, inputs, readout, name)) for name in names]
            if None in divided:
                return []
            return [
                *(_bound(row[name], row[f"{name}_upper"]) for row in divided for name in FROM),
                _smaller(divided[0]),
            ]

        absent = {"cross_entropy": "no bound: its labels are the tokens that are redrawn"}
        return rows.table("model", heads, inputs, cells, absent, papers)

    kinds = dict.fromkeys(pretrained_tables.PROVED.values())
    return [(_title(INPUTS[kind]), of(kind)) for kind in kinds if kind in rows.inputs]


def _bound(value: float, upper: float) -> str:
    """A bound on a share, and its upper confidence limit, if it has one."""
    shown = number(value, ".3g")
    limit = "" if math.isnan(upper) else f" (to {number(upper, '.3g')})"
    return f"says nothing ({shown})" if value >= 1 else shown + limit


def _smaller(row: Record) -> str:
    """Which bound is smaller, and the interval that says so."""
    ends = [number(row[f"over_influence_{end}"], ".3g") for end in ("low", "high")]
    why = "no interval" if NONE in ends else f"{number(row['over_influence'], '.3g')}, {ends[0]} to {ends[1]}"
    return row["smaller"] if row["smaller"] == "neither" else f"{row['smaller']} ({why})"
