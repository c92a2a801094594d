"""Rules of the ledger: conditions, the file that holds them, and one verdict from many."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from nsbench.claims.conditions import check, holds
from nsbench.claims.definitions import Claim, load_claims
from nsbench.claims.evidence import ASIDE, COUNTS, MISSING, STAND_IN, Finding
from nsbench.claims.registry import QUANTITIES
from nsbench.claims.shown import verdict_text
from nsbench.claims.verdicts import Judged, combine, judge_one, show_number
from nsbench.config.base import ConfigError
from nsbench.figures import find
from nsbench.schemas.claims import GROUPS, RULED, VERDICTS

CLAIMS = Path(__file__).parents[2] / "claims.yaml"
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


def written(folder: Path, *entries: dict[str, Any], rules: dict[str, Any] | None = None) -> Path:
    path = folder / "claims.yaml"
    path.write_text(yaml.safe_dump({"rules": rules or {}, "claims": list(entries)}), encoding="utf-8")
    return path


def claim_of(folder: Path, **changed: Any) -> Claim:
    (claim,) = load_claims(written(folder, ENTRY | changed))
    return claim


@functools.cache
def of_the_paper() -> list[Claim]:
    return load_claims(CLAIMS)


def rule_named(name: str) -> tuple[Claim, dict[str, float]]:
    """A claim of claims.yaml with this shared rule, and the extras that its conditions ask for."""
    claim = next(claim for claim in of_the_paper() if claim.entry.rule == name)
    sure = {"coverage": 0.99, "coverage_with_ties": 0.99, "confidence": 0.95}
    return claim, {**sure, "p_value": 0.01, "baseline_censored": 0.0}


# --- conditions ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("low > 0 and value >= 0.5 * paper", True),
        ("high < 0.5 * paper", False),
        ("low > 100 or abs(value - paper) <= 1", True),
        ("low > 0 and (value < 1 or high == 44)", True),
        ("-low < 0", True),
        ("value / 2 + 1 >= paper - 18", True),
    ],
)
def test_a_condition_is_arithmetic_and_comparisons(condition: str, expected: bool) -> None:
    assert holds(condition, {"value": 36.0, "low": 30.0, "high": 44.0, "paper": 36.0}) is expected


@pytest.mark.parametrize("condition", ["value > 0", "value <= 0", "value == value", "abs(value - paper) > 0.5"])
@pytest.mark.parametrize("unknown", [NAN, None])
def test_no_condition_holds_of_a_number_that_is_not_there(condition: str, unknown: float | None) -> None:
    assert not holds(condition, {"value": unknown, "paper": 1.0})
    assert not holds(condition, {"paper": 1.0})


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("lo > 0", r"here: unknown name 'lo' in 'lo > 0', did you mean 'low'\?; allowed: value, low"),
        ("low >", "is no expression"),
        ("not low > 0", "uses not;"),
        ("low != 0", "uses !=;"),
        ("low", "is a number, not a condition"),
        ("low > 0 and high", "is a number, not a condition"),
        ("(low > 0) + 1 > 1", "is a number, not a condition"),
        ("value.real > 0", "uses a Attribute"),
        ("sqrt(value) > 0", "calls something else than abs"),
        ("value > 'a'", "uses 'a'"),
        ("value > True", "uses True"),
        ("value ** 2 > 1", r"uses \*\*"),
        ("@value > 1", "is no expression"),
    ],
)
def test_a_condition_that_cannot_be_used_is_refused(condition: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check(condition, ["value", "low", "high"], "here")


# --- claims.yaml ---------------------------------------------------------------------------------------


def test_the_claims_of_the_paper_are_whole() -> None:
    claims = of_the_paper()
    assert len(claims) >= 30
    assert {claim.entry.group for claim in claims} == set(GROUPS)
    assert len({claim.entry.claim for claim in claims}) == len(claims)
    asked = [(c.entry.quantity.name, str(c.entry.quantity.parameters), str(c.conditions)) for c in claims]
    assert len(set(asked)) == len(asked)
    assert all(find(claim.entry.figure) for claim in claims if claim.entry.figure)
    assert {claim.entry.quantity.name for claim in claims} == set(QUANTITIES)


def test_the_claims_cover_the_papers_figures_and_theorems() -> None:
    places = " ".join(claim.entry.place for claim in of_the_paper())
    for number in (1, 2, 3, "4a", "4b", 5, 6, 7, 8, 9, 10, 11, 12, 13, 14):
        assert f" {number}" in places, f"Figure {number}"
    for statement in ("Theorem 5.1", "Theorem 5.2", "Theorem 5.3", "Lemma 1", "Lemma 6", "Lemma 11", "Lemma 12"):
        assert statement in places
    for statement in ("Equation 3", "Equation 4", "Equation 5", "Equation 8", "Table 1", "Table 2", "Definition 6.1"):
        assert statement in places


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"plce": "x"}, r"claims\[0\].plce: unknown key, did you mean 'place'\?"),
        ({"group": "practice"}, r"claims\[0\].group: 'practice' is not allowed"),
        ({"place": ""}, r"claims\[0\].place: '' is not allowed"),
        ({"paper": "much"}, r"claims\[0\].paper: 'much' is not allowed"),
        ({"rule": "effect"}, r"speed: unknown rule 'effect'; allowed: "),
        ({"rule": {}}, "speed: rule: no condition"),
        ({"rule": {"reproducd": "low > 0"}}, r"unknown verdict 'reproducd', did you mean 'reproduced'\?"),
        ({"rule": {"undecided": "low > 0"}}, "unknown verdict 'undecided'"),
        ({"rule": {"reproduced": "coverage > 0"}}, "speed: rule, reproduced: unknown name 'coverage'"),
        ({"paper": None}, "needs `paper`, which is null"),
        ({"quantity": {"name": "arithmetik"}}, r"unknown claim quantity 'arithmetik', did you mean 'arithmetic'\?"),
        (
            {"quantity": {"name": "arithmetic", "parameters": {"before": 1}}},
            "speed: arithmetic: after: this key is missing",
        ),
        (
            {"quantity": {"name": "arithmetic", "parameters": {"before": 2, "after": 1, "convention": "most"}}},
            "convention: 'most' is not allowed",
        ),
    ],
)
def test_a_claim_that_cannot_be_used_is_one_sentence(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_claims(written(tmp_path, ENTRY | changed))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'speed' is listed twice"):
        load_claims(written(tmp_path, ENTRY, ENTRY))
    with pytest.raises(ConfigError, match=r"rules\.spare: no claim uses it"):
        load_claims(written(tmp_path, ENTRY, rules={"spare": {"reproduced": "low > 0"}}))
    with pytest.raises(ConfigError, match=r"rules\.spare: unknown verdict 'yes'"):
        load_claims(written(tmp_path, ENTRY, rules={"spare": {"yes": "low > 0"}}))
    with pytest.raises(ConfigError, match="no such file"):
        load_claims(tmp_path / "none.yaml")
    path = tmp_path / "claims.yaml"
    for text, message in [
        ("claims: [", "cannot be read as YAML"),
        ("- a", r"\['a'\] is not allowed; allowed: sections"),
        ("claims: []", "claims"),
        ("rules: {}\nrules: {}\nclaims: []", "line 2: key 'rules' stands twice"),
    ]:
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=message) as caught:
            load_claims(path)
        assert "\n" not in str(caught.value)


# --- one setting ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "paper", "value", "low", "high", "expected"),
    [
        ("effect", 36, 36, 30, 44, "reproduced"),
        ("effect", 36, 18, 1, 40, "reproduced"),
        ("effect", 36, 17, 1, 40, "partly"),
        ("effect", 36, 3, 1, 5, "partly"),
        ("effect", 36, 0, -4, 5, "not reproduced"),
        ("effect", 36, -20, -30, -9, "not reproduced"),
        ("effect", 36, 10, -9, 30, "undecided"),
        ("effect", 36, 100, 20, math.inf, "reproduced"),
        ("effect", 36, 20, NAN, NAN, "undecided"),
        ("effect", 36, NAN, NAN, NAN, "undecided"),
        ("above_zero", None, 5, 1, 9, "reproduced"),
        ("above_zero", None, -5, -9, 0, "not reproduced"),
        ("above_zero", None, 5, -1, 9, "undecided"),
        ("below_zero", None, -5, -9, -1, "reproduced"),
        ("below_zero", None, 5, 0, 9, "not reproduced"),
        ("below_zero", None, 5, -1, 9, "undecided"),
        ("agrees", None, 0.03, 0.0, 0.1, "reproduced"),
        ("agrees", None, 0.1, 0.06, 0.2, "partly"),
        ("agrees", None, 0.3, 0.0, 0.4, "partly"),
        ("agrees", None, 0.3, 0.0, 0.6, "undecided"),
        ("agrees", None, 0.4, 0.3, 0.6, "not reproduced"),
        ("holds", None, 1e-7, NAN, NAN, "reproduced"),
        ("holds", None, 0.02, NAN, NAN, "paper in error"),
        ("number", None, 10, NAN, NAN, "paper in error"),
        ("most", None, 0.95, NAN, NAN, "reproduced"),
        ("most", None, 0.5, NAN, NAN, "partly"),
        ("most", None, 0.4, NAN, NAN, "not reproduced"),
    ],
)
def test_every_branch_of_the_shared_rules(
    rule: str, paper: float | None, value: float, low: float, high: float, expected: str
) -> None:
    claim, extras = rule_named(rule)
    if paper is not None:
        claim = claim._replace(entry=claim.entry.model_copy(update={"paper": paper}))
    judged = judge_one(claim, Finding("here", value, low, high, n=8, n_unit="pairs", extras=extras))
    assert judged.verdict == expected
    assert judged.reason.endswith(".")
    assert "\n" not in judged.reason


@pytest.mark.parametrize(
    ("value", "n_reached", "budget", "expected"),
    [
        (4500, 8, 10_000, "reproduced"),
        (9000, 8, 10_000, "reproduced"),
        (9001, 8, 10_000, "not reproduced"),
        (2249, 8, 10_000, "not reproduced"),
        (NAN, 3, 10_000, "not reproduced"),
        (NAN, 3, 8000, "undecided"),
    ],
)
def test_a_time_is_judged_within_a_factor_of_two(value: float, n_reached: int, budget: int, expected: str) -> None:
    claim, _ = rule_named("same_size")
    claim = claim._replace(entry=claim.entry.model_copy(update={"paper": 4500.0}))
    extras = {"n_reached": float(n_reached), "n_seeds": 8.0, "budget_steps": float(budget)}
    assert judge_one(claim, Finding("here", value, n=8, extras=extras)).verdict == expected


def test_the_reason_says_what_is_missing(tmp_path: Path) -> None:
    reason = judge_one(claim_of(tmp_path), Finding("here", 36.0)).reason
    assert reason == "36%: no condition of the rule holds; no lower end."


def test_a_setting_that_does_not_count_is_not_judged(tmp_path: Path) -> None:
    claim = claim_of(tmp_path)
    aside = judge_one(claim, Finding("a", 36, 30, 44, status=ASIDE, why="the baseline never reached it"))
    assert (aside.verdict, aside.reason) == ("undecided", "does not count: the baseline never reached it.")
    missing = judge_one(claim, Finding("a", status=MISSING, why="no arm"))
    assert (missing.verdict, missing.reason) == ("not run", "no arm.")


# --- many settings -------------------------------------------------------------------------------------


def judged(verdict: str, status: str = COUNTS, why: str = "") -> Judged:
    return Judged(Finding(f"{verdict} {status}", status=status, why=why), verdict, "because.")


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        *(([verdict], verdict) for verdict in VERDICTS[:-1]),
        *(([verdict] * 3, verdict) for verdict in VERDICTS[:-1]),
        (["reproduced", "not reproduced"], "partly"),
        (["reproduced", "undecided"], "partly"),
        (["undecided", "not reproduced", "reproduced"], "partly"),
        (["partly", "not reproduced"], "partly"),
        (["reproduced", "partly"], "partly"),
        (["not reproduced", "undecided"], "undecided"),
        (["paper in error", "not reproduced"], "paper in error"),
    ],
)
def test_settings_that_count_are_combined(verdicts: list[str], expected: str) -> None:
    verdict, reason = combine([judged(verdict) for verdict in verdicts])
    assert verdict == expected
    assert reason


def test_settings_that_do_not_count_have_no_say() -> None:
    others = [judged("undecided", ASIDE, "baseline"), judged("not run", MISSING, "no arm"), judged("partly", STAND_IN)]
    assert combine([*others, judged("reproduced")])[0] == "reproduced"
    assert combine(others) == ("undecided", "no setting counts: undecided aside: baseline.")
    verdict, reason = combine(others[1:])
    assert verdict == "not run"
    assert "not run missing: no arm" in reason
    assert "no evidence about them: partly in 1 (partly stand-in)" in reason
    assert combine(others[2:])[0] == "not run"


def test_a_demo_verdict_says_so() -> None:
    assert verdict_text({"verdict": "reproduced", "scale": "demo", "partial": ""}) == "reproduced (demo scale)"
    assert verdict_text({"verdict": "reproduced", "scale": "paper", "partial": ""}) == "reproduced"
    assert verdict_text({"verdict": "paper in error", "scale": "none", "partial": ""}) == "paper in error"
    assert verdict_text({"verdict": "not run", "scale": "demo", "partial": ""}) == "not run"
    assert set(RULED) < set(VERDICTS)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        *((36.3636, "36.4"), (NAN, "–"), (math.inf, "∞"), (-math.inf, "−∞"), (0.0, "0"), (-6.5788, "−6.58")),
        *((4500.0, "4,500"), (1.6e-5, "1.60e−05"), (0.0024, "0.0024"), (2.0, "2"), (123456.0, "1.23e+05")),
    ],
)
def test_numbers_are_shown_with_three_digits(value: float, shown: str) -> None:
    assert show_number(value) == shown
