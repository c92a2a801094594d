"""The command line misused: one sentence, no traceback, and an exit status that is not zero."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from nsbench.cli import parser as cli
from nsbench.cli.new import TEMPLATES
from nsbench.cli.stages import STAGES
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from tests.config.test_config import TINY, overlaid
from tests.conftest import write_datasets

PLAN = Plan(load(overlaid(TINY)))
JOB = ("modular_addition", "tiny", "baseline", "seeds-0-1")
TRAIN, EVALUATE, GRID = PLAN.train(*JOB), PLAN.evaluate(*JOB), PLAN.grid("analysis")
DATASET = PLAN.dataset("modular_addition", "tiny", "seeds-0-1")
NEXT = PLAN.dataset("next_token", "tiny", "seeds-0-1")


def nsbench(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nsbench.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **environment},
    )


def edited(spec: str, **changes: object) -> str:
    return json.dumps({**json.loads(spec), **changes})


def train(
    spec: str = TRAIN,
    dataset: str = "data",
    device: str = "cpu",
    *more: str,
    store: str = "runs",
    history: str = "h.parquet",
    runs: str = "r.parquet",
) -> list[str]:
    files = ["--dataset", dataset, "--run-store", store, "--history", history, "--runs", runs]
    return ["stage", "train", "--spec", spec, "--digest", "d", *files, "--device", device, *more]


def make_dataset(spec: str = DATASET, out: str = "new", floors: str = "new.floors.parquet", *more: str) -> list[str]:
    return ["stage", "dataset", "--spec", spec, "--digest", "d", "--out", out, "--floors", floors, *more]


def text(path: str) -> list[str]:
    spec = json.dumps({"source": "local", "path": path, "fingerprint": ""})
    return ["stage", "text", "--spec", spec, "--digest", "d", "--out", "new"]


def evaluate(runs: str = "gone.parquet") -> list[str]:
    files = ["--runs", runs, "--dataset", "data", "--run-store", "runs", "--out", "e.parquet"]
    return ["stage", "evaluate", "--spec", EVALUATE, "--digest", "d", *files]


def figure(name: str, spec: str = GRID, results: str = "gone") -> list[str]:
    files = ["--results", results, "--png", "f.png", "--pdf", "f.pdf"]
    return ["stage", "figure", name, "--spec", spec, "--digest", "d", *files]


def simulate(spec: str, *more: str) -> list[str]:
    return ["stage", "simulate", "--spec", spec, "--digest", "d", "--points", "new", "--examples", "new2", *more]


def measure(*more: str, model: str = "empty", text: str = "text", out: str = "new") -> list[str]:
    return ["measure", "--model", model, "--text", text, "--out", out, *more]


def pretrained(spec: str, text: str = "gone.txt", out: str = "new", *more: str) -> list[str]:
    return ["stage", "pretrained", "--spec", spec, "--digest", "d", "--text", text, "--out", out, *more]


def of_grid(stage: str, *more: str, spec: str = GRID) -> list[str]:
    return ["stage", stage, "--spec", spec, "--digest", "d", "--collected", "a", "--tables", "b", *more]


def finished(text_spec: str) -> list[str]:
    files = ["--results", "r", "--out", "new", "--missing", "new2"]
    return ["stage", "finished", "--spec", GRID, "--digest", "d", *files, "--text-spec", text_spec]


RELU = PLAN.experiment("relu")

MISUSE = {
    "unknown stage": (["stage", "trian"], ["invalid choice: 'trian'", "dataset", "evaluate"]),
    "unknown command": (["train"], ["invalid choice: 'train'", "measure", "records"]),
    "a text's settings that are no JSON": (finished("{"), ["--text-spec: not JSON"]),
    "no stage": (["stage"], ["arguments are required: STAGE"]),
    "missing option": (["stage", "dataset", "--digest", "d"], ["arguments are required: --spec, --out"]),
    "unknown device": (train(device="gpu"), ["--device: invalid choice: 'gpu'"]),
    "device that is not there": (train(device="cuda"), ["nsbench stage train: device: 'cuda'", "allowed: auto, cpu"]),
    "no processes": (
        train(TRAIN, "data", "cpu", "--processes-per-gpu", "0"),
        ["'0' is not allowed", "a whole number in 1"],
    ),
    "no seconds": (train(TRAIN, "data", "cpu", "--progress-every", "0s"), ["'0' is not allowed", "above 0"]),
    "spec that is no JSON": (train("{broken"), ["nsbench stage train: --spec: not JSON (Expecting property name"]),
    "spec that is a list": (train("[]"), ["nsbench stage train: spec: [] is not allowed", "a section of keys"]),
    "unknown task": (
        make_dataset(edited(DATASET, task="addition")),
        ["spec.task: unknown task 'addition'", "sparse_parity"],
    ),
    "unknown key": (train(edited(TRAIN, tarining={})), ["spec.tarining: unknown key, did you mean 'training'?"]),
    "bad value": (
        train(edited(TRAIN, arm_settings={"kind": "noise_stability", "rho": 2, "gamma": 1})),
        ["nsbench stage train: spec.arm_settings.rho: 2 is not allowed; allowed: less than or equal to 1"],
    ),
    "bad data": (
        make_dataset(edited(DATASET, data={"modulus": 1})),
        ["modulus: 1 is not allowed", "greater than or equal to 2"],
    ),
    "missing dataset": (
        train(dataset="gone"),
        ["nsbench stage train: gone: no such file; run the stage that makes it"],
    ),
    "foreign dataset": (train(dataset="foreign"), ["nsbench stage train: foreign: is no data set, or a damaged one"]),
    "dataset of other seeds": (train(dataset="other"), ["nsbench stage train: other: has no data for seed 0"]),
    "missing records": (
        evaluate(),
        ["nsbench stage evaluate: gone.parquet: no such file; run the stage that makes it"],
    ),
    "foreign records": (evaluate("foreign.parquet"), ["foreign.parquet: lacks the columns task, variant, arm, seed"]),
    "text that is not there": (text("gone.txt"), ["nsbench stage text: gone.txt cannot be read (No such file"]),
    "text that is too short": (text("text"), ["nsbench stage text: local text (text)", "its train part has 80"]),
    "data without their text": (
        make_dataset(NEXT),
        ["nsbench stage dataset: next_token: its data are cut from a text"],
    ),
    "unknown experiment": (
        simulate(edited(PLAN.experiment("relu"), experiment="tanh")),
        ["nsbench stage simulate: spec.experiment: 'tanh' is not allowed", "'relu'"],
    ),
    "too little memory for a pair": (
        simulate(PLAN.experiment("attention"), "--max-values", "5"),
        ["nsbench stage simulate: ", "max_values", "5"],
    ),
    "theory figure without settings": (
        figure("figure_09", "{}"),
        ["nsbench stage figure: spec.scale: this key is missing"],
    ),
    "missing curves": (
        figure("figure_09", PLAN.theory_figure("relu")),
        ["nsbench stage figure: gone/theory/relu.curves.parquet: no such file"],
    ),
    "unknown figure": (figure("figure_99"), ["no figure is called 'figure_99'", "figure_11"]),
    # Options.
    "half an option": (["stage", "dataset", "--spe", DATASET, *make_dataset()[4:]], ["arguments are required: --spec"]),
    "a count in other digits": (simulate(RELU, "--max-values", "²"), ["'²' is not allowed", "a whole number"]),
    # Specs.
    "a spec without end": (make_dataset("[" * 100_000), ["nsbench stage dataset: --spec: not JSON (maximum recursion"]),
    "a path for a variant": (train(edited(TRAIN, variant="../../x")), ["spec.variant: '../../x' is not allowed"]),
    "a model that no machine holds": (
        train(edited(TRAIN, model={"d_model": 16384, "n_layers": 256})),
        ["spec.model: d_model = 16384", "at most 2e+10 are allowed"],
    ),
    # Files to be made.
    "a folder to write to": (make_dataset(DATASET, "folder"), ["--out: 'folder' is a folder; allowed: a file"]),
    "a file in a file": (make_dataset(DATASET, "text/new"), ["--out: 'text/new' would lie in", "which is a file"]),
    "a name too long": (make_dataset(DATASET, "x" * 300), ["argument --out: 'xxx", "(File name too long)"]),
    "no name": (make_dataset(DATASET, ""), ["argument --out: '' is not allowed"]),
    "a place that nothing can be made in": (
        make_dataset(DATASET, "/proc/nsbench/new"),
        ["/proc/nsbench/new: could not be written (No such file or directory)"],
    ),
    "a store that is a file": (train(store="text"), ["argument --run-store: 'text' is a file; allowed: a folder"]),
    "a result in place of the data": (
        train(history="data"),
        ["nsbench stage train: --dataset and --history are both 'data'; each needs a path of its own"],
    ),
    "tables in place of records": (
        ["stage", "analyse", "--spec", GRID, "--digest", "d", "--collected", "a", "--out", "./a"],
        ["--collected and --out are both 'a'"],
    ),
    # Files to be read.
    "records that are a folder": (evaluate("folder"), ["nsbench stage evaluate: folder: lacks the columns"]),
    "wrong tables to a figure": (
        figure("figure_09", PLAN.theory_figure("relu"), "foreign-results"),
        ["foreign-results/theory/relu.curves.parquet: lacks the columns experiment"],
    ),
    "claims that are not there": (of_grid("claims", "--claims", "gone", "--out", "o"), ["gone: no such file"]),
    "a store of no kind": (
        of_grid("track", "--out", "new", spec=edited(GRID, tracking={"uri": "x://y"})),
        ["nsbench stage track: tracking", "x://y", "allowed: http"],
    ),
    "packs that are not there": (
        ["stage", "collect", "--spec", GRID, "--digest", "d", "--packs", "p", "--datasets", "d", "--out", "c"],
        ["nsbench stage collect: p/modular_addition/tiny/baseline/seeds-0-1/", ".parquet: no such file"],
    ),
    # A model of the user's own.
    "a model's folder without one": (measure(), ["empty has no config.json"]),
    "a file that is no run": (measure(model="text"), ["text: not a whole checkpoint"]),
    "a correlation above one": (measure("--rho", "2"), ["settings.rho[0]: 2.0 is not allowed", "less than 1"]),
    "inputs twice": (measure("--inputs", "text", "text"), ["inputs: 'text' is listed twice"]),
    "a config that is none": (measure("--config", "text", model="gpt3"), ["nsbench measure: text: 'no data"]),
}
IN_PROCESS = {name for name in MISUSE if name not in ("unknown stage", "bad value", "missing dataset")}
"""Run in this process, to save the seconds that a start of torch takes; the rest as users do."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cli")
    (place / "text").write_text("no data\n" * 50)
    save_file({"weights": torch.zeros(3)}, place / "foreign")
    pd.DataFrame({"x": [1.0]}).to_parquet(place / "foreign.parquet")
    (place / "foreign-results" / "theory").mkdir(parents=True)
    pd.DataFrame({"x": [1.0]}).to_parquet(place / "foreign-results" / "theory" / "relu.curves.parquet")
    for name in ("folder", "empty"):
        (place / name).mkdir()
    write_datasets("modular_addition", json.loads(DATASET)["data"], [5], place / "other")
    write_datasets("modular_addition", json.loads(DATASET)["data"], [0, 1], place / "data")
    return place


def check(status: int, err: str, out: str, told: list[str]) -> None:
    assert status == 2
    assert out == ""
    last = err.rstrip("\n").splitlines()[-1]
    for part in told:
        assert part in last
    assert "Traceback" not in err
    assert last.startswith("nsbench")


@pytest.mark.parametrize("name", sorted(set(MISUSE) - IN_PROCESS))
def test_misuse_in_a_process_of_its_own_ends_with_one_sentence(name: str, folder: Path) -> None:
    arguments, told = MISUSE[name]
    done = nsbench(*arguments, folder=folder)
    check(done.returncode, done.stderr, done.stdout, told)


def named(folder: Path) -> set[str]:
    """The files of a folder, but for locks, which stay."""
    return {path.name for path in folder.iterdir() if path.name != ".locks"}


@pytest.mark.parametrize("name", sorted(IN_PROCESS))
def test_misuse_ends_with_one_sentence(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, told = MISUSE[name]
    before = named(folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    try:
        status = cli.main(arguments)
    except SystemExit as ended:
        status = ended.code
    check(status, *reversed(capsys.readouterr()), told)
    assert named(folder) == before


def test_a_mistake_of_the_program_shows_its_traceback(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("nsbench.data.generate.make_datasets", lambda *_: {}["bug"])
    with pytest.raises(KeyError, match="bug"):
        cli.main(make_dataset(DATASET))


def test_a_stage_that_goes_well_ends_with_zero(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(make_dataset(DATASET)) == 0
    assert (tmp_path / "new").stat().st_size > 0


@pytest.mark.parametrize(
    ("command", "listed"),
    [([], ["measure", "new", "queue", "records", "stage"]), (["stage"], STAGES), (["records"], ["export", "verify"])],
)
def test_help_lists_every_command(
    command: list[str], listed: Iterable[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([*command, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    for name in listed:
        assert re.search(rf"\n    {name}\s", text)


def test_help_shows_defaults_and_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["measure", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: config.yaml)" in text
    assert "{auto,cpu,cuda}" in text
    assert "None" not in text


def test_new_offers_every_template() -> None:
    assert cli.COMMANDS["new"].arguments[0].options["choices"] == ["arm", "task", "model", "measure", "figure"]
    assert set(TEMPLATES) == {"arm", "task", "model", "measure", "figure"}


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60.0), ("0.5", 0.5), ("1e-05s", 1e-5)])
def test_seconds_come_with_or_without_their_unit(text: str, seconds: float) -> None:
    assert cli._parser().parse_args(train(TRAIN, "data", "cpu", "--progress-every", text)).progress_every == seconds
