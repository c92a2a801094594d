"""A task of a user's own: one file and a few lines of YAML, from planning to what is measured."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml

from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.data.tasks import TASKS
from nsbench.figures.drawing import figures_for
from nsbench.schemas.training import EVALUATION, FLOORS
from nsbench.storage.parquet import read_table
from nsbench.theory import resampling_correlation
from nsbench.workflow import plugins
from nsbench.workflow.grid import load
from nsbench.workflow.plan import USES, Plan, plain
from tests.config.test_config import TINY, overlaid
from tests.data.enumeration import agreement_by_enumeration, sensitivity_by_enumeration
from tests.workflow.conftest import forget

NAME = "modular_multiplication"
CELL = (NAME, "small", "noise_stability")
FILE = ["--plugins", f"{NAME}.py"]


def new(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Write the file of a task, and the tiny grid with the lines that the command says."""
    assert cli.main(["new", "task", NAME]) == 0
    first, named, *section, block = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{NAME}.py registers the task {NAME}.")
    values = overlaid(TINY) | yaml.safe_load(named)
    values["tasks"] |= yaml.safe_load("\n".join(section))
    values["grid"] += yaml.safe_load(block)
    return values


def stage(name: str, spec: str, *options: str) -> int:
    return cli.main(["stage", name, "--spec", spec, *options])


def test_a_new_task_runs_from_its_file_to_its_measures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = new(capsys)
    values["tasks"][NAME]["variants"]["small"]["training"] = {"steps": 4, "eval_every_steps": 2}
    plan = Plan(load(values))
    (pack,) = [pack[-1] for pack in plan.packs if pack[:3] == CELL]
    assert TASKS[NAME].title == "modular multiplication"
    assert f"curves_{NAME}" in figures_for(plain(plan.cells.values()))
    specs = plan.dataset(*CELL[:2], pack), plan.train(*CELL, pack), plan.evaluate(*CELL, pack), plan.grid()
    assert [plan.plugin_files(name, *CELL) for name in USES] == [FILE[1:], [], FILE[1:]]
    forget()

    made = ["--out", "data", "--floors", "floors"]
    assert stage("dataset", specs[0], *made) == 2
    assert "spec.task: unknown task 'modular_multiplication', did you mean 'modular_" in capsys.readouterr().err
    assert stage("dataset", specs[0], *made, *FILE) == 0
    assert set(read_table(folder / "floors", FLOORS)["predictor"]) == {"lookup"}
    forget()
    given = ["--dataset", "data", "--run-store", "runs", "--runs", "r", "--device", "cpu"]
    assert stage("train", specs[1], *given, "--history", "h") == 0
    assert stage("evaluate", specs[2], *given, "--out", "e", *FILE) == 0
    found = read_table(folder / "e", EVALUATION)
    known = found[found["target_value"].notna()]
    assert set(known["measure"]) == {"noise_stability", "average_sensitivity"}

    # A stage that looks at the whole grid finds the file in its spec.
    forget()
    assert stage("finished", specs[3], "--results", "results", "--out", "states", "--missing", "missing.csv") == 0
    assert f"{NAME},small" in (folder / "missing.csv").read_text()


def codes(plan: Plan) -> dict[tuple[str, ...], str]:
    return {(name, *key): plan.code(name, *key) for key in plan.cells for name in USES}


def test_a_new_task_and_an_edit_of_it_concern_no_other_cell(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = new(capsys)
    bare = Plan(load(overlaid(TINY)))
    unused = Plan(load(overlaid(TINY) | {"plugins": [f"{NAME}.py"]}))
    used = Plan(load(values))
    before = codes(used)
    assert unused.grid("analysis") == bare.grid("analysis")
    assert before.items() >= codes(unused).items() == codes(bare).items()
    for pack in bare.packs:
        assert len({(plan.train(*pack), plan.evaluate(*pack)) for plan in (bare, unused, used)}) == 1
        assert len({plan.dataset(*pack[:2], pack[3]) for plan in (bare, unused, used)}) == 1
    path = folder / f"{NAME}.py"
    path.write_text(path.read_text().replace("a * b", "a * a * b"))
    forget()
    after = codes(Plan(load(values)))
    changed = {key[:2] for key in before if before[key] != after[key]}
    assert changed == {("dataset", NAME), ("evaluate", NAME)}


@pytest.mark.parametrize("modulus", [2, 4, 5, 6])
def test_what_is_known_of_a_product_is_what_enumeration_gives(
    folder: Path, capsys: pytest.CaptureFixture[str], modulus: int
) -> None:
    plugins.load([load(new(capsys)).plugins[0]])
    task = TASKS[NAME](modulus=modulus, n_train=1, n_val=1, n_test=1)

    def product(x: tuple[int, ...]) -> int:
        return math.prod(x) % modulus

    exact = sensitivity_by_enumeration(product, 2, modulus)
    assert task.target_value("average_sensitivity", "decision", math.nan) == pytest.approx(exact)
    for rho in (-1.0, 0.0, 0.5, 1.0):
        for same_symbol in (True, False):
            kappa = resampling_correlation(rho, modulus, same_symbol)
            exact = agreement_by_enumeration(product, 2, modulus, rho, same_symbol)
            assert task.target_value("noise_stability", "probability_dot", kappa) == pytest.approx(exact, abs=1e-12)
    assert math.isnan(task.target_value("sharpness", "", math.nan))


TOP = "from nsbench import Task, task\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TOP + "@task('mine')\nclass Mine(Task):\n    pass", "'mine' has no make; a task needs this method"),
        ("import nsbench\n@nsbench.task('mine')\ndef f():\n    pass", "'mine' registers <function"),
        (TOP + "@task('next_token')\nclass Mine(Task):\n    pass", "the task 'next_token' is taken by nsbench.data"),
    ],
)
def test_a_class_that_is_no_task_is_told_in_one_sentence(folder: Path, text: str, told: str) -> None:
    (folder / "mine.py").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(overlaid(TINY) | {"plugins": ["mine.py"]})
    assert str(caught.value).startswith(f"plugins: 'mine.py': {told}")
    assert "\n" not in str(caught.value)
