"""The rows of the report's tables of pretrained models as texts; the control stands small below its model.

A row is a name, lines small `under` it, and cells, each a pair of a text and what stands small below it; or in place
of cells what is `missing` and why.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from nsbench.figures import style
from nsbench.report.rows import NONE

READOUTS = {
    "top_logit_last": "top logit, last position",
    "mean_top_logit": "top logit, mean over positions",
    "cross_entropy": "cross entropy",
    "pooled_norm": "norm of the pooled hidden state",
}
INPUTS = {"text": "text", "uniform": "uniform tokens", "gaussian": "Gaussian embeddings"}
NORMS = {"l1": "L1 norm", "squared_l2": "Squared L2 norm"}
"""Norms whose patterns are shown: the geometric influence, and the one that bounds the mass in high degrees."""
CHANGES = {
    "decision": ("changed answers", "positions, summed"),
    "probability_distance": ("distance of probabilities", "summed"),
}
"""Reduction of average sensitivity -> head of its column."""
OF_OUTPUT = "output"
"""The readout of what is measured on the whole output."""
OUTPUT = {
    "probability_dot": "product of the probabilities",
    "probability_cosine": "cosine of the probabilities",
    "decision": "positions with the same answer",
}
"""Reductions of the whole output, under resampling."""

UNKNOWN = "not measured"

Row = dict[str, Any]
Cells = Callable[[str, str, str], list[str]]
"""(model, weights, readout) -> the texts of a row's cells."""


def section(rows: Rows, tables: dict[str, pd.DataFrame]) -> dict[str, Any]:
    """What the report shows of pretrained models, less Table 1; tables: of pretrained_records.TABLES, by name."""
    return {
        "models": [_model(row) for row in tables["pretrained_models"].to_dict("records")],
        "labels": _labels(tables["pretrained_models"]),
        **_patterns(rows, tables["concentration"]),
        **_stability(rows, tables["pretrained_stability"]),
    }


class Rows:
    """Makes rows for each model and readout, and says of those that were not measured why."""

    def __init__(self, models: pd.DataFrame, measured: pd.DataFrame) -> None:
        self.models, self.measured = models, measured
        self.names = list(models["model"].unique())
        self.inputs = [kind for kind in INPUTS if kind in set(measured["inputs"])]
        self.reasons = {
            (row["model"], row["weights"], row["inputs"], row["readout"]): (
                f"{row['status'].replace('_', ' ')}: {row['reason']}"
            )
            for row in measured[measured["status"] != "measured"].to_dict("records")
        }
        """Case -> why it was not measured."""

    def unavailable(self, model: str) -> str:
        """Why none of a model's weights is to be had; empty where some are."""
        own = self.models[self.models["model"] == model]
        return "" if (own["status"] == "measured").any() else f"unavailable: {own['reason'].iloc[0]}"

    def each(self, inputs: str, cells: Cells, absent: Callable[[str], str] = lambda readout: UNKNOWN) -> Iterator[Row]:
        """A row for each model and readout; one row for a model that is unavailable, and for readouts missing alike.

        absent: why a readout that was measured has no cells here.
        """
        for model in self.names:
            if reason := self.unavailable(model):
                yield {"name": model, "under": [], "missing": reason}
                continue
            own = self.measured[(self.measured["model"] == model) & (self.measured["inputs"] == inputs)]
            readouts = own.loc[own["readout"] != OF_OUTPUT, "readout"].unique()
            alike: dict[str, Row] = {}
            for readout in readouts:
                row = self.one(model, inputs, readout, cells, [READOUTS.get(readout, readout)], absent(readout))
                if "cells" in row:
                    yield row
                else:
                    alike.setdefault(row["missing"], row | {"under": []})["under"].extend(row["under"])
            yield from alike.values()
            if not len(readouts):
                yield {"name": model, "under": [], "missing": UNKNOWN}

    def one(self, model: str, inputs: str, readout: str, cells: Cells, under: list[str], absent: str = UNKNOWN) -> Row:
        """A row of a model, its control small below. absent: why it has no cells where it was measured."""
        weights = self.models.loc[self.models["model"] == model, "weights"]
        texts = {kind: cells(model, kind, readout) for kind in weights}
        if not any(texts.values()):
            reasons = [self._reason(model, kind, inputs, readout, absent) for kind in weights]
            return {"name": model, "under": under, "missing": "; ".join(dict.fromkeys(reasons))}
        n_cells = max(map(len, texts.values()))
        main, control = (texts.get(kind) or [""] * n_cells for kind in ("pretrained", "random"))
        gaps = [
            f"{'control' if kind == 'random' else kind} {self._reason(model, kind, inputs, readout, absent)}"
            for kind, found in texts.items()
            if not found
        ]
        pairs = [(text or NONE, f"control {other}" if other else "") for text, other in zip(main, control, strict=True)]
        return {"name": model, "under": [*under, *gaps], "cells": pairs}

    def _reason(self, model: str, weights: str, inputs: str, readout: str, absent: str) -> str:
        kinds = self.models.loc[self.models["model"] == model, "kind"]
        if readout == OF_OUTPUT and (kinds == "encoder").any():
            absent = "not applicable: no language-model head, so no probabilities"
        return self.reasons.get((model, weights, inputs, readout), absent)


def _model(row: dict[str, Any]) -> Row:
    """A row of the models table."""
    there = row["status"] == "measured"
    labels = [
        "control: random weights" if row["weights"] == "random" else "",
        row["remark"],
        "" if row["paper"] or row["weights"] == "random" else "not one of the paper's models",
    ]

    def known(text: str) -> str:
        return text if there else NONE

    return {
        "name": row["model"],
        "under": [label for label in labels if label],
        "status": row["status"],
        "reason": row["reason"],
        # The origin of a control is its seed.
        "origin": row["origin"] if there and row["weights"] == "random" else f"{row['source']}: {row['origin']}",
        "kind": (known(row["kind"]), row["architecture"]),
        "parameters": (
            known(_parameters(row["n_parameters"])),
            f"{row['n_layers']} layers of {row['n_heads']} heads, width {row['d_model']:,}" if there else "",
        ),
        "text": known(row["text"]) or NONE,
        "tokens": (known(f"{row['n_tokens']:,}"), f"{row['n_special']} special" if there else ""),
        "sequences": known(f"{row['n_sequences']:,}"),
    }


def _parameters(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count >= 1e5 else f"{count:,}"


def _labels(models: pd.DataFrame) -> list[str]:
    """What of the results is not the paper's."""
    strange = list(models.loc[models["paper"] == "", "model"].unique())
    texts = [text for text in models["text"].unique() if text not in style.KNOWN_TEXTS]
    found = [f"Not the paper's models: {', '.join(strange)}."] if strange else []
    return [*found, *(f"Not the paper's text: {text}." for text in texts)]


def _patterns(rows: Rows, concentration: pd.DataFrame) -> dict[str, Any]:
    """The paper's three patterns at the embeddings, by norm, of the mean over sequences and of each one."""
    inputs = "text" if "text" in rows.inputs else next(iter(rows.inputs), "text")
    here = concentration[(concentration["site"] == "embeddings") & (concentration["inputs"] == inputs)]
    keys = ["model", "weights", "readout", "norm", "of"]
    found = {tuple(row[key] for key in keys): row for row in here.to_dict("records")}

    def table(norm: str, of: str) -> list[Row]:
        def cells(model: str, weights: str, readout: str) -> list[str]:
            row = found.get((model, weights, readout, norm, of))
            return _pattern(row) if row else []

        return list(rows.each(inputs, cells, lambda readout: "no influence at any position"))

    return {
        "inputs": INPUTS.get(inputs, inputs),
        "patterns": [(title, table(norm, "mean")) for norm, title in NORMS.items()],
        "patterns_each": [(title, table(norm, "each")) for norm, title in NORMS.items()],
    }


def _pattern(row: dict[str, Any]) -> list[str]:
    ends = [f"{100 * row[f'{end}_share']:.2g}%, rank {_count(row[f'{end}_rank'])}" for end in ("first", "last")]
    counts = [f"{_count(row[name])} of {row['n_positions']:,}" for name in ("n_large", "n_half")]
    return [*counts, *ends, _count(row["n_zero"])]


def _stability(rows: Rows, stability: pd.DataFrame) -> dict[str, Any]:
    """Stability of the output and of each readout at each rho; inputs apart, text first."""
    rhos = sorted(stability["rho"].dropna().unique())
    keys = ["model", "weights", "inputs", "readout", "noise", "reduction", "rho"]
    found = {
        tuple(row[key] for key in keys): _estimate(row["value"], row["standard_error"])
        for row in stability[stability["rho"].notna()].to_dict("records")
    }

    def cells(inputs: str, noise: str, reduction: str) -> Cells:
        def texts(model: str, weights: str, readout: str) -> list[str]:
            at = [found.get((model, weights, inputs, readout, noise, reduction, rho), "") for rho in rhos]
            return at if any(at) else []

        return texts

    def of_output(inputs: str) -> Iterator[Row]:
        for model in rows.names:
            if reason := rows.unavailable(model):
                yield {"name": model, "under": [], "missing": reason}
                continue
            made = [
                rows.one(model, inputs, OF_OUTPUT, cells(inputs, "resampling", reduction), [label])
                for reduction, label in OUTPUT.items()
            ]
            # What is missing is said once.
            yield from [row for row in made if "cells" in row] or [made[0] | {"under": []}]

    return {
        "rhos": at(rhos),
        "outputs": [(INPUTS[kind], list(of_output(kind))) for kind in rows.inputs if kind != "gaussian"],
        "gaussian": [(INPUTS[kind], list(rows.each(kind, cells(kind, "gaussian", "pearson")))) for kind in rows.inputs],
        "sensitivity_heads": list(CHANGES.values()),
        "sensitivity": [
            (INPUTS[kind], list(_sensitivity(rows, stability, kind))) for kind in rows.inputs if kind != "gaussian"
        ],
    }


def _sensitivity(rows: Rows, stability: pd.DataFrame, inputs: str) -> Iterator[Row]:
    """Average sensitivity of the output: what one redrawn token changes, summed over tokens."""
    here = stability[(stability["noise"] == "replacement") & (stability["inputs"] == inputs)]
    found = {
        (row["model"], row["weights"], row["readout"], row["reduction"]): _estimate(row["value"], row["standard_error"])
        for row in here.to_dict("records")
    }

    def texts(model: str, weights: str, readout: str) -> list[str]:
        at_each = [found.get((model, weights, readout, reduction), "") for reduction in CHANGES]
        return at_each if any(at_each) else []

    for model in rows.names:
        reason = rows.unavailable(model)
        if reason:
            yield {"name": model, "under": [], "missing": reason}
        else:
            yield rows.one(model, inputs, OF_OUTPUT, texts, [])


def at(rhos: list[float]) -> list[tuple[str, str]]:
    """The heads of columns for each rho."""
    return [(f"ρ = {rho:g}", "") for rho in rhos]


def _estimate(value: float, error: float) -> str:
    if math.isnan(value):
        return NONE
    return f"{value:.3f}".replace("-", "−") + ("" if math.isnan(error) else f" ± {error:.3f}")


def short(value: float) -> str:
    """Three digits; a dash for NaN."""
    return NONE if math.isnan(value) else f"{value:.3g}".replace("inf", "∞").replace("-", "−")


def _count(value: float) -> str:
    """A count, or a mean of counts."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.1f}"
