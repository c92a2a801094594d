"""Results of every stage but the figures, made by the commands, and each stage's command with the files it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nsbench.cli import parser as cli
from nsbench.data.text import Text, write_text_file
from nsbench.figures import style
from nsbench.report.page import TABLES as REPORTED
from nsbench.schemas.pretrained import PARTS
from nsbench.schemas.pretrained import TABLES as PRETRAINED
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from tests.config.test_config import TINY, overlaid, place
from tests.conftest import small_text
from tests.tiny_models import TEXT

PROJECT = Path(__file__).parents[1]
TASK = "next_token"
ARMS = ["baseline", "noise_stability"]
EXPERIMENT = "relu"
CPU = ["--device", "cpu"]


@dataclass
class Stage:
    """A call of nsbench, and what it reads."""

    root: Path
    command: list[str]
    inputs: list[Path]
    before: list[Path] = field(default_factory=list)
    """What is taken away before, since it would be kept."""

    def run(self) -> int:
        return cli.main(self.command)


def make(root: Path, models: Path) -> dict[str, Stage]:
    """Run every stage once under `root`; models: the folder of tests.tiny_models."""
    values = place(overlaid(TINY), f"tasks.{TASK}.variants.tiny.data.n_symbols", 12)
    plan = Plan(load(values | {"grid": [{"task": TASK, "variants": ["tiny"], "arms": ARMS}]} | _pretrained(models)))
    stages: dict[str, Stage] = {}
    (pack,) = plan.seeds

    def stage(name: str, spec: str, inputs: list[Path], *arguments: Any, before: list[Path] | None = None) -> None:
        command = [
            "stage",
            name.partition(" ")[0],
            *_positional(name),
            "--spec",
            spec,
            *map(str, arguments),
        ]
        stages[name] = made = Stage(root, command, inputs, before or [])
        # A figure takes a second, and what it reads it reads before it draws.
        assert "figure" in name or made.run() == 0, name

    text, dataset = root / "text.parquet", root / "datasets" / TASK / "tiny" / f"{pack}.safetensors"
    floors = dataset.with_name(f"{pack}.floors.parquet")
    write_text_file(text, small_text(), {"spec": "{}"})
    stage("dataset", plan.dataset(TASK, "tiny", pack), [text], "--text", text, "--out", dataset, "--floors", floors)
    store = root / "runs"
    packs: list[Path] = []
    for arm in ARMS:
        folder = root / "packs" / TASK / "tiny" / arm / pack
        history, runs, evaluation = (folder / f"{name}.parquet" for name in ("history", "runs", "evaluation"))
        packs += [history, runs, evaluation]
        given = ("--dataset", dataset, "--run-store", store)
        spec = plan.train(TASK, "tiny", arm, pack)
        stage(f"train {arm}", spec, [dataset], *given, "--history", history, "--runs", runs, *CPU)
        run = store / TASK / "tiny" / arm / "seed-1"
        inputs = [runs, dataset, run / "run.json", sorted(run.glob("trail/*"))[1]]
        kept = [run.with_name(f"seed-{seed}") / "evaluation.parquet" for seed in (0, 1)]
        spec = plan.evaluate(TASK, "tiny", arm, pack)
        stage(f"evaluate {arm}", spec, inputs, "--runs", runs, *given, "--out", evaluation, *CPU, before=kept)
    collected = [root / "collected" / f"{name}.parquet" for name in ("history", "runs", "evaluation", "floors")]
    places = ("--packs", root / "packs", "--datasets", root / "datasets", "--out", root / "collected")
    stage("collect", plan.grid("runs_per_pack"), [*packs, floors], *places)
    stage("analyse", plan.grid("analysis"), collected, "--collected", root / "collected", "--out", root / "tables")
    read = [root / "tables" / f"{name}.parquet" for name in ("time_to_target", "kaplan_meier", "paired_effect")]
    pictures = [root / "figures" / f"{name}.png" for name in ("curves", "theory")]
    for picture in pictures:
        style.save(style.empty("nothing", "demo"), picture, picture.with_suffix(".pdf"))
    given = ("--collected", root / "collected", "--tables", root / "tables")
    drawn = ("--results", root, "--png", pictures[0], "--pdf", root / "curves.pdf")
    stage("figure time_to_target", plan.grid(), read, *drawn)
    names = (f"{EXPERIMENT}.{part}.parquet" for part in ("points", "examples", "curves"))
    points, examples, curves = (root / "theory" / name for name in names)
    spec = plan.experiment(EXPERIMENT)
    command = ["stage", "simulate", "--spec", spec, "--points", str(points)]
    assert cli.main([*command, "--examples", str(examples), *CPU]) == 0
    theory = root / "theory.parquet"
    only = f'{{"experiments":[{spec}]}}'
    stage("theory", only, [points], "--theory", root / "theory", "--table", theory, "--csv", root / "theory.csv")
    drawn = ("--results", root, "--png", pictures[1], "--pdf", root / "t.pdf")
    stage("figure figure_09", plan.theory_figure(EXPERIMENT), [curves, points], *drawn)
    model = root / "pretrained" / "tiny_causal"
    words = root / "words.parquet"
    write_text_file(words, Text("words", (), (), (TEXT,)), {"spec": "{}"})
    stage("pretrained", plan.pretrained("tiny_causal"), [words], "--text", words, "--out", model, *CPU)
    parts = [model / f"{part}.parquet" for part in PARTS]
    joined = root / "models" / "tables"
    stage("pretrained-tables", plan.pretrained_tables(), parts, "--models", model, "--out", joined)
    influence = joined / "pretrained_influence.parquet"
    drawn = ("--results", joined.parent, "--png", root / "f.png", "--pdf", root / "f.pdf")
    stage("figure figure_01", plan.pretrained_figure(), [influence], *drawn)
    ledger = [root / "claims" / f"{name}.parquet" for name in ("claims", "claim_evidence")]
    claims = root / "claims.yaml"
    claims.write_text((PROJECT / "claims.yaml").read_text())
    given = (*given, "--theory", theory, "--pretrained", joined)
    stage("claims", plan.grid("analysis"), [claims], "--claims", claims, *given, "--out", root / "claims")
    reported = [root / "tables" / f"{name}.parquet" for name in REPORTED]
    shown = [
        *(joined / f"{name}.parquet" for name in list(PRETRAINED)[:2]),
        *ledger,
        theory,
        *reported,
        *collected[:2],
        *pictures,
    ]
    report = ("--figures", *pictures, *given, "--claims", root / "claims", "--out", root / "report.html")
    stage("report", plan.grid("analysis", "text"), shown, *report)
    return stages


def _positional(name: str) -> list[str]:
    """The name in `figure NAME`; nothing for `train ARM`."""
    first, _, rest = name.partition(" ")
    return [rest] if "figure" in first else []


def _pretrained(models: Path) -> dict[str, Any]:
    chosen = {"source": "folder", "path": str(models / "causal")}
    measurement = {"n_tokens": 8, "n_sequences": 2, "rho": [0.5], "n_replaced": 2, "inputs": ["text", "gaussian"]}
    return {"pretrained": {"only": ["tiny_causal"], "measurement": measurement, "models": {"tiny_causal": chosen}}}
