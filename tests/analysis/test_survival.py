"""Kaplan-Meier curves and their restricted mean, against hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from nsbench.analysis.statistics import summarise_cells
from nsbench.analysis.statistics.survival import kaplan_meier
from nsbench.schemas.statistics import KAPLAN_MEIER
from tests.analysis.paired_times import times_of

NAN = math.nan
Z = 1.959963984540054


def curve_of(steps: list[float], budget: int = 40, diverged: tuple[int, ...] = ()) -> pd.DataFrame:
    """The curve of one cell's times (NaN: censored)."""
    times = times_of(steps, steps, budget)[0]
    times = times[times["arm"] == "baseline"].reset_index(drop=True)
    times.loc[times["seed"].isin(diverged), "status"] = "diverged"
    found = kaplan_meier(times, 0.95)
    assert list(found) == KAPLAN_MEIER.names
    return found


def rows_of(curve: pd.DataFrame) -> list[tuple[float, ...]]:
    return list(curve[["step", "not_reached", "at_risk", "events", "censored"]].itertuples(index=False, name=None))


def area_under(curve: pd.DataFrame) -> float:
    """Area under one cell's curve from 0 to the budget, in optimiser steps: its restricted mean."""
    return float((curve["not_reached"].to_numpy()[:-1] * np.diff(curve["step"])).sum())


def test_a_curve_with_ties_and_censoring_by_hand() -> None:
    curve = curve_of([20, NAN, 10, 30, 20, NAN])
    expected = [(0, 1, 6, 0, 0), (10, 5 / 6, 6, 1, 0), (20, 1 / 2, 5, 2, 0), (30, 1 / 3, 3, 1, 0), (40, 1 / 3, 2, 0, 2)]
    np.testing.assert_allclose(rows_of(curve), expected)
    assert area_under(curve) == pytest.approx((10 + 20 + 20 + 30 + 40 + 40) / 6)
    assert set(curve["note"]) == {""}


def test_the_interval_is_wilson_s_in_every_row_and_at_the_budget_that_of_the_share_that_reaches() -> None:
    times = times_of([20, 10, 30, 20], [20, NAN, NAN, NAN], budget=40)[0]
    curves, cells = kaplan_meier(times, 0.95), summarise_cells(times, 0.95)
    for row in curves.itertuples():
        # Its ends are the p at which the share lies z standard deviations, sqrt(p (1 - p) / 4), from p.
        for end, side in ((row.low, 1), (row.high, -1)):
            assert row.not_reached - end == pytest.approx(side * Z * math.sqrt(max(end * (1 - end), 0) / 4), abs=1e-12)
    at_budget = curves[curves["step"] == 40]
    np.testing.assert_allclose(1 - at_budget["high"], cells["reached_share_low"], atol=1e-15)
    np.testing.assert_allclose(1 - at_budget["low"], cells["reached_share_high"], atol=1e-15)


@pytest.mark.parametrize("n_runs", [2, 6, 10, 20])
def test_the_interval_covers_as_often_as_the_docs_say(n_runs: int) -> None:
    """Over all counts of runs left, weighted by their binomial probability, at 2,001 true shares."""
    curve = curve_of([float(step + 1) for step in range(n_runs)])[: n_runs + 1]
    share = np.linspace(0, 1, 2001)
    covers = (curve["low"].to_numpy()[:, None] <= share) & (share <= curve["high"].to_numpy()[:, None])
    n_left = n_runs * curve["not_reached"].to_numpy()[:, None]
    coverage = (covers * stats.binom.pmf(n_left.round(), n_runs, share)).sum(axis=0)
    assert 0.95 < coverage.mean() < 0.96
    assert 0.815 < coverage.min() < 0.85


@pytest.mark.parametrize(
    ("steps", "rows", "note"),
    [
        ([NAN, NAN], [(0, 1, 2, 0, 0), (40, 1, 2, 0, 2)], ""),
        ([10], [(0, 1, 1, 0, 0), (10, 0, 1, 1, 0), (40, 0, 0, 0, 0)], "one run: no interval"),
        ([0, 10], [(0, 0.5, 2, 1, 0), (10, 0, 1, 1, 0), (40, 0, 0, 0, 0)], ""),  # reached at step 0
        ([40, NAN], [(0, 1, 2, 0, 0), (40, 0.5, 2, 1, 1)], ""),  # reached at the budget is reached
    ],
)
def test_edges_have_defined_rows(steps: list[float], rows: list[tuple[float, ...]], note: str) -> None:
    curve = curve_of(steps)
    assert rows_of(curve) == rows
    assert (curve[["low", "high"]].isna() == (len(steps) == 1)).all(axis=None)
    assert set(curve["note"]) == {note}


def test_a_diverged_run_is_censored_at_the_budget_and_told() -> None:
    curve = curve_of([10, NAN, NAN], diverged=(1,))
    assert rows_of(curve)[-1] == (40, pytest.approx(2 / 3), 2, 0, 2)
    assert set(curve["note"]) == {"a diverged run counts as censored at the budget: it can never reach"}
    assert "2 diverged runs count" in curve_of([10, NAN, NAN], diverged=(1, 2))["note"].iloc[0]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.one_of(st.integers(0, 40).map(float), st.just(NAN)), min_size=1, max_size=9))
def test_the_area_under_the_curve_is_the_restricted_mean(steps: list[float]) -> None:
    times = times_of(steps, steps[::-1], budget=40)[0]
    curves, cells = kaplan_meier(times, 0.95), summarise_cells(times, 0.95)
    for arm, mean in zip(cells["arm"], cells["restricted_mean_steps"], strict=True):
        assert area_under(curves[curves["arm"] == arm]) == pytest.approx(mean)
