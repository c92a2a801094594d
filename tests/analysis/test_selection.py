"""Choosing an arm on validation records and reporting it on test records, on made-up sweeps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsbench.analysis.scores import run_scores
from nsbench.analysis.selection import CRITERION, selections, times_on_test
from nsbench.analysis.statistics import time_to_target
from nsbench.analysis.statistics.times import trails
from nsbench.schemas.analysis import SELECTION
from nsbench.schemas.metrics import TARGETS
from tests.analysis.paired_times import without_measures

NAN = math.nan
BUDGET = 100
VARIANT = {"task": "modular_addition", "variant": "calibrated"}
NEVER = 1000
ARMS = {
    "baseline": {"kind": "baseline"},
    "mild": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.05, "orientation": 1},
    "strong": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75, "orientation": 1},
    "reversed": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75, "orientation": 0},
}

Sweep = dict[str, list[tuple[int, int, float]]]
"""By arm, for seeds 0, 1, ...: the step that reaches the target on validation data, that on test data, and
the validation loss in the end."""


def grid(sweep: Sweep, metric: str = "val_accuracy", threshold: float = 0.9) -> list[dict[str, Any]]:
    return [
        {
            **VARIANT,
            "arm": arm,
            "arm_settings": ARMS[arm],
            "seeds": list(range(len(of_seeds))),
            "target": {"metric": metric, "threshold": threshold, "hold_evaluations": 1, "hold_steps": 0},
            "budget_steps": BUDGET,
            "leaks": [],
            "settings": {"optimizer": {"weight_decay": 0.1}, "data": {}},
        }
        for arm, of_seeds in sweep.items()
    ]


def records(
    sweep: Sweep,
    diverged: tuple[tuple[str, int], ...] = (),
    stopped: dict[tuple[str, int], int] | None = None,
) -> dict[str, pd.DataFrame]:
    """Evaluations every 10 steps, checkpoints every 20; accuracies are 0.1, then the threshold, 0.9.

    The validation loss is lowest at step 80; there the test loss is one above it, and the test
    accuracy what the sweep says. `stopped` runs end at the step given, with a checkpoint there.
    """
    history, runs, evaluation = [], [], []
    for arm, of_seeds in sweep.items():
        for seed, (on_val, on_test, loss) in enumerate(of_seeds):
            row = {**VARIANT, "arm": arm, "seed": seed}
            end = (stopped or {}).get((arm, seed), BUDGET)
            steps = np.arange(0, end + 1, 10)
            history.append(pd.DataFrame({**row, "step": steps, "flops": 1.0 * steps, "seconds": 0.0}))
            for suffix in TARGETS.values():
                history[-1]["val_accuracy" + suffix] = np.where(steps >= on_val, 0.9, 0.1)
                history[-1]["val_loss" + suffix] = np.where(steps == 80, loss, loss + 1)
            status = "diverged" if (arm, seed) in diverged else "stopped" if end < BUDGET else "completed"
            cost = {"steps": end, "flops": 1.0, "seconds": 1.0}
            runs.append({**row, "status": status, "text": "", "no_evaluation": "", **cost})
            for kind in TARGETS:
                for step in sorted({*steps[::2].tolist(), end}):
                    for name, value in (
                        ("test_accuracy", 0.9 if step >= on_test else 0.1),
                        ("test_loss", loss + 1),
                    ):
                        evaluation.append({**row, "step": step, "measure": name, "reduction": kind, "value": value})
    return {"history": pd.concat(history), "runs": pd.DataFrame(runs), "evaluation": pd.DataFrame(evaluation)}


def chosen(
    sweep: Sweep,
    diverged: tuple[tuple[str, int], ...] = (),
    stopped: dict[tuple[str, int], int] | None = None,
) -> dict[str, dict[str, Any]]:
    """The rows of `selections` by procedure."""
    found = selected(records(sweep, diverged, stopped), grid(sweep))
    assert found["procedure"].tolist() == ["all_seeds", "leave_one_out"]
    return {row["procedure"]: row for row in found.to_dict("records")}


def selected(made: dict[str, pd.DataFrame], cells: list[dict[str, Any]]) -> pd.DataFrame:
    times = time_to_target(made["history"], made["runs"], cells)
    scored = run_scores(trails(made["history"], made["runs"], cells), made["runs"], made["evaluation"])
    found = selections(times, scored, made["evaluation"], cells, 0.95)
    assert list(found) == SELECTION.names
    return found


# --- test times ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accuracies", "step"),
    [
        ([0.1, 0.9, 0.95, 0.95, 0.95, 0.95], 10),  # half way from the checkpoint before
        ([0.1, 0.95, 0.1, 0.9, 0.95, 0.1], 50),  # two in a row, the threshold itself counts
        ([0.1, 0.1, 0.1, 0.8, 1.0, 1.0], 70),
        ([0.1, 0.1, 0.1, 0.1, 0.1, 0.95], NAN),  # the last checkpoint alone is not enough
        ([0.95, 0.1, 0.95, 0.1, 0.95, 0.1], NAN),
    ],
)
def test_a_test_time_needs_two_checkpoints_in_a_row(accuracies: list[float], step: float) -> None:
    sweep: Sweep = {"baseline": [(10, NEVER, 1.0)]}
    made = records(sweep)
    rows = (made["evaluation"]["measure"] == "test_accuracy") & (made["evaluation"]["reduction"] == "all")
    made["evaluation"].loc[rows, "value"] = accuracies
    times = time_to_target(made["history"], made["runs"], grid(sweep))
    (row,) = times_on_test(times, made["evaluation"].sample(frac=1, random_state=1)).to_dict("records")
    assert row["step"] == pytest.approx(step, nan_ok=True)
    assert row["reached"] == math.isfinite(step)
    assert row["resolution_steps"] == 20


def test_a_test_time_is_of_the_target_s_own_metric() -> None:
    sweep: Sweep = {"baseline": [(10, NEVER, 1.0)]}
    made = records(sweep)
    table = made["evaluation"]
    table.loc[(table["measure"] == "test_loss") & (table["reduction"] == "known") & (table["step"] >= 40), "value"] = (
        0.5
    )
    times = time_to_target(made["history"], made["runs"], grid(sweep)).assign(metric="val_loss_known", threshold=0.5)
    assert times_on_test(times, table)["step"].tolist() == [30]
    for metric in ("val_loss", "val_loss_unpadded", "val_accuracy_known"):
        assert not times_on_test(
            times.assign(metric=metric), table.assign(value=table["value"].clip(upper=0.45 if "acc" in metric else 9))
        )["reached"].any()


def test_a_stopped_run_s_test_time_is_known_as_far_as_its_checkpoints_go() -> None:
    sweep: Sweep = {"baseline": [(10, 20, 1.0), (10, 40, 1.0), (10, 60, 1.0), (10, NEVER, 1.0)]}
    made = records(sweep, stopped={("baseline", 0): 50, ("baseline", 1): 50, ("baseline", 2): 50})
    times = time_to_target(made["history"], made["runs"], grid(sweep))
    found = times_on_test(times, made["evaluation"])
    assert found["status"].tolist() == ["stopped"] * 3 + ["completed"]
    # 20 and 40 (its next checkpoint is the one at which the run stopped); 60 was not seen, and NEVER is known.
    assert found["step"].fillna(-1).tolist() == [10, 30, -1, -1]
    assert found["reached"].tolist() == [True, True, False, False]
    assert found["known"].tolist() == [True, True, False, True]


# --- one choice for all ----------------------------------------------------------------------------


def test_the_arm_is_chosen_on_validation_and_reported_on_test() -> None:
    """On test data `mild` would be the better one; validation says `strong`."""
    sweep: Sweep = {
        "baseline": [(80, 80, 1.0), (60, 60, 1.1), (70, 80, 1.2), (80, 60, 1.0), (60, 80, 1.0), (70, 80, 0.9)],
        "mild": [(40, 20, 0.8)] * 6,
        "strong": [(30, 40, 0.7), (30, 60, 0.8), (30, 40, 0.6), (30, 40, 0.9), (30, 60, 0.9), (30, 40, 0.7)],
        "reversed": [(0, 0, 0.0)] * 6,
    }
    found = selected(records(sweep), grid(sweep))
    row = found.iloc[0]
    assert row["procedure"] == "all_seeds"
    assert (row["selected"], row["n_arms"], row["n_pairs"], row["criterion"]) == ("strong", 2, 6, CRITERION)
    # Times lie half way between evaluations, 10 steps apart on validation and 20 on test data.
    steps = [75, 55, 65, 75, 55, 65]
    of_pairs = [25 / math.sqrt(steps[i] * steps[j]) for i in range(6) for j in range(i, 6)]
    assert row["val_steps_ratio"] == pytest.approx(np.median(of_pairs))
    assert (row["val_steps_ratio_low"], row["val_steps_ratio_high"]) == (pytest.approx(1 / 3), pytest.approx(5 / 11))
    ratios = np.array([30 / 70, 50 / 50, 30 / 70, 30 / 50, 50 / 70, 30 / 70])
    walsh = [math.sqrt(ratios[i] * ratios[j]) for i in range(6) for j in range(i, 6)]
    assert row["test_steps_ratio"] == pytest.approx(np.median(walsh))
    assert (row["test_steps_ratio_low"], row["test_steps_ratio_high"]) == (pytest.approx(3 / 7), pytest.approx(1))
    assert row["test_loss_difference"] == pytest.approx(-0.25)  # -0.3, -0.3, -0.6, -0.1, -0.1 and -0.2
    assert row["test_accuracy_difference"] == 0
    assert row["test_loss_difference_low"] < row["test_loss_difference"] < row["test_loss_difference_high"]
    assert (row["test_accuracy_difference_low"], row["test_accuracy_difference_high"]) == (0, 0)
    assert row["note"] == "test times are known to 20 steps, the spacing of checkpoints"
    # Every seed's others choose the same arm: the same comparison.
    other = found.iloc[1]
    assert other["selected"] == "strong x 6"
    same = [name for name in found if name not in ("procedure", "selected")]
    pd.testing.assert_series_equal(other[same], row[same], check_names=False)


def test_where_nobody_reaches_the_target_the_validation_loss_decides() -> None:
    sweep: Sweep = {
        "baseline": [(NEVER, NEVER, 1.0)] * 3,
        "mild": [(NEVER, NEVER, 0.5), (NEVER, NEVER, 0.9), (NEVER, NEVER, 0.9)],
        "strong": [(NEVER, NEVER, 0.6)] * 3,
    }
    row = chosen(sweep)["all_seeds"]
    assert row["selected"] == "strong"
    assert math.isnan(row["val_steps_ratio"])
    assert math.isnan(row["test_steps_ratio"])
    assert row["test_loss_difference"] == pytest.approx(-0.4)
    assert row["note"].startswith(
        "no run reached the target on validation data; test_steps: no run reached the target;"
    )


def test_a_diverged_run_counts_at_the_budget() -> None:
    sweep: Sweep = {
        "baseline": [(50, 60, 1.0)] * 3,
        "mild": [(40, 40, 0.5)] * 3,
        "strong": [(30, 20, 0.1)] * 3,
    }
    lost = chosen(sweep, diverged=(("strong", 0),))["all_seeds"]  # 30, 30, 100: later than 40, 40, 40
    assert lost["selected"] == "mild"
    kept = chosen(sweep, diverged=(("mild", 0), ("strong", 0)))["all_seeds"]
    assert kept["selected"] == "strong"
    # Of six sums of two pairs three change their sign at 10 / 50, two at 10 / 50 x 100 / 50, and one at no ratio.
    assert kept["test_steps_ratio"] == pytest.approx(math.sqrt(1 / 5 * 2 / 5))
    assert kept["test_loss_difference"] == pytest.approx(-0.9)
    assert "test_accuracy, test_loss: 1 of 3 pairs left out: a run diverged" in kept["note"]
    assert "test_steps: 1 of 6 runs did not reach the target in 100 steps (baseline 0, arm 1)" in kept["note"]


def test_pairs_whose_test_time_is_not_known_are_left_out_and_told() -> None:
    """At its budget the stopped run would count as later than it may have been."""
    sweep: Sweep = {
        "baseline": [(50, 60, 1.0)] * 4,
        "mild": [(45, 40, 0.5)] * 4,
        "strong": [(30, 20, 0.1), (30, 20, 0.1), (30, 80, 0.1), (30, 20, 0.2)],
    }
    row = chosen(sweep, stopped={("strong", 0): 60, ("strong", 2): 60, ("baseline", 3): 90})["all_seeds"]
    assert row["selected"] == "strong"
    assert (row["n_pairs"], row["n_compared"], row["n_stopped"]) == (4, 3, 1)
    assert row["val_steps_ratio"] == pytest.approx(25 / 45)
    assert row["test_steps_ratio"] == pytest.approx(10 / 50)
    assert row["test_loss_difference"] == pytest.approx(-0.9)  # of seed 1, the only pair of whole runs
    assert "test_steps: 1 of 4 pairs left out: a run stopped at its target (baseline 0, arm 1)" in row["note"]
    scores = "test_accuracy, test_loss: 3 of 4 pairs left out: a run stopped at its target (baseline 1, arm 2)"
    assert scores in row["note"]
    assert "did not reach" not in row["note"]


def test_runs_without_measures_are_left_out_of_test_numbers_and_told() -> None:
    sweep: Sweep = {
        "baseline": [(50, 60, 1.0)] * 4,
        "mild": [(45, 40, 0.5)] * 4,
        "strong": [(30, 20, 0.1), (30, 20, 0.1), (30, 80, 0.1), (30, 20, 0.2)],
    }
    cells, made = grid(sweep), records(sweep)
    whole = selected(made, cells).iloc[0]
    row = selected(without_measures(made, ("strong", 0), ("strong", 2), ("baseline", 3)), cells).iloc[0]
    assert (row["selected"], row["val_steps_ratio"]) == (whole["selected"], whole["val_steps_ratio"])
    assert (row["n_pairs"], row["n_compared"], row["n_stopped"]) == (4, 1, 0)
    assert row["test_steps_ratio"] == pytest.approx(10 / 50)
    assert row["test_loss_difference"] == pytest.approx(-0.9)
    assert row["note"].startswith("3 of 4 pairs left out: a run has no measures (baseline 1, arm 2); ")
    # A stopped run beside: each is told by its own reason.
    both = records(sweep, stopped={("strong", 2): 60})
    note = selected(without_measures(both, ("strong", 0)), cells).iloc[0]["note"]
    assert "1 of 4 pairs left out: a run stopped at its target (baseline 0, arm 1)" in note
    assert "1 of 4 pairs left out: a run has no measures (baseline 0, arm 1)" in note
    # Without any there is nothing to say, which is no error.
    none = selected(without_measures(made, *((arm, seed) for arm in sweep for seed in range(4))), cells).iloc[1]
    assert (none["selected"], none["n_compared"]) == ("strong x 4", 0)
    assert none[["test_steps_ratio", "test_accuracy_difference", "test_loss_difference"]].isna().all()
    assert none["note"] == "4 of 4 pairs left out: a run has no measures (baseline 4, arm 4); no pairs to compare"


def test_ties_in_steps_are_decided_by_the_losses_of_seeds_without_a_stopped_run() -> None:
    sweep: Sweep = {
        "baseline": [(50, 60, 1.0)] * 3,
        "mild": [(30, 40, 0.9), (30, 40, 0.5), (30, 40, 0.5)],
        "strong": [(30, 40, 0.1), (30, 40, 0.6), (30, 40, 0.6)],
    }
    assert chosen(sweep)["all_seeds"]["selected"] == "strong"
    # In seed 0, the only one that speaks for it, no loss of a whole run of each arm is there.
    assert chosen(sweep, stopped={("mild", 0): 60})["all_seeds"]["selected"] == "mild"
    assert chosen(sweep, stopped={("strong", 0): 60})["all_seeds"]["selected"] == "mild"


# --- no seed chooses its own arm -------------------------------------------------------------------


def test_a_lucky_seed_carries_an_arm_over_all_seeds_but_not_in_its_own_absence() -> None:
    """`strong` wins by seed 0 alone, where it is also lucky on test data; elsewhere `mild` is better."""
    sweep: Sweep = {
        "baseline": [(80, 80, 1.0)] * 4,
        "mild": [(50, 60, 0.9)] * 4,
        "strong": [(0, 0, 0.2), (60, 80, 1.0), (60, 80, 1.0), (60, 80, 1.0)],
    }
    found = chosen(sweep)
    row = found["all_seeds"]
    assert row["selected"] == "strong"
    assert row["val_steps_ratio"] == pytest.approx(55 / 75)
    assert row["test_steps_ratio"] == pytest.approx(1)  # of 0, 1, 1 and 1
    # Without seed 0 the others choose `mild` for it; with it they choose `strong` for themselves.
    row = found["leave_one_out"]
    assert row["selected"] == "strong x 3, mild x 1"
    assert row["val_steps_ratio"] == pytest.approx(55 / 75)


def test_one_seed_leaves_nobody_to_choose() -> None:
    sweep: Sweep = {"baseline": [(50, 60, 1.0)], "mild": [(40, 40, 0.5)], "strong": [(30, 20, 0.1)]}
    found = chosen(sweep)
    assert found["all_seeds"]["selected"] == "strong"
    assert found["all_seeds"]["note"].startswith("1 pair can have no interval of 95%; ")
    row = found["leave_one_out"]
    assert (row["selected"], row["n_pairs"], row["note"]) == ("", 1, "one seed: no other seeds to choose on")
    assert all(math.isnan(row[name]) for name in row if "ratio" in name or "difference" in name)


# --- a tuned baseline ------------------------------------------------------------------------------


def test_a_baseline_is_tuned_over_its_optimiser_s_settings_as_the_arm_is_over_its_own() -> None:
    """A faster baseline takes the arm's effect away; each seed's baseline is chosen on the others, as its arm is."""
    sweep: Sweep = {
        "baseline": [(80, 80, 1.0)] * 4,
        "mild": [(60, 60, 0.9)] * 4,
        "strong": [(40, 40, 0.8)] * 4,
    }
    cells, made = grid(sweep), records(sweep)
    faster: Sweep = {"baseline": [(40, 40, 0.7), (40, 40, 0.7), (40, 40, 0.7), (60, 60, 0.7)]}
    lucky: Sweep = {"baseline": [(80, 80, 0.7), (80, 80, 0.7), (80, 80, 0.7), (0, 0, 0.7)]}
    # The third is the variant's own baseline by another name.
    for name, decay, runs in (("decay", 0.2, faster), ("more_decay", 0.4, lucky), ("again", 0.1, faster)):
        more = [{**cell, "variant": name} for cell in grid(runs)]
        more[0]["settings"] = {"optimizer": {"weight_decay": decay}, "data": {}}
        cells += more
        made = {
            table: pd.concat([rows, records(runs)[table].assign(variant=name)], ignore_index=True)
            for table, rows in made.items()
        }
    found = selected(made, cells).set_index("procedure")
    assert found.index.tolist() == ["all_seeds", "leave_one_out", "equal_tuning"]
    assert found.loc["leave_one_out", "val_steps_ratio"] == pytest.approx(35 / 75)
    row = found.loc["equal_tuning"]
    assert (row["selected"], row["n_arms"], row["n_pairs"]) == ("strong x 4", 2, 4)
    # `decay` wins in all choices, with or without its slow seed 3, in which the lucky one is not its own judge.
    assert row["val_steps_ratio"] == pytest.approx(1)
    ratios = [1, 1, 1, 30 / 50]
    walsh = [math.sqrt(ratios[i] * ratios[j]) for i in range(4) for j in range(i, 4)]
    assert row["test_steps_ratio"] == pytest.approx(np.median(walsh))
    assert row["note"].startswith("baselines, the best of 3: decay x 4; ")
    # Other data are another question; so is a baseline of another arm's settings.
    for cell in cells[-3:]:
        cell["settings"] = {"optimizer": {"weight_decay": 0.2}, "data": {"n": 3}}
    assert selected(made, cells)["procedure"].tolist() == ["all_seeds", "leave_one_out"]


# --- the grid decides ------------------------------------------------------------------------------


def test_only_seeds_that_all_arms_have_are_compared() -> None:
    sweep: Sweep = {"baseline": [(50, 60, 1.0)] * 4, "mild": [(40, 40, 0.5)] * 4, "strong": [(30, 20, 0.1)] * 4}
    cells = grid(sweep)
    cells[0]["seeds"], cells[1]["seeds"], cells[2]["seeds"] = [3, 0, 1], [0, 1, 2, 3], [1, 3]
    found = selected(records(sweep), cells)
    assert found["n_pairs"].tolist() == [2, 2]
    cells[2]["seeds"] = [2]
    found = selected(records(sweep), cells)
    assert found["note"].tolist() == ["no seed in common"] * 2
    assert found["selected"].tolist() == [""] * 2
