"""A figure of a user's own: one file, one line of YAML, and nothing of the package."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.figures import FIGURES, caption, figure, find
from nsbench.figures.drawing import NOT_DRAWN, figures_for
from nsbench.report.pictures import Pictures
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan, digest, plain
from tests.config.test_config import TINY, overlaid
from tests.synthetic_records import make_records, write_results
from tests.workflow.conftest import forget

NAME = "my_losses"


pytestmark = pytest.mark.usefixtures("folder")


def planned(capsys: pytest.CaptureFixture[str]) -> Plan:
    """Write the file of a figure, and plan a tiny grid with the line that the command says."""
    assert cli.main(["new", "figure", NAME]) == 0
    first, named = capsys.readouterr().out.splitlines()
    assert first == f"{NAME}.py registers the figure {NAME}. In config.yaml:"
    return plan_with(yaml.safe_load(named))


def plan_with(more: dict[str, Any]) -> Plan:
    values = overlaid(TINY) | more
    return Plan(load(values | {"grid": values["grid"][:1]}))


def forget_figure() -> None:
    """Be a process that has loaded no plug-in."""
    FIGURES.pop(NAME, None)
    forget()


def test_a_new_figure_is_one_file_and_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command that writes it to its files, whole and partial, and to the report."""
    plan = planned(capsys)
    cells = plain(plan.cells.values())
    assert NAME in figures_for(cells)
    assert find(NAME)[0].files() == {
        "history": "collected/history.parquet",
        "times": "tables/time_to_target.parquet",
    }
    write_results(folder, cells, make_records(cells, every=2))
    forget_figure()
    made = ["--png", f"{NAME}.png", "--pdf", f"{NAME}.pdf"]
    command = ["stage", "figure", NAME, "--spec", plan.grid(), "--results", ".", *made]
    assert cli.main(command) == 2
    assert f"no figure is called '{NAME}'" in capsys.readouterr().err
    assert cli.main([*command, "--plugins", f"{NAME}.py"]) == 0
    assert Path(f"{NAME}.pdf").read_bytes().startswith(b"%PDF")
    (shown,) = Pictures([Path(f"{NAME}.png")]).rest()
    assert (shown["title"], shown["of_runs"]) == ("Validation loss over training", True)
    assert shown["caption"].startswith("Thin: single seeds.")

    # Stages that draw or show all figures find the file in their spec.
    spec = plan.grid(adds="figure")
    assert json.loads(spec)["plugins"] == [f"{NAME}.py"]
    assert "plugins" not in json.loads(plan.grid())
    forget_figure()
    assert cli.main(["stage", "figures", "--spec", spec, "--results", ".", "--out", "all"]) == 0
    assert Path(f"all/{NAME}.png").exists()
    assert Path("all", NOT_DRAWN).read_text() == ""


def test_an_edit_of_the_file_draws_its_figure_again_and_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned(capsys)
    found = []
    for old, new in (("", ""), ("A panel for each", "One panel for each"), ("height=3.2", "height=3.4")):
        path = folder / f"{NAME}.py"
        path.write_text(path.read_text().replace(old, new) if old else path.read_text())
        forget_figure()
        plan_with({"plugins": [f"{NAME}.py"]})
        found.append((digest("figure", FIGURES[NAME].root), digest("figure", FIGURES["arms"].root)))
    first, reworded, other = found
    assert reworded == first
    assert (other[0] != first[0], other[1] == first[1]) == (True, True)


@pytest.mark.parametrize(
    ("name", "tables", "told"),
    [
        ("arms", ["history"], "the figure 'arms' is taken by nsbench.figures.arms.draw"),
        ("My own", ["history"], "'My own' is no figure"),
        ("mine", ["histories"], "the figure 'mine' reads the tables histories; allowed: history, "),
        ("mine", ["history", "curves"], "reads the tables history, curves; allowed: "),
        ("mine", [], "the figure 'mine' reads the tables none"),
    ],
)
def test_a_figure_that_cannot_be_is_told(name: str, tables: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        figure(name, tables=tables, title="Mine")(lambda history, cells, scale: None)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ({"tables": ["points"], "experiment": "relu", "each_task": True}, "is of no task; tables of training"),
        ({"tables": ["points"], "experiment": "rellu"}, "has the experiment 'rellu'; allowed: one of attention, "),
        ({"tables": ["points"]}, "has the experiment ''; allowed: one of attention, "),
        ({"experiment": "relu"}, "has the experiment 'relu'; allowed: none"),
    ],
)
def test_what_does_not_go_with_a_figure_s_tables_is_told(about: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        figure("mine", **{"tables": ["history"], "title": "Mine", **about})(draw_nothing)
    assert told in str(caught.value)


def test_of_names_that_begin_alike_the_longest_is_meant() -> None:
    figure("curves_mine", tables=["history"], each_task=True, title="Mine")(draw_nothing)
    for name in ("curves", "curves_mine"):
        assert find(f"{name}_modular_addition") == (FIGURES[name], "modular_addition")


def test_a_figure_may_be_of_the_theory_or_have_one_for_each_task() -> None:
    figure("errors", tables=["points"], experiment="relu", title="Errors")(draw_nothing)
    figure("mine", tables=["times"], each_task=True, tasks=["sparse_parity"], title="Mine, {task}")(draw_nothing)
    assert FIGURES["errors"].files() == {"points": "theory/relu.points.parquet"}
    assert figures_for([], theory=True)[0] == "errors"
    assert caption("mine_sparse_parity") == ("Mine, noisy sparse parity", "")
    assert FIGURES["mine"].root == f"{__name__}:draw_nothing"


def draw_nothing(**given: Any) -> None:
    """Draws nothing."""
