"""The report's section on what is wrong in the paper: the table of docs/errata.md, kept equal to it by a test."""

from __future__ import annotations

from typing import Any

import pandas as pd

ENTRIES = [
    # number, place in the paper, what, what it does
    (1, "Lemma 1", "the degree has the wrong sign", "changes values"),
    (2, "Definition 4.1, appendices C and D", "Hermite basis of one Gaussian with another Gaussian", "changes values"),
    (3, "C.3, Mehler's formula", "noise of variance 1 instead of 1/2", "changes values"),
    (4, "Theorem C.7", "a density in place of the kernel", "changes values"),
    (5, "Definition C.3", "gradient and Laplacian exchanged", "changes values"),
    (6, "C.4", "the operator is applied on both sides", "slip in a proof"),
    (7, "C.1 and C.2", "two normalisations of one symbol", "reading"),
    (8, "Equation 4", "order of the remainder", "reading"),
    (9, "section 2", "the attention formula's shapes", "changes values"),
    (10, "Theorem 5.3", "W is missing from the layer", "changes values"),
    (11, "appendix G", "covariance of two logits", "slip in a proof"),
    (12, "footnote 2, Theorem 5.3", "the root of d in the logits matters", "claim unsupported"),
    (13, "Theorem 5.2, appendix F.2", "a condition on W_V; steps of the proof", "slip in a proof"),
    (14, "section 5.2, low rank", "needs a rank well above log n", "claim unsupported"),
    (15, "Equation 5", "a second moment taken for a correlation", "claim unsupported"),
    (16, "section 5.3", "ReLU does not always dampen", "claim unsupported"),
    (17, "Equation 8", "gamma in the wrong place", "claim unsupported"),
    (18, "Figures 4a and 10", "the outcome depends on weights not stated", "claim unsupported"),
    (19, "Lemma 11", "E_1 and E_2 exchanged", "changes values"),
    (20, "Lemma 12", "false without a condition on signs", "claim unsupported"),
    (21, "appendix A", "factor 2^n in the inner product", "changes values"),
    (22, "section 3", "concentration by influence needs the norm", "changes values"),
    (23, "section 3", "what Friedgut's theorem predicts", "claim unsupported"),
    (24, "Definition 6.1", "the correlation is (1 + rho)/2", "changes values"),
    (25, "section 6, J.2", "stability of a parity rises under Definition 6.1", "claim unsupported"),
    (26, "Table 1", "neither bound is the more accurate", "claim unsupported"),
    (27, "abstract, section 6", "two meanings of acceleration", "reading"),
    (28, "Table 2, section 6", "epochs against iterations", "reading"),
    (29, "sections 4, C, F, H", "misprints", "slip in a proof"),
    (30, "Theorem C.2", "a sign left over", "slip in a proof"),
    (31, "Theorem C.2", "completeness argued in a circle", "slip in a proof"),
    (32, "C.3", "the kernel's sum lacks norms", "slip in a proof"),
    (33, "appendix F.2", "a term is missing from the error", "slip in a proof"),
    (34, "section 5.2, appendix G", "rows are one-hot, the matrix is no permutation", "claim unsupported"),
    (35, "section 3, Table 1", "geometric influence does not bound the tail", "reading"),
    (36, "section 5.3, appendix H", "the closed form fits one start alone", "reading"),
    (37, "Theorem 3.1", "holds for +-1 valued functions", "claim unsupported"),
    (38, "section 5.3", "attention is not what dampens", "claim unsupported"),
    (39, "Lemmas 11 and 12", "do not fit each other or section 5", "reading"),
    (40, "Lemma 12", "an index in the proof", "slip in a proof"),
]
"""The list of docs/errata.md."""


def section(claims: pd.DataFrame | None) -> dict[str, Any]:
    """The entries, how many do what, and the claims that the ledger finds in error (schema CLAIM, or None)."""
    does = pd.Series([entry[3] for entry in ENTRIES]).value_counts()
    in_error = [] if claims is None else claims[claims["verdict"] == "paper in error"].to_dict("records")
    return {"entries": ENTRIES, "counts": list(does.items()), "claims": in_error}
