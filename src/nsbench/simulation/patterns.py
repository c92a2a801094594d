"""Figure 3: how often a row of softmax_rows(X W X^T) attends to the same token for X and for Y, W of N(0, 1).

s(rho) of Theorem 5.3 is the limit for large d_model. A row attends to the token of its largest weight.
"""

# Shapes: P pair, T token, C unit.

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from nsbench.config.theory import PatternsExperiment
from nsbench.schemas import theory_labels as readings
from nsbench.simulation.montecarlo import Simulated, Tally, chunks, correlate, gaussians, weights


def simulate(settings: PatternsExperiment, seed: int, max_values: int, device: torch.device) -> Simulated:
    """The share of rows that attend to one token for both, by n_tokens and rho; attention matrices of one pair.

    Raises ConfigError naming max_values where one pair, or W, takes more values.
    """
    units, reading, held = settings.d_model, readings.PATTERNS_READING, settings.held()
    held.check(max_values)
    tally = Tally(settings.n_draws, settings.n_pairs, device)
    examples: list[dict[str, Any]] = []
    for tokens in settings.n_tokens:
        series = readings.n_tokens(tokens)
        for draw in range(settings.n_draws):
            name = ("patterns", tokens, draw)
            square_CC = weights(seed, *name, "W", shape=(units, units), device=device)
            xs, zs = (gaussians(seed, *name, which, device=device) for which in "XZ")
            for pairs in chunks(settings.n_pairs, held.per_pair, max_values):
                x_PTC, z_PTC = xs.take(pairs, tokens, units), zs.take(pairs, tokens, units)
                clean_PT = _logits(x_PTC, square_CC).argmax(-1)
                for rho in settings.rho:
                    noisy_PT = _logits(correlate(x_PTC, z_PTC, rho), square_CC).argmax(-1)
                    tally.add(draw, reading, series, rho, (clean_PT == noisy_PT).double().mean(-1))
                if not examples or examples[-1]["series"] != series:
                    examples += _examples(series, x_PTC[:1], z_PTC[:1], settings.shown_rho, square_CC)
    return Simulated(tally.points(), examples)


def _logits(x_PTC: Tensor, square_CC: Tensor) -> Tensor:
    """X W X^T of each pair: (P, T, T)."""
    return x_PTC @ square_CC @ x_PTC.mT


def _examples(series: str, x_1TC: Tensor, z_1TC: Tensor, rho: float, square_CC: Tensor) -> list[dict[str, Any]]:
    shown = {"A_X": x_1TC, "A_Y": correlate(x_1TC, z_1TC, rho)}
    rows = []
    for matrix, input_1TC in shown.items():
        rows += _rows(series, matrix, _logits(input_1TC, square_CC).softmax(-1)[0])
    return rows


def _rows(series: str, matrix: str, weights_TT: Tensor) -> list[dict[str, Any]]:
    """Rows of EXAMPLE of an attention matrix; tokens count from 0."""
    return [
        {
            "reading": readings.PATTERNS_READING,
            "series": series,
            "matrix": matrix,
            "row": row,
            "column": column,
            "value": value,
        }
        for row, values in enumerate(weights_TT.tolist())
        for column, value in enumerate(values)
    ]
