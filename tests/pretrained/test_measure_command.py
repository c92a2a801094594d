"""`nsbench measure`: a model of one's own from the command line, checkpoints of this project too."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from safetensors import safe_open

from nsbench.cli import measure as command
from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.config.canonical import canonical_json
from nsbench.config.pretrained import FolderModel
from nsbench.data import hub
from nsbench.data.datasets import read_dataset
from nsbench.pretrained import checkpoints
from nsbench.pretrained.sources import ModelError
from nsbench.report import measure as library
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.parquet import RecordError, read_stamp, read_table
from nsbench.storage.run_folder import RunFolder
from nsbench.storage.tensors import read_tensors, write_tensors
from nsbench.training.models import Transformer, read_model
from tests.conftest import make_dataset
from tests.pretrained.small_models import CPU


def measure(*arguments: Any) -> int:
    return cli.main(["measure", *map(str, arguments)])


SHORT = ("--n-tokens", 8, "--n-sequences", 2, "--rho", 0.5, "--device", "cpu")


def test_measure_prints_a_table_and_writes_tables_a_figure_and_provenance(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = (made / "causal", "--text", made / "text.txt", "--out", tmp_path / "out", "--full")
    assert measure(*given, *SHORT) == 0
    said = capsys.readouterr().out
    for words in ("causal: LlamaForCausalLM", "2 sequences of 8 tokens of text.txt", "pretrained", "random", "ρ = 0.5"):
        assert words in said
    assert "no pearson where it is not shown: 2 sequences; at least 8 are needed" in said
    assert "nan" not in said
    for made_file in (
        "influence.png",
        "influence.pdf",
        "influence.parquet",
        "tables/concentration.csv",
        "measured.html",
    ):
        assert (tmp_path / "out" / made_file).stat().st_size > 0
    stamp = read_stamp(tmp_path / "out/stability.parquet")
    assert '"n_tokens":8' in stamp["spec"]
    assert stamp["device"] == "cpu"
    assert stamp["version_torch"] == torch.__version__


def test_measure_finds_names_of_config(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"mine": FolderModel(source="folder", path=str(made / "encoder"))}
    monkeypatch.setattr(library, "_known", lambda config: known)
    monkeypatch.setattr(hub, "download_model", lambda name: (_ for _ in ()).throw(ConnectionError))
    monkeypatch.chdir(tmp_path)
    assert measure("mine", "--text", made / "text.txt", "--out", "out", *SHORT, "--no-control", "--full") == 0
    said = capsys.readouterr().out
    assert "top_logit_last on text: not_applicable (the model has no language-model head)" in said
    assert "Whether that was learned is not known: no random copy was measured." in said
    assert measure("mime", "--text", made / "text.txt", "--out", "out2", *SHORT) == 2
    assert "'mime' is neither a folder nor a model of config, did you mean 'mine'?" in (said := capsys.readouterr().err)
    assert "the hub cannot be reached (ConnectionError)" in said
    assert not (tmp_path / "out2").exists()


def test_measure_finds_a_repository_of_the_hub_and_says_its_revision(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "models--acme--tiny"  # As the hub's library keeps it.
    shutil.copytree(made / "encoder", cached / "snapshots" / ("a" * 40))
    (cached / "refs").mkdir()
    (cached / "refs/main").write_text("a" * 40)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    assert measure("acme/tiny", "--text", made / "text.txt", "--out", tmp_path / "out", *SHORT, "--no-control") == 0
    model = read_table(tmp_path / "out/models.parquet", PARTS["models"]).iloc[0]
    assert (model["model"], model["source"], model["origin"]) == ("tiny", "hub", "acme/tiny at aaaaaaaaaaaa")


def test_measure_says_that_it_is_offline_before_torch_is_loaded(made: Path, tmp_path: Path) -> None:
    code = "import sys; from nsbench.cli import parser; print(parser.main(sys.argv[1:]), 'torch' in sys.modules)"
    arguments = [sys.executable, "-c", code, "measure", "acme/tiny", "--text", str(made / "text.txt")]
    here = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = subprocess.run(arguments, capture_output=True, text=True, env=here, cwd=tmp_path)
    assert done.stdout.split() == ["2", "False"]
    assert "acme/tiny" in done.stderr
    assert "HF_HUB_OFFLINE is set" in done.stderr


def test_the_command_and_the_function_have_the_same_defaults() -> None:
    given = vars(cli._parser().parse_args(["measure", "gpt2", "--text", "t"]))
    own = {name: parameter.default for name, parameter in inspect.signature(library.measure).parameters.items()}
    for name in command.SETTINGS:
        assert given[name] == (list(own[name]) if isinstance(own[name], tuple) else own[name]), name


def test_help_has_defaults_choices_and_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        measure("--help")
    said = " ".join(capsys.readouterr().out.split())
    for words in (
        "text, uniform, gaussian (default: text)",
        "mean_top_logit",
        "(default: 0.5 0.9)",
        "example: nsbench",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--n-tokens", 5000), "at least 5000 are needed for a sequence of 5000"),
        (("--rho", 1.5), "rho"),
    ],
)
def test_measure_refuses_in_one_sentence(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[Any, ...], words: str
) -> None:
    given = (made / "causal", "--text", made / "text.txt", "--out", tmp_path / "out")
    assert measure(*given, *SHORT, *arguments) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("nsbench measure: ")
    assert words in said
    assert not (tmp_path / "out").exists()


# --- checkpoints of nsbench runs -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["next_token", "sparse_parity"])
def run_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run's folder with two checkpoints, of a model with an output at each position and of a pooled one."""
    task = request.param
    root = tmp_path_factory.mktemp(task)
    dataset = make_dataset(root, task)
    data = read_dataset(dataset, 3)
    pooling = {"mask": "causal", "pooling": "none"} if task == "next_token" else {}
    settings = Transformer(d_model=8, n_layers=1, n_heads=2, **pooling)
    stack = settings.build(data.shape, [7])
    folder = RunFolder(root / "runs", task, "tiny", "baseline", 3, "key")
    metadata = {"model": canonical_json(settings), "shape": canonical_json(asdict(data.shape))}
    for step in (0, 10):
        folder.save_checkpoint(step, stack.run_weights(0), metadata)
    return folder.path, dataset


def test_a_run_s_folder_means_its_last_checkpoint(run_folder: tuple[Path, Path], tmp_path: Path) -> None:
    folder, _ = run_folder
    last = folder / "trail/step-00000010.safetensors"
    assert checkpoints.find_checkpoint(folder) == checkpoints.find_checkpoint(last) == last
    assert checkpoints.find_checkpoint(tmp_path) is None
    (tmp_path / "trail").mkdir()
    with pytest.raises(ModelError, match="has no checkpoints; they are kept where"):
        checkpoints.find_checkpoint(tmp_path)


def test_a_checkpoint_is_the_model_that_was_saved(run_folder: tuple[Path, Path]) -> None:
    folder, dataset = run_folder
    data = read_dataset(dataset, 3)
    model = checkpoints.load_checkpoint(checkpoints.find_checkpoint(folder), CPU)
    tokens = checkpoints.dataset_tokens(checkpoints.find_checkpoint(folder), dataset, 4)
    assert torch.equal(tokens.text_NT, data["test_tokens"][:4])
    assert torch.equal(tokens.labels, data["test_labels"][:4])
    stack = read_model(safe_metadata(folder)["model"]).build(data.shape, [7])
    with torch.no_grad():
        wanted = stack(tokens.text_NT[None])[0]
        found = model.states(model.embed(tokens.text_NT))
    torch.testing.assert_close(found.logits, wanted)
    assert model.pooled == (wanted.ndim == 2)
    control = checkpoints.load_checkpoint(checkpoints.find_checkpoint(folder), CPU, control_seed=8)
    assert not torch.allclose(control.states(control.embed(tokens.text_NT)).logits, wanted)


def safe_metadata(folder: Path) -> dict[str, str]:
    with safe_open(folder / "trail/step-00000010.safetensors", "pt") as file:
        return file.metadata()


def test_measure_takes_a_run_and_its_data_set(
    run_folder: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, dataset = run_folder
    given = (folder, "--text", dataset, "--out", tmp_path / "out")
    assert measure(*given, *SHORT, "--inputs", "text", "uniform", "--full") == 0
    said = capsys.readouterr().out
    assert "baseline-seed-3: TransformerStack" in said
    pooled = "sparse_parity" in str(folder)
    assert ("mean_top_logit on text: not_applicable" in said) == pooled
    assert "cross_entropy on uniform: not_applicable" in said
    labels = read_table(tmp_path / "out/measured.parquet", PARTS["measured"]).set_index(["inputs", "readout"])
    assert (labels.loc[("text", "cross_entropy"), "status"] == "measured").all()
    stability = read_table(tmp_path / "out/stability.parquet", PARTS["stability"])
    assert {"product", "decision"} <= set(stability["reduction"])


OTHERS = "its weights are not those of the model that it names; give a run's folder"
NONE = "does not say of which model it is a checkpoint; give a run's folder"


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"model": '{"d_model": 2048, "n_layers": 256}'}, OTHERS),
        ({"vocabulary": 100_000_000_000}, OTHERS),
        ({"n_classes": 1}, OTHERS),
        ({"vocabulary": -1}, NONE),
        ({"n_classes": "many"}, NONE),
        ({"length": "9" * 10}, NONE),
        ({"width": 9}, NONE),
        ({"model": "[" * 100_000}, NONE),
        ({"model": "[1]"}, NONE),
        ({"model": '{"d_model": 16, "n_layers": 0}'}, "model.n_layers: 0 is not allowed"),
    ],
)
def test_a_checkpoint_s_claims_are_compared_with_its_weights(
    run_folder: tuple[Path, Path], tmp_path: Path, claims: dict[str, Any], words: str
) -> None:
    """Before a model is built: the second would have 3.2 TB."""
    folder, _ = run_folder
    weights, metadata = read_tensors(folder / "trail/step-00000010.safetensors", "", "")
    path = tmp_path / "c.safetensors"
    if "model" not in claims:
        claims = {"shape": json.dumps(json.loads(metadata["shape"]) | claims)}
    write_tensors(path, weights, {**metadata, **claims})
    with pytest.raises((RecordError, ConfigError)) as caught:
        checkpoints.load_checkpoint(path, CPU)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_measure_refuses_what_is_not_a_run_s(
    run_folder: tuple[Path, Path], made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, dataset = run_folder
    checkpoint = shutil.copy(folder / "trail/step-00000010.safetensors", tmp_path / "lost.safetensors")
    for model, text, words in (
        (folder, made / "text.txt", "is measured on its data set; give its file"),
        (made / "causal/model.safetensors", dataset, "is no checkpoint of an nsbench run"),
        (checkpoint, dataset, "does not lie in a run's folder"),
    ):
        assert measure(model, "--text", text, "--out", tmp_path / "out", *SHORT) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
