"""Permutation tests, Holm's correction and its families, and how often the bootstrap's interval covers."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbench.analysis.statistics import paired_effects
from nsbench.analysis.statistics.intervals import expanded
from nsbench.analysis.statistics.paired import ratio_of_means, with_families
from nsbench.analysis.statistics.pvalues import holm, permutation_p, smallest_p
from nsbench.config.settled import settles_steps
from tests.analysis.paired_times import effects_of, joined, times_of

NAN = math.nan
FASTER = [3000, 4500, 3300, 3900, 3000, 3500]
SLOWER = [4000, 5000, 4500, 4200, 4900, 4600]


def p_of(baseline: list[float], arm: list[float], n_resamples: int = 99) -> float:
    values = np.array(baseline, dtype=float), np.array(arm, dtype=float)
    return permutation_p(*values, n_resamples, np.random.default_rng(0))


# --- the permutation test ----------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=2, max_size=6))
def test_p_is_the_share_of_swaps_whose_log_ratio_is_as_far_from_0(pairs: list[tuple[int, int]]) -> None:
    ratios = []
    for swapped in itertools.product([False, True], repeat=len(pairs)):
        made = [pair[::-1] if swap else pair for pair, swap in zip(pairs, swapped, strict=True)]
        ratios.append(math.log(sum(arm for _, arm in made) / sum(baseline for baseline, _ in made)))
    expected = np.mean([abs(ratio) >= abs(ratios[0]) - 1e-12 for ratio in ratios])
    assert p_of(*map(list, zip(*pairs, strict=True))) == pytest.approx(expected)


@pytest.mark.parametrize("n", [2, 12])
def test_an_arm_that_is_faster_in_all_pairs_has_the_smallest_p(n: int) -> None:
    baseline = [1000.0 + 100 * seed for seed in range(n)]
    assert p_of(baseline, [0.9 * step for step in baseline]) == smallest_p(n) == 2.0 ** (1 - n)


def test_under_the_hypothesis_small_p_are_as_rare_as_they_should_be() -> None:
    """By random swaps, which more than 12 pairs take."""
    generator, n_repeats = np.random.default_rng(8), 200
    found = np.array([p_of(*generator.exponential(1, (2, 14)).tolist()) for _ in range(n_repeats)])
    for level in (0.05, 0.1, 0.5):
        assert abs((found <= level).mean() - level) < 3 * math.sqrt(level * (1 - level) / n_repeats)


# --- Holm's correction ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        # 0.005 x 4, 0.01 x 3, 0.03 x 2, then at least that
        ([0.01, NAN, 0.04, 0.03, NAN, 0.005], [0.03, NAN, 0.06, 0.06, NAN, 0.02]),
        ([0.5, 0.6, 0.02], [1.0, 1.0, 0.06]),  # at most 1
        ([NAN], [NAN]),
        ([], []),
    ],
)
def test_holm_s_correction_by_hand(p_values: list[float], corrected: list[float]) -> None:
    np.testing.assert_allclose(holm(np.array(p_values, dtype=float)), corrected, equal_nan=True)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_stepwise_procedure_rejects(p_values: list[float], alpha: float) -> None:
    order, rejected = sorted(range(len(p_values)), key=lambda place: p_values[place]), set()
    for rank, place in enumerate(order):
        if (len(p_values) - rank) * p_values[place] > alpha:
            break
        rejected.add(place)
    assert set(np.flatnonzero(holm(np.array(p_values)) <= alpha)) == rejected


def test_a_family_is_a_task_s_comparisons_and_each_curve_is_its_own() -> None:
    a, b = times_of(SLOWER, FASTER, variant="a"), times_of(FASTER, SLOWER[::-1], variant="b")
    never = times_of([NAN] * 6, [NAN] * 6, variant="c")
    parity = times_of(SLOWER, FASTER, variant="a", task="sparse_parity")
    one, two = times_of(SLOWER, FASTER, variant="a-normpost"), times_of(SLOWER, SLOWER[::-1], variant="a-maskcausal")
    for made, only in ((a, False), (one, True), (two, True)):
        for cell in made[2]:
            cell.update(curve="a", curve_only=only, choices={})
    times, runs, cells = joined(a, b, never, parity, one, two)
    found = paired_effects(times, runs, 0.95, 99, np.random.default_rng(0), cells).set_index(["task", "variant"])
    p = found["p_value"]
    addition = found.loc["modular_addition"]
    assert addition["family"].to_dict() == {
        "a": "modular_addition",
        "b": "modular_addition",
        "c": "modular_addition",
        "a-normpost": "modular_addition / curve a",
        "a-maskcausal": "modular_addition / curve a",
    }
    assert addition["n_family"].to_dict() == {"a": 2, "b": 2, "c": 2, "a-normpost": 2, "a-maskcausal": 2}
    assert addition.loc["a", "p_holm"] == 2 * p["modular_addition", "a"] == 2 / 32
    assert addition.loc["b", "p_holm"] == 2 / 32
    assert math.isnan(addition.loc["c", "p_holm"])
    assert addition.loc["a-normpost", "p_holm"] == 2 / 32
    assert addition.loc["a-maskcausal", "p_holm"] == p["modular_addition", "a-maskcausal"]
    alone = found.loc["sparse_parity"].loc["a"]
    assert (alone["family"], alone["n_family"], alone["p_holm"]) == ("sparse_parity", 1, 1 / 32)
    columns = found.reset_index()
    again = with_families(columns.assign(p_holm=NAN, family="?"), cells)
    pd.testing.assert_frame_equal(again, columns[list(again)])


# --- effects with their tests ----------------------------------------------------------------------------


def test_an_effect_s_tests_are_those_of_its_restricted_times() -> None:
    row = effects_of([4000, NAN, 6000, 5000, 7000, 5500], [2000, 3000, NAN, 4800, 6000, 8000], budget=8000, tested=True)
    expected = p_of([4000, 8000, 6000, 5000, 7000, 5500], [2000, 3000, 8000, 4800, 6000, 8000])
    assert row["p_value"] == row["p_holm"] == expected
    assert 0 < row["p_logrank"] < 1


def note(**values: Any) -> str:
    return str(effects_of(**values, tested=True)["note"])


def test_the_smallest_p_that_few_pairs_can_give_is_told() -> None:
    assert note(baseline=SLOWER[:1], arm=FASTER[:1]).endswith("one pair: no p-value")
    few = {"baseline": SLOWER[:5], "arm": FASTER[:5]}
    assert "5 pairs can give no p-value below 0.0625" in note(**few)
    assert "can give no p-value" not in note(**few, confidence=0.9)
    assert "can give no p-value" not in note(baseline=SLOWER, arm=FASTER)
    tied = note(baseline=SLOWER, arm=[*FASTER[:4], *SLOWER[4:]])
    assert "6 pairs, 4 of which differ, can give no p-value below 0.125" in tied


# --- the interval's coverage -------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "budget", "truth"), [(5, math.inf, 0.8), (20, 5000.0, 0.8536)])
def test_the_interval_of_few_pairs_covers_about_what_it_says(n: int, budget: float, truth: float) -> None:
    """Lognormal times that seeds share in part, 95%; docs/scoring.md has the coverage of a longer simulation."""
    generator = np.random.default_rng(n)
    covered = 0
    for _ in range(300):
        shared, own = generator.normal(0, 0.25, n), generator.normal(0, 0.15, (2, n))
        baseline, arm = np.minimum(4500 * np.exp(shared + own) * np.array([[1.0], [0.8]]), budget)
        _, start, end, _ = ratio_of_means(baseline, arm, 0.95, 399, generator)
        covered += start <= truth <= end
    assert 0.89 <= covered / 300 <= 0.97


def test_the_level_of_few_values_is_the_normal_one_made_as_long_as_students() -> None:
    """Five values: t of 4 degrees of freedom is 2.776445, times sqrt(5/4) is 3.104160, of which Phi is 0.9990459."""
    assert expanded(0.95, 5) == pytest.approx(2 * 0.9990459 - 1, abs=2e-7)
    assert expanded(0.95, 100_000) == pytest.approx(0.95, abs=1e-5)
    levels = [expanded(0.9, n) for n in range(2, 40)]
    assert levels == sorted(levels, reverse=True)
    assert min(levels) > 0.9


# --- what settles an effect in steps ---------------------------------------------------------------------------


def effect(low: float, high: float, sooner: tuple[int, int], p_value: float) -> dict[str, float]:
    return {
        "steps_ratio_low": low,
        "steps_ratio_high": high,
        "n_arm_sooner": sooner[0],
        "n_baseline_sooner": sooner[1],
        "confidence": 0.95,
        "p_value": p_value,
    }


@pytest.mark.parametrize(
    ("row", "side"),
    [
        (effect(0.7, 0.9, (6, 0), 0.031), -1),
        (effect(1.1, 1.3, (0, 6), 0.031), 1),
        (effect(0.9, 1.1, (4, 3), 0.5), 0),
        (effect(0.7, 0.9, (6, 0), math.nan), -1),  # not tested: the interval alone
        (effect(0.7, 0.95, (5, 1), 0.0625), 0),  # the test does not agree
        (effect(0.7, 0.95, (5, 0), 0.031), 0),  # of six pairs one is a tie
        (effect(math.nan, math.nan, (6, 0), 0.031), 0),
    ],
)
def test_an_effect_in_steps_is_settled_by_interval_pairs_that_differ_and_test(row: dict[str, float], side: int) -> None:
    assert settles_steps(row) == side
