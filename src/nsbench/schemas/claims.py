"""The ledger's Parquet files: one row per claim of the paper, and one per setting that it was looked at in."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import field

VERDICTS = (
    "reproduced",
    "partly",
    "not reproduced",
    "not testable as stated",
    "paper in error",
    "undecided",
    "not run",
)
"""What can be said of a claim. The last two are what is left: no rule applies, or what it needs was not made."""
RULED = VERDICTS[:-2]
"""The verdicts that a rule may have a condition for."""
GROUPS = ("training", "measure", "theory", "pretrained", "statement of numbers")
SCALES = ("paper", "demo", "none")
"""Scale of what was measured; none: computed from formulas alone, whatever the scale."""

_OURS = [
    field("ours", pa.float64(), "of the claim", "our number; NaN where there is none", True),
    field("ours_low", pa.float64(), "of the claim", "lower end of its interval; NaN if there is none", True),
    field("ours_high", pa.float64(), "of the claim", "upper end of its interval; NaN if there is none", True),
    field("n", pa.int64(), "n_unit", "how many it was taken from; null where that has no meaning", True),
    field("n_unit", pa.string(), "name", "what n counts"),
    field("verdict", pa.string(), "name", "one of VERDICTS"),
    field("reason", pa.string(), "text", "why this verdict"),
]

CLAIM = pa.schema(
    [
        field("id", pa.string(), "name", "claim, as claims.yaml names it"),
        field("place", pa.string(), "text", "where the paper says it"),
        field("group", pa.string(), "name", "one of GROUPS"),
        field("claim", pa.string(), "text", "what the paper says, in our words"),
        field("paper", pa.float64(), "of the claim", "the paper's number; NaN where it has none", True),
        field("paper_text", pa.string(), "text", "the paper's number or words, as one would show them"),
        field("unit", pa.string(), "name", "unit of `paper` and `ours`"),
        *_OURS,
        field("rule", pa.string(), "text", "how a number becomes a verdict"),
        field("settings", pa.string(), "text", "the settings looked at, each with its verdict"),
        field("figure", pa.string(), "name", "figure that shows it, or empty"),
        field("scale", pa.string(), "name", "one of SCALES"),
        field("partial", pa.string(), "text", "of partial work, how much of the grid it is made from; empty: all"),
        field("text", pa.string(), "name", "the text that the data were cut from; empty for claims without one"),
        field("note", pa.string(), "text", "what to know before reading the verdict"),
    ]
)
CLAIM_EVIDENCE = pa.schema(
    [
        field("id", pa.string(), "name", "claim"),
        field("setting", pa.string(), "text", "what it was looked at in"),
        *_OURS,
        field("note", pa.string(), "text", "what to know of this setting"),
    ]
)
