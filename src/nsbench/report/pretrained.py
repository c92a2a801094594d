"""The report's section on pretrained models."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.figures import of_kind, style
from nsbench.report import table_1
from nsbench.report.model_rows import INPUTS, Cells, Rows, at_each, title
from nsbench.report.pictures import Pictures
from nsbench.report.tables import NONE, Column, Record, Table, number, table
from nsbench.schemas.pretrained import TABLES
from nsbench.storage.parquet import read_table

NORMS = {"l1": "L1 norm", "squared_l2": "Squared L2 norm"}
"""Norms whose patterns are shown: the geometric influence, and the one that bounds the mass in high degrees."""
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
Titled = list[tuple[str, Table]]
"""Tables with their titles."""


def section(folder: Path | str | None, pictures: Pictures) -> dict[str, Any]:
    """The tables of pretrained models, and their figures; empty where there are none.

    `folder` has the tables of schemas.pretrained.TABLES. Raises RecordError for a missing one.
    """
    if folder is None:
        return {}
    # The influences are for the figures alone.
    names = [name for name in TABLES if name != "pretrained_influence"]
    tables = {name: read_table(Path(folder) / f"{name}.parquet", TABLES[name]) for name in names}
    models = tables["pretrained_models"]
    rows = Rows(models, tables["pretrained_measured"])
    return {
        "models": table(MODELS, models.to_dict("records")),
        "labels": _labels(models),
        **_patterns(rows, tables["concentration"]),
        **_stability(rows, tables["pretrained_stability"]),
        **table_1.section(rows, tables["table_1"]),
        "elsewhere": pictures.elsewhere(*of_kind("pretrained")),
        "figures": pictures.take(*of_kind("pretrained")),
    }


# --- models ---------------------------------------------------------------------------------------------


def _model(row: Record) -> tuple[str, ...]:
    control = row["weights"] == "random"
    strange = not (row["paper"] or control)
    remarks = ("control: random weights" * control, row["remark"], "not one of the paper's models" * strange)
    return row["model"], *remarks


def _origin(row: Record) -> str:
    # The origin of a control is its seed.
    own = row["status"] == "measured" and row["weights"] == "random"
    return row["origin"] if own else f"{row['source']}: {row['origin']}"


def _parameters(row: Record) -> str:
    count = row["n_parameters"]
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,}"


def _known(head: str, form: str, css: str = "n", **more: Callable[[Record], str]) -> Column:
    """A column of what is known of a model that was measured; more: values that it has no column of."""
    column = Column(head, form, css)
    made = lambda row: row | {name: make(row) for name, make in more.items()}  # noqa: E731
    return column._replace(form=lambda row: column.cell(made(row)) if row["status"] == "measured" else NONE)


MODELS = [
    Column("model", _model, "what", True),
    Column("status", "{status}|{reason}", "status"),
    Column("from", _origin, "from"),
    _known("kind", "{kind}|{architecture}", ""),
    _known("parameters", "{count}|{n_layers} layers of {n_heads} heads, width {d_model}", count=_parameters),
    _known("text", "{shown}", "from", shown=lambda row: row["text"] or NONE),
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

PATTERN_HEADS = [
    *("at least 0.1|positions", "hold half|positions", "first|share", "last|share", "without influence|positions")
]


def _patterns(rows: Rows, concentration: pd.DataFrame) -> dict[str, Any]:
    """The paper's three patterns at the embeddings, by norm, of the mean over sequences and of each one."""
    inputs = "text" if "text" in rows.inputs else next(iter(rows.inputs), "text")
    here = concentration[(concentration["site"] == "embeddings") & (concentration["inputs"] == inputs)]
    keys = ["model", "weights", "readout", "norm", "of"]
    found = {tuple(row[key] for key in keys): _pattern(row) for row in here.to_dict("records")}

    def by_norm(of: str) -> Titled:
        return [
            (name, rows.table("model", PATTERN_HEADS, inputs, _looked_up(found, norm, of), _no_influence))
            for norm, name in NORMS.items()
        ]

    patterns = {"patterns": by_norm("mean"), "patterns_each": by_norm("each")}
    return {"inputs": INPUTS.get(inputs, inputs), **patterns}


def _looked_up(found: dict[Any, list[str]], *rest: Any) -> Cells:
    return lambda model, weights, readout: found.get((model, weights, readout, *rest), [])


def _no_influence(readout: str) -> str:
    return "no influence at any position"


def _pattern(row: Record) -> list[str]:
    ends = [f"{100 * row[f'{end}_share']:.2g}%, rank {_count(row[f'{end}_rank'])}" for end in ("first", "last")]
    counts = [f"{_count(row[name])} of {row['n_positions']:,}" for name in ("n_large", "n_half")]
    return [*counts, *ends, _count(row["n_zero"])]


def _stability(rows: Rows, stability: pd.DataFrame) -> dict[str, Any]:
    """Stability of the output and of each readout at each rho, and average sensitivity; inputs apart, text first."""
    rhos = sorted(stability["rho"].dropna().unique())
    keys = ["model", "weights", "inputs", "readout", "noise", "reduction"]
    found = {
        (*(row[key] for key in keys), None if math.isnan(row["rho"]) else row["rho"]): _estimate(row)
        for row in stability.to_dict("records")
    }

    def cells(inputs: str, noise: str, *at: tuple[str, float | None]) -> Cells:
        """The cells of a row: at each reduction and rho."""

        def texts(model: str, weights: str, readout: str) -> list[str]:
            made = [found.get((model, weights, inputs, readout, noise, *where), "") for where in at]
            return made if any(made) else []

        return texts

    def over_rho(inputs: str, noise: str, reduction: str) -> Cells:
        return cells(inputs, noise, *((reduction, rho) for rho in rhos))

    tokens = [kind for kind in rows.inputs if kind != "gaussian"]
    outputs, sensitivity = [], []
    for kind in tokens:
        first = f"output, {INPUTS[kind]}"
        by_label = {label: over_rho(kind, "resampling", reduction) for reduction, label in OUTPUT.items()}
        changed = {"": cells(kind, "replacement", *((reduction, None) for reduction in CHANGES))}
        outputs.append((title(kind), rows.of_output(first, at_each(rhos), kind, by_label)))
        sensitivity.append((title(kind), rows.of_output(first, list(CHANGES.values()), kind, changed)))
    gaussian = [
        (
            title(kind),
            rows.table(f"readout, {INPUTS[kind]}", at_each(rhos), kind, over_rho(kind, "gaussian", "pearson")),
        )
        for kind in rows.inputs
    ]
    return {"outputs": outputs, "gaussian": gaussian, "sensitivity": sensitivity}


def _estimate(row: Record) -> str:
    value, error = (number(row[name], ".3f") for name in ("value", "standard_error"))
    return value if NONE in (value, error) else f"{value} ± {error}"


def _count(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
