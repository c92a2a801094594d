"""The stage `theory`: formulas as curves and beside simulated points, without torch."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nsbench import readings
from nsbench.closed import parse
from nsbench.records import RecordError, read_stamp, read_table, write_table
from nsbench.theory_curves import compare, compute_theory, curves, formulas
from nsbench.theory_records import CURVES, SIMULATION, STATUSES, THEORY
from nsbench.theory_settings import EXPERIMENTS, Theory

SMALL = parse(
    Theory,
    {
        "attention": {"n_tokens": 5, "ranks": [2, 3]},
        "patterns": {"n_tokens": [2, 3]},
        "feed_forward": {"depth": 3, "rho": [0.5]},
        "recurrence": {"depth": 4, "rho": [0.5, 1.0]},
        "relu": {"means": [0.0, 0.5]},
        "transformer": {"depth": 3, "value_norms": [0.0, 0.5, 1.0]},
        "intervals": {"depth": 2, "logit_scales": [0.1]},
    },
)
FOUND = {name: list(formulas(name, SMALL)) for name in EXPERIMENTS}
CURVE = curves(FOUND)


def point(experiment: str, reading: str, series: str, x: float, value: float, error: float = 0.1) -> dict[str, Any]:
    row = {"experiment": experiment, "reading": reading, "series": series, "x": x, "value": value}
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
    assert list(rows.columns) == CURVES.names
    assert set(rows["status"]) <= set(STATUSES)
    assert np.isfinite(rows["x"]).all()


def test_no_formula_stands_twice_for_a_series() -> None:
    keys = ["experiment", "reading", "series", "formula", "status", "x"]
    assert not CURVE.duplicated(keys).any()


def test_curves_have_known_values() -> None:
    s_half = (math.sqrt(0.75) + 0.5 * (math.pi - math.acos(0.5))) / (2 * math.pi)
    relu = ("relu", readings.RELU_READING, readings.mean(0.0))
    assert value_at(*relu, "Theorem 5.1", 0.5) == pytest.approx(s_half)
    assert value_at(*relu, "Equation 4, quadratic", -1.0) == pytest.approx(3 / (4 * math.pi) - 0.25)
    pairs = ("patterns", readings.PATTERNS_READING, readings.n_tokens(2), "s(ρ)")
    assert value_at(*pairs, 0.5) == pytest.approx(0.5 + math.asin(0.25) / math.pi)
    identity = ("feed_forward", readings.FEED_FORWARD_WEIGHTS["identity"], readings.correlation(0.5))
    assert [value_at(*identity, "s(ρ)", layer) for layer in range(4)] == pytest.approx([0.5, s_half, s_half, s_half])
    deep = ("transformer", readings.VALUE_WEIGHTS["identity"], readings.value_norm(0.5))
    assert value_at(*deep, "γ²ˡ s(ρ)", 2) == pytest.approx(s_half / 16)
    nothing = ("transformer", readings.VALUE_WEIGHTS["gaussian"], readings.value_norm(0.0))
    assert value_at(*nothing, "wide limit", 1) == 0
    assert value_at(*nothing, "Equation 8", 1) == pytest.approx(1 / (2 * math.pi))  # for an output that is zero


def test_the_unstructured_line_is_a_limit_only_where_logits_grow() -> None:
    small = CURVE[CURVE["series"] == readings.SMALL_UNSTRUCTURED].groupby("reading")["status"].unique()
    by_scaling = {scaled: small[reading].tolist() for reading, scaled in readings.ATTENTION_SCALINGS.items()}
    assert by_scaling == {False: ["limit"], True: ["published"]}


def test_a_point_stands_beside_each_formula_of_its_series() -> None:
    place = ("relu", readings.RELU_READING, readings.mean(0.0))
    table = compare(pd.DataFrame([point(*place, 1.0, 0.6), point(*place, 0.0, 0.2, error=0.0)]), FOUND)
    assert list(table.columns) == THEORY.names
    exact = table[table["formula"] == "Theorem 5.1"].set_index("x")
    assert exact["theory"].tolist() == pytest.approx([0.5, 1 / (2 * math.pi)])
    assert exact.loc[1.0, "difference"] == pytest.approx(0.1)
    assert exact.loc[1.0, "z"] == pytest.approx(1.0)
    assert exact.loc[1.0, "ratio"] == pytest.approx(0.5 / 0.6)
    assert math.isnan(exact.loc[0.0, "z"])
    quadratic = table[table["status"] == "approximation"].set_index("x")
    assert quadratic.loc[1.0, "theory"] == pytest.approx(0.25 + 3 / (4 * math.pi))


def test_a_simulated_zero_has_no_ratio() -> None:
    place = ("transformer", readings.VALUE_WEIGHTS["identity"], readings.value_norm(0.0))
    table = compare(pd.DataFrame([point(*place, 1.0, 0.0, error=0.0)]), FOUND)
    assert table["ratio"].isna().all()
    assert table.loc[table["status"] == "limit", "difference"].tolist() == [0.0]


def test_a_point_without_a_formula_is_refused_by_name() -> None:
    rows = pd.DataFrame([point("relu", readings.RELU_READING, "mean 7", 0.0, 0.2)])
    with pytest.raises(RecordError, match=r"relu.*'mean 7' has no formula"):
        compare(rows, FOUND)


def files(folder: Path, experiments: tuple[str, ...] = EXPERIMENTS) -> list[Path]:
    """One simulated point for each experiment."""
    made = []
    for experiment in experiments:
        formula = FOUND[experiment][0]
        row = point(experiment, formula.reading, formula.series, float(formula.x[0]), 0.3)
        made.append(folder / f"{experiment}.parquet")
        write_table(made[-1], [row], SIMULATION, {})
    return made


def test_the_stage_writes_curves_and_the_table_twice(tmp_path: Path) -> None:
    out = [tmp_path / name for name in ("curves.parquet", "theory.parquet", "theory.csv")]
    compute_theory(SMALL, files(tmp_path), *out, {"commit": "c"})
    pd.testing.assert_frame_equal(read_table(out[0], CURVES), CURVE)
    table = read_table(out[1], THEORY)
    assert set(table["experiment"]) == set(EXPERIMENTS)
    assert read_stamp(out[1])["commit"] == "c"
    assert pd.read_csv(out[2])["theory"].tolist() == pytest.approx(table["theory"].tolist(), nan_ok=True)


def test_a_missing_experiment_is_named(tmp_path: Path) -> None:
    out = [tmp_path / name for name in ("curves.parquet", "theory.parquet", "theory.csv")]
    with pytest.raises(RecordError, match="patterns"):
        compute_theory(SMALL, files(tmp_path, tuple(e for e in EXPERIMENTS if e != "patterns")), *out, {})
    assert not out[0].exists()


def test_the_stage_loads_no_torch() -> None:
    code = (
        "import sys\nfrom nsbench.theory_curves import curves, formulas\n"
        "from nsbench.theory_settings import EXPERIMENTS, Theory\n"
        "curves({name: list(formulas(name, Theory())) for name in EXPERIMENTS})\nprint('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
