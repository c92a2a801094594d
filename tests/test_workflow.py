"""The workflow's contract: an edit reruns exactly what depends on it. Real Snakemake on a tiny grid."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from nsbench.figures.pretrained import FIGURES as PRETRAINED_FIGURES
from nsbench.figures.theory import FIGURES as THEORY_FIGURES
from tests import tiny_models

PROJECT = Path(__file__).parents[1]
ONE_EXPERIMENT = {"compute_theory": 1, "join_theory": 1, "draw_theory_figure": 1, "write_report": 1}
OF_MODELS = {"join_pretrained": 1, "draw_pretrained_figure": 3, "write_report": 1}
DOWNSTREAM = {"collect_packs": 1, "analyse_grid": 1, "draw_figure": 9, "write_report": 1, "track_runs": 1}


class Clone:
    """A copy of the project in a folder of its own, with its own results."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for kind in ("causal", "encoder"):
            tiny_models.make(root / "tiny_models", kind)
        for name in ("Snakefile", "config.yaml", "workflow", "profiles", "src", "tests/config"):
            source, place = PROJECT / name, root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, place, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, place)

    def snakemake(
        self, *arguments: str, path: str = "", overlay: str = "tests/config/tiny.yaml"
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(self.root / "src")}
        environment["PATH"] = os.pathsep.join(
            part for part in (path, str(Path(sys.executable).parent), os.environ["PATH"]) if part
        )
        command = [sys.executable, "-m", "snakemake", *arguments, "--cores", "2", "--resources", "gpu=4"]
        command += ["--configfile", overlay] if overlay else []
        return subprocess.run(
            command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def planned(self) -> dict[str, int]:
        """The jobs that a call would run now, by rule."""
        result = self.snakemake("--dry-run")
        assert result.returncode == 0, result.stdout
        if "Nothing to be done" in result.stdout:
            return {}
        table = result.stdout.rsplit("Job stats:", 1)[1]
        return {rule: int(count) for rule, count in re.findall(r"^(\w+_\w+)\s+(\d+)$", table, flags=re.MULTILINE)}

    def edit(self, name: str, *replacements: tuple[str, str]) -> None:
        path = self.root / name
        text = path.read_text()
        for old, new in replacements:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new, 1)
        path.write_text(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the tiny grid has run."""
    clone = Clone(tmp_path_factory.mktemp("clone"))
    result = clone.snakemake()
    assert result.returncode == 0, result.stdout
    (clone.root / "first_call.txt").write_text(result.stdout)
    return clone


@pytest.fixture
def clone(finished: Clone) -> Iterator[Clone]:
    """The finished clone, its sources put back after the test."""
    names = ["src", "tests/config"]
    kept = finished.root / "kept"
    for name in names:
        shutil.copytree(finished.root / name, kept / name)
    yield finished
    for name in names:
        shutil.rmtree(finished.root / name)
        shutil.copytree(kept / name, finished.root / name)
    shutil.rmtree(kept)


def test_first_call_makes_everything_and_says_so(finished: Clone) -> None:
    results = finished.root / "results"
    said = (finished.root / "first_call.txt").read_text()
    for made in (
        "figures/figure_05_modular_addition.png",
        "figures/figure_05_sparse_parity.png",
        *(f"figures/{name}.png" for name in ("figure_06", "figure_11", "figure_12", "figure_14", "sweep_next_token")),
        *(f"figures/figure_13_{loss}.png" for loss in ("train", "val")),
        *(f"figures/{name}.png" for name in (*THEORY_FIGURES, *PRETRAINED_FIGURES)),
        *(f"tables/{name}.csv" for name in ("time_to_target", "paired_effect", "score", "selection", "theory")),
        *(f"tables/{name}.csv" for name in ("pretrained_models", "concentration", "table_1")),
        "report.html",
    ):
        assert (results / made).stat().st_size > 0
        assert f"results/{made}" in said
    assert (results / "figures/figure_11.pdf").exists()
    assert "make ui" in said
    assert "16 runs in 8 packs" in said
    assert (results / "mlflow.db").exists()
    times = pd.read_parquet(results / "tables/time_to_target.parquet")
    assert len(times) == 16
    # Nothing but next-token prediction has a text, and its tables say that it is not WikiText-2.
    texts = times.groupby("task")["text"].unique()
    assert texts["modular_addition"].tolist() == texts["sparse_parity"].tolist() == [""]
    (text,) = texts["next_token"]
    assert text.endswith("not WikiText-2")
    page = (results / "report.html").read_text()
    assert text in page
    # A model that cannot be had is a row that says so, with what to do.
    models = pd.read_parquet(results / "tables/pretrained_models.parquet").set_index(["model", "weights"])
    assert models["status"].to_dict() == {
        (name, weights): "unavailable" if name == "absent" else "measured"
        for name in ("tiny_causal", "tiny_encoder", "absent")
        for weights in ("pretrained", "random")
    }
    assert "pip install" in models.loc[("absent", "pretrained"), "reason"]
    assert models.loc[("absent", "pretrained"), "reason"] in page.replace("&#39;", "'")


def test_the_papers_grid_and_the_demo_can_be_planned(finished: Clone) -> None:
    """18 variants x 3 arms and 5 x 14, x 10 seeds in packs of five; the demo's cells in one pack each."""
    for overlay, packs, datasets in (("", 248, 46), ("workflow/config/demo.yaml", 8, 4)):
        result = finished.snakemake("--dry-run", overlay=overlay)
        assert result.returncode == 0, result.stdout
        table = result.stdout.rsplit("Job stats:", 1)[1]
        assert re.search(rf"^train_pack +{packs}$", table, flags=re.MULTILINE)
        assert re.search(rf"^make_dataset +{datasets}$", table, flags=re.MULTILINE)


def test_second_call_does_nothing(clone: Clone) -> None:
    assert clone.planned() == {}


def test_a_comment_reruns_nothing(clone: Clone) -> None:
    for module in ("training", "evaluation", "model", "figures/style", "measures/stability", "tasks/sparse_parity"):
        path = clone.root / f"src/nsbench/{module}.py"
        path.write_text(path.read_text() + "\n\n# A comment.\n")
    clone.edit("src/nsbench/training.py", ('"""Training of a pack', '"""Teaching of a pack'))
    assert clone.planned() == {}


def test_touched_sources_rerun_nothing(clone: Clone) -> None:
    for path in (clone.root / "src").rglob("*.py"):
        path.touch()
    assert clone.planned() == {}


def test_device_and_rhythm_rerun_nothing(clone: Clone) -> None:
    clone.edit("tests/config/tiny.yaml", ("scale: demo", "scale: demo\ndevice: cpu\nprogress_every_seconds: 5"))
    assert clone.planned() == {}


def test_figure_code_reruns_that_figure(clone: Clone) -> None:
    path = clone.root / "src/nsbench/figures/figure_11.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert clone.planned() == {"draw_figure": 1, "write_report": 1}


def test_theory_code_reruns_the_formulas_and_no_simulation(clone: Clone) -> None:
    path = clone.root / "src/nsbench/theory/recurrences.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert clone.planned() == {**ONE_EXPERIMENT, "compute_theory": 7, "draw_theory_figure": 7}


def test_an_experiment_s_code_or_settings_simulate_it_again(clone: Clone) -> None:
    path = clone.root / "src/nsbench/simulation/relu.py"
    text = path.read_text()
    path.write_text(text + "\nEDITED = True\n")
    assert clone.planned() == {"simulate_theory": 1, **ONE_EXPERIMENT}
    path.write_text(text)
    clone.edit("tests/config/tiny.yaml", ("relu: {n_pairs: 50", "relu: {n_pairs: 60"))
    assert clone.planned() == {"simulate_theory": 1, **ONE_EXPERIMENT}


def test_the_simulations_memory_reruns_nothing(clone: Clone) -> None:
    clone.edit("tests/config/tiny.yaml", ("theory:\n", "theory:\n  max_values: 2000000\n"))
    assert clone.planned() == {}


def test_a_theory_figure_s_code_redraws_it_alone(clone: Clone) -> None:
    path = clone.root / "src/nsbench/figures/figure_09.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert clone.planned() == {"draw_theory_figure": 1, "write_report": 1}


def test_the_theory_can_be_left_out(clone: Clone) -> None:
    path = clone.root / "tests/config/tiny.yaml"
    text = path.read_text()
    begin = text.index("theory:\n")
    end = text.index("pretrained:")
    path.write_text(text[:begin] + "theory: null\n" + text[end:])
    assert clone.planned() == {"write_report": 1}
    refused = clone.snakemake("results/tables/theory.csv")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stdout


def test_a_measure_of_pretrained_models_reruns_them_alone(clone: Clone) -> None:
    path = clone.root / "src/nsbench/measures/influence.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert clone.planned() == {"measure_model": 3, **OF_MODELS}


def test_what_is_measured_on_models_and_how_they_are_shown_are_apart(clone: Clone) -> None:
    text = (clone.root / "tests/config/tiny.yaml").read_text()
    clone.edit("tests/config/tiny.yaml", ("n_sequences: 3", "n_sequences: 2"))
    assert clone.planned() == {"measure_model": 3, **OF_MODELS}
    (clone.root / "tests/config/tiny.yaml").write_text(text)
    clone.edit("tests/config/tiny.yaml", ("  unreachable: skip\n", "  figures: {norm: l2}\n  max_memory_gb: 2\n"))
    assert clone.planned() == {"draw_pretrained_figure": 3, "write_report": 1}


def test_other_weights_in_a_folder_are_measured(clone: Clone) -> None:
    weights = clone.root / "tiny_models/encoder/model.safetensors"
    kept, content = weights.stat(), weights.read_bytes()
    tiny_models.make(clone.root / "tiny_models", "encoder", seed=1)
    planned = clone.planned()
    weights.write_bytes(content)
    os.utime(weights, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert planned == {"measure_model": 1, **OF_MODELS}
    assert clone.planned() == {}


def test_pretrained_models_can_be_left_out(clone: Clone) -> None:
    path = clone.root / "tests/config/tiny.yaml"
    text = path.read_text()
    path.write_text(text[: text.index("pretrained:")] + "pretrained: null\n" + text[text.index("grid:\n") :])
    assert clone.planned() == {"write_report": 1}


def test_report_template_reruns_the_report(clone: Clone) -> None:
    path = clone.root / "src/nsbench/report.html.j2"
    path.write_text(path.read_text() + "\n")
    assert clone.planned() == {"write_report": 1}


def test_measure_code_never_retrains(clone: Clone) -> None:
    path = clone.root / "src/nsbench/measures/stability.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert clone.planned() == {"evaluate_pack": 8, **DOWNSTREAM}


def test_measure_settings_never_retrain(clone: Clone) -> None:
    clone.edit("tests/config/tiny.yaml", ("n_draws: 1", "n_draws: 2"))
    assert clone.planned() == {"evaluate_pack": 8, **DOWNSTREAM}


def test_training_code_retrains(clone: Clone) -> None:
    path = clone.root / "src/nsbench/step.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert clone.planned() == {"train_pack": 8, "evaluate_pack": 8, **DOWNSTREAM}


def test_task_code_reruns_that_task(clone: Clone) -> None:
    path = clone.root / "src/nsbench/tasks/sparse_parity.py"
    path.write_text(path.read_text() + "\nEDITED = True\n")
    assert clone.planned() == {"make_dataset": 1, "train_pack": 2, "evaluate_pack": 2, **DOWNSTREAM}


def test_the_text_s_code_and_choice_rerun_its_task(clone: Clone) -> None:
    of_text = {"fetch_text": 1, "make_dataset": 1, "train_pack": 4, "evaluate_pack": 4, **DOWNSTREAM}
    of_text |= {"measure_model": 3, **OF_MODELS}
    path = clone.root / "src/nsbench/text_sources.py"
    text = path.read_text()
    path.write_text(text + "\nEDITED = True\n")
    assert clone.planned() == of_text
    path.write_text(text)
    assert clone.planned() == {}
    clone.edit("tests/config/tiny.yaml", ("source: embedded", "source: local, path: config.yaml"))
    assert clone.planned() == of_text


def test_another_value_of_a_sweep_runs_that_arm(clone: Clone) -> None:
    clone.edit("tests/config/tiny.yaml", ("rho: [0.25, 0.5, 0.75]", "rho: [0.25, 0.5, 0.75, 0.9]"))
    assert clone.planned() == {"train_pack": 1, "evaluate_pack": 1, **DOWNSTREAM}


def test_a_sweep_of_another_task_is_one_line(clone: Clone) -> None:
    arms = "variants: [tiny], arms: [baseline, noise_stability]"
    swept = f"{arms}, arm_sweep: {{arm: noise_stability, rho: [0, 0.1], gamma: [1, 2]}}"
    clone.edit("tests/config/tiny.yaml", (arms, swept))
    assert clone.planned() == {"train_pack": 4, "evaluate_pack": 4, **DOWNSTREAM, "draw_figure": 10}


def test_a_training_setting_reruns_its_variant(clone: Clone) -> None:
    clone.edit("tests/config/tiny.yaml", ("model: {d_model: 8}", "model: {d_model: 10}"))
    assert clone.planned() == {"train_pack": 2, "evaluate_pack": 2, **DOWNSTREAM}


def test_two_values_swapped_are_seen(clone: Clone) -> None:
    clone.edit("tests/config/tiny.yaml", ("n_val: 10, n_test: 12", "n_val: 12, n_test: 10"))
    assert clone.planned() == {"make_dataset": 1, "train_pack": 2, "evaluate_pack": 2, **DOWNSTREAM}


def test_a_target_reruns_the_analysis_alone(clone: Clone) -> None:
    clone.edit(
        "tests/config/tiny.yaml", ("model: {d_model: 8}", "target: {threshold: 0.5}\n        model: {d_model: 8}")
    )
    assert clone.planned() == DOWNSTREAM


def test_another_seed_runs_that_seed(clone: Clone) -> None:
    clone.edit("tests/config/tiny.yaml", ("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    assert clone.planned() == {"make_dataset": 3, "train_pack": 8, "evaluate_pack": 8, **DOWNSTREAM}
    outputs = re.findall(r"^ +output: (.*)$", clone.snakemake("--dry-run").stdout, flags=re.MULTILINE)
    assert sum("seeds-2-2" in made for made in outputs) == 3 + 8 + 8
    assert not any("seeds-0-1" in made for made in outputs)


def test_another_arm_runs_that_arm(clone: Clone) -> None:
    arms = "arms: [baseline, noise_stability]"
    clone.edit("tests/config/tiny.yaml", (arms, "arms: [baseline, noise_stability, noise_stability_s0]"))
    assert clone.planned() == {"train_pack": 1, "evaluate_pack": 1, **DOWNSTREAM}


def test_a_lost_pack_is_made_again_from_finished_runs(clone: Clone) -> None:
    """Outputs come back to the bit (seconds included) and nothing is trained: the runs are still there."""
    pack = clone.root / "results/packs/sparse_parity/tiny/baseline/seeds-0-1"
    before = pd.read_parquet(pack / "history.parquet")
    (pack / "history.parquet").unlink()
    result = clone.snakemake(str((pack / "history.parquet").relative_to(clone.root)))
    assert result.returncode == 0, result.stdout
    pd.testing.assert_frame_equal(pd.read_parquet(pack / "history.parquet"), before, check_exact=True)
    log = (clone.root / "results/logs/train/sparse_parity/tiny/baseline/seeds-0-1.log").read_text()
    assert log.count("finished before, kept") == 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seeds: [0, 1]", "seedz: [0, 1]", ["seedz", "'seeds'"]),
        ("seeds: [0, 1]", "seeds: [0, 0]", ["seeds", "0", "once"]),
        ("n: 5, k: 2", "n: 5, k: 6", ["k = 6", "n = 5"]),
        ("seeds: [0, 1]", "seeds: [0, 1]\nseeds: [2]", ["seeds", "twice", "line"]),
        ("scale: demo", "scale: demo\ndevice: cuda", ["cuda", "auto, cpu"]),
        ("source: embedded", "source: local, path: gone", ["text.path = 'gone' does not exist"]),
        ("path: tiny_models/causal", "path: gone", ["pretrained.models.tiny_causal.path = 'gone' is no folder"]),
        ("only: [tiny_causal", "only: [tiny_casual", ["'tiny_casual'", "did you mean 'tiny_causal'"]),
    ],
)
def test_a_wrong_config_stops_before_any_job(clone: Clone, old: str, new: str, words: list[str]) -> None:
    clone.edit("tests/config/tiny.yaml", (old, new))
    result = clone.snakemake()
    assert result.returncode != 0
    assert "Traceback" not in result.stdout
    assert "Select jobs to execute" not in result.stdout
    line = next(line for line in result.stdout.splitlines() if "configuration cannot be used" in line)
    for word in words:
        assert word in line


def test_with_a_gpu_jobs_ask_for_it(clone: Clone, tmp_path: Path) -> None:
    """A machine with one GPU, by a stand-in for nvidia-smi; without one, jobs declare none."""
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 0\n")
    fake.chmod(0o755)
    shown = ["--dry-run", "--forcerun", "train_pack"]
    assert re.search(r"resources:.*\bgpu=1\b", clone.snakemake(*shown, path=str(tmp_path)).stdout)
    assert re.search(r"resources:.*\bgpu=0\b", clone.snakemake(*shown).stdout)
