"""Made-up tables of pretrained models in the shapes of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsbench.config.pretrained import PretrainedFigureSpec
from nsbench.measures.concentration import concentration
from nsbench.schemas.pretrained import NONE, TABLES, WEIGHTS
from nsbench.storage import parquet, provenance

READOUTS = ("top_logit_last", "mean_top_logit", "cross_entropy", "pooled_norm")
NORMS = {"l1": (1.0, 1.0), "l2": (0.05, 0.9), "squared_l2": (0.003, 1.8)}
"""Norm -> factor and power of what `_values` gives."""
OF_LOGITS = "has no language-model head, so no logits"


class Made(NamedTuple):
    """One model: what it is, and how much of it there is."""

    n_layers: int = 6
    n_heads: int = 4
    kind: str = "causal"
    paper: str = ""
    remark: str = ""
    reason: str = ""
    """Why it is unavailable; empty: it was measured."""
    n_special: int = 0
    text: str = "WikiText-2"
    weights: tuple[str, ...] = WEIGHTS
    source: str = "package"
    inputs: tuple[str, ...] = ("text", "uniform")


class Tables(NamedTuple):
    """The tables that figures read, as their `draw` names them."""

    models: pd.DataFrame
    measured: pd.DataFrame
    influence: pd.DataFrame
    concentration: pd.DataFrame


def make(made: dict[str, Made], n_tokens: int = 32, n_sequences: int = 8) -> Tables:
    """Tables of these models; influences of one norm are a power of another's."""
    models, measured, influence, concentrated = [], [], [], []
    for place, (name, model) in enumerate(made.items()):
        for weights in model.weights:
            models.append(_model(name, model, weights, n_tokens, n_sequences))
            for inputs in model.inputs:
                for readout in READOUTS:
                    key = {"model": name, "weights": weights, "inputs": inputs, "readout": readout}
                    status, reason = _status(name, model, readout)
                    measured.append(key | {"status": status, "reason": reason})
                    if status != "measured":
                        continue
                    seed = 10 * place + WEIGHTS.index(weights) + 1000 * READOUTS.index(readout) + 10_000 * len(inputs)
                    values_ST = _values(model, seed, n_tokens, weights == "pretrained")
                    influence.append(_influence(key, model, values_ST))
                    concentrated.append(_concentration(key, model, values_ST))
    parts = [pd.DataFrame(models), pd.DataFrame(measured)]
    parts += [pd.concat(influence, ignore_index=True), pd.concat(concentrated, ignore_index=True)]
    named = ("pretrained_models", "pretrained_measured", "pretrained_influence", "concentration")
    return Tables(*(part[TABLES[name].names] for part, name in zip(parts, named, strict=True)))


def change(tables: Tables, values: float, **where: Any) -> Tables:
    """The tables with the influences `where` set to `values`, and no row of CONCENTRATION where that is 0."""
    influence, concentrated = tables.influence.copy(), tables.concentration
    here, also = (pd.Series(True, index=table.index) for table in (influence, concentrated))
    for column, value in where.items():
        here &= influence[column] == value
        also &= concentrated[column] == value if column in concentrated else False
    influence.loc[here, ["value", "standard_error"]] = values
    return tables._replace(influence=influence, concentration=concentrated[~also] if values == 0 else concentrated)


def write(tables: Tables, folder: Path) -> None:
    """Write the tables as the joined ones of all models."""
    stamp = provenance.stamp("{}", "0")
    named = ("pretrained_models", "pretrained_measured", "pretrained_influence", "concentration")
    for name, table in zip(named, tables, strict=True):
        parquet.write_table(folder / f"{name}.parquet", table, TABLES[name], stamp)


def spec(models: Any, scale: str = "demo", **figures: str) -> PretrainedFigureSpec:
    """What a figure of these models reads from config."""
    return PretrainedFigureSpec(models=list(models), figures=figures, scale=scale)


def _model(name: str, model: Made, weights: str, n_tokens: int, n_sequences: int) -> dict[str, Any]:
    there = not model.reason
    return {
        "model": name,
        "weights": weights,
        "status": "measured" if there else "unavailable",
        "reason": model.reason,
        "source": model.source,
        "origin": f"{name} 0.1",
        "weights_sha256": "0" * 64 if there else "",
        "remark": model.remark,
        "paper": model.paper,
        "architecture": "MadeUp" if there else "",
        "kind": model.kind,
        "n_parameters": 1000 if there else 0,
        "n_layers": model.n_layers,
        "n_heads": model.n_heads,
        "d_model": 16,
        "n_vocabulary": 100,
        "text": model.text,
        "n_tokens": n_tokens,
        "n_special": model.n_special,
        "n_sequences": n_sequences,
        "scale": 0.5,
    }


def _status(name: str, model: Made, readout: str) -> tuple[str, str]:
    if model.reason:
        return "unavailable", model.reason
    if model.kind == "encoder" and readout != "pooled_norm":
        return "not_applicable", f"{name} {OF_LOGITS}"
    return "measured", ""


def _sites(model: Made) -> list[tuple[str, int, int]]:
    heads = [("head", 0, 0), ("head", model.n_layers // 2, 0)] if model.n_heads else []
    return [("embeddings", NONE, NONE), *(("layer", layer, NONE) for layer in range(model.n_layers)), *heads]


def _values(model: Made, seed: int, n_tokens: int, own: bool) -> np.ndarray:
    """(sites, n_tokens): influences like a model's, with large ends where it is causal, and large middle layers."""
    random, causal = np.random.default_rng(seed), model.kind == "causal"
    layers = np.array([layer for _, layer, _ in _sites(model)])[:, None]
    values_ST = np.exp((0.6 if own else 0.25) * random.standard_normal((len(layers), n_tokens)))
    values_ST *= np.linspace(0.6, 1.5, n_tokens) if causal else 1.0
    values_ST[:, 0] *= 18.0 if causal and own else 2.0
    values_ST[:, -1] *= 45.0 if causal else 1.5
    bump = 3.0 * np.exp(-0.5 * ((layers - model.n_layers / 2) / 2.0) ** 2)
    return values_ST * np.where(layers == NONE, 1.0, 1.0 + bump - 0.02 * layers)


def _at(key: dict[str, Any], model: Made, n: int) -> dict[str, Any]:
    """Columns of SITE for `n` rows of each norm and site."""
    sites = [(site, layer, head, norm) for norm in NORMS for site, layer, head in _sites(model)]
    columns = zip(*sites, strict=True)
    return key | {
        name: np.repeat(np.array(column, dtype=object if name in ("site", "norm") else np.int64), n)
        for name, column in zip(("site", "layer", "head", "norm"), columns, strict=True)
    }


def _influence(key: dict[str, Any], model: Made, values_ST: np.ndarray) -> pd.DataFrame:
    n_sites, n_tokens = values_ST.shape
    values = np.concatenate([factor * values_ST.ravel() ** power for factor, power in NORMS.values()])
    position = np.tile(np.arange(n_tokens), n_sites * len(NORMS))
    rows = {"position": position, "value": values, "standard_error": 0.07 * values}
    return pd.DataFrame(_at(key, model, n_tokens) | rows)


def _concentration(key: dict[str, Any], model: Made, values_ST: np.ndarray) -> pd.DataFrame:
    values_ST = np.concatenate([factor * values_ST**power for factor, power in NORMS.values()])
    found, total = concentration(values_ST), values_ST.sum(1)
    ranks_ST = (-values_ST).argsort(1).argsort(1) + 1.0
    fields = ("n_large", "n_half", "n_zero", "first_share", "last_share", "top_five_share", "gini")
    columns = {field: getattr(found, field).astype(float) for field in fields}
    columns |= {"first_rank": ranks_ST[:, 0], "last_rank": ranks_ST[:, -1]}
    columns |= {"total": total, "total_standard_error": 0.01 * total}
    return pd.DataFrame(_at(key, model, 1) | columns | {"of": "mean", "n_positions": values_ST.shape[1]})
