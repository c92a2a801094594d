"""Influences of a readout by site, as rows: position by position, and how concentrated they are.

A site is where an input can be changed: the embeddings, what enters a layer, and what a head gives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsbench.measures.concentration import concentration
from nsbench.measures.influence import NORMS, Influences
from nsbench.schemas.pretrained import NONE


class Sites(NamedTuple):
    """The influences of all sites: the embeddings, what enters each layer, and what each head gives."""

    site: NDArray[np.str_]
    layer: NDArray[np.int64]
    head: NDArray[np.int64]
    per_input: dict[str, NDArray[np.float64]]
    """Norm -> (S, N, T)."""

    def named(self, rows: NDArray[np.int64], repeats: int = 1) -> dict[str, NDArray[Any]]:
        """The columns that name the sites in these rows, each `repeats` times."""
        return {name: np.repeat(getattr(self, name)[rows], repeats) for name in ("site", "layer", "head")}


def sites_of(influences: Influences) -> Sites:
    """The influences of a readout on every site."""
    names = [("embeddings", NONE, NONE), *(("layer", int(layer), NONE) for layer in influences.layers)]
    parts: dict[str, list[Tensor]] = {
        norm: [influences.inputs[norm], *(layer[norm] for layer in influences.layers.values())] for norm in NORMS
    }
    for layer, influence in influences.heads.items():
        n_heads = influence[NORMS[0]].shape[-1]
        names += [("head", int(layer), head) for head in range(n_heads)]
        for norm in NORMS:
            parts[norm] += influence[norm].unbind(-1)
    site, layer, head = (np.array(column) for column in zip(*names, strict=True))
    return Sites(site, layer, head, {norm: torch.stack(parts[norm]).numpy() for norm in NORMS})


def positions(sites: Sites, shown_heads: Sequence[tuple[int, int]]) -> Iterator[pd.DataFrame]:
    """Influences position by position, with standard errors: of the embeddings, the layers and the shown heads."""
    shown = [(int(layer), int(head)) in shown_heads for layer, head in zip(sites.layer, sites.head, strict=True)]
    rows = np.flatnonzero((sites.head == NONE) | np.array(shown))
    for norm, values_SNT in sites.per_input.items():
        length = values_SNT.shape[-1]
        here_SNT = values_SNT[rows]
        yield pd.DataFrame(
            {
                **sites.named(rows, length),
                "norm": norm,
                "position": np.tile(np.arange(length), len(rows)),
                "value": here_SNT.mean(1).ravel(),
                "standard_error": _standard_error(here_SNT).ravel(),
            }
        )


def concentrations(sites: Sites) -> Iterator[pd.DataFrame]:
    """How concentrated the mean over inputs is, and each input by itself; nothing where all influences are 0."""
    for norm, values_SNT in sites.per_input.items():
        rows = np.flatnonzero(values_SNT.any((1, 2)))
        live_SNT = values_SNT[rows]
        total_SN = live_SNT.sum(-1)
        common = {
            **sites.named(rows),
            "norm": norm,
            "total": total_SN.mean(1),
            "total_standard_error": _standard_error(total_SN),
            "n_positions": values_SNT.shape[-1],
        }
        if len(rows):
            yield pd.DataFrame(common | {"of": "mean"} | _shares(live_SNT.mean(1, keepdims=True)))
            yield pd.DataFrame(common | {"of": "each"} | _shares(live_SNT))


def halves(sites: Sites) -> Iterator[pd.DataFrame]:
    """Of each sequence the fewest positions that hold half of its influence at the embeddings, the first site.

    No row for a sequence on which all influences are 0.
    """
    for norm, values_SNT in sites.per_input.items():
        alive = np.flatnonzero(values_SNT[0].any(-1))
        if len(alive):
            n_half = concentration(values_SNT[0, alive]).n_half
            yield pd.DataFrame({"norm": norm, "input": alive, "n_half": n_half})


def _standard_error(values_SN: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of means over axis 1, the inputs; NaN for one input."""
    n_inputs = values_SN.shape[1]
    if n_inputs == 1:
        return np.full_like(values_SN[:, 0], np.nan)
    return values_SN.std(1, ddof=1) / math.sqrt(n_inputs)


def _shares(values_SNT: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Statistics of each input's influences, averaged over the inputs that have any: name -> (S)."""
    alive_SN = values_SNT.any(-1)
    values_MT = values_SNT[alive_SN]
    found = vars(concentration(values_MT)) | {
        "first_rank": 1 + (values_MT > values_MT[:, :1]).sum(1),
        "last_rank": 1 + (values_MT > values_MT[:, -1:]).sum(1),
    }
    averaged = {}
    for name, value_M in found.items():
        spread_SN = np.zeros(alive_SN.shape)
        spread_SN[alive_SN] = value_M
        averaged[name] = spread_SN.sum(1) / alive_SN.sum(1)
    return averaged
