"""A model of a user's own: one file and two lines of YAML, from planning to what is measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.config.shape import Shape
from nsbench.schemas.training import EVALUATION, RUNS
from nsbench.storage.parquet import read_table
from nsbench.training.models import MODELS
from nsbench.training.models.stack import DropoutMasks
from nsbench.workflow import plugins
from nsbench.workflow.grid import load
from nsbench.workflow.plan import USES, Plan
from nsbench.workflow.resources import train_flops, train_mb
from tests.config.test_config import TINY, overlaid
from tests.conftest import train, train_spec
from tests.training.test_training import numbers, same
from tests.workflow.conftest import forget

KIND, TASK = "perceptron", "modular_addition"
CELL = (TASK, KIND, "noise_stability")
BARE = """
from nsbench import Model, model

@model("bare")
class Bare(Model):
    def n_weights(self, shape):
        return shape.vocabulary

    def activations(self, batch, shape):
        return batch

    def build(self, shape, seeds):
        from nsbench import Stack

        class Bare(Stack):
            def forward(self, tokens_RBT, dropout=None):
                return self.lookup("table", tokens_RBT[..., 0])[..., 0]

        return Bare(self, {"table": (shape.vocabulary, 1)}, seeds)
"""
"""A model without dropout, whose logits lack the axis of classes."""
FILE = ["--plugins", f"{KIND}.py"]


def new(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Write the file of a model, and the tiny grid with a variant that has the line that the command says."""
    assert cli.main(["new", "model", KIND]) == 0
    first, named, line = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{KIND}.py registers the kind of model {KIND}.")
    values = overlaid(TINY) | yaml.safe_load(named)
    variants = values["tasks"][TASK]["variants"]
    variants[KIND] = {**variants["tiny"], **yaml.safe_load(line)}
    variants[KIND]["training"] = {"steps": 4, "eval_every_steps": 2, "batch_size": 10}
    values["grid"].append({"task": TASK, "variants": [KIND], "arms": ["baseline", "noise_stability"]})
    return values


def stage(name: str, spec: str, *options: str) -> int:
    return cli.main(["stage", name, "--spec", spec, *options])


def test_a_new_model_runs_from_its_file_to_its_measures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = Plan(load(new(capsys)))
    (pack,) = [pack[-1] for pack in plan.packs if pack[:3] == CELL]
    specs = plan.dataset(*CELL[:2], pack), plan.train(*CELL, pack), plan.evaluate(*CELL, pack), plan.grid()
    assert [plan.plugin_files(name, *CELL) for name in USES] == [[], FILE[1:], FILE[1:]]
    assert train_flops(plan.cells[CELL]) > 0
    assert train_mb(plan.cells[CELL], 2, "cpu") > 0
    forget()

    assert stage("dataset", specs[0], "--out", "data", "--floors", "floors") == 0
    given = ["--dataset", "data", "--run-store", "runs", "--runs", "r", "--device", "cpu"]
    assert stage("train", specs[1], *given, "--history", "h") == 2
    assert "spec.model.kind: 'perceptron' is not allowed" in capsys.readouterr().err
    assert stage("train", specs[1], *given, "--history", "h", *FILE) == 0
    assert read_table(folder / "r", RUNS)["status"].tolist() == ["completed"] * 2
    forget()
    assert stage("evaluate", specs[2], *given, "--out", "e") == 2
    assert "model: unknown kind of model 'perceptron'; allowed: mlp," in capsys.readouterr().err
    assert stage("evaluate", specs[2], *given, "--out", "e", *FILE) == 0
    found = read_table(folder / "e", EVALUATION)
    assert {"noise_stability", "average_sensitivity", "test_accuracy"} <= set(found["measure"])
    assert found["value"].notna().all()

    # A stage that looks at the whole grid finds the file in its spec.
    forget()
    given = ["--results", "results", "--out", "states", "--missing", "missing.csv"]
    assert stage("finished", specs[3], *given) == 0
    assert f"{TASK},{KIND}" in (folder / "missing.csv").read_text()


def test_a_new_model_and_an_edit_of_it_concern_no_other_cell(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = new(capsys)
    bare, used = Plan(load(overlaid(TINY))), Plan(load(values))
    before = used.codes()
    assert before.items() >= bare.codes().items()
    for pack in bare.packs:
        assert (bare.train(*pack), bare.evaluate(*pack)) == (used.train(*pack), used.evaluate(*pack))
    path = folder / f"{KIND}.py"
    path.write_text(path.read_text().replace(".relu()", ".tanh()"))
    forget()
    after = Plan(load(values)).codes()
    changed = {key for key in before if before[key] != after[key]}
    assert {(name, variant) for name, _, variant, _ in changed} == {("train", KIND), ("evaluate", KIND)}


def test_a_sweep_over_kinds_brings_the_plug_in_to_the_stages_of_the_grid(folder: Path) -> None:
    (folder / "mine.py").write_text(
        "from nsbench import model\nfrom nsbench.training.models.transformer import Transformer\n\n"
        "@model('mine')\nclass Mine(Transformer):\n    pass\n"
    )
    values = overlaid(TINY) | {"plugins": ["mine.py"]}
    block = {"task": TASK, "variants": ["tiny"], "arms": ["baseline"]}
    swept = {**block, "sweep": {"model.kind": ["transformer", "mine"]}}
    for grid, files in ((swept, ["mine.py"]), (block, None)):
        assert json.loads(Plan(load(values | {"grid": [grid]})).grid()).get("plugins") == files


def test_the_network_is_two_layers_over_one_hot_tokens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugins.load(new(capsys)["plugins"])
    settings, vocabulary = MODELS[KIND](width=6, dropout=0.5), 5
    shape = Shape(3, vocabulary, 3)
    stack = settings.build(shape, [0, 1])
    tokens_RBT = torch.randint(vocabulary, (2, 4, 3))
    logits_RBC = stack(tokens_RBT)
    for run in range(2):
        own = stack.run_weights(run)
        hot = F.one_hot(tokens_RBT[run], vocabulary).flatten(1).float()
        hidden = (hot @ own["first.weight"][: hot.shape[1]] + own["first.bias"]).relu()
        torch.testing.assert_close(logits_RBC[run], hidden @ own["head.weight"] + own["head.bias"])
    assert not torch.equal(stack.run_weights(0)["head.weight"], stack.run_weights(1)["head.weight"])
    masks = DropoutMasks(torch.zeros(2, settings.dropout_size(4, 3), dtype=torch.int16), 0.5)
    assert not torch.equal(stack(tokens_RBT, masks), logits_RBC)
    assert masks._used == settings.dropout_size(4, 3)
    matrices = [weight for weight in stack.run_weights(0).values() if weight.dim() == 2]
    assert settings.n_weights(shape) == sum(weight.numel() for weight in matrices)


def test_its_runs_depend_on_no_pack_and_stop_where_it_does_not_fit(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins.load(new(capsys)["plugins"])
    (folder / "bare.py").write_text(BARE)
    plugins.load(["bare.py"])
    spec = {"arm_settings": {"kind": "noise_stability", "rho": 0.25, "gamma": 0.75}, "training": {"steps": 8}}
    together, alone = (
        train(folder / str(len(seeds)), train_spec(model={"kind": KIND}, seeds=seeds, **spec))[0]
        for seeds in ([3, 4], [4])
    )
    assert same(numbers(together, 4), numbers(alone, 4))
    told = "arm_settings: rate = 0.4 does not go with the variant's model.kind = 'bare', which has no dropout"
    with pytest.raises(ConfigError, match=told):
        train_spec(model={"kind": "bare"}, arm_settings={"kind": "dropout", "rate": 0.4})
    with pytest.raises(
        ConfigError, match=r"model: the logits of kind 'bare' have the shape \(1, 10\); \(1, 10, 7\) is"
    ):
        train(folder / "bare", train_spec(model={"kind": "bare"}, seeds=[3]))
    with pytest.raises(ConfigError, match=r"model\.widht: unknown key, did you mean 'width'\?"):
        train_spec(model={"kind": KIND, "widht": 3})
    with pytest.raises(
        ValueError, match=r"model\.kind = 'bare' has one output for an example; with a target for each position"
    ):
        MODELS["bare"]().check(Shape(4), True)
