"""The theory's Parquet files: curves of formulas, simulated points, and the two side by side."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import count, label, number

THEORY_POINT = [
    label("experiment", "section of the theory's settings"),
    label("reading", "one way to fill what the paper leaves open; figures show them side by side"),
    label("series", "line of the figure"),
]
SIMULATION = pa.schema(
    [
        *THEORY_POINT,
        number("x", "1", "correlation rho, layers passed, or degree"),
        number("value", "1", "Monte Carlo mean"),
        number("standard_error", "1", "standard error over independent draws"),
        count("n_draws", "1", "independent draws (of weights, where weights are random)"),
        count("n_pairs", "1", "pairs of correlated inputs in each draw"),
    ]
)
EXAMPLE = pa.schema(
    [
        *THEORY_POINT,
        label("matrix", "A_X or A_Y: attention of the clean and of the noisy input"),
        count("row", "1", "token that attends"),
        count("column", "1", "token attended to"),
        number("value", "1", "attention weight"),
    ]
)
STATUSES = ("exact", "limit", "approximation", "published", "lower", "upper")
"""What a formula is to the simulated value: equal; its limit for large sizes; near; the paper's form where that
is not right; a lower or an upper bound."""
CURVES = pa.schema(
    [
        *THEORY_POINT,
        label("formula", "the formula, as a legend names it"),
        label("status", "one of STATUSES"),
        number("x", "1", "correlation rho, layers passed, or degree"),
        number("value", "1", "the formula's value"),
    ]
)
THEORY = pa.schema(
    [
        *THEORY_POINT,
        label("formula", "the formula"),
        label("status", "one of STATUSES"),
        number("x", "1", "correlation rho, layers passed, or degree"),
        number("theory", "1", "the formula's value"),
        number("simulated", "1", "Monte Carlo mean"),
        number("standard_error", "1", "standard error of `simulated` over independent draws"),
        number("difference", "1", "simulated minus theory"),
        number("z", "standard errors", "difference / standard_error; NaN without spread", nullable=True),
        number("ratio", "1", "theory / simulated: a bound's tightness; NaN at 0", nullable=True),
        count("n_draws", "1", "independent draws"),
        count("n_pairs", "1", "pairs of correlated inputs in each draw"),
    ]
)
