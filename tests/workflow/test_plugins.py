"""An arm of a user's own: one file, three lines of YAML, and nothing of the package."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from nsbench import arms
from nsbench.arms.colours import FAMILY_COLOURS
from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.figures import style
from nsbench.schemas.training import RUNS
from nsbench.storage import code_digest, definitions
from nsbench.storage.parquet import read_table
from nsbench.training.step import TrainingStep
from nsbench.workflow import plugins
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan, digest, plain
from nsbench.workflow.resources import train_flops
from tests.config.test_config import TINY, overlaid
from tests.conftest import train, train_spec
from tests.training.test_step import build
from tests.training.test_training import numbers, same
from tests.workflow.conftest import forget

KIND = "my_smoothing"
CELL = ("modular_addition", "tiny", KIND)
TOP = "from nsbench.arms import Arm, LossTerm, Rho, arm\n"


pytestmark = pytest.mark.usefixtures("folder")


def new(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Write the file of an arm, and the tiny grid with the three lines that the command says."""
    assert cli.main(["new", "arm", KIND]) == 0
    first, named, settings, listed = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{KIND}.py registers the kind of arm {KIND}.")
    values = overlaid(TINY) | yaml.safe_load(named)
    values["tasks"]["modular_addition"]["arms"] |= yaml.safe_load(settings)
    values["grid"][0]["arms"] += yaml.safe_load(listed)
    return values


def test_a_new_arm_is_one_file_and_three_lines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command that writes it to a figure's words."""
    plan = Plan(load(new(capsys)))
    cell = plan.cells[CELL]
    assert (cell.arm_settings.family, cell.arm_settings.draws_noise) == ("own", False)
    assert plan.plugin_files("train", *CELL) == [f"{KIND}.py"]
    assert plan.plugin_files("evaluate", *CELL) == []
    assert train_flops(cell) == train_flops(plan.cells[*CELL[:2], "baseline"])
    (shown,) = [values for values in plain(plan.cells.values()) if values["arm"] == KIND]
    assert style.arm_text(shown) == f"{KIND} (ε = 0.1)"
    assert style.arm_colour(shown["arm_settings"]) == FAMILY_COLOURS["own"]

    pack = next(pack[-1] for pack in plan.packs if pack[:3] == CELL)
    spec = plan.train(*CELL, pack)
    made = ["--dataset", "data", "--run-store", "runs", "--history", "h", "--runs", "r"]
    dataset = ["--spec", plan.dataset(*CELL[:2], pack), "--out", "data", "--floors", "floors"]
    assert cli.main(["stage", "dataset", *dataset]) == 0
    command = ["stage", "train", "--spec", spec, *made]
    forget()
    capsys.readouterr()
    assert cli.main(command) == 2
    assert "arm_settings.kind: 'my_smoothing' is not allowed" in capsys.readouterr().err
    assert cli.main([*command, "--plugins", f"{KIND}.py"]) == 0
    assert read_table(folder / "r", RUNS)["status"].tolist() == ["completed"] * 2

    # A stage that looks at the whole grid finds the file in its spec.
    spec = plan.grid()
    forget()
    made = ["--out", "states.parquet", "--missing", "missing.csv"]
    looked = ["--spec", spec, "--results", "results", *made]
    assert cli.main(["stage", "finished", *looked]) == 0
    assert f"{KIND},0" in (folder / "missing.csv").read_text()


def test_the_file_is_in_the_spec_of_no_run_and_of_no_grid_without_its_arm(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = new(capsys)
    bare = Plan(load(overlaid(TINY)))
    unused = Plan(load(overlaid(TINY) | {"plugins": [f"{KIND}.py"]}))
    used = Plan(load(values))
    assert unused.grid("analysis") == bare.grid("analysis")
    assert json.loads(used.grid())["plugins"] == [f"{KIND}.py"]
    for pack in bare.packs:
        for stage in ("train", "evaluate"):
            specs = {getattr(plan, stage)(*pack) for plan in (bare, unused, used)}
            assert len(specs) == 1
    spec = used.train(*CELL, "seeds-0-1")
    assert ".py" not in spec
    code = used.code("train", *CELL)
    forget()
    (folder / "elsewhere").mkdir()
    (folder / f"{KIND}.py").rename(folder / "elsewhere" / f"{KIND}.py")
    moved = Plan(load(values | {"plugins": [f"elsewhere/{KIND}.py"]}))
    assert (moved.train(*CELL, "seeds-0-1"), moved.code("train", *CELL)) == (spec, code)


def test_an_edit_of_the_file_trains_its_arm_again_and_no_other(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = new(capsys)
    baseline = (*CELL[:2], "baseline")
    found = []
    for old, edited in (("", ""), ("term of each example", "term"), ("of_label - logs", "of_label - 2 * logs")):
        path = folder / f"{KIND}.py"
        path.write_text(path.read_text().replace(old, edited) if old else path.read_text())
        forget()
        plan = Plan(load(values))
        found.append((plan.code("train", *CELL), plan.code("train", *baseline)))
    first, reworded, other = found
    assert reworded == first
    assert (other[0] != first[0], other[1] == first[1]) == (True, True)


def test_the_new_arm_is_the_cross_entropy_with_smoothed_labels(capsys: pytest.CaptureFixture[str]) -> None:
    plugins.load([load(new(capsys)).plugins[0]])
    for strength in (0.0, 0.1, 1.0):
        term = arms.ARMS[KIND](strength=strength).loss_term(None)
        for shape in ((6,), (2, 3), (2, 3, 4)):
            logits = torch.randn(*shape, 5, dtype=torch.float64)
            labels = torch.randint(5, shape)
            flat = logits.flatten(0, -2), labels.flatten()
            smoothed = F.cross_entropy(*flat, reduction="none", label_smoothing=strength)
            expected = (smoothed - F.cross_entropy(*flat, reduction="none")).view(shape)
            torch.testing.assert_close(term.penalty(logits, None, labels), expected)


def step_of(settings: dict[str, Any], root: Path, device: torch.device, **sections: Any) -> TrainingStep:
    spec = train_spec(arm_settings=settings, seeds=[3, 4], **sections)
    return build(spec, root, device)[1]


def test_a_term_of_few_steps_and_few_examples(folder: Path) -> None:
    (folder / "some.py").write_text(
        TOP + "@arm('some')\nclass Some(Arm):\n    def loss_term(self, noise):\n"
        "        return LossTerm(lambda clean, noisy, labels: clean.square().sum(-1) * labels, every=3, share=0.35)\n"
    )
    plugins.load(["some.py"])
    step = step_of({"kind": "some"}, folder, torch.device("cpu"), model={"dropout": 0.0})
    step(0)
    assert [step._regularised(number) for number in range(4)] == [True, False, False, True]
    tokens, labels = step.batches(0)
    expected = (step.stack(tokens, None)[:, :4].square().sum(-1) * labels[:, :4]).mean(1)
    torch.testing.assert_close(step.losses(tokens, labels)[2], expected)


def test_an_arm_of_one_s_own_that_draws_noise_equals_the_built_in_one_to_the_bit(folder: Path) -> None:
    (folder / "mine.py").write_text(
        TOP + "@arm('mine')\nclass Mine(Arm):\n    draws_noise = True\n    rho: Rho = 0.25\n\n"
        "    def loss_term(self, noise):\n"
        "        return LossTerm(self.penalty, gradient=noise.gradient, strength=-0.75)\n\n"
        "    def penalty(self, clean, noisy, labels):\n"
        "        return (clean.softmax(-1) * noisy.softmax(-1)).sum(-1)\n"
    )
    plugins.load(["mine.py"])
    built_in = {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75}
    noise = {"gradient": "clean", "n_draws": 2}
    found = [
        numbers(train(folder / name, train_spec(arm_settings=settings, noise=noise))[0])
        for name, settings in (("own", {"kind": "mine"}), ("built_in", built_in))
    ]
    assert same(*found)


def test_a_penalty_of_another_shape_is_told(folder: Path) -> None:
    (folder / "total.py").write_text(
        TOP + "@arm('total')\nclass Total(Arm):\n    def loss_term(self, noise):\n"
        "        return LossTerm(lambda clean, noisy, labels: clean.sum())\n"
    )
    plugins.load(["total.py"])
    step = step_of({"kind": "total"}, folder, torch.device("cpu"))
    told = r"arm: the penalty of kind 'total' has the shape \(\); \(2, 10\), that of the labels, is allowed"
    with pytest.raises(ConfigError, match=told):
        step(0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "plugins: 'mine.py' is no Python file in '"),
        ("x = (", "plugins: 'mine.py', line 1: cannot be imported (SyntaxError: "),
        ("\nimport nowhere", "plugins: 'mine.py', line 2: cannot be imported (ModuleNotFoundError: No module named"),
        (
            TOP + "@arm('first')\nclass First(Arm):\n    pass\n\n@arm('entropy')\nclass Second(Arm):\n    pass",
            "plugins: 'mine.py': the kind of arm 'entropy' is taken by nsbench.arms.controls.Entropy; allowed: ",
        ),
        (
            TOP + "@arm('noisy')\nclass Noisy(Arm):\n    draws_noise = True",
            "plugins: 'mine.py': 'noisy' draws noise and has no rho",
        ),
        (
            TOP + "def make():\n    @arm('inner')\n    class Inner(Arm):\n        pass\n\nmake()",
            "plugins: 'mine.py': 'inner' registers nsbench_plugin_mine:Inner; a function or class at the top",
        ),
        ("from nsbench_plugin_other import x", "plugins: 'mine.py' imports another plug-in; one file for both"),
        ("import sys; sys.exit()", "plugins: 'mine.py', line 1: cannot be imported (SystemExit"),
        (TOP + "@arm('vague')\nclass Vague(Arm):\n    x: 'Nothing'", "plugins: 'mine.py', line 2: cannot be imported"),
    ],
)
def test_a_file_that_is_no_plug_in_is_told_in_one_sentence(folder: Path, text: str | None, told: str) -> None:
    before = dict(arms.ARMS)
    if text is not None:
        (folder / "mine.py").write_text(text)
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            load(overlaid(TINY) | {"plugins": ["mine.py"]})
        assert str(caught.value).startswith(told)
        assert "\n" not in str(caught.value)
    assert before == arms.ARMS


def test_two_files_of_one_name_are_refused_and_one_file_is_loaded_once(folder: Path) -> None:
    for place in ("a", "b"):
        (folder / place).mkdir()
        (folder / place / "mine.py").write_text(TOP + f"@arm('own_{place}')\nclass Own(Arm):\n    pass\n")
    plugins.load(["a/mine.py", folder / "a" / "mine.py", "b/../a/mine.py"])
    assert plugins.file_of(arms.ARMS["own_a"]) == "a/mine.py"
    assert plugins.file_of(arms.ARMS["entropy"]) is None
    with pytest.raises(ConfigError, match=r"plugins: 'b/mine.py' has the name of the plug-in 'a/mine.py'; rename one"):
        plugins.load(["b/mine.py"])
    for wrong in ("a/mine.py", [3], ["two\nlines.py"]):
        with pytest.raises(ConfigError, match="plugins"):
            load(overlaid(TINY) | {"plugins": wrong})


def test_a_setting_of_one_s_own_arm_is_told_as_any(capsys: pytest.CaptureFixture[str]) -> None:
    values = new(capsys)
    settings = values["tasks"]["modular_addition"]["arms"][KIND]
    where = f"tasks.modular_addition.arms.{KIND}"
    for change, told in [
        ({"strength": 2}, f"{where}.strength: 2 is not allowed; allowed: less than or equal to 1"),
        ({"strenth": 0.2}, f"{where}.strenth: unknown key, did you mean 'strength'?; allowed: kind, strength"),
        ({"kind": "my_smothing"}, f"{where}.kind: 'my_smothing' is not allowed, did you mean '{KIND}'?"),
    ]:
        values["tasks"]["modular_addition"]["arms"][KIND] = settings | change
        with pytest.raises(ConfigError) as caught:
            load(values)
        assert str(caught.value).startswith(told)


def test_an_installed_package_brings_its_arms_and_all_its_code_counts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = folder / "brought"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "numbers.py").write_text("def strength():\n    return 1\n")
    text = TOP + "from brought.numbers import strength\n\n@arm('packaged')\nclass Packaged(Arm):\n"
    (package / "arms.py").write_text(text + "    def passes(self, n_draws):\n        return strength()\n")
    entry = EntryPoint("mine", "brought.arms", "nsbench.plugins")
    monkeypatch.setattr(plugins.importlib.metadata, "entry_points", lambda group: [entry] * (group == entry.group))
    monkeypatch.syspath_prepend(folder)
    plugins._load_installed.cache_clear()
    plugins.load()
    plugins.load()
    try:
        assert plugins.file_of(arms.ARMS.find("packaged")) is None
        before = digest("train", "packaged", "transformer")
        (package / "numbers.py").write_text("def strength():\n    return 2\n")
        code_digest.forget()
        assert digest("train", "packaged", "transformer") != before
        plugins._load_installed.cache_clear()
        sys.modules.pop("brought.arms")
        taken = r"nsbench\.plugins: mine = brought\.arms: the kind of arm 'packaged' is taken"
        with pytest.raises(ConfigError, match=taken):
            plugins.load()
    finally:
        plugins._load_installed.cache_clear()
        for name in [name for name in sys.modules if name.partition(".")[0] == "brought"]:
            del sys.modules[name]
            definitions.elsewhere.pop(name, None)
        code_digest.forget()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("entropy", "the kind of arm 'entropy' is taken by nsbench.arms.controls.Entropy"),
        ("My Arm", "'My Arm' is no kind of arm"),
        ("mine", "--out: 'there.py' is there; a file that is not there yet is allowed"),
    ],
)
def test_a_new_arm_takes_no_name_and_no_file_of_another(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, told: str
) -> None:
    (folder / "there.py").write_text("mine")
    assert cli.main(["new", "arm", name, "--out", "there.py"]) == 2
    assert capsys.readouterr().err.startswith(f"nsbench new: {told}")
    assert [path.name for path in folder.iterdir()] == ["there.py"]
    assert (folder / "there.py").read_text() == "mine"
