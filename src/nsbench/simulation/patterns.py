"""Figure 3: how often a row of softmax_rows(X W X^T) attends to the same token for X and for Y, W of N(0, 1).

s(rho) of Theorem 5.3 is the limit for large d_model. A row attends to the token of its largest weight.
"""

# Shapes: P pair, T token, C unit.

from __future__ import annotations

from typing import Any

from torch import Tensor

from nsbench.schemas import theory_labels as labels
from nsbench.simulation.montecarlo import MonteCarlo, correlate


def simulate(run: MonteCarlo) -> list[dict[str, Any]]:
    """The share of rows that attend to one token for both, by n_tokens and rho; attention matrices of one pair.

    Returns rows of EXAMPLE less the experiment.
    """
    settings, units = run.settings, run.settings.d_model
    examples: list[dict[str, Any]] = []
    for tokens in settings.n_tokens:
        series = labels.n_tokens(tokens)
        for draw in range(settings.n_draws):
            square_CC = run.weights(tokens, draw, "W", shape=(units, units))
            x_PTC, z_PTC = (run.inputs(tokens, draw, name, shape=(tokens, units)) for name in "XZ")
            clean_PT = _logits(x_PTC, square_CC).argmax(-1)
            for rho in settings.rho:
                noisy_PT = _logits(correlate(x_PTC, z_PTC, rho), square_CC).argmax(-1)
                same_P = (clean_PT == noisy_PT).double().mean(-1)
                run.add(draw, labels.PATTERNS_READING, series, rho, same_P)
            if draw == 0:
                examples += _examples(series, x_PTC[:1], z_PTC[:1], settings.shown_rho, square_CC)
    return examples


def _logits(x_PTC: Tensor, square_CC: Tensor) -> Tensor:
    """X W X^T of each pair: (P, T, T)."""
    return x_PTC @ square_CC @ x_PTC.mT


def _examples(series: str, x_1TC: Tensor, z_1TC: Tensor, rho: float, square_CC: Tensor) -> list[dict[str, Any]]:
    """Rows of EXAMPLE of the attention matrices of one pair; tokens count from 0."""
    shown = {"A_X": x_1TC, "A_Y": correlate(x_1TC, z_1TC, rho)}
    return [
        {"reading": labels.PATTERNS_READING, "series": series, "matrix": matrix}
        | {"row": row, "column": column, "value": value}
        for matrix, input_1TC in shown.items()
        for row, values in enumerate(_logits(input_1TC, square_CC).softmax(-1)[0].tolist())
        for column, value in enumerate(values)
    ]
