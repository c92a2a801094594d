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
import pyarrow as pa
import pytest
import torch
from safetensors.torch import save_file

from nsbench.cli import parser as cli
from nsbench.cli.stages import STAGES
from nsbench.schemas.training import RUNS
from nsbench.storage.parquet import write_table
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from tests.config.test_config import TINY, overlaid
from tests.conftest import write_datasets

PLAN = Plan(load(overlaid(TINY)))
JOB = ("modular_addition", "tiny", "baseline", "seeds-0-1")
TRAIN, EVALUATE, GRID = PLAN.train(*JOB), PLAN.evaluate(*JOB), PLAN.grid("analysis")
DATASET = PLAN.dataset("modular_addition", "tiny", "seeds-0-1")


def edited(spec: str, **changes: object) -> str:
    return json.dumps({**json.loads(spec), **changes})


def stage(name: str, spec: str, **options: str) -> list[str]:
    """`nsbench stage NAME --spec SPEC --option value ...`; of a figure `name` is "figure NAME"."""
    given = [part for option, value in options.items() for part in (f"--{option.replace('_', '-')}", value)]
    return ["stage", *name.split(), "--spec", spec, *given]


def train(spec: str = TRAIN, **options: str) -> list[str]:
    files = {"dataset": "data", "run_store": "runs", "history": "h.parquet", "runs": "r.parquet"}
    return stage("train", spec, **{**files, "device": "cpu", **options})


def make_dataset(spec: str = DATASET, out: str = "new", **options: str) -> list[str]:
    return stage("dataset", spec, out=out, floors="new.floors.parquet", **options)


def evaluate(runs: str) -> list[str]:
    return stage("evaluate", EVALUATE, runs=runs, dataset="data", run_store="runs", out="e.parquet")


def figure(name: str, spec: str = GRID) -> list[str]:
    return stage(f"figure {name}", spec, results="gone", png="f.png", pdf="f.pdf")


def simulate(experiment: str, **options: str) -> list[str]:
    return stage("simulate", PLAN.experiment(experiment), points="new", examples="new2", **options)


def measure(*more: str, model: str = "empty") -> list[str]:
    return ["measure", model, "--text", "text", "--out", "new", *more]


TABLES = {"collected": "a", "tables": "b"}
TEXT = json.dumps({"source": "local", "path": "gone.txt", "fingerprint": ""})
MISUSE = {
    "unknown stage": (["stage", "trian"], ["invalid choice: 'trian'", "dataset", "evaluate"]),
    "missing option": (["stage", "dataset"], ["arguments are required: --spec, --out"]),
    "device that is not there": (train(device="cuda"), ["nsbench stage train: device: 'cuda'", "allowed: auto, cpu"]),
    "no processes": (train(processes_per_gpu="0"), ["'0' is not allowed", "a whole number in 1"]),
    "no seconds": (train(progress_every="0s"), ["'0' is not allowed", "above 0"]),
    "a count in other digits": (train(processes_per_gpu="²"), ["'²' is not allowed", "a whole number"]),
    "spec that is no JSON": (train("{broken"), ["nsbench stage train: --spec: not JSON (Expecting property name"]),
    "a spec without end": (make_dataset("[" * 100_000), ["nsbench stage dataset: --spec: not JSON (maximum recursion"]),
    "a text's settings that are no JSON": (
        stage("finished", GRID, results="r", out="new", missing="new2", text_spec="{"),
        ["--text-spec: not JSON"],
    ),
    "unknown task": (
        make_dataset(edited(DATASET, task="addition")),
        ["spec.task: unknown task 'addition'", "sparse_parity"],
    ),
    "unknown key": (train(edited(TRAIN, tarining={})), ["spec.tarining: unknown key, did you mean 'training'?"]),
    "bad value": (
        train(edited(TRAIN, arm_settings={"kind": "noise_stability", "rho": 2, "gamma": 1})),
        ["nsbench stage train: spec.arm_settings.rho: 2 is not allowed; allowed: less than or equal to 1"],
    ),
    "a model that no machine holds": (
        train(edited(TRAIN, model={"d_model": 16384, "n_layers": 256})),
        ["spec.model: d_model = 16384", "at most 2e+10 are allowed"],
    ),
    # Files to be read.
    "missing dataset": (
        train(dataset="gone"),
        ["nsbench stage train: gone: no such file; run the stage that makes it"],
    ),
    "foreign dataset": (train(dataset="foreign"), ["nsbench stage train: foreign: is no data set, or a damaged one"]),
    "dataset of other seeds": (train(dataset="other"), ["nsbench stage train: other: has no data for seed 0"]),
    "foreign records": (evaluate("foreign.parquet"), ["foreign.parquet: lacks the columns task, variant, arm, seed"]),
    "text that is not there": (
        stage("text", TEXT, out="new"),
        ["nsbench stage text: gone.txt cannot be read (No such"],
    ),
    "a text that is edited meanwhile": (
        stage("text", TEXT.replace("gone.txt", "words.txt").replace('""', '"0"'), out="new"),
        ["nsbench stage text: words.txt: edited since the workflow began; give the same command again"],
    ),
    "data of another training": (
        evaluate("runs.parquet"),
        ["nsbench stage evaluate: data: is not the data set that runs.parquet was trained on; delete it"],
    ),
    "data without their text": (
        make_dataset(PLAN.dataset("next_token", "tiny", "seeds-0-1")),
        ["nsbench stage dataset: next_token: its data are cut from a text"],
    ),
    "missing curves": (
        figure("figure_09", PLAN.theory_figure("relu")),
        ["nsbench stage figure: gone/theory/relu.curves.parquet: no such file"],
    ),
    "unknown figure": (figure("figure_99"), ["no figure is called 'figure_99'", "figure_11"]),
    "claims that are not there": (stage("claims", GRID, **TABLES, claims="gone", out="o"), ["gone: no such file"]),
    "a store of no kind": (
        stage("track", edited(GRID, tracking={"uri": "x://y"}), **TABLES, out="new"),
        ["nsbench stage track: tracking", "x://y", "allowed: http"],
    ),
    "packs that are not there": (
        stage("collect", GRID, packs="p", datasets="d", out="c"),
        ["nsbench stage collect: p/modular_addition/tiny/baseline/seeds-0-1/", ".parquet: no such file"],
    ),
    # Files to be made.
    "no name": (make_dataset(out=""), ["argument --out: '' is not allowed"]),
    "a folder to write to": (make_dataset(out="folder"), ["--out: 'folder' is a folder; allowed: a file"]),
    "a place that nothing can be made in": (
        make_dataset(out="/proc/nsbench/new"),
        ["/proc/nsbench/new: could not be written (No such file or directory)"],
    ),
    "a store that is a file": (train(run_store="text"), ["argument --run-store: 'text' is a file; allowed: a folder"]),
    "a result in place of the data": (
        train(history="data"),
        ["nsbench stage train: --dataset and --history are both 'data'; each needs a path of its own"],
    ),
    # A model of the user's own.
    "a model's folder without one": (measure(), ["empty has no config.json"]),
    **{
        f"a correlation of {rho}": (measure("--rho", rho), [f"settings.rho[0]: {rho} is not allowed; allowed: less"])
        for rho in ("2.0", "0.9999999999999999")  # of which half with a half is 1
    },
    "a model's folder with braces": (measure(model="a{b}"), ["model.path: 'a{b}' is not allowed"]),
    "a config that is none": (measure("--config", "text", model="gpt3"), ["nsbench measure: text: 'no data"]),
}
OWN_PROCESS = ("unknown stage", "spec that is no JSON")
"""Run as users do; the rest in this process, to save the seconds that a start of torch takes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("cli")
    (place / "text").write_text("no data\n" * 50)
    save_file({"weights": torch.zeros(3)}, place / "foreign")
    (place / "words.txt").write_text("no data\n" * 600)
    pd.DataFrame({"x": [1.0]}).to_parquet(place / "foreign.parquet")
    values = {pa.string(): "x", pa.int64(): 0, pa.float64(): 0.5}
    write_table(place / "runs.parquet", [{column.name: values.get(column.type, []) for column in RUNS}], RUNS, {})
    for name in ("folder", "empty", "a{b}"):
        (place / name).mkdir()
    write_datasets("modular_addition", json.loads(DATASET)["data"], [5], place / "other")
    write_datasets("modular_addition", json.loads(DATASET)["data"], [0, 1], place / "data")
    return place


def check(status: int, err: str, out: str, told: list[str]) -> None:
    assert (status, out) == (2, "")
    last = err.rstrip("\n").splitlines()[-1]
    assert [part for part in told if part not in last] == [], last
    assert "Traceback" not in err
    assert last.startswith("nsbench")


@pytest.mark.parametrize("name", OWN_PROCESS)
def test_misuse_in_a_process_of_its_own_ends_with_one_sentence(name: str, folder: Path) -> None:
    arguments, told = MISUSE[name]
    done = subprocess.run(
        [sys.executable, "-m", "nsbench.cli", *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )
    check(done.returncode, done.stderr, done.stdout, told)


def named(folder: Path) -> set[str]:
    """The files of a folder, but for locks, which stay."""
    return {path.name for path in folder.iterdir() if path.name != ".locks"}


@pytest.mark.parametrize("name", [name for name in MISUSE if name not in OWN_PROCESS])
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
        cli.main(make_dataset())


def test_a_stage_that_goes_well_ends_with_zero(monkeypatch: pytest.MonkeyPatch, folder: Path, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(make_dataset()) == 0
    assert (tmp_path / "new").stat().st_size > 0


@pytest.mark.parametrize(
    ("command", "listed"),
    [([], ["measure", "new", "queue", "records", "stage"]), (["stage"], STAGES), (["records"], ["export", "verify"])],
)
def test_help_lists_every_command(command: list[str], listed: Iterable[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main([*command, "--help"])
    text = capsys.readouterr().out
    assert [name for name in listed if not re.search(rf"\n    {name}\s", text)] == []


def test_help_shows_defaults_and_choices(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        cli.main(["measure", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "(default: config.yaml)" in text
    assert "{auto,cpu,cuda}" in text
    assert "None" not in text


@pytest.mark.parametrize(("text", "seconds"), [("60s", 60.0), ("0.5", 0.5), ("1e-05s", 1e-5)])
def test_seconds_come_with_or_without_their_unit(text: str, seconds: float) -> None:
    assert cli._parser().parse_args(train(progress_every=text)).progress_every == seconds
