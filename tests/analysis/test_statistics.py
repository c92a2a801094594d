"""Time to target and its censoring, against hand-made histories and closed forms."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbench.analysis.statistics import summarise_cells, time_to_target
from nsbench.analysis.statistics.times import quantile
from nsbench.config.target import first_held, held_until, hold_span
from nsbench.schemas.statistics import CELL_SUMMARY
from nsbench.schemas.training import TIME_TO_TARGET
from nsbench.storage.parquet import RecordError
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


def times_of_curve(curve: list[float], **grid: Any) -> list[float]:
    """Steps, FLOPs (1e6 a step) and seconds (half of one a step) to the target, evaluated every 10 steps."""
    return time_to_target(*made(curve, **grid))[["step", "flops", "seconds"]].iloc[0].to_list()


def test_times_are_of_the_crossing_before_the_first_held_evaluation() -> None:
    history, runs, cells = made([0, 0.95, 0, 0.85, 0.95, 0.95, 0.95], [0, 0, 0, 0, 0, 0, 0.95])
    times = time_to_target(history.sample(frac=1, random_state=0), runs, cells)  # any order of rows
    assert list(times) == TIME_TO_TARGET.names
    assert times["reached"].tolist() == [True, False]
    assert times.loc[0, ["step", "flops", "seconds"]].tolist() == pytest.approx([35, 35e6, 17.5])
    assert times.loc[1, ["step", "flops", "seconds"]].isna().all()


@pytest.mark.parametrize(
    ("curve", "step"),
    [
        ([0.1, 0.8, 1.0, 1.0, 1.0], 15),  # half way from the evaluation before, whatever the metric was there
        ([0.0, 0.0, 1.0, 1.0, 1.0], 15),
        ([0.1, NAN, 0.95, 0.95, 0.95], 15),
        ([0.95, 0.95, 0.95, 0.2, 0.2], 0),  # from the first evaluation on
    ],
)
def test_a_time_is_half_way_between_two_evaluations(curve: list[float], step: float) -> None:
    assert times_of_curve(curve) == pytest.approx([step, step * 1e6, step / 2])
    losses = times_of_curve(curve, metric="val_loss", threshold=0.1)  # 1 - accuracy
    assert losses == pytest.approx([step, step * 1e6, step / 2])


def test_how_often_a_target_was_lost_and_when_training_reached_it() -> None:
    history, runs, cells = made([0, 0.95, 0.95, 0.95, 0.2, 0.95, 0.1], [0.0] * 7)
    history["train_accuracy"] = [NAN, 0.8, 0.96, 0.3, 1.0, 1.0, 1.0] + [NAN] * 7
    times = time_to_target(history, runs, cells)
    assert times[["step", "n_lost"]].to_numpy().tolist()[0] == [5, 2]
    assert times["train_step"].tolist() == pytest.approx([15, NAN], nan_ok=True)
    row = summarise_cells(times, 0.95).iloc[0]
    assert (row["n_lost"], row["most_lost"]) == (1, 2)
    assert math.isnan(row["median_gap_steps"])  # one of both runs has none


@pytest.mark.parametrize("missing", ["history", "runs"])
def test_a_missing_run_is_named(missing: str) -> None:
    history, runs, cells = made([0.0] * 4, [0.0] * 4)
    table = {"history": history, "runs": runs}
    table[missing] = table[missing][table[missing]["seed"] != 1]
    with pytest.raises(ValueError, match="modular_addition / calibrated / baseline / seed 1"):
        time_to_target(table["history"], table["runs"], cells)


NAMED = "^modular_addition / calibrated / baseline / seed 1: "


def test_an_evaluation_that_is_there_twice_is_refused() -> None:
    """Its copy would count towards the hold."""
    history, runs, cells = made([0.0] * 5, [0, 0, 0, 0.95, 0.95])
    twice = pd.concat([history, history[(history["seed"] == 1) & (history["step"] >= 30)]])
    assert not time_to_target(history, runs, cells)["reached"].any()
    with pytest.raises(RecordError, match=rf"{NAMED}its history has step 30 more than once; one row an evaluation"):
        time_to_target(twice, runs, cells)


def test_a_completed_run_whose_history_stops_early_is_refused() -> None:
    """It would count as one that had not reached the target by the budget."""
    history, runs, cells = made([0.0] * 21, [0.0] * 21)
    short = history[(history["seed"] == 0) | (history["step"] <= 120)]
    told = rf"{NAMED}it is `completed`, but its history ends at step 120 of 200; "
    with pytest.raises(RecordError, match=told):
        time_to_target(short, runs, cells)
    runs.loc[1, "status"] = "diverged"
    assert time_to_target(short, runs, cells)["reached"].tolist() == [False, False]
    none = history[(history["seed"] == 0) | (history["step"] > 200)]
    none = pd.concat([none, history[history["seed"] == 1].assign(step=lambda rows: rows["step"] + 210)])
    with pytest.raises(RecordError, match=rf"{NAMED}its history has no step up to the budget"):
        time_to_target(none, runs, cells)


def test_a_budget_between_two_evaluations_needs_none_of_its_own() -> None:
    history, runs, cells = made([0.0] * 21)
    cells[0]["budget_steps"] = 205
    time_to_target(history, runs, cells)
    cells[0]["budget_steps"] = 210
    with pytest.raises(RecordError, match="its history ends at step 200 of 210"):
        time_to_target(history, runs, cells)


def test_runs_of_one_variant_that_were_evaluated_at_other_steps_are_refused() -> None:
    """Rarer evaluations make an arm late."""
    cells = make_cells(variants=("a", "b"), seeds=(0, 1))
    fine, rare = (make_records(cells, every=every) for every in (20, 100))

    def mixed(own: Callable[[pd.DataFrame], pd.Series]) -> pd.DataFrame:
        return pd.concat([fine["history"][~own(fine["history"])], rare["history"][own(rare["history"])]])

    time_to_target(mixed(lambda rows: rows["variant"] == "b"), fine["runs"], cells)  # each variant its own
    told = (
        r"^modular_addition / a / gentle / seed 1: it was evaluated at step 100 where modular_addition / a / "
        r"baseline / seed 0 was at 20; the same steps are allowed in all arms of a variant$"
    )
    with pytest.raises(RecordError, match=told):
        time_to_target(
            mixed(lambda rows: (rows["variant"] == "a") & (rows["arm"] == "gentle") & (rows["seed"] == 1)),
            fine["runs"],
            cells,
        )


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
    history, runs, cells = made([0, 0.9, 0.95, 0.95, 0.95], [0, 0, 0.9, 0.95, 0.95], [0] * 5, [0.95] * 5)
    runs.loc[3, "status"] = "diverged"
    summary = summarise_cells(time_to_target(history, runs, cells), 0.95)
    assert list(summary) == CELL_SUMMARY.names
    (row,) = summary.to_dict("records")
    assert (row["n_seeds"], row["n_reached"], row["n_diverged"]) == (4, 2, 1)
    assert (row["min_step"], row["max_step"]) == (5, 15)
    assert row["restricted_mean_steps"] == (5 + 15 + 40 + 40) / 4
    assert math.isnan(row["median_step"])
    assert row["q25_step"] == 12.5
    # Wilson: (p + z^2/2n -+ z sqrt(p q / n + z^2 / 4n^2)) / (1 + z^2/n)
    z, n = 1.959963984540054, 4
    middle, half = (0.5 + z**2 / (2 * n)), z * math.sqrt(0.25 / n + z**2 / (4 * n * n))
    assert row["reached_share_low"] == pytest.approx((middle - half) / (1 + z**2 / n))
    assert row["reached_share_high"] == pytest.approx((middle + half) / (1 + z**2 / n))


def test_a_run_that_was_stopped_by_another_target_is_named() -> None:
    history, runs, cells = made([0.5, 0.9, 0.95, 0.95])
    runs.loc[0, "status"] = "stopped"
    assert time_to_target(history, runs, cells)["step"].tolist() == [5]
    cells[0]["target"] = target(threshold=0.99)
    with pytest.raises(ValueError, match=r"seed 0: this run was stopped early but has not held this target"):
        time_to_target(history, runs, cells)


# --- the protocol -----------------------------------------------------------------------------------------


def test_the_protocol_s_example_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    code = (Path(__file__).parents[2] / "examples/score_runs.py").read_text(encoding="utf-8")
    (printed,) = re.findall(r"```text\n(.*?)```", code, flags=re.DOTALL)
    exec(compile(code, "examples/score_runs.py", "exec"), {})
    assert capsys.readouterr().out == printed
