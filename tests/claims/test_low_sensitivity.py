"""Claims on the theory of low sensitivity: their numbers against closed forms, and where each of them fails."""

from __future__ import annotations

import math

import pytest

from nsbench.claims.evidence import Evidence
from nsbench.schemas.claims import SOURCES
from nsbench.theory.attention_kernels import kernel_matrix, parity_quotients
from tests.claims.synthetic_claims import claims, findings, judged

EMPTY = Evidence(None, None, [], "paper")


def test_claims_of_the_second_paper_have_no_number_and_say_why() -> None:
    entries = [claim.entry for claim in claims().values() if claim.entry.source == "vasudeva2025"]
    assert {claim.entry.source for claim in claims().values()} == set(SOURCES)
    assert len(entries) >= 3
    for entry in entries:
        assert entry.paper is None
        assert "could not be seen in full" in entry.note


def test_the_embedding_decides_whether_parities_are_eigenfunctions() -> None:
    row, found = judged(EMPTY, "weak_spectral_bias")
    assert (row["verdict"], row["source"], row["scale"]) == ("partly", "vasudeva2025", "none")
    verdicts = {one["setting"]: one["verdict"] for one in found}
    assert verdicts == {
        "a vector for each position and symbol": "reproduced",
        "x_i e_i": "reproduced",
        "vocabulary and position, added": "not reproduced",
        "x_i, without positions": "not reproduced",
    }
    own, signed, additive, scalar = findings(EMPTY, "parity_residual", n_tokens=6, depths=[1, 2])
    assert max(own.value, signed.value) < 1e-14
    assert additive.value == parity_quotients(kernel_matrix(6, "additive", 2, "relu"))[1].max()
    # K = mean(x) mean(y), whose image of x_1 is mean(x) / 6: 5 / 36 from x_1 / 36, at most.
    assert scalar.value == pytest.approx(5 / 36)
    assert [one.extras["n_broken"] for one in (own, signed)] == [0, 0]
    assert own.note.startswith("0.92 of the mass is at degrees 3 and above")
    assert not additive.note


def test_low_sensitivity_bounds_joint_noise_on_product_laws_alone() -> None:
    row, found = judged(EMPTY, "robust_by_sensitivity")
    assert row["verdict"] == "partly"
    assert [one["verdict"] for one in found] == ["reproduced", "not reproduced"]
    product, off = findings(EMPTY, "robustness_excess", n_cases=50, n_voters=7)
    assert -0.05 < product.value <= 1e-14
    assert off.value == pytest.approx(0.5)
    assert off.note.startswith("S = 0, and all tokens redrawn change the label with probability 0.5")


def test_less_sensitive_is_more_stable_only_near_no_noise() -> None:
    row, found = judged(EMPTY, "sensitivity_orders_stability")
    assert row["verdict"] == "partly"
    assert [one["verdict"] for one in found] == ["reproduced"] + ["not reproduced"] * 3
    kept, (gap,) = 0.5, findings(EMPTY, "stability_gap", n_parity=2, n_voters=15, kept=[0.5])
    # A majority's weights by level (O'Donnell 2014, section 5.3): only odd ones, with these coefficients.
    levels = range(1, 16, 2)
    coefficients = [math.comb(7, (k - 1) // 2) / math.comb(14, k - 1) * 2.0**-14 * math.comb(14, 7) for k in levels]
    weights = [math.comb(15, k) * c**2 for k, c in zip(levels, coefficients, strict=True)]
    assert sum(weights) == pytest.approx(1)
    assert gap.value == pytest.approx(kept**2 - sum(w * kept**k for w, k in zip(weights, levels, strict=True)))
    assert sum(w * k for w, k in zip(weights, levels, strict=True)) == pytest.approx(3.142, abs=5e-4)
    assert gap.note == "parity of 2: I = 2, stability 0.25; majority of 15: I = 3.14, stability 0.346"
