"""The ledger's Parquet files: one row per claim of the paper, and one per setting that it was looked at in."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import count, label, number

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
    number("ours", "of the claim", "our number; NaN where there is none", nullable=True),
    number("ours_low", "of the claim", "lower end of its interval; NaN if there is none", nullable=True),
    number("ours_high", "of the claim", "upper end of its interval; NaN if there is none", nullable=True),
    count("n", "n_unit", "how many it was taken from; null where that has no meaning", nullable=True),
    label("n_unit", "what n counts"),
    label("verdict", "one of VERDICTS"),
    label("reason", "why this verdict", "text"),
]

CLAIM = pa.schema(
    [
        label("id", "claim, as claims.yaml names it"),
        label("place", "where the paper says it", "text"),
        label("group", "one of GROUPS"),
        label("claim", "what the paper says, in our words", "text"),
        number("paper", "of the claim", "the paper's number; NaN where it has none", nullable=True),
        label("paper_text", "the paper's number or words, as one would show them", "text"),
        label("unit", "unit of `paper` and `ours`"),
        *_OURS,
        label("rule", "how a number becomes a verdict", "text"),
        label("settings", "the settings looked at, each with its verdict", "text"),
        label("figure", "figure that shows it, or empty"),
        label("scale", "one of SCALES"),
        label("partial", "of partial work, how much of the grid it is made from; empty: all", "text"),
        label("text", "the text that the data were cut from; empty for claims without one"),
        label("note", "what to know before reading the verdict", "text"),
    ]
)
CLAIM_EVIDENCE = pa.schema(
    [
        label("id", "claim"),
        label("setting", "what it was looked at in", "text"),
        *_OURS,
        label("note", "what to know of this setting", "text"),
    ]
)
