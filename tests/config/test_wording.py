"""Numbers and effects in words: no sign where a word tells the direction."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from nsbench.claims.definitions import load_claims
from nsbench.config.wording import amount, direction, interval, number, told

INF, NAN = math.inf, math.nan


def test_numbers_are_shown_with_three_digits() -> None:
    shown = {36.3636: "36.4", INF: "∞", -INF: "−∞", 0.0: "0", -6.5788: "−6.58", 4500.0: "4,500"}
    shown |= {NAN: "–", 1.6e-5: "1.60e−05", 0.0024: "0.0024", 0.0003: "0.0003", 2.0: "2", 123456.0: "1.23e+05"}
    assert {value: number(value) for value in shown} == shown


@pytest.mark.parametrize(
    ("value", "unit", "bound", "words"),
    [
        (-110.0, "% fewer steps", 0, "110% more steps"),
        (26.7, "% fewer steps", 0, "26.7% fewer steps"),
        (-3.71, "% faster", 0, "3.71% slower"),
        (-200.0, "more steps", 0, "200 fewer steps"),
        (-20.0, "% less fluctuation", 0, "20% more fluctuation"),
        (0.0, "% faster", 0, "0% faster"),
        # At most -110% fewer is at least 110% more.
        (-110.0, "% fewer", -1, "≥ 110% more"),
        (10.0, "% fewer", -1, "≤ 10% fewer"),
        (-6.58, "degree", 0, "−6.58 degree"),
        (1500.0, "steps", 1, "≥ 1,500 steps"),
        (0.25, "1", 0, "0.25"),
        (NAN, "% faster", 0, "–"),
        (None, "%", 0, "–"),
    ],
)
def test_an_amount_is_told_by_its_word_and_without_a_sign(value: float, unit: str, bound: int, words: str) -> None:
    assert amount(value, unit, bound) == words


@pytest.mark.parametrize(
    ("value", "low", "high", "unit", "words"),
    [
        (-3.71, -6.63, -0.889, "% faster", "3.71% slower (0.889 to 6.63%)"),
        (-1.08, -8.96, 3.88, "% faster", "1.08% slower (8.96% slower to 3.88% faster)"),
        (36.0, 30.0, 41.0, "% faster", "36% faster (30 to 41%)"),
        (200.0, 0.0, 300.0, "more steps", "200 more steps (0 to 300)"),
        (-20.0, -INF, -7.0, "% fewer steps", "20% more steps (7% or more)"),
        (5.0, -INF, 7.0, "% fewer steps", "5% fewer steps (∞% more to 7% fewer)"),
        # A value outside of its interval, as of a median beside an interval of the mean.
        (1.0, -6.0, -2.0, "% faster", "1% faster (6% slower to 2% slower)"),
        (2.0, 1.0, 3.0, "steps", "2 steps (1 to 3)"),
        (2.0, 2.0, 2.0, "% faster", "2% faster"),
        (2.0, NAN, 3.0, "% faster", "2% faster"),
        (NAN, -2.0, 3.0, "% faster", "– (2% slower to 3% faster)"),
    ],
)
def test_an_interval_names_its_sides_where_they_differ(
    value: float, low: float, high: float, unit: str, words: str
) -> None:
    assert told(value, low, high, unit) == words


def test_an_interval_with_one_end_says_which_is_missing() -> None:
    assert interval(NAN, INF, "settings") == "– to ∞"
    assert interval(NAN, NAN, "% faster") == ""


def test_every_claim_in_per_cent_of_an_effect_has_words_for_it() -> None:
    """A bare per cent with a sign is what a reader takes for the wrong side."""
    claims = load_claims(Path(__file__).parents[2] / "claims.yaml")
    units = {claim.entry.unit for claim in claims if claim.entry.unit.startswith("%")}
    assert len(units) >= 4
    assert all(direction(unit) for unit in units)
