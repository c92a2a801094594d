"""Rules of the ledger: conditions, the file that holds them, the verdict of one setting, and one verdict from many."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from nsbench.claims.conditions import check, holds
from nsbench.claims.definitions import Claim, load_claims
from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, STAND_IN, Finding
from nsbench.claims.ledger import verdict_text
from nsbench.claims.registry import QUANTITIES
from nsbench.claims.verdicts import Judged, combine, judge_one
from nsbench.config.base import ConfigError
from nsbench.figures import find
from nsbench.schemas.claims import GROUPS, VERDICTS
from tests.claims.synthetic_claims import claims

NAN = math.nan
ENTRY: dict[str, Any] = {
    "id": "speed",
    "place": "Section 6",
    "group": "training",
    "claim": "It is faster.",
    "paper": 36,
    "paper_text": "36%",
    "unit": "%",
    "quantity": {"name": "arithmetic", "parameters": {"before": 4500, "after": 3300, "convention": "faster"}},
    "rule": {"reproduced": "low > 0 and value >= 0.5 * paper"},
}
EFFECT = {"margin_low": -9.09, "margin_high": 10.0}
TEN_PERCENT = 0.1


def written(folder: Path, *entries: dict[str, Any], rules: dict[str, Any] | None = None) -> Path:
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump({"rules": rules or {}, "claims": list(entries)}), encoding="utf-8")
    return path


def claim_of(folder: Path, **changed: Any) -> Claim:
    (claim,) = load_claims(written(folder, ENTRY | changed))
    return claim


# --- conditions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("low > 0 and value >= 0.5 * paper", True),
        ("high < 0.5 * paper", False),
        ("low > 100 or abs(value - paper) <= 1", True),
        ("-low < 0 and (value < 1 or high == 44)", True),
        ("value / 2 + 1 >= paper - 18", True),
        ("30 <= low < value < 44 >= high", True),
        ("30 <= low < value < 36", False),
        ("low > 1 and high < 1 or value > 1", True),
        ("value > 1 / 0", False),
        ("value < 1 / 0  # infinity", True),
        ("low > 0 # \x0c__import__('os').abort()", True),
        ("-" * 280 + "low > 0", True),
    ],
)
def test_a_condition_is_arithmetic_and_comparisons(condition: str, expected: bool) -> None:
    assert holds(condition, {"value": 36.0, "low": 30.0, "high": 44.0, "paper": 36.0}) is expected


@pytest.mark.parametrize("condition", ["value > 0", "value <= 0", "value == value", "abs(value - paper) > 0.5"])
def test_no_condition_holds_of_a_number_that_is_not_there(condition: str) -> None:
    for unknown in ({"value": NAN}, {"value": None}, {}):
        assert not holds(condition, {"paper": 1.0, **unknown})


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("lo > 0", r"here: 'lo > 0': unknown name 'lo', did you mean 'low'\?; allowed: value, low"),
        ("low >", "is no expression"),
        ("not low > 0", "uses 'not low > 0';"),
        ("low != 0", "uses 'low != 0';"),
        ("low", "is a number, not a condition"),
        ("low > 0 and high", "is a number, not a condition"),
        ("(low > 0) + 1 > 1", "uses 'low > 0';"),
        ("sqrt(value) > 0", "uses 'sqrt\\(value\\)';"),
        ("value > 'a'", r"uses \"'a'\""),
        ("value > True", "uses 'True'"),
        ("value ** 2 > 1", r"uses 'value \*\* 2';"),
        ("abs(low, high) > 0", "uses 'abs"),
        ("abs(low, x=high) > 0", "uses 'abs"),
        ("abs > 0", "unknown name 'abs'"),
        (f"low > {'9' * 290}0000000000", "has 306 characters; 300 are allowed"),
        (f"low > 0x{'f' * 280}", "uses '0xffff"),
        ("low > \0", "is no expression"),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused(condition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(condition, ["value", "low", "high"], "here")


# --- claims.yaml ---------------------------------------------------------------------------------------


def test_the_claims_of_the_paper_are_whole_and_cover_it() -> None:
    entries = [claim.entry for claim in claims().values()]
    assert {entry.group for entry in entries} == set(GROUPS)
    assert len({entry.claim for entry in entries}) == len(entries)
    asked = {(str(claim.entry.quantity), str(claim.conditions)) for claim in claims().values()}
    assert len(asked) == len(entries)
    assert all(find(entry.figure) for entry in entries if entry.figure)
    assert {entry.quantity.name for entry in entries} == set(QUANTITIES)
    places = " ".join(entry.place for entry in entries)
    figures = [f" {number}" for number in (1, 2, 3, "4a", "4b", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14)]
    theorems = [f"Theorem 5.{number}" for number in (1, 2, 3)] + [f"Lemma {number}" for number in (1, 6, 11, 12)]
    others = [f"Equation {number}" for number in (3, 4, 5, 8)] + ["Table 1", "Definition 6.1"]
    assert [place for place in [*figures, *theorems, *others] if place not in places] == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"plce": "x"}, r"claims\[0\].plce: unknown key, did you mean 'place'\?"),
        ({"group": "practice"}, r"claims\[0\].group: 'practice' is not allowed"),
        ({"place": ""}, r"claims\[0\].place: '' is not allowed"),
        ({"rule": "effect"}, r"speed: unknown rule 'effect'; allowed: "),
        ({"rule": {}}, "speed: rule: no condition"),
        ({"rule": {"reproducd": "low > 0"}}, r"unknown verdict 'reproducd', did you mean 'reproduced'\?"),
        ({"rule": {"undecided": "low > 0"}}, "unknown verdict 'undecided'"),
        ({"rule": {"reproduced": "coverage > 0"}}, "speed: rule, reproduced: .* unknown name 'coverage'"),
        ({"paper": None}, "needs `paper`, which is null"),
        (
            {"rule": {"paper in error": "low > 0"}},
            "speed: severity: a rule with the verdict 'paper in error' needs one",
        ),
        ({"severity": "mislabel"}, "speed: severity: a rule with the verdict 'paper in error' needs one, no other"),
        ({"quantity": {"name": "arithmetik"}}, r"unknown claim quantity 'arithmetik', did you mean 'arithmetic'\?"),
        ({"quantity": {"name": "arithmetic", "parameters": {"before": 1}}}, "arithmetic: after: this key is missing"),
    ],
)
def test_a_claim_that_cannot_be_used_is_one_sentence(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_claims(written(tmp_path, ENTRY | changed))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'speed' is listed twice"):
        load_claims(written(tmp_path, ENTRY, ENTRY))
    with pytest.raises(ConfigError, match="no such file"):
        load_claims(tmp_path / "none.yaml")
    (tmp_path / "claims.yaml").write_text("claims: []", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"claims.yaml: claims: \[\] is not allowed"):
        load_claims(tmp_path / "claims.yaml")


# --- one setting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "value", "low", "high", "expected"),
    [
        ("effect", 36, 30, 44, "reproduced"),
        ("effect", 36, 18, 44, "in the paper's direction"),
        ("effect", 5, 1, 8, "in the paper's direction"),
        ("effect", 100, 20, math.inf, "reproduced"),
        ("effect", 0, -4, 5, "no effect larger than 10%"),
        ("effect", 0, 0, 0, "no effect larger than 10%"),
        ("effect", 0, -12, 5, "not reproduced"),
        ("effect", 5, -4, 17, "not reproduced"),
        ("effect", -20, -30, -9, "opposite"),
        ("effect", -20, -100, -9, "opposite"),
        ("effect", 10, -9, 30, "undecided"),
        ("effect", 20, NAN, NAN, "undecided"),
        ("effect", NAN, NAN, NAN, "undecided"),
        ("above_zero", 5, 1, 9, "reproduced"),
        ("above_zero", -5, -9, 0, "not reproduced"),
        ("above_zero", -5, -9, -1, "opposite"),
        ("above_zero", 5, -1, 9, "undecided"),
        ("below_zero", -5, -9, -1, "reproduced"),
        ("below_zero", 5, 0, 9, "not reproduced"),
        ("below_zero", 5, 1, 9, "opposite"),
        ("below_zero", 5, -1, 9, "undecided"),
        ("agrees", 0.03, 0.0, 0.1, "reproduced"),
        ("agrees", 0.1, 0.06, 0.2, "partly"),
        ("agrees", 0.3, 0.0, 0.4, "partly"),
        ("agrees", 0.3, 0.0, 0.6, "undecided"),
        ("agrees", 0.4, 0.3, 0.6, "not reproduced"),
        ("holds", 1e-7, NAN, NAN, "reproduced"),
        ("holds", 0.02, NAN, NAN, "paper in error"),
        ("most", 0.95, NAN, NAN, "reproduced"),
        ("most", 0.5, NAN, NAN, "partly"),
        ("most", 0.4, NAN, NAN, "not reproduced"),
    ],
)
def test_every_branch_of_the_shared_rules(rule: str, value: float, low: float, high: float, expected: str) -> None:
    claim = next(claim for claim in claims().values() if claim.entry.rule == rule)
    found = Finding("here", value, low, high, n=8, n_unit="pairs", extras=EFFECT)
    assert judge_one(claim, found, TEN_PERCENT).verdict == expected


RANKS = (
    "opposite",
    ("not reproduced", "no effect larger than 10%"),
    "undecided",
    "in the paper's direction",
    "reproduced",
)
"""Verdicts on an effect from the weakest for the paper to the strongest."""
PERCENT = st.floats(-100, 200)


@given(PERCENT, PERCENT, st.floats(0, 100), st.floats(0, 100))
def test_ends_further_on_the_papers_side_never_give_a_weaker_verdict(
    a: float, b: float, up: float, more: float
) -> None:
    claim, (low, high) = claims()["modular_addition_speed"], sorted((a, b))

    def rank(low: float, high: float) -> int:
        verdict = judge_one(claim, Finding("here", low, low, high, extras=EFFECT), TEN_PERCENT).verdict
        return next(at for at, words in enumerate(RANKS) if verdict in words)

    assert rank(low + up, max(high + more, low + up)) >= rank(low, high)


CURVE = EFFECT | {"new_low": 5.0, "new_high": 60.0, "hurts_low": 0.0}
RANK = {"rank_by_val_loss": 0.0, "n": 30.0}
TIMES = {"n_reached": 8.0, "n_seeds": 8.0, "budget_steps": 10_000.0}
END, LEAD = {"target": 0.5, "start": 1.0}, {"resolution_steps": 100.0}


@pytest.mark.parametrize(
    ("name", "numbers", "extras", "expected"),
    [
        # All runs within 17%, or all beyond; where most runs miss it, the budget decides.
        ("modular_addition_baseline", (4500, 4000, 5200), TIMES, "reproduced"),
        ("modular_addition_baseline", (4500, 4000, 5300), TIMES, "undecided"),
        ("modular_addition_baseline", (4500, 4000, 5200), TIMES | {"n": 7.0}, "undecided"),
        ("modular_addition_baseline", (3300, 3000, 3600), TIMES, "not reproduced"),
        ("modular_addition_regularised", (4500, 4000, 5200), TIMES, "not reproduced"),
        ("modular_addition_baseline", (NAN,), TIMES | {"n_reached": 3.0}, "not reproduced"),
        ("modular_addition_baseline", (NAN,), TIMES | {"n_reached": 3.0, "budget_steps": 5000.0}, "undecided"),
        # Less by a tenth at least, and a gap smaller by one evaluation at least.
        ("steadier_training", (20, 11, 30), {}, "reproduced"),
        ("steadier_training", (20, 1, 30), {}, "in the paper's direction"),
        ("steadier_training", (5, -1, 9), {}, "not reproduced"),
        ("catalyses_grokking", (-300, -400, -100), LEAD, "reproduced"),
        ("catalyses_grokking", (-300, -400, -50), LEAD, "in the paper's direction"),
        ("catalyses_grokking", (300, 100, 400), LEAD, "opposite"),
        ("catalyses_grokking", (0, -90, 90), LEAD, "not reproduced"),
        # Consistently: a new setting is expected to be helped, and no more are hurt than chance gives.
        ("consistently", (30, 20, 40), CURVE, "reproduced"),
        ("consistently", (30, 20, 40), CURVE | {"new_low": -5.0}, "in the paper's direction"),
        ("consistently", (30, 20, 40), CURVE | {"new_low": -5.0, "hurts_low": 0.12}, "not reproduced"),
        # Stability ends within a tenth of its way of the target's; a model that learns nothing stays where it was.
        ("stability_converges", (0.52, 0.48, 0.54), END, "reproduced"),
        ("stability_converges", (0.6, 0.57, 0.63), END, "not reproduced"),
        ("stability_converges", (0.3, 0.2, 0.4), END, "not reproduced"),
        ("stability_converges", (0.5, 0.3, 0.7), END, "undecided"),
        ("stability_decreases", (-0.4, -0.5, -0.3), END | {"start": 0.4}, "not reproduced"),
        ("stability_decreases", (0.1, 0.05, 0.2), END, "opposite"),
        ("stability_decreases", (-0.1, -0.3, 0.2), END, "undecided"),
        # A lead below one evaluation is none.
        ("leading_indicator", (150, 50, 300), LEAD, "reproduced"),
        ("leading_indicator", (99, 50, 300), LEAD, "partly"),
        ("leading_indicator", (150, -1, 300), LEAD, "undecided"),
        ("leading_indicator", (-50, -90, 0), LEAD, "not reproduced"),
        # Early stability must tell more than early loss, over thirty runs.
        ("early_stability", (0.8, 0.4, 0.9), RANK | {"rank_by_val_loss": -0.5}, "reproduced"),
        ("early_stability", (-0.8, -0.9, -0.4), RANK | {"rank_by_val_loss": 0.5}, "reproduced"),
        ("early_stability", (0.8, 0.4, 0.9), RANK | {"rank_by_val_loss": -0.9}, "partly"),
        ("early_stability", (0.1, -0.3, 0.4), RANK, "not reproduced"),
        ("early_stability", (0.3, -0.3, 0.7), RANK, "undecided"),
        ("early_stability", (0.8, 0.4, 0.9), RANK | {"n": 8.0}, "undecided"),
        # One more forward pass beside a step of three passes' worth.
        ("additional_pass", (4 / 3,), {}, "reproduced"),
    ],
)
def test_rules_that_are_easily_wrong(
    name: str, numbers: tuple[float, ...], extras: dict[str, float], expected: str
) -> None:
    found = Finding("here", *numbers, n=int(extras.get("n", 8)), extras=extras)
    assert judge_one(claims()[name], found, TEN_PERCENT).verdict == expected


def test_reasons_say_what_is_missing_and_what_does_not_count(tmp_path: Path) -> None:
    claim = claim_of(tmp_path)
    assert (
        judge_one(claim, Finding("here", 36.0), TEN_PERCENT).reason
        == "36%: no condition of the rule holds; no lower end"
    )
    aside = judge_one(claim, Finding("a", 36, 30, 44, status=ASIDE, why="the baseline never reached it"), TEN_PERCENT)
    assert (aside.verdict, aside.reason) == ("undecided", "does not count: the baseline never reached it")
    missing = judge_one(claim, Finding("a", status=MISSING, why="no arm"), TEN_PERCENT)
    assert (missing.verdict, missing.reason) == ("not run", "no arm")


# --- many settings -------------------------------------------------------------------------------------


def judged(verdict: str, status: str = COUNTS, why: str = "", **extras: float) -> Judged:
    return Judged(Finding(f"{verdict} {status}", status=status, why=why, extras=extras), verdict, "because.")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        *(([verdict] * 2, verdict) for verdict in list(VERDICTS)[:-1]),
        (["undecided", "not reproduced", "reproduced"], "partly"),
        (["partly", "not reproduced"], "partly"),
        (["reproduced", "partly"], "partly"),
        (["opposite", "in the paper's direction"], "partly"),
        (["not reproduced", "undecided"], "undecided"),
        (["paper in error", "not reproduced"], "paper in error"),
    ],
)
def test_settings_that_count_are_combined(verdicts: list[str], expected: str) -> None:
    verdict, reason = combine([judged(verdict) for verdict in verdicts])
    assert verdict == expected
    assert reason
    assert combine([judged(expected)]) == (expected, "because.")


def test_settings_that_do_not_count_have_no_say() -> None:
    others = [judged("undecided", ASIDE, "baseline"), judged("not run", MISSING, "no arm"), judged("partly", STAND_IN)]
    assert combine([*others, judged("reproduced")])[0] == "reproduced"
    assert combine(others) == ("undecided", "no setting counts: undecided aside: baseline")
    verdict, reason = combine(others[1:])
    assert verdict == "not run"
    assert "not run missing: no arm" in reason
    assert "no evidence about them: partly in 1 (partly stand-in)" in reason
    assert combine(others[2:])[0] == "not run"


def test_a_missing_part_caps_what_must_all_be_there() -> None:
    missing, aside = judged("not run", MISSING, "it is unavailable"), judged("undecided", ASIDE, "no baseline")
    for absent in (missing, aside):
        assert combine([judged("reproduced"), absent])[0] == "reproduced"
        assert combine([judged("reproduced"), absent], all_needed=True)[0] == "partly"
        assert combine([judged("in the paper's direction"), absent], all_needed=True)[0] == "partly"
        assert combine([judged("reproduced"), judged("opposite"), absent], all_needed=True)[0] == "not reproduced"
        assert combine([judged("not reproduced"), absent], all_needed=True)[0] == "not reproduced"
    for all_needed in (False, True):
        assert "it is unavailable" in combine([judged("reproduced"), missing], all_needed=all_needed)[1]


# --- as text -------------------------------------------------------------------------------------------


def test_a_demo_verdict_says_so() -> None:
    row = {"verdict": "reproduced", "scale": "demo", "partial": ""}
    assert verdict_text(row) == "reproduced (demo scale)"
    assert verdict_text(row | {"partial": "half"}) == "reproduced (demo scale, partial)"
    assert verdict_text(row | {"scale": "paper"}) == "reproduced"
    assert verdict_text(row | {"verdict": "not run"}) == "not run"
