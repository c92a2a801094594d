"""Effects paired by seed: what they are, what they settle at which look, and what is corrected."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from scipy import stats

from nsbench.analysis.statistics import paired, paired_effects, summarise_cells, time_to_target
from nsbench.analysis.statistics.survival import kaplan_meier
from nsbench.config.sections import Analysis, Looks
from nsbench.config.settled import FEWER, MORE, OPEN, no_effect
from nsbench.storage.parquet import RecordError
from tests.analysis.paired_times import Times, effects_of, joined, times_of, two_strengths
from tests.synthetic_records import make_cells, make_records

NAN = math.nan
NONE = no_effect(0.1)
SLOWER = [4000, 5000, 4500, 4200, 4900, 4600, 4100, 5100, 4400, 4700, 4300, 4800]
FASTER = [3000, 4500, 3300, 3900, 3000, 3500, 3200, 4000, 3100, 3900, 3600, 3700]


# --- the effect --------------------------------------------------------------------------------------------


def test_both_conventions_of_the_paper_s_numbers() -> None:
    row = effects_of([4400, 4500, 4600], [4400 * 11 / 15, 3300, 4600 * 11 / 15])
    assert row["steps_ratio"] == pytest.approx(3300 / 4500)
    assert round(row["fewer_steps_percent"], 1) == 26.7
    assert round(row["faster_by_percent"], 1) == 36.4
    assert row["flops_ratio"] == pytest.approx(2 * 3300 / 4500)  # a step of the arm costs twice as much
    assert row["seconds_ratio"] == pytest.approx(3300 / 4500)
    assert (row["n_pairs"], row["n_both_reached"], row["n_arm_sooner"], row["n_baseline_sooner"]) == (3, 3, 3, 0)


def test_the_conventions_carry_the_interval_over() -> None:
    row = effects_of(SLOWER[:8], FASTER[:8])
    low, high = row["steps_ratio_low"], row["steps_ratio_high"]
    assert low < row["steps_ratio"] < high
    for name, convert in (
        ("fewer_steps_percent", lambda ratio: 100 * (1 - ratio)),
        ("faster_by_percent", lambda ratio: 100 * (1 / ratio - 1)),
    ):
        assert row[f"{name}_low"] == pytest.approx(convert(high))
        assert row[f"{name}_high"] == pytest.approx(convert(low))
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert row["note"].startswith("fewer steps but not less work: 1.5")


def test_pairing_matters() -> None:
    """The same two sets of times, paired well or badly: the same ratio of means, another interval."""
    baseline = [1000, 2000, 3000, 4000, 5000, 6000]
    arm = [round(0.8 * step) + jitter for step, jitter in zip(baseline, (9, -8, 7, -9, 8, -7), strict=True)]
    paired, shuffled = (effects_of(baseline, times, judged=False) for times in (arm, arm[::-1]))
    assert paired["restricted_mean_ratio"] == pytest.approx(shuffled["restricted_mean_ratio"])
    assert paired["steps_ratio_high"] - paired["steps_ratio_low"] < 0.02
    assert shuffled["steps_ratio_high"] - shuffled["steps_ratio_low"] > 0.5


def test_one_late_run_of_sixteen_decides_nothing() -> None:
    """At three times the steps it is the largest of the ranks, and no more than that."""
    late = effects_of([4000] * 16, [3000] * 4 + [12_000] + [3000] * 11, budget=20_000)
    later = effects_of([4000] * 16, [3000] * 4 + [NAN] + [3000] * 11, budget=20_000)
    assert late["steps_ratio"] == later["steps_ratio"] == pytest.approx(0.75)
    assert late["outcome"] == later["outcome"] == FEWER


def test_censored_runs_are_later_than_the_budget_and_are_told() -> None:
    row = effects_of([4000, NAN, 6000], [2000, 3000, NAN], budget=8000)
    assert row["restricted_mean_ratio"] == pytest.approx((2000 + 3000 + 8000) / (4000 + 8000 + 6000))
    assert row["flops_ratio"] == pytest.approx(2 * row["steps_ratio"])
    assert (row["n_baseline_reached"], row["n_arm_reached"], row["n_both_reached"]) == (2, 2, 1)
    assert (row["n_arm_sooner"], row["n_baseline_sooner"]) == (2, 1)
    assert row["note"].startswith("2 of 6 runs did not reach the target in 8,000 steps (baseline 1, arm 1)")


def test_an_arm_that_ties_in_all_is_no_effect_and_one_pair_nothing() -> None:
    one = effects_of([4000.0], [2000.0], judged=False)
    assert (one["steps_ratio"], one["outcome"]) == (pytest.approx(0.5), OPEN)
    assert one["note"].startswith("1 pair can have no interval of 95%")
    at_start = effects_of([0.0] * 8, [0.0] * 8)
    assert (at_start["steps_ratio"], at_start["outcome"]) == (1, NONE)
    assert effects_of([0.0] * 8, [100.0] * 8)["outcome"] == MORE
    nobody = effects_of([NAN] * 8, [NAN] * 8)
    assert (nobody["outcome"], nobody["note"]) == (OPEN, "no run reached the target")
    assert math.isnan(nobody["p_value"])


def test_a_pair_that_nobody_reaches_says_nothing() -> None:
    row = effects_of([NAN] * 7 + [4000], [NAN] * 7 + [3000])
    assert math.isnan(row["steps_ratio"])
    assert (row["steps_ratio_low"], row["steps_ratio_high"], row["outcome"]) == (0, math.inf, OPEN)


def test_a_variant_without_a_baseline_is_named() -> None:
    times, runs, _ = times_of(SLOWER, FASTER)
    with pytest.raises(RecordError, match="modular_addition / calibrated: no arm of kind baseline"):
        paired_effects(times[times["arm"] != "baseline"], runs)


def test_a_diverged_run_s_cost_is_scaled_to_the_budget() -> None:
    """It stopped half way, which must not make its arm look cheap."""
    cells = make_cells(seeds=(0, 1))
    rises = {(arm, seed): 1000.0 for arm in ("baseline", "gentle") for seed in (0, 1)}
    records = make_records(cells, rises, diverged=(("gentle", 0),))
    times = time_to_target(records["history"], records["runs"], cells)
    row = paired_effects(times, records["runs"]).iloc[0]
    assert row["flops_ratio_low"] == pytest.approx(2 * row["steps_ratio_low"], nan_ok=True)
    assert row["restricted_mean_ratio"] > 1.5
    assert row["flops_ratio"] == pytest.approx(2 * row["steps_ratio"])


def test_runs_that_were_stopped_early_have_the_same_times_and_effects() -> None:
    """Beside a censored run of each arm, whose cost is still that of the budget."""
    cells = make_cells(seeds=(0, 1, 2, 3, 4, 5))
    rises = {("baseline", 0): 1e9, ("gentle", 1): 1e9}
    stopped = tuple((arm, seed) for arm in ("baseline", "gentle") for seed in (2, 3, 4))
    found = []
    for early in ((), stopped):
        records = make_records(cells, rises, stopped=early)
        times = time_to_target(records["history"], records["runs"], cells)
        assert (times["status"] == "stopped").sum() == len(early)
        assert (records["runs"]["steps"] < 3000).sum() == len(early)
        effects = paired_effects(times, records["runs"], Analysis(), cells)
        found.append((times.drop(columns="status"), effects, summarise_cells(times, 0.95), kaplan_meier(times, 0.95)))
    for whole, early in zip(*found, strict=True):
        pd.testing.assert_frame_equal(whole, early)


def test_pairs_are_made_by_seed_not_by_place() -> None:
    cells = make_cells(seeds=(0, 1, 2, 3))
    records = make_records(cells)
    times = time_to_target(records["history"], records["runs"], cells)
    shuffled = times.sample(frac=1, random_state=1).sort_values("arm", kind="stable")
    gone = [name in (("gentle", 1), ("baseline", 3)) for name in zip(shuffled["arm"], shuffled["seed"], strict=True)]
    shuffled = shuffled[~np.array(gone)]
    row = paired_effects(shuffled, records["runs"]).iloc[0]
    both = times.pivot(index="seed", columns="arm", values="step").loc[[0, 2]]
    assert row["n_pairs"] == 2
    assert row["restricted_mean_ratio"] == pytest.approx(both["gentle"].mean() / both["baseline"].mean())
    assert row["steps_ratio"] == pytest.approx(stats.gmean(both["gentle"] / both["baseline"]))


# --- more extreme evidence is never weaker -------------------------------------------------------------------

RANKS = {FEWER: 0, NONE: 1, OPEN: 1, MORE: 2}
"""As pairs go towards fewer steps, an outcome goes down: more steps, then none or open, then fewer."""


@settings(deadline=None, max_examples=25)
@given(two_strengths(8))
def test_more_extreme_pairs_never_settle_less(strengths: tuple[list[tuple[float, float]], ...]) -> None:
    weak, strong = (effects_of(*map(list, zip(*pairs, strict=True)), budget=8) for pairs in strengths)
    if not (math.isnan(weak["p_value"]) or math.isnan(strong["p_value"])):  # else no run reached the target
        for end in ("low", "high"):
            assert strong[f"steps_ratio_{end}"] <= weak[f"steps_ratio_{end}"] * (1 + 1e-9)
    assert RANKS[strong["outcome"]] <= RANKS[weak["outcome"]]
    if weak["outcome"] == FEWER:
        assert strong["q_value"] <= weak["q_value"]


@pytest.mark.parametrize(
    ("baseline", "arm", "outcome"),
    [
        ([400] * 10, [300] * 10, FEWER),
        ([400] * 10, [350] + [300] * 9, FEWER),
        ([400] * 10, [400] * 10, NONE),
        ([400] * 10, [450] + [400] * 9, NONE),
        ([400] * 10, [NAN] * 10, MORE),
        ([400] * 10, [950] + [NAN] * 9, MORE),
        ([NAN] * 10, [400] * 10, FEWER),
        ([NAN] * 9 + [950], [400] * 10, FEWER),
        ([400] * 10, [396] * 10, FEWER),  # an effect smaller than the margin is one where it is settled
        ([400] * 10, [460] * 5 + [350] * 5, OPEN),
    ],
)
def test_constant_evidence_settles_what_less_constant_does(
    baseline: list[float], arm: list[float], outcome: str
) -> None:
    for judged in (True, False):
        assert effects_of(baseline, arm, budget=1000, judged=judged)["outcome"] == outcome


# --- looks -----------------------------------------------------------------------------------------------------


def n_of(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["n_pairs"], row["n_waiting"], row["next_look"]


def test_pairs_beyond_a_look_wait_for_the_next() -> None:
    eight = effects_of(SLOWER[:8], FASTER[:8])
    assert (*n_of(eight), eight["outcome"], eight["confidence"]) == (8, 0, 12, FEWER, pytest.approx(0.982))
    ten = effects_of(SLOWER[:10], [*FASTER[:8], NAN, NAN])
    assert n_of(ten) == (8, 2, 12)
    assert ten["note"].startswith("2 of 10 pairs wait for the look at 12; ")
    same = [name for name in eight if name not in ("n_waiting", "note")]
    assert [ten[name] for name in same] == pytest.approx([eight[name] for name in same], nan_ok=True)
    assert n_of(effects_of(SLOWER, FASTER)) == (12, 0, 16)
    beyond = effects_of([400] * 23, [300] * 23)
    assert n_of(beyond) == (20, 3, 0)
    assert beyond["note"].startswith("3 of 23 pairs are beyond the last look")


@pytest.mark.parametrize(("arm", "outcome"), [(300, FEWER), (400, NONE), (NAN, MORE)])
def test_before_the_first_look_nothing_is_settled(arm: float, outcome: str) -> None:
    row = effects_of([400] * 7, [arm] * 7, budget=1000)
    assert (*n_of(row), row["outcome"]) == (7, 0, 8, OPEN)
    assert math.isnan(row["steps_ratio"]) == math.isnan(arm)
    assert all(math.isnan(row[name]) for name in ("steps_ratio_low", "flops_ratio_high", "p_value", "q_value"))
    assert "7 pairs, and the first look is at 8: no interval yet" in row["note"]
    assert effects_of([400] * 8, [arm] * 8, budget=1000)["outcome"] == outcome


def test_the_first_seeds_of_the_grid_are_judged() -> None:
    """Whatever the order of their names, and of the rows."""
    times, runs, cells = times_of(SLOWER[:10], [*FASTER[:8], 9000, 9000])
    renamed = {seed: 100 - 7 * seed for seed in range(10)}
    for table in (times, runs):
        table["seed"] = table["seed"].map(renamed)
    (row,) = paired_effects(times, runs, Analysis(), cells).to_dict("records")
    assert row["steps_ratio"] == pytest.approx(effects_of(SLOWER[:8], FASTER[:8])["steps_ratio"])


def test_the_looks_and_their_level_are_those_of_the_configuration() -> None:
    looks = Looks(pairs=[6, 10], alpha=0.04)
    row = effects_of(SLOWER[:7], FASTER[:7], looks=looks)
    assert (*n_of(row), row["confidence"]) == (6, 1, 10, pytest.approx(0.96))
    assert (row["p_value"], row["outcome"]) == (1 / 32, FEWER)


@pytest.mark.parametrize(("margin", "outcome"), [(0.1, no_effect(0.1)), (0.02, OPEN)])
def test_no_effect_is_one_within_the_margin_of_the_configuration(margin: float, outcome: str) -> None:
    arm = [1000 * ratio for ratio in (1.03, 0.98, 1.02, 0.97, 1.01, 0.99, 1.03, 0.98)]
    row = effects_of([1000] * 8, arm, margin=margin)
    assert (row["outcome"], row["margin"]) == (outcome, margin)


# --- what a comparison is for --------------------------------------------------------------------------------------


def of_arms(**ratios: list[float]) -> Times:
    """One variant of eight seeds for each name; its arm's ratios to the baseline."""
    return joined(*(times_of([1000] * 8, [1000 * r for r in of], variant=name) for name, of in ratios.items()))


WEAK = [0.9, 0.91, 0.92, 0.93, 0.94, 0.95, 0.96, 1.001]
"""Of eight pairs the smallest is against: p = 2 x 2 / 256."""
STRONG, EVEN = [0.8] * 8, [0.9, 0.95, 0.97, 0.99, 1.015, 1.04, 1.06, 1.11]


def test_the_secondary_comparisons_of_a_task_are_corrected_together_and_the_primary_one_is_not() -> None:
    made = of_arms(a=WEAK, b=STRONG, c=EVEN, d=EVEN, e=EVEN, f=EVEN)
    other = times_of([1000] * 8, [1000 * r for r in WEAK], variant="a", task="sparse_parity")
    times, runs, cells = joined(made, other)
    found = paired_effects(times, runs, Analysis(), cells).set_index(["task", "variant"])
    p = found["p_value"]
    assert p["modular_addition", "a"] == 1 / 64
    assert p["modular_addition", "b"] == 1 / 128
    assert p["sparse_parity", "a"] == found["q_value"]["sparse_parity", "a"] == 1 / 64
    addition = found.loc["modular_addition"]
    np.testing.assert_allclose(addition["q_value"], stats.false_discovery_control(p["modular_addition"]))
    assert addition["q_value"]["b"] == addition["q_value"]["a"] == pytest.approx(6 / 2 / 64)
    assert set(found["role"]) == {"secondary"}
    # Neither is settled, by the correction alone, to the level of a look; with fewer that are even both are.
    assert addition["outcome"][["a", "b"]].tolist() == [OPEN, OPEN]
    few_times, few_runs, few_cells = of_arms(a=WEAK, b=STRONG)
    found = paired_effects(few_times, few_runs, Analysis(), few_cells).set_index("variant")
    assert found["outcome"][["a", "b"]].tolist() == [FEWER, FEWER]
    times, runs, cells = joined((times, runs, cells), of_arms(g=EVEN, h=EVEN, i=EVEN, j=EVEN))
    primary = Analysis(primary={"modular_addition": {"variant": "a", "arm": "gentle"}})
    for chosen, sides in ((Analysis(), (OPEN, OPEN)), (primary, (FEWER, OPEN))):
        found = paired_effects(times, runs, chosen, cells).set_index(["task", "variant"]).loc["modular_addition"]
        assert tuple(found["outcome"][["a", "b"]]) == sides
        assert (found["steps_ratio_high"][["a", "b"]] < 1).all()
    assert (found["role"]["a"], found["p_value"]["a"]) == ("primary", 1 / 64)
    assert math.isnan(found["q_value"]["a"])
    assert found["q_value"]["b"] == pytest.approx(9 / 128)


def test_no_effect_takes_no_correction() -> None:
    times, runs, cells = of_arms(a=[1.0] * 8, b=[1.01, 0.99, 1.02, 0.98, 1.0, 1.0, 1.0, 1.0])
    assert paired_effects(times, runs, Analysis(), cells)["outcome"].tolist() == [NONE, NONE]


def test_comparisons_before_their_first_look_do_not_count_in_the_correction() -> None:
    early = times_of([1000] * 7, [800] * 7, variant="early")
    times, runs, cells = joined(of_arms(a=WEAK), early)
    found = paired_effects(times, runs, Analysis(), cells).set_index("variant")
    assert found["q_value"]["a"] == found["p_value"]["a"] == 1 / 64
    assert math.isnan(found["q_value"]["early"])


def test_a_curve_s_specifications_have_all_pairs_and_the_plain_confidence() -> None:
    times, runs, cells = joined(of_arms(base=WEAK), of_arms(other=WEAK))
    for cell in cells:
        cell.update(curve="base", curve_only=cell["variant"] == "other", choices={})
    found = paired_effects(times, runs, Analysis(confidence=0.9), cells).set_index("variant")
    assert found["role"].to_dict() == {"base": "secondary", "other": "curve"}
    assert found["confidence"].to_list() == pytest.approx([0.982, 0.9])
    assert found["p_value"].to_list() == [1 / 64, 1 / 64]
    assert found["q_value"].isna().to_list() == [False, True]
    seven = times_of(SLOWER[:7], FASTER[:7], variant="other")
    for cell in seven[2]:
        cell.update(curve="base", curve_only=True)
    (row,) = paired_effects(*seven[:2], Analysis(), seven[2]).to_dict("records")
    assert (*n_of(row), row["outcome"]) == (7, 0, 0, FEWER)


def test_an_arm_that_was_chosen_by_its_result_has_no_test() -> None:
    row = effects_of(SLOWER[:7], FASTER[:7], judged=False)
    assert (row["role"], *n_of(row), row["confidence"]) == ("chosen", 7, 0, 0, 0.95)
    assert math.isnan(row["p_value"])
    assert math.isnan(row["q_value"])


def test_effects_depend_on_no_other_variant() -> None:
    cells = make_cells(variants=("a", "b"), arms=("baseline", "gentle", "reversed"), seeds=tuple(range(8)))
    records = make_records(cells)

    def effects(chosen: list[dict[str, Any]]) -> pd.DataFrame:
        times = time_to_target(records["history"], records["runs"], chosen)
        found = paired_effects(times, records["runs"], Analysis(), chosen)
        return found[found["variant"] == "b"].reset_index(drop=True).drop(columns=["q_value", "outcome"])

    pd.testing.assert_frame_equal(effects(cells), effects([cell for cell in cells if cell["variant"] == "b"]))


def test_what_a_look_has_settled_stays_settled() -> None:
    """Four pairs the other way would open again what eight had settled, if the last look alone decided."""
    at_8 = effects_of([1000] * 8, [750] * 8)
    at_12 = effects_of([1000] * 12, [750] * 8 + [1500] * 4)
    assert (at_8["outcome"], at_12["outcome"], at_12["n_pairs"]) == (FEWER, FEWER, 12)
    assert (at_12["steps_ratio_low"], at_12["steps_ratio_high"]) == pytest.approx((0.75, 0.75))
    assert at_12["p_value"] == at_8["p_value"] == 2 / 2**8


def test_looks_that_contradict_each_other_are_told() -> None:
    found = effects_of([1000] * 20, [750] * 8 + [1500] * 12)
    assert "the looks contradict each other in steps: the interval is the last one's" in found["note"]
    assert 1 < found["steps_ratio_low"] < found["steps_ratio_high"] == pytest.approx(1.5)


def test_pairs_keep_the_order_of_the_baselines_seeds() -> None:
    times, *_ = times_of([1000] * 8, [700] * 8)
    order = times["arm_kind"].eq("baseline")
    turned = pd.concat([times[order].iloc[::-1], times[~order]])
    ((_, baseline, arm),) = paired.pairs(turned)
    assert baseline.index.tolist() == arm.index.tolist() == list(range(7, -1, -1))


def test_a_run_that_diverged_at_once_costs_what_the_others_of_its_cell_do() -> None:
    times, runs, cells = times_of([1000] * 8, [750] * 7 + [math.nan])
    whole = paired_effects(times, runs, Analysis(), cells).iloc[0]
    lost = runs["seed"].eq(7) & runs["arm"].ne("baseline")
    runs.loc[lost, ["steps", "flops", "seconds"]] = 0
    found = paired_effects(times, runs, Analysis(), cells).iloc[0]
    for name in ("flops_ratio", "flops_ratio_low", "flops_ratio_high", "flops_outcome"):
        assert found[name] == pytest.approx(whole[name]) if name != "flops_outcome" else found[name] == whole[name]
