"""The theory's Parquet files: curves of formulas, simulated points, and the two side by side."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import field

THEORY_POINT = [
    field("experiment", pa.string(), "name", "section of the theory's settings"),
    field("reading", pa.string(), "name", "one way to fill what the paper leaves open; figures show them side by side"),
    field("series", pa.string(), "name", "line of the figure"),
]
SIMULATION = pa.schema(
    [
        *THEORY_POINT,
        field("x", pa.float64(), "1", "correlation rho, or layers passed"),
        field("value", pa.float64(), "1", "Monte Carlo mean"),
        field("standard_error", pa.float64(), "1", "standard error over independent draws"),
        field("n_draws", pa.int64(), "1", "independent draws (of weights, where weights are random)"),
        field("n_pairs", pa.int64(), "1", "pairs of correlated inputs in each draw"),
    ]
)
EXAMPLE = pa.schema(
    [
        *THEORY_POINT,
        field("matrix", pa.string(), "name", "A_X or A_Y: attention of the clean and of the noisy input"),
        field("row", pa.int64(), "1", "token that attends"),
        field("column", pa.int64(), "1", "token attended to"),
        field("value", pa.float64(), "1", "attention weight"),
    ]
)
STATUSES = ("exact", "limit", "approximation", "published", "lower", "upper")
"""What a formula is to the simulated value: equal; its limit for large sizes; near; the paper's form where that
is not right; a lower or an upper bound."""
CURVES = pa.schema(
    [
        *THEORY_POINT,
        field("formula", pa.string(), "name", "the formula, as a legend names it"),
        field("status", pa.string(), "name", "one of STATUSES"),
        field("x", pa.float64(), "1", "correlation rho, or layers passed"),
        field("value", pa.float64(), "1", "the formula's value"),
    ]
)
THEORY = pa.schema(
    [
        *THEORY_POINT,
        field("formula", pa.string(), "name", "the formula"),
        field("status", pa.string(), "name", "one of STATUSES"),
        field("x", pa.float64(), "1", "correlation rho, or layers passed"),
        field("theory", pa.float64(), "1", "the formula's value"),
        field("simulated", pa.float64(), "1", "Monte Carlo mean"),
        field("standard_error", pa.float64(), "1", "standard error of `simulated` over independent draws"),
        field("difference", pa.float64(), "1", "simulated minus theory"),
        field("z", pa.float64(), "standard errors", "difference / standard_error; NaN without spread", nullable=True),
        field("ratio", pa.float64(), "1", "theory / simulated: a bound's tightness; NaN at 0", nullable=True),
        field("n_draws", pa.int64(), "1", "independent draws"),
        field("n_pairs", pa.int64(), "1", "pairs of correlated inputs in each draw"),
    ]
)
