"""A made-up ledger for the report: a claim for each verdict, with evidence, as the claims stage writes it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from nsbench.schemas.claims import CLAIM, CLAIM_EVIDENCE
from nsbench.storage.parquet import write_table

HOSTILE = "<script>alert('x')</script>"
NAN = math.nan
RULE = "reproduced where the interval lies above 30; partly where it lies above 0; not reproduced where below 0"

# id, place, group, claim, paper, paper_text, unit, ours, low, high, n, n_unit, verdict, figure, scale
ROWS: list[tuple[Any, ...]] = [
    ("parity_noise", "Definition 6.1", "measure", "The correlation under resampling is ρ", NAN, "ρ", "1", NAN, NAN,
     NAN, None, "", "paper in error", "", "none"),
    ("relu", "Theorem 5.1", "theory", "The stability of one ReLU has a closed form", NAN, "a formula",
     "largest difference", 0.0003, NAN, NAN, 42, "points", "reproduced", "figure_09", "none"),
    ("relu_quadratic", "Equation 4", "theory", "A quadratic approximates it", NAN, "≈", "1", 0.0113, NAN, NAN, 42,
     "points", "partly", "figure_09", "none"),
    ("grok_modular", "Section 6, Figure 5", "training",
     "On modular addition the regulariser groks in 36% fewer steps", 26.7, "4,500 → 3,300 steps", "%", -6.6, -7.7,
     -5.2, 5, "pairs", "not reproduced", "figure_05_modular_addition", "demo"),
    ("grok_parity", "Section 6", "training", "On noisy sparse parity it is about 35% faster", 35.0, "", "%", 4.0,
     -12.0, 21.0, 6, "pairs", "undecided", "figure_05_modular_addition", "demo"),
    ("many_choices", "Appendix J", "training", "It helps for a variety of (ρ, γ)", NAN, "", "settings", 12345.6, NAN,
     math.inf, 3, "settings", "partly", "specification_curve_modular_addition", "demo"),
    ("stable", "Section 6.2", "training", "Regularised models stay stable", NAN, "stay stable", "", NAN, NAN, NAN,
     None, "", "not testable as stated", "", "paper"),
    ("first_last", "Figure 1", "pretrained", f"First and last tokens matter most {HOSTILE}", NAN, "", "models", NAN,
     NAN, NAN, None, "models", "not run", "figure_77", "paper"),
]  # fmt: skip


def make_claims(scale: str | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of CLAIM and CLAIM_EVIDENCE; `scale` in place of each claim's own."""
    names = ["id", "place", "group", "claim", "paper", "paper_text", "unit", "ours", "ours_low", "ours_high", "n"]
    claims = pd.DataFrame(ROWS, columns=[*names, "n_unit", "verdict", "figure", "scale"])
    claims["n"] = claims["n"].astype(object).where(claims["n"].notna(), None)
    claims["reason"] = [f"because of {name}" for name in claims["id"]]
    claims = claims.assign(rule=RULE, settings="calibrated", text="", partial="", note="")
    claims.loc[claims["id"] == "grok_parity", "note"] = "few pairs"
    claims.loc[claims["id"] == "grok_parity", "text"] = "Some <excerpt>"
    if scale is not None:
        claims["scale"] = scale
    evidence = pd.concat(
        [
            claims[claims["id"] == "grok_modular"].assign(setting=f"{variant} / noise_stability", ours=ours)
            for variant, ours in (("calibrated", -6.6), ("as_published", NAN))
        ],
        ignore_index=True,
    )
    return claims[CLAIM.names], evidence[CLAIM_EVIDENCE.names]


def write_claims(folder: Path, tables: tuple[pd.DataFrame, pd.DataFrame] | None = None) -> Path:
    """Write both tables into `folder`, which is returned."""
    claims, evidence = tables or make_claims()
    stamp = {"commit": "c0ffee", "source_digest": "feedfeedfeedfeed", "device": "cpu"}
    for name, table, schema in (("claims", claims, CLAIM), ("claim_evidence", evidence, CLAIM_EVIDENCE)):
        write_table(folder / f"{name}.parquet", table.to_dict("records"), schema, stamp)
    return folder
