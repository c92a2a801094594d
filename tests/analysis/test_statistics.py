"""Time to target, censoring and paired effects, against hand-made histories and closed forms."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbench.analysis.statistics import paired_effects, summarise_cells, time_to_target
from nsbench.analysis.statistics.survival import kaplan_meier
from nsbench.analysis.statistics.times import quantile
from nsbench.config.target import first_held, held_until, hold_span
from nsbench.schemas.statistics import CELL_SUMMARY
from nsbench.schemas.training import TIME_TO_TARGET
from tests.analysis.paired_times import effects_of
from tests.synthetic_records import make_cells, make_records

NAN = math.nan


def target(threshold: float = 0.9, hold: int = 3, metric: str = "val_accuracy") -> dict[str, Any]:
    return {"metric": metric, "threshold": threshold, "hold_evaluations": hold, "hold_steps": 0}


def made(*curves: list[float], every: int = 10, **grid: Any) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]]]:
    """History, runs and a one-cell grid whose seeds 0, 1, ... have these accuracies (losses 1 - accuracy)."""
    history = pd.concat(
        pd.DataFrame(
            {
                "task": "modular_addition",
                "variant": "calibrated",
                "arm": "baseline",
                "seed": seed,
                "step": every * np.arange(len(curve)),
                "val_accuracy": curve,
                "val_loss": 1 - np.array(curve),
                "flops": 1e6 * every * np.arange(len(curve)),
                "seconds": 0.5 * every * np.arange(len(curve)),
            }
        )
        for seed, curve in enumerate(curves)
    )
    budget = every * (max(map(len, curves)) - 1)
    cells = make_cells(arms=("baseline",), seeds=tuple(range(len(curves))), budget=budget, **grid)
    runs = history.groupby(["task", "variant", "arm", "seed"], as_index=False)[["step", "flops", "seconds"]].max()
    return history, runs.rename(columns={"step": "steps"}).assign(status="completed", text=""), cells


# --- time to target --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracies", "hold", "index"),
    [
        ([0.1, 0.9, 0.95, 0.99], 3, 1),  # reaching exactly the threshold counts
        ([0.1, 0.95, 0.2, 0.95, 0.95, 0.95], 3, 3),  # touched, lost, then held
        ([0.1, 0.1, 0.95, 0.95], 3, None),  # the end comes before it is held
        ([0.95, 0.95, 0.95], 3, 0),  # step 0 counts like any other
        ([0.95, NAN, 0.95, 0.95], 2, 2),  # NaN never reaches
    ],
)
def test_a_target_is_reached_where_it_is_first_held(accuracies: list[float], hold: int, index: int | None) -> None:
    assert first_held(accuracies, range(len(accuracies)), target(hold=hold)) == index


def test_loss_must_fall_to_the_threshold() -> None:
    losses = [2.0, 0.1, 0.5, NAN, 0.1, 0.05]
    assert first_held(losses, range(6), target(0.1, 2, "val_loss")) == 4
    assert first_held(losses, range(6), target(0.09, 1, "val_loss")) == 5


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 5), st.integers(0, 60), st.integers(1, 20))
def test_a_hold_equals_the_definition_spelled_out(reaches: list[bool], hold: int, span: int, every: int) -> None:
    steps = [every * index for index in range(len(reaches))]
    holds = [
        (first, last)
        for first in range(len(reaches))
        for last in range(first + hold - 1, len(reaches))
        if all(reaches[first : last + 1]) and steps[last] - steps[first] >= span
    ]
    expected = min(holds, default=None)
    asked = {**target(hold=hold), "hold_steps": span}
    assert held_until(reaches, steps, asked) == expected
    assert first_held(reaches, steps, asked) == (expected and expected[0])
    if expected:
        spanned = steps[expected[1]] - steps[expected[0]]
        assert spanned >= hold_span(asked, every) == every * max(hold - 1, -(-span // every))


def test_times_are_in_steps_flops_and_seconds_of_the_first_held_evaluation() -> None:
    history, runs, cells = made([0, 0.95, 0, 0.95, 0.95, 0.95], [0, 0, 0, 0, 0, 0.95])
    times = time_to_target(history.sample(frac=1, random_state=0), runs, cells)  # any order of rows
    assert list(times) == TIME_TO_TARGET.names
    assert times["reached"].tolist() == [True, False]
    assert times.loc[0, ["step", "flops", "seconds"]].tolist() == [30, 30e6, 15]
    assert times.loc[1, ["step", "flops", "seconds"]].isna().all()


@pytest.mark.parametrize("missing", ["history", "runs"])
def test_a_missing_run_is_named(missing: str) -> None:
    history, runs, cells = made([0.0] * 4, [0.0] * 4)
    table = {"history": history, "runs": runs}
    table[missing] = table[missing][table[missing]["seed"] != 1]
    with pytest.raises(ValueError, match="modular_addition / calibrated / baseline / seed 1"):
        time_to_target(table["history"], table["runs"], cells)


def test_the_grid_decides_which_runs_there_are() -> None:
    cells = make_cells(seeds=(5, 2), arms=("baseline", "gentle"))
    records = make_records(make_cells(seeds=(1, 2, 5), arms=("baseline", "gentle", "reversed")))
    times = time_to_target(records["history"], records["runs"], cells)
    assert list(zip(times["arm"], times["seed"], strict=True)) == [
        ("baseline", 5),
        ("baseline", 2),
        ("gentle", 5),
        ("gentle", 2),
    ]
    assert times["rho"].isna().tolist() == [True, True, False, False]
    assert times.loc[2, ["rho", "gamma", "orientation"]].tolist() == [0.25, 0.75, 1.0]


# --- cells -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "q", "value"),
    [
        ([30, 10, 20], 0.5, 20),
        ([10, NAN, NAN], 0.5, NAN),
        ([10, 20, NAN, NAN], 0.5, NAN),  # the upper middle one is censored
        ([10, 20, 40, NAN], 0.5, 30),
        ([10, 20, 30, 40, NAN], 0.75, 40),  # falls exactly on a reached time
        ([10, 20, 30, NAN], 0.25, 17.5),
        ([NAN], 0.5, NAN),
    ],
)
def test_a_quantile_counts_censored_times_as_later_than_any(times: list[float], q: float, value: float) -> None:
    assert quantile(pd.Series(times, dtype=float), q) == pytest.approx(value, nan_ok=True)


def test_a_cell_is_summed_up_over_all_its_seeds() -> None:
    history, runs, cells = made([0, 0.95, 0.95, 0.95, 0.95], [0, 0, 0.95, 0.95, 0.95], [0] * 5, [0.95] * 5)
    runs.loc[3, "status"] = "diverged"
    summary = summarise_cells(time_to_target(history, runs, cells), 0.95)
    assert list(summary) == CELL_SUMMARY.names
    (row,) = summary.to_dict("records")
    assert (row["n_seeds"], row["n_reached"], row["n_diverged"]) == (4, 2, 1)
    assert (row["min_step"], row["max_step"]) == (10, 20)
    assert row["restricted_mean_steps"] == (10 + 20 + 40 + 40) / 4
    assert math.isnan(row["median_step"])
    assert row["q25_step"] == 17.5
    # Wilson: (p + z^2/2n -+ z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2/n)
    z, n = 1.959963984540054, 4
    middle, half = (0.5 + z**2 / (2 * n)), z * math.sqrt(0.25 / n + z**2 / (4 * n * n))
    assert row["reached_share_low"] == pytest.approx((middle - half) / (1 + z**2 / n))
    assert row["reached_share_high"] == pytest.approx((middle + half) / (1 + z**2 / n))


# --- effects ---------------------------------------------------------------------------------------


def test_both_conventions_of_the_paper_s_numbers() -> None:
    row = effects_of([4400, 4500, 4600], [3200, 3300, 3400])
    assert row["steps_ratio"] == pytest.approx(3300 / 4500)
    assert round(row["fewer_steps_percent"], 1) == 26.7
    assert round(row["faster_by_percent"], 1) == 36.4
    assert row["flops_ratio"] == pytest.approx(2 * 3300 / 4500)  # a step of the arm costs twice as much
    assert row["seconds_ratio"] == pytest.approx(3300 / 4500)
    assert (row["n_pairs"], row["n_both_reached"], row["n_arm_sooner"], row["n_baseline_sooner"]) == (3, 3, 3, 0)


def test_the_conventions_carry_the_interval_over() -> None:
    row = effects_of([4000, 5000, 4500, 4200, 4900, 4600], [3000, 4500, 3300, 3900, 3000, 3500])
    low, high = row["steps_ratio_low"], row["steps_ratio_high"]
    assert low < row["steps_ratio"] < high
    for name, convert in (
        ("fewer_steps_percent", lambda ratio: 100 * (1 - ratio)),
        ("faster_by_percent", lambda ratio: 100 * (1 / ratio - 1)),
    ):
        assert row[f"{name}_low"] == pytest.approx(convert(high))
        assert row[f"{name}_high"] == pytest.approx(convert(low))
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert row["note"] == "fewer steps but not less work: 1.56 times the FLOPs"


def test_pairing_matters() -> None:
    """The same two sets of times, paired well or badly: the same ratio, another interval."""
    baseline = [1000, 2000, 3000, 4000, 5000, 6000]
    arm = [round(0.8 * step) + jitter for step, jitter in zip(baseline, (9, -8, 7, -9, 8, -7), strict=True)]
    paired, shuffled = effects_of(baseline, arm), effects_of(baseline, arm[::-1])
    assert paired["steps_ratio"] == pytest.approx(shuffled["steps_ratio"])
    assert paired["steps_ratio_high"] - paired["steps_ratio_low"] < 0.01
    assert shuffled["steps_ratio_high"] - shuffled["steps_ratio_low"] > 0.5


def test_censored_runs_count_at_the_budget_and_are_told() -> None:
    row = effects_of([4000, NAN, 6000], [2000, 3000, NAN], budget=8000)
    assert row["steps_ratio"] == pytest.approx((2000 + 3000 + 8000) / (4000 + 8000 + 6000))
    assert row["flops_ratio"] == pytest.approx(2 * row["steps_ratio"])
    assert (row["n_baseline_reached"], row["n_arm_reached"], row["n_both_reached"]) == (2, 2, 1)
    assert (row["n_arm_sooner"], row["n_baseline_sooner"]) == (2, 1)
    assert row["note"].startswith("2 of 6 runs censored (baseline 1, arm 1): ratio of restricted means, at most 8,000")


@pytest.mark.parametrize(
    ("baseline", "arm", "ratio", "note"),
    [
        ([4000.0], [2000.0], 0.5, "one pair: no interval"),
        ([4000.0, 4000.0, 4000.0], [2000.0, 2000.0, 2000.0], 0.5, "all resamples agree: no interval"),
        ([0.0, 0.0], [100.0, 200.0], NAN, "the baseline's mean is 0 or unknown: no ratio"),
        ([0.0, 100.0, 50.0], [0.0, 200.0, 80.0], 280 / 150, "resamples with a baseline mean of 0: no interval"),
    ],
)
def test_degenerate_pairs_have_no_interval_and_say_so(
    baseline: list[float], arm: list[float], ratio: float, note: str
) -> None:
    row = effects_of(baseline, arm)
    assert row["steps_ratio"] == pytest.approx(ratio, nan_ok=True)
    assert math.isnan(row["steps_ratio_low"])
    assert math.isnan(row["faster_by_percent_high"])
    assert note in row["note"]


def test_a_diverged_run_s_cost_is_scaled_to_the_budget() -> None:
    """It stopped half way, which must not make its arm look cheap."""
    cells = make_cells(seeds=(0, 1))
    rises = {(arm, seed): 1000.0 for arm in ("baseline", "gentle") for seed in (0, 1)}
    records = make_records(cells, rises, diverged=(("gentle", 0),))
    times = time_to_target(records["history"], records["runs"], cells)
    row = paired_effects(times, records["runs"], 0.95, 199, np.random.default_rng(0)).iloc[0]
    reached = times.loc[times["arm"] == "baseline", "step"].mean()
    assert row["flops_ratio"] == pytest.approx(2 * (3000 + reached) / (2 * reached))
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
        effects = paired_effects(times, records["runs"], 0.95, 199, np.random.default_rng(0), cells)
        found.append((times.drop(columns="status"), effects, summarise_cells(times, 0.95), kaplan_meier(times, 0.95)))
    for whole, early in zip(*found, strict=True):
        pd.testing.assert_frame_equal(whole, early)


def test_a_run_that_was_stopped_by_another_target_is_named() -> None:
    history, runs, cells = made([0.5, 0.95, 0.95, 0.95])
    runs.loc[0, "status"] = "stopped"
    assert time_to_target(history, runs, cells)["step"].tolist() == [10]
    cells[0]["target"] = target(threshold=0.99)
    with pytest.raises(ValueError, match=r"seed 0: this run was stopped early but has not held this target"):
        time_to_target(history, runs, cells)


def test_pairs_are_made_by_seed_not_by_place() -> None:
    cells = make_cells(seeds=(0, 1, 2, 3))
    records = make_records(cells)
    times = time_to_target(records["history"], records["runs"], cells)
    shuffled = times.sample(frac=1, random_state=1).sort_values("arm", kind="stable")
    gone = [name in (("gentle", 1), ("baseline", 3)) for name in zip(shuffled["arm"], shuffled["seed"], strict=True)]
    shuffled = shuffled[~np.array(gone)]
    row = paired_effects(shuffled, records["runs"], 0.95, 199, np.random.default_rng(0)).iloc[0]
    both = times.pivot(index="seed", columns="arm", values="step").loc[[0, 2]]
    assert row["n_pairs"] == 2
    assert row["steps_ratio"] == pytest.approx(both["gentle"].mean() / both["baseline"].mean())


def test_effects_depend_on_the_generator_and_on_no_other_cell() -> None:
    cells = make_cells(variants=("a", "b"), arms=("baseline", "gentle", "reversed"), seeds=tuple(range(6)))
    records = make_records(cells)

    def effects(chosen: list[dict[str, Any]], seed: int) -> pd.DataFrame:
        times = time_to_target(records["history"], records["runs"], chosen)
        found = paired_effects(times, records["runs"], 0.95, 499, np.random.default_rng(seed))
        return found[found["variant"] == "b"].reset_index(drop=True)

    everything = effects(cells, 1)
    pd.testing.assert_frame_equal(everything, effects(cells, 1))
    pd.testing.assert_frame_equal(everything, effects([cell for cell in cells if cell["variant"] == "b"], 1))
    assert not everything.equals(effects(cells, 2))


# --- the protocol -----------------------------------------------------------------------------------------


def test_the_protocol_s_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    code = (Path(__file__).parents[2] / "examples/score_runs.py").read_text(encoding="utf-8")
    (printed,) = re.findall(r"```text\n(.*?)```", code, flags=re.DOTALL)
    exec(compile(code, "examples/score_runs.py", "exec"), {})
    assert capsys.readouterr().out == printed
