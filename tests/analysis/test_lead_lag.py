"""Onsets, leads and early ranks, against curves whose onsets are known by eye and scipy's Spearman."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from nsbench.analysis.lead_lag import SERIES, early_rank, lead_lag, onset, onsets
from nsbench.analysis.statistics.ranks import spearman
from nsbench.analysis.statistics.times import trails
from nsbench.config.sections import Analysis
from nsbench.schemas.analysis import EARLY_RANK, LEAD_LAG, ONSET
from tests.synthetic_records import make_cells

NAN = math.nan
SPACING = 10
RUN = {"task": "sparse_parity", "variant": "calibrated"}


def grid(
    n_seeds: int, arms: tuple[str, ...] = ("baseline",), steps: int = 40, metric: str = "val_accuracy"
) -> list[dict[str, Any]]:
    return make_cells(RUN["task"], (RUN["variant"],), arms, tuple(range(n_seeds)), steps, metric, every=SPACING)


def table_of_runs(
    cells: list[dict[str, Any]],
    diverged: tuple[tuple[str, int], ...] = (),
    stopped: tuple[tuple[str, int], ...] = (),
) -> pd.DataFrame:
    return pd.DataFrame(
        {**RUN, "arm": cell["arm"], "seed": seed, "status": status}
        for cell in cells
        for seed in cell["seeds"]
        for name in [(cell["arm"], seed)]
        for status in ["diverged" if name in diverged else "stopped" if name in stopped else "completed"]
    )


def curves(arm: str, seed: int, stability: Any, loss: Any, accuracy: Any = 0.0) -> pd.DataFrame:
    """The history of a run that is evaluated every SPACING steps."""
    steps = SPACING * np.arange(len(stability))
    row = {**RUN, "arm": arm, "seed": seed, "step": steps, "stability": stability, "val_loss": loss}
    others = {name: np.where(steps == 0, NAN, 1.0 + steps) for name in SERIES if name != "stability"}
    return pd.DataFrame(row | {"val_accuracy": accuracy} | others)


def of_stability(found: pd.DataFrame) -> pd.DataFrame:
    """The rows of the series `stability` in a table of all series."""
    return found[found["series"] == "stability"].reset_index(drop=True)


# --- an onset --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "share", "direction", "index"),
    [
        ([1.0, 1.0, 0.95, 0.5, 0.0], 0.1, "either", 3),  # 0.05 of the way is not 0.1 of it
        ([1.0, 1.0, 0.875, 0.5, 0.0], 0.125, "either", 2),  # exactly the share counts
        ([1.0, 1.5, 0.5, 0.0, -1.0], 0.2, "either", 2),  # up first, but the change is downwards
        ([0.0, -0.25, 0.5, 1.0, 0.5], 0.2, "either", 2),  # the change is upwards
        ([2.0, 3.0, 4.0, 1.0, 0.0], 0.5, "down", 3),  # a loss that rises first, as before grokking
        ([2.0, 1.0, 4.0, 9.0, 9.0], 0.5, "down", 1),  # a rise larger than the fall is no fall
        ([2.0, 2.0, 3.0], 0.1, "down", None),  # never below its start
        ([1.0, 1.0, 1.0], 0.1, "either", None),
        ([1.0], 0.1, "either", None),
        ([], 0.1, "down", None),
        ([1.0, NAN, 0.0], 0.1, "either", None),
        ([1.0, math.inf, 0.0], 0.1, "down", None),
    ],
)
def test_an_onset_known_by_eye(values: list[float], share: float, direction: str, index: int | None) -> None:
    found = onset(SPACING * np.arange(len(values)), np.array(values), share, direction)
    assert found == pytest.approx(NAN if index is None else SPACING * index, nan_ok=True)


@given(st.lists(st.integers(-40, 40), min_size=2, max_size=20), st.sampled_from([0.0625, 0.25, 0.5]))
def test_a_fall_s_onset_equals_the_definition_spelled_out(values: list[int], share: float) -> None:
    fall = values[0] - min(values)
    at = next(i for i, value in enumerate(values) if value <= values[0] - share * fall)
    expected = NAN if fall == 0 else at
    assert onset(np.arange(len(values)), np.array(values, float), share, "down") == pytest.approx(expected, nan_ok=True)


# --- onsets of the grid ----------------------------------------------------------------------------


def test_onsets_of_all_runs_in_grid_order() -> None:
    cells = grid(5)
    history = pd.concat(
        [
            curves("baseline", 0, [1, 0.5, 0.5, 0.5, 0.5], [2, 2, 2, 1, 0]),
            curves("baseline", 1, [1, 1, 1, 1, 1], [2, 2, 2, 2.5, 3]),
            curves("baseline", 2, [1, 0.5, NAN], [2, 1, NAN]),
            curves("baseline", 3, [1, 1, 1, 0, 0], [2, 0, 0, 0, 0]),
            curves("baseline", 4, [1, 1, 1, 1, 0], [2, 2, math.inf, 0, 0]),
            curves("elsewhere", 0, [1, 1], [1, 1]),
        ]
    )
    shuffled = history.sample(frac=1, random_state=0)
    found = onsets(trails(shuffled, table_of_runs(cells, (("baseline", 2),)), cells), 0.25)
    assert list(found) == [*ONSET.names, "status", "lacks"]
    assert found["series"].tolist() == list(SERIES) * 5
    found = of_stability(found)
    assert found["seed"].tolist() == [0, 1, 2, 3, 4]
    assert found["series_onset_step"].fillna(-1).tolist() == [10, -1, -1, 30, 40]
    assert found["loss_onset_step"].fillna(-1).tolist() == [30, -1, -1, 10, -1]
    assert found["lead_steps"].fillna(-1).tolist() == [20, -1, -1, -20, -1]
    assert found["note"].tolist() == [
        "",
        "series flat; loss never below its start",
        "diverged",
        "",
        "values not finite",
    ]


# --- leads -----------------------------------------------------------------------------------------


def leads_of(
    pairs: list[tuple[float, float]],
    notes: list[str] | None = None,
    statuses: list[str] | None = None,
    lacks: list[bool] | None = None,
) -> Any:
    """The one row of `lead_lag` for given onsets (stability, loss), one pair per seed."""
    cells = grid(len(pairs))
    found = pd.DataFrame(
        {**RUN, "arm": "baseline", "seed": seed, "share": 0.1, "series_onset_step": first, "loss_onset_step": second}
        for seed, (first, second) in enumerate(pairs)
    ).assign(note=notes or "", status=statuses or "completed", lacks=lacks or False)
    found["lead_steps"] = found["loss_onset_step"] - found["series_onset_step"]
    rows = lead_lag(pd.concat([found.assign(series=series) for series in SERIES]), cells, 0.95)
    assert list(rows) == LEAD_LAG.names
    assert rows["series"].tolist() == list(SERIES)
    return dict(rows.iloc[0])


def test_leads_are_counted_and_their_typical_one_is_found() -> None:
    row = leads_of([(10, 30), (20, 80), (30, 30), (40, 20), (10, 40), (10, 60)])
    assert [row[f"n_{name}"] for name in ("runs", "defined", "series_first", "together", "loss_first")] == [
        6,
        6,
        4,
        1,
        1,
    ]
    assert row["typical_lead_steps"] == 25  # the median of the 21 averages of two leads, each with itself included
    assert (row["typical_lead_steps_low"], row["typical_lead_steps_high"]) == (-20, 60)
    assert (row["median_series_onset_step"], row["median_loss_onset_step"]) == (15, 35)
    assert (row["resolution_steps"], row["share"], row["note"]) == (SPACING, 0.1, "")


def test_undefined_runs_are_told_and_later_than_any() -> None:
    notes = ["", "diverged", "series flat", "diverged"]
    row = leads_of([(10, 30), (NAN, NAN), (NAN, 50), (NAN, NAN)], notes)
    assert (row["n_runs"], row["n_defined"], row["n_series_first"], row["typical_lead_steps"]) == (4, 1, 1, 20)
    assert math.isnan(row["median_loss_onset_step"])
    assert row["note"] == "3 of 4 runs undefined (2 diverged, 1 series flat); 1 run can have no interval of 95%"
    nothing = leads_of([(NAN, NAN)], ["diverged"])
    assert math.isnan(nothing["typical_lead_steps"])
    assert nothing["note"] == "1 of 1 runs undefined (1 diverged); no runs to compare"


@pytest.mark.parametrize(
    ("status", "lacks", "loss", "medians"),
    [
        ("completed", False, 50, (20, 40)),  # later than any
        ("completed", True, 50, (15, 40)),
        ("stopped", False, NAN, (15, 35)),
        ("diverged", True, NAN, (20, 40)),
    ],
)
def test_medians_leave_out_what_is_not_known(status: str, lacks: bool, loss: float, medians: tuple[int, int]) -> None:
    row = leads_of(
        [(10, 30), (20, 40), (NAN, loss)], statuses=["completed"] * 2 + [status], lacks=[False, False, lacks]
    )
    assert (row["median_series_onset_step"], row["median_loss_onset_step"]) == medians
    assert row["n_stopped"] == (status == "stopped")


def test_a_history_without_stability_is_no_stability_that_never_moved() -> None:
    """As of a baseline that a variant of other noise shares (`workflow.grid.Cell.shares`)."""
    cells = grid(6, arms=("baseline", "gentle"))
    rise, fall = np.arange(5.0), [3.0, 3.0, 1.0, 1.0, 1.0]
    history = pd.concat(
        curves(arm, s, rise if arm == "gentle" else NAN * rise, fall, 0.1 * s)
        for arm in ("baseline", "gentle")
        for s in range(6)
    )
    runs = table_of_runs(cells, diverged=(("gentle", 5),), stopped=(("baseline", 5),))
    every = trails(history, runs, cells)
    found = onsets(every, 0.1)
    of_baseline = of_stability(found[found["arm"] == "baseline"])
    assert of_baseline["note"].tolist() == ["none in its history"] * 5 + ["stopped at the target"]
    assert of_baseline["loss_onset_step"].tolist()[:5] == [20] * 5
    leads = lead_lag(found, cells, 0.95).iloc[0]
    assert math.isnan(leads["median_series_onset_step"])
    assert (leads["median_loss_onset_step"], leads["n_defined"]) == (20, 0)
    assert leads["note"] == (
        "6 of 6 runs undefined (5 none in its history, 1 stopped at the target); no runs to compare"
    )
    times = history.groupby(["task", "variant", "arm", "seed"], as_index=False)["step"].max()
    ranks = early_rank(every, times.assign(step=10.0 * times["seed"]), cells, Analysis(early_share=0.25))
    assert ranks["n_ranked"].tolist() == [0, 6]
    assert "6 of 6 runs left out: no finite values at step 10; fewer than three runs" in ranks["note"].iloc[0]
    assert "6 of 12 runs left out: no finite values at step 10" in ranks["note"].iloc[1]


# --- Spearman --------------------------------------------------------------------------------------


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=2, max_size=12),
)
def test_spearman_of_a_resample_is_scipy_s_of_the_values_written_out(rows: list[tuple[int, int, int]]) -> None:
    x, y, counts = np.array(rows).T
    (found,) = spearman(x.astype(float), y.astype(float), counts[None])
    long_x, long_y = np.repeat(x, counts), np.repeat(y, counts)
    if len(np.unique(long_x)) < 2 or len(np.unique(long_y)) < 2:
        assert math.isnan(found)
    else:
        assert found == pytest.approx(stats.spearmanr(long_x, long_y).statistic)


# --- early ranks -----------------------------------------------------------------------------------


def ranked(
    early: dict[tuple[str, int], tuple[float, float, float]],
    diverged: tuple[tuple[str, int], ...] = (),
    too_early: tuple[tuple[str, int], ...] = (),
) -> dict[str, Any]:
    """Both rows of `early_rank` by group, for runs with (stability, loss) at step 20 and a time to target (NaN: never).

    Runs `too_early` diverge at step 10.
    """
    cells = grid(1 + max(number for _, number in early), tuple(dict.fromkeys(arm for arm, _ in early)), steps=100)
    history, times = [], []
    for (arm, number), (stability, loss, time) in early.items():
        here = curves(arm, number, np.full(2 if (arm, number) in too_early else 11, 0.5), 3.0)
        here.loc[here["step"] == 20, ["stability", "val_loss"]] = stability, loss
        history.append(here)
        times.append({**RUN, "arm": arm, "seed": number, "step": NAN if (arm, number) in diverged else time})
    every = trails(pd.concat(history), table_of_runs(cells, (*diverged, *too_early)), cells)
    rows = early_rank(every, pd.DataFrame(times), cells, Analysis(early_share=0.15, confidence=0.9))
    assert list(rows) == EARLY_RANK.names
    assert rows["group"].tolist() == ["baseline", "all arms"]
    assert rows["early_step"].tolist() == [20, 20]  # 15 of 100 steps is between two evaluations
    return {row["group"]: row for row in rows.to_dict("records")}


def test_early_stability_and_loss_rank_times_to_target() -> None:
    generator = np.random.default_rng(4)
    x, noise, time = generator.normal(size=(3, 8))
    found = ranked({("baseline", s): (x[s], noise[s] + time[s], time[s]) for s in range(8)})
    row = found["baseline"]
    assert row["rank_by_stability"] == pytest.approx(stats.spearmanr(x, time).statistic)
    assert row["rank_by_val_loss"] == pytest.approx(stats.spearmanr(noise + time, time).statistic)
    for name in ("rank_by_stability", "rank_by_val_loss"):
        assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert (row["n_runs"], row["n_seeds"], row["note"]) == (8, 8, "")
    # With one arm the two groups are the same runs.
    assert {**found["all arms"], "group": "baseline", "text": ""} == {**row, "text": ""}


def test_seeds_are_resampled_with_all_their_arms() -> None:
    """Arms that repeat a seed's run to the bit add no information: the same interval as the baseline alone."""
    generator = np.random.default_rng(4)
    values = generator.normal(size=(7, 3))
    found = ranked({(arm, s): tuple(values[s]) for arm in ("baseline", "gentle") for s in range(7)})
    for name in ("rank_by_stability", "rank_by_stability_low", "rank_by_stability_high", "rank_by_val_loss_low"):
        assert found["all arms"][name] == pytest.approx(found["baseline"][name])


def test_runs_that_never_reach_rank_last_and_without_values_are_left_out() -> None:
    early = {("baseline", s): (s, -s, 10 * s) for s in range(7)}
    last = ranked(early | {("baseline", 0): (0, 0, NAN)}, diverged=(("baseline", 1),))["baseline"]
    assert last["rank_by_stability"] == pytest.approx(stats.spearmanr(range(7), [6, 6, 1, 2, 3, 4, 5]).statistic)
    left_out = ranked(early, too_early=(("baseline", 6),))["baseline"]
    assert (left_out["rank_by_stability"], left_out["n_runs"], left_out["n_ranked"]) == (pytest.approx(1), 7, 6)
    assert left_out["note"] == "1 of 7 runs left out: no finite values at step 20"


def test_what_cannot_be_ranked_is_told() -> None:
    flat = ranked({("baseline", s): (0.5, s, 10 * s) for s in range(6)})["baseline"]
    assert math.isnan(flat["rank_by_stability"])
    assert flat["rank_by_val_loss"] == pytest.approx(1)
    assert (flat["rank_by_val_loss_low"], flat["rank_by_val_loss_high"]) == pytest.approx((1, 1))
    assert flat["note"] == "stability: alike in all runs, no ranks"
    alike = ranked({("baseline", s): (s, s, NAN) for s in range(6)})["baseline"]
    assert math.isnan(alike["rank_by_val_loss"])
    assert alike["note"] == "all runs have one time to target, or none: no ranks"
    assert ranked({("baseline", s): (s, s, s) for s in range(2)})["baseline"]["note"] == (
        "fewer than three runs: no ranks"
    )
    few = ranked({("baseline", s): (s, (2 * s) % 5, (3 * s) % 5) for s in range(4)})["baseline"]
    assert "of the resamples have no ranks and are left out" in few["note"]
    assert few["note"].endswith("4 seeds can have no interval of 90%")


def test_a_share_of_the_budget_with_a_rounding_error_is_not_an_evaluation_later() -> None:
    """And the loss is that over the targets which the metric names."""
    cells = grid(6, steps=300, metric="val_loss_known")
    history = pd.concat(curves("baseline", s, np.arange(31) * s, 3.0) for s in range(6))
    history["val_loss_known"] = -1.0 * history["seed"]
    every = trails(history, table_of_runs(cells), cells)
    times = pd.DataFrame({**RUN, "arm": "baseline", "seed": s, "step": 10.0 * s} for s in range(6))
    row = early_rank(every, times, cells, Analysis(early_share=0.1 + 0.2)).iloc[0]  # 0.30000000000000004
    assert (row["early_step"], row["rank_by_stability"], row["rank_by_val_loss"]) == pytest.approx((90, 1, -1))
