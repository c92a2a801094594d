"""The ledger's Parquet files: one row per claim of a paper, and one per setting that it was looked at in."""

from __future__ import annotations

import pyarrow as pa

from nsbench.schemas.training import count, label, number

IN_ERROR = "paper in error"
NO_EFFECT = "no effect"
"""A verdict that is shown with the margin that it has, as `no effect larger than 10%`."""
VERDICTS = {
    "reproduced": "what was measured is as the paper says; an effect: at least half of the paper's, for sure",
    "in the paper's direction": "there is an effect and the paper has its sign; half of the paper's size is not sure",
    "partly": "in some of the settings, or roughly",
    NO_EFFECT: "whatever effect there may be is smaller than the margin named with it, either way",
    "not reproduced": "what was measured is not as the paper says; an effect: less than half of the paper's, for sure",
    "opposite": "there is an effect, and it has the other sign",
    "not testable as stated": "the paper leaves out what a test would need",
    IN_ERROR: "what the paper prints does not follow from its own definitions or numbers",
    "undecided": "too few runs, runs that differ too much, or none in a setting that counts, to say any of these",
    "not run": "what the claim needs was not made here",
}
"""What can be said of a claim, and what it means in a line. The last two are what is left: no rule applies, or there is
nothing to judge."""
RULED = tuple(VERDICTS)[:-2]
"""The verdicts that a rule may have a condition for."""
SEVERITIES = {
    "false as stated": "a statement that fails in cases which it covers",
    "right elsewhere": "a slip that another place of the paper has right",
    "normalisation": "a misprint, a factor or a norm left out; what is meant holds",
    "heuristic": "an approximation taken further than it holds",
    "mislabel": "a quantity under the name of another",
    "inconsistent numbers": "numbers of the paper that do not fit each other",
}
"""How grave it is that the paper is in error, the gravest first, and what that means."""
SOURCES = {
    "haris2026": ("Haris et al. 2026", "Noise Stability of Transformer Models"),
    "vasudeva2025": ("Vasudeva et al. 2025", "Transformers Learn Low Sensitivity Functions"),
}
"""The papers that claims are of: name -> authors and year, title."""
GROUPS = ("training", "measure", "theory", "pretrained", "statement of numbers")
SCALES = ("paper", "demo", "none")
"""Scale of what was measured; none: computed from formulas alone, whatever the scale."""

_OURS = [
    number("ours", "of the claim", "our number; NaN where there is none", nullable=True),
    number("ours_low", "of the claim", "lower end of its interval; NaN if there is none", nullable=True),
    number("ours_high", "of the claim", "upper end of its interval; NaN if there is none", nullable=True),
    count("n", "n_unit", "how many it was taken from; null where that has no meaning", nullable=True),
    label("n_unit", "what n counts"),
    label("verdict", "one of VERDICTS; no effect with its margin"),
    label("reason", "why this verdict", "text"),
]

CLAIM = pa.schema(
    [
        label("id", "claim, as claims.yaml names it"),
        label("source", "the paper that it is of, one of SOURCES"),
        label("place", "where the paper says it", "text"),
        label("group", "one of GROUPS"),
        label("claim", "what the paper says, in our words", "text"),
        number("paper", "of the claim", "the paper's number; NaN where it has none", nullable=True),
        label("paper_text", "the paper's number or words, as one would show them", "text"),
        label("unit", "unit of `paper` and `ours`"),
        *_OURS,
        count("n_settings", "settings", "settings that count; `ours` is the first one's"),
        label("rule", "how a number becomes a verdict", "text"),
        label("settings", "the settings looked at, each with its verdict", "text"),
        label("severity", "of a paper in error, one of SEVERITIES; else empty"),
        count("erratum", "1", "entry of docs/errata.md that is its cause; null if none", nullable=True),
        label("figure", "figure that shows it, or empty"),
        label("scale", "one of SCALES"),
        label("partial", "of partial work, how much of the grid it is made from; empty: all", "text"),
        label("text", "the text, or other published data, that the data were cut from; empty for claims without one"),
        label("note", "what to know before reading the verdict", "text"),
    ]
)
CLAIM_EVIDENCE = pa.schema(
    [
        label("id", "claim"),
        label("setting", "what it was looked at in", "text"),
        *_OURS,
        label("note", "what to know of this setting", "text"),
        label("task", "of the runs that it was found in; empty without runs"),
        label("variant", "of these runs; empty: all of the task"),
    ]
)
