"""A measure of a user's own, from the file that `nsbench new measure` writes to the tables and the report's rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.report import training
from nsbench.schemas.analysis import MEASURE
from nsbench.schemas.training import EVALUATION
from nsbench.storage.parquet import read_table
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from nsbench.workflow.recorded_runs import evaluation_settings_of
from tests.config.test_config import TINY, overlaid
from tests.workflow.conftest import forget

NAME = "logit_margin"
CELL = ("modular_addition", "tiny", "baseline")
PACK = "seeds-0-1"


@pytest.fixture
def bare() -> dict[str, Any]:
    """A grid of one cell."""
    return overlaid(TINY) | {"grid": [{"task": CELL[0], "variants": [CELL[1]], "arms": [CELL[2]]}], "pretrained": None}


def new(bare: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Write the file of a measure, and the grid with the two lines that the command says."""
    assert cli.main(["new", "measure", NAME]) == 0
    first, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{NAME}.py registers the measure {NAME}.")
    said = yaml.safe_load("\n".join(lines))
    return bare | {"plugins": said["plugins"], "evaluation": bare["evaluation"] | said["evaluation"]}


def evaluate(plan: Plan, *options: str) -> pd.DataFrame:
    files = ["--runs", "runs.parquet", "--dataset", "data", "--run-store", "runs", "--out", "evaluation.parquet"]
    made_by = ["--spec", plan.evaluate(*CELL, PACK), "--digest", plan.code("evaluate", *CELL)]
    assert cli.main(["stage", "evaluate", *made_by, *files, *options]) == 0
    return read_table("evaluation.parquet", EVALUATION)


def test_a_new_measure_is_one_file_and_two_lines(
    folder: Path, bare: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """From the command that writes it to tables; the run is trained once, and what it had measured is the same."""
    plan = Plan(load(bare))
    made_by = ["--digest", plan.code("train", *CELL), "--dataset", "data", "--run-store", "runs"]
    dataset = ["--spec", plan.dataset(*CELL[:2], PACK), "--out", "data", "--floors", "floors"]
    assert cli.main(["stage", "dataset", *dataset]) == 0
    train = ["stage", "train", "--spec", plan.train(*CELL, PACK), *made_by, "--history", "history.parquet"]
    assert cli.main([*train, "--runs", "runs.parquet"]) == 0
    before = evaluate(plan)

    own = Plan(load(new(bare, capsys)))
    assert (own.train(*CELL, PACK), own.code("train", *CELL)) == (plan.train(*CELL, PACK), plan.code("train", *CELL))
    after = evaluate(own, "--plugins", *own.plugin_files("evaluate", *CELL))
    is_own = after["measure"] == NAME
    pd.testing.assert_frame_equal(after[~is_own].reset_index(drop=True), before, check_exact=True)
    found = after[is_own]
    assert (len(found), set(found["reduction"]), set(found["n_inputs"])) == (2 * 3, {"mean"}, {12})
    assert (found["value"] > 0).all()
    assert found[["rho", "correlation", "target_value"]].isna().all(axis=None)

    # Stages that look at the whole grid find the file in their spec, or need none.
    pack = folder / "packs" / Path(*CELL) / PACK
    pack.mkdir(parents=True)
    for name in ("history", "runs", "evaluation"):
        (folder / f"{name}.parquet").rename(pack / f"{name}.parquet")
    floors = folder / "datasets" / CELL[0] / CELL[1] / f"{PACK}.floors.parquet"
    floors.parent.mkdir(parents=True)
    (folder / "floors").rename(floors)
    specs = own.grid("runs_per_pack", "records", "text", "checkpoints", "evaluation"), own.grid("analysis")
    assert specs[1] == plan.grid("analysis")
    forget()
    looked = ["--spec", specs[0], "--packs", "packs", "--datasets", "datasets"]
    assert cli.main(["stage", "collect", *looked, "--out", "collected"]) == 0
    forget()
    tables = ["--spec", specs[1], "--collected", "collected", "--out", "tables"]
    assert cli.main(["stage", "analyse", *tables]) == 0
    table = read_table("tables/measure.parquet", MEASURE)
    (row,) = table[table["measure"] == NAME].to_dict("records")
    at_end = found[found["step"] == 12]["value"]
    assert (row["n_seeds"], row["n_measured"], row["value"]) == (2, 2, at_end.median())
    assert (row["value_min"], row["value_max"]) == (at_end.min(), at_end.max())
    assert NAME in Path("tables/measure.csv").read_text()
    assert said(row)[1:3] == ["logit margin, mean", "2 / 2"]
    of_decisions = (table["measure"] == "average_sensitivity") & (table["reduction"] == "decision")
    (sensitivity,) = table[of_decisions].to_dict("records")
    assert said(sensitivity)[-1] == "2"


def said(row: dict[str, Any]) -> list[str]:
    """A row of the table as the report has it."""
    return [", ".join((cell.text, *cell.small)) for cell in (column.cell(row) for column in training.MEASURES)]


def test_an_edit_of_the_file_evaluates_again_and_trains_nothing(
    folder: Path, bare: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    values, path = new(bare, capsys), folder / f"{NAME}.py"
    found = []
    for old, edited in (("", ""), ("The largest logit", "The logit"), ("- best_two", "- 2 * best_two")):
        path.write_text(path.read_text().replace(old, edited, 1) if old else path.read_text())
        forget()
        plan = Plan(load(values))
        found.append((plan.code("evaluate", *CELL), plan.code("train", *CELL)))
    without = Plan(load(values | {"evaluation": bare["evaluation"]}))
    assert found[0] == found[1] != found[2]
    assert found[0][1] == found[2][1]
    assert without.plugin_files("evaluate", *CELL) == []
    # A record stands with the measures that it has, and is of this code where they are the built-in ones.
    assert Plan(load(values)).codes()["evaluate", *CELL] == (found[2][0], Plan(load(bare)).code("evaluate", *CELL))
    assert evaluation_settings_of(plan.config) == evaluation_settings_of(without.config)
    forget()
    assert without.code("evaluate", *CELL) == Plan(load(bare)).code("evaluate", *CELL) != found[0][0]


@pytest.mark.parametrize(
    ("measures", "told"),
    [
        (
            ["test_scores", "noise_stabilty"],
            "evaluation.measures: unknown measure 'noise_stabilty', did you mean 'noise_stability'?; allowed: ",
        ),
        (["noise_stability"], "evaluation: measures = ['noise_stability'] lacks test_scores"),
        (["test_scores", "test_scores"], "evaluation: measures: 'test_scores' is listed twice"),
    ],
)
def test_measures_that_cannot_be_asked_for(bare: dict[str, Any], measures: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(bare | {"evaluation": {"measures": measures}})
    assert str(caught.value).startswith(told)
