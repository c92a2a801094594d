"""The stage `theory`: formulas as curves and beside simulated points, without torch."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsbench.config.canonical import canonical_json
from nsbench.config.theory import EXPERIMENTS, ExperimentSpec, IntervalsExperiment
from nsbench.schemas import theory_labels as labels
from nsbench.schemas.theory import CURVES, SIMULATION, STATUSES, THEORY
from nsbench.simulation.curves import compare, compute_theory, curves, formulas
from nsbench.storage.parquet import RecordError, read_stamp, read_table, write_table
from nsbench.theory.propagation import network_intervals, random_network
from tests.synthetic_theory import interval_curves

SMALL = {
    "attention": {"n_tokens": 5, "ranks": [2, 3]},
    "patterns": {"n_tokens": [2, 3]},
    "feed_forward": {"depth": 3, "rho": [0.5]},
    "recurrence": {"depth": 4, "rho": [0.5, 1.0]},
    "relu": {"means": [0.0, 0.5]},
    "transformer": {"depth": 3, "value_norms": [0.0, 0.5, 1.0]},
    "kernels": {"n_variables": 6, "depth": 3, "kept": 0.25},
    "intervals": {"n_tokens": 3, "d_model": 4, "depth": 2, "logit_scales": [0.1]},
}


def spec_of(experiment: str, settings: dict[str, Any] | None = None) -> ExperimentSpec:
    return ExperimentSpec(experiment=experiment, seed=0, settings=settings or SMALL[experiment])


FOUND = {name: list(formulas(spec_of(name))) for name in EXPERIMENTS}
CURVE = pd.concat([curves(found).assign(experiment=name) for name, found in FOUND.items()], ignore_index=True)


def point(reading: str, series: str, x: float, value: float, error: float = 0.1) -> dict[str, Any]:
    row = {"reading": reading, "series": series, "x": x, "value": value}
    return row | {"standard_error": error, "n_draws": 4, "n_pairs": 10}


def value_at(experiment: str, reading: str, series: str, formula: str, x: float) -> float:
    rows = CURVE.query("experiment == @experiment and reading == @reading and series == @series")
    rows = rows[(rows["formula"] == formula) & np.isclose(rows["x"], x)]
    assert len(rows) == 1
    return rows["value"].item()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_has_curves_with_known_statuses_and_finite_x(experiment: str) -> None:
    rows = CURVE[CURVE["experiment"] == experiment]
    assert len(rows) > 0
    assert set(rows.columns) == set(CURVES.names)
    assert set(rows["status"]) <= set(STATUSES)
    assert np.isfinite(rows["x"]).all()
    assert not rows.duplicated(["reading", "series", "formula", "status", "x"]).any()


def test_curves_have_known_values() -> None:
    s_half = (math.sqrt(0.75) + 0.5 * (math.pi - math.acos(0.5))) / (2 * math.pi)
    relu = ("relu", labels.RELU_READING, labels.mean(0.0))
    assert value_at(*relu, "Theorem 5.1", 0.5) == pytest.approx(s_half)
    assert value_at(*relu, "Equation 4, quadratic", -1.0) == pytest.approx(3 / (4 * math.pi) - 0.25)
    pairs = ("patterns", labels.PATTERNS_READING, labels.n_tokens(2), "s(ρ)")
    assert value_at(*pairs, 0.5) == pytest.approx(0.5 + math.asin(0.25) / math.pi)
    identity = ("feed_forward", labels.FEED_FORWARD_WEIGHTS["identity"], labels.correlation(0.5))
    assert [value_at(*identity, "s(ρ)", layer) for layer in range(4)] == pytest.approx([0.5, s_half, s_half, s_half])
    deep = ("transformer", labels.VALUE_WEIGHTS["identity"], labels.value_norm(0.5))
    assert value_at(*deep, "γ²ˡ s(ρ)", 2) == pytest.approx(s_half / 16)
    nothing = ("transformer", labels.VALUE_WEIGHTS["gaussian"], labels.value_norm(0.0))
    assert value_at(*nothing, "wide limit", 1) == 0
    assert value_at(*nothing, "Equation 8", 1) == pytest.approx(1 / (2 * math.pi))  # for an output that is zero


def test_a_point_stands_beside_each_formula_of_its_series() -> None:
    place = (labels.RELU_READING, labels.mean(0.0))
    table = compare(pd.DataFrame([point(*place, 1.0, 0.6), point(*place, 0.0, 0.2, error=0.0)]), FOUND["relu"])
    assert {*table.columns, "experiment"} == set(THEORY.names)
    exact = table[table["formula"] == "Theorem 5.1"].set_index("x")
    assert exact["theory"].tolist() == pytest.approx([0.5, 1 / (2 * math.pi)])
    assert exact.loc[1.0, "difference"] == pytest.approx(0.1)
    assert exact.loc[1.0, "z"] == pytest.approx(1.0)
    assert exact.loc[1.0, "ratio"] == pytest.approx(0.5 / 0.6)
    assert math.isnan(exact.loc[0.0, "z"])
    quadratic = table[table["status"] == "approximation"].set_index("x")
    assert quadratic.loc[1.0, "theory"] == pytest.approx(0.25 + 3 / (4 * math.pi))


def test_a_simulated_zero_has_no_ratio() -> None:
    place = (labels.VALUE_WEIGHTS["identity"], labels.value_norm(0.0))
    table = compare(pd.DataFrame([point(*place, 1.0, 0.0, error=0.0)]), FOUND["transformer"])
    assert table["ratio"].isna().all()
    assert table.loc[table["status"] == "limit", "difference"].tolist() == [0.0]


def test_a_point_without_a_formula_is_refused_by_name() -> None:
    rows = pd.DataFrame([point(labels.RELU_READING, "mean 7", 0.0, 0.2)])
    with pytest.raises(RecordError, match=r"'mean 7': there is no formula"):
        compare(rows, FOUND["relu"])


def points_file(folder: Path, experiment: str) -> tuple[Path, dict[str, str]]:
    """One simulated point of an experiment, and the stamp of its settings."""
    formula = FOUND[experiment][0]
    row = {"experiment": experiment} | point(formula.reading, formula.series, float(formula.x[0]), 0.3)
    stamp = {"spec": canonical_json(spec_of(experiment)), "commit": "c"}
    path = folder / f"{experiment}.points.parquet"
    write_table(path, [row], SIMULATION, stamp)
    return path, stamp


def test_the_stages_write_curves_and_one_table_of_all_experiments(tmp_path: Path) -> None:
    for experiment in EXPERIMENTS:
        points_file(tmp_path, experiment)
    made = (tmp_path / "theory.parquet", tmp_path / "theory.csv", {"commit": "d"})
    compute_theory([spec_of(experiment) for experiment in EXPERIMENTS], tmp_path, *made)
    for experiment in EXPERIMENTS:
        written = read_table(tmp_path / f"{experiment}.curves.parquet", CURVES)
        wanted = CURVE[CURVE["experiment"] == experiment][CURVES.names].reset_index(drop=True)
        pd.testing.assert_frame_equal(written, wanted)
        assert read_stamp(tmp_path / f"{experiment}.curves.parquet")["commit"] == "d"
    table = read_table(tmp_path / "theory.parquet", THEORY)
    assert table["experiment"].unique().tolist() == list(EXPERIMENTS)
    assert read_stamp(tmp_path / "theory.parquet")["commit"] == "d"
    assert pd.read_csv(tmp_path / "theory.csv")["theory"].tolist() == pytest.approx(table["theory"].tolist())


def test_points_simulated_under_other_settings_are_refused(tmp_path: Path) -> None:
    points_file(tmp_path, "relu")
    made = (tmp_path / "theory.parquet", tmp_path / "theory.csv", {"commit": "d"})
    with pytest.raises(RecordError, match=r"relu\.points\.parquet: was simulated under other settings"):
        compute_theory([spec_of("relu", {"means": [0.0]})], tmp_path, *made)
    assert {path.name for path in tmp_path.iterdir()} == {"relu.points.parquet"}


@pytest.mark.parametrize(("gamma", "rho"), [(0.0, 0.3), (1.5, 0.3), (10.0, 0.0)])
def test_equation_8_is_left_out_where_gamma_is_too_large_for_it(gamma: float, rho: float) -> None:
    settings = {"rho": rho, "value_norms": [gamma], "depth": 5}
    found = list(formulas(spec_of("transformer", settings)))
    limits = [formula for formula in found if formula.status == "limit"]
    assert len(limits) == len(labels.VALUE_WEIGHTS)
    for formula in found:
        assert np.isfinite(formula.value(formula.x)).all()
    state, stays = rho, True
    for _ in range(5):
        inside = gamma * gamma * state
        stays = stays and inside <= 1
        inside = min(inside, 1.0)
        state = (math.sqrt(1 - inside**2) + inside * (math.pi - math.acos(inside))) / (2 * math.pi)
    assert any(formula.status == "published" for formula in found) == stays


def test_interval_curves_name_the_series_that_their_bounds_are_on() -> None:
    settings = IntervalsExperiment(n_tokens=3, d_model=2, depth=2, rho=0.5, logit_scales=[0.01, 0.1])
    rows = interval_curves(settings, 4).to_dict("records")
    keys = [(row["reading"], row["series"], row["formula"], row["status"], row["x"]) for row in rows]
    # Two scales, three methods, two layers of two parts, four bounds.
    assert len(keys) == len(set(keys)) == 2 * 3 * 4 * 4
    assert {row["reading"] for row in rows} == {labels.logit_scale(0.01), labels.logit_scale(0.1)}
    by_key = {key: row["value"] for key, row in zip(keys, rows, strict=True)}
    found = network_intervals(random_network(2, 2, 0.1, 4), 3, 0.5, "lemma")[3]
    name, formula = labels.logit_scale(0.1), labels.INTERVAL_METHODS["lemma"]
    assert (found.layer, found.part) == (2, "MLP")
    for quantity, status, value in (
        ("smallest", "lower", found.lower),
        ("largest", "upper", found.upper),
        ("mean", "lower", found.mean_lower),
        ("mean", "upper", found.mean_upper),
    ):
        assert by_key[name, labels.entry_moments("MLP", quantity), formula, status, 2.0] == value
