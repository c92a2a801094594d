"""The workflow's contract: an edit reruns exactly what depends on it. Real Snakemake on a tiny grid.

A stage or a figure more is a number more in the constants below; the tests count with nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from nsbench.config.canonical import canonical_json
from nsbench.figures import of_kind
from nsbench.storage.parquet import read_stamp, write_table
from nsbench.storage.tensors import read_tensors, write_tensors
from nsbench.workflow.grid import load
from nsbench.workflow.results_lock import occupied
from tests import tiny_models
from tests.config.test_config import overlaid
from tests.warm import STAGES, Warm
from tests.workflow_clone import TINY, Clone, Planned

SEEDS = 2
PACKS = {"modular_addition": 4, "sparse_parity": 3, "next_token": 4}
"""Packs of the tiny grid: one for each arm, since a pack holds all seeds. Half of modular addition's are of a
specification curve."""
DATASETS = {"modular_addition": 2, "sparse_parity": 1, "next_token": 1}
MODELS = 3
THEORY_FIGURES, PRETRAINED_FIGURES = of_kind("theory"), of_kind("pretrained")
FIGURES = 13
"""What the tiny grid fills of nsbench.figures.FIGURES."""
REPORT = {"write_report": 1}
"""What follows a figure."""
LEDGER = {"judge_claims": 1, **REPORT}
"""What follows a table."""
THEORY = {"compute_theory": 1, "draw_figure": len(THEORY_FIGURES), **LEDGER}
OF_MODELS = {"join_pretrained": 1, "draw_figure": len(PRETRAINED_FIGURES), **LEDGER}
SECRETS = {
    "HF_TOKEN": "hf_NobodyMustSeeThisToken",
    "MLFLOW_TRACKING_USERNAME": "ada-the-secret-user",
    "MLFLOW_TRACKING_PASSWORD": "hunter2-of-the-server",
    "PGPASSWORD": "hunter2-of-the-database",
}
"""What the environment of the first call holds and nothing may keep."""
DOWNSTREAM = {"collect_packs": 1, "analyse_grid": 1, "draw_figure": FIGURES, **LEDGER, "track_runs": 1}
"""What follows a pack."""


def packs(count: int) -> dict[str, int]:
    """The jobs of packs trained again, and what follows."""
    return {"train_pack": count, "evaluate_pack": count, **DOWNSTREAM}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    """A clone in which the tiny grid has run."""
    warm = Warm(STAGES)
    clone = Clone(tmp_path_factory.mktemp("clone"), warm)
    (clone.root / "first_call.txt").write_text(clone.run_all(**SECRETS))
    yield clone
    warm.close()


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
        *(f"figures/{name}.png" for name in ("time_to_target", "arms", "specification_curve_modular_addition")),
        *(f"figures/{name}.png" for name in (*THEORY_FIGURES, *PRETRAINED_FIGURES)),
        *(f"tables/{name}.csv" for name in ("time_to_target", "paired_effect", "score", "selection", "theory")),
        *(f"tables/{name}.csv" for name in ("pretrained_models", "concentration", "table_1")),
        *(f"tables/{name}.csv" for name in ("kaplan_meier", "power", "specification")),
        *(f"tables/specification_{name}.csv" for name in ("curve", "choice")),
        "report.html",
    ):
        assert (results / made).stat().st_size > 0
    assert (results / "figures/figure_11.pdf").exists()
    for path in ("report.html", "figures", "tables", "claims.md", "tracked.json"):
        assert f"results/{path} " in said
    assert "make ui" in said
    n_jobs = int(re.search(r"; (\d+) jobs to do, about ", said)[1])
    counted = re.findall(rf"^nsbench \| (\d+)/{n_jobs} \w+ ", said, flags=re.MULTILINE)
    assert list(map(int, counted)) == list(range(1, n_jobs + 1))
    assert re.search(r"train next_token tiny, noise_stability-\S+, seeds 0 and 1, \d+ s  \(\d+%, about", said)
    # A line for each job and little more.
    assert len(said.splitlines()) < n_jobs + 20
    # The verdicts, and what they are worth at this scale.
    assert (results / "claims.md").stat().st_size > 0
    assert "no verdict on the paper" in said
    assert re.search(r"^nsbench \|     Haris et al\. 2026, training \(\d+ at demo scale\): ", said, flags=re.MULTILINE)
    assert f"{SEEDS * sum(PACKS.values())} runs in {sum(PACKS.values())} packs" in said
    assert (results / "mlflow.db").exists()
    times = pd.read_parquet(results / "tables/time_to_target.parquet")
    assert len(times) == SEEDS * sum(PACKS.values())
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


def test_no_secret_of_the_environment_is_kept_anywhere(finished: Clone) -> None:
    """Logs, Parquet, report, figures, MLflow's store, Snakemake's own files, and what was said."""
    looked = 0
    for path in finished.root.rglob("*"):
        if path.is_file() and path.relative_to(finished.root).parts[0] not in ("src", "workflow", "profiles"):
            content = path.read_bytes()
            if path.suffix == ".parquet":  # compressed
                content += str(pq.read_table(path).to_pydict()).encode()
            looked += 1
            for name, secret in SECRETS.items():
                assert secret.encode() not in content, f"{name} is in {path}"
    assert looked > 200
    places = {path.relative_to(finished.root).parts[0] for path in finished.root.rglob("*") if path.is_file()}
    assert {"results", ".snakemake", "first_call.txt"} <= places


def test_a_comment_reruns_nothing(clone: Clone) -> None:
    """Nor does a second call, nor a newer file of the same text."""
    assert clone.planned() == {}
    for path in (clone.root / "src").rglob("*.py"):
        path.touch()
    for module in (
        "training/pack",
        "evaluation/run",
        "training/models/transformer",
        "figures/style",
        "measures/stability",
        "data/tasks/sparse_parity",
    ):
        path = clone.root / f"src/nsbench/{module}.py"
        path.write_text(path.read_text() + "\n\n# A comment.\n")
    clone.edit("src/nsbench/training/pack.py", ('"""The train stage', '"""The stage of training'))
    assert clone.planned() == {}


def test_device_and_rhythm_rerun_nothing(clone: Clone) -> None:
    clone.edit(
        TINY,
        ("scale: demo", "scale: demo\ndevice: cpu\nprogress_every_seconds: 5"),
    )
    assert clone.planned() == {}


def test_figure_code_reruns_that_figure(clone: Clone) -> None:
    clone.edit_code("figures/figure_11:draw")
    planned = clone.planned()
    assert planned == {"draw_figure": 1, **REPORT}
    assert planned.outputs["draw_figure"] == ["results/figures/figure_11.png, results/figures/figure_11.pdf"]


def test_theory_code_reruns_the_formulas_and_no_simulation(clone: Clone) -> None:
    clone.edit_code("theory/recurrences:ffn_recurrence")
    assert clone.planned() == THEORY


def test_the_theory_and_pretrained_models_can_be_left_out(clone: Clone) -> None:
    path = clone.root / TINY
    text = path.read_text()
    left = text[: text.index("theory:\n")] + "theory: null\npretrained: null\n" + text[text.index("grid:\n") :]
    path.write_text(left)
    assert clone.planned() == LEDGER
    status, said = clone.snakemake("results/tables/theory.csv")
    assert status != 0
    assert "Traceback" not in said


def test_what_is_measured_on_models_and_how_they_are_shown_are_apart(clone: Clone) -> None:
    text = (clone.root / TINY).read_text()
    clone.edit(TINY, ("n_sequences: 3", "n_sequences: 2"))
    assert clone.planned() == {"measure_model": MODELS, **OF_MODELS}
    (clone.root / TINY).write_text(text)
    clone.edit(TINY, ("  unreachable: skip\n", "  figures: {norm: l2}\n  max_memory_gb: 2\n"))
    assert clone.planned() == {"draw_figure": len(PRETRAINED_FIGURES), **REPORT}


def test_other_weights_in_a_folder_are_measured_whatever_their_time(clone: Clone) -> None:
    weights = clone.root / "tiny_models/encoder/model.safetensors"
    kept, content = weights.stat(), weights.read_bytes()
    tiny_models.make(clone.root / "tiny_models", "encoder", seed=1)
    os.utime(weights, (1, 1))
    planned = clone.planned()
    weights.write_bytes(content)
    os.utime(weights, ns=(kept.st_atime_ns, kept.st_mtime_ns))
    assert planned == {"measure_model": 1, **OF_MODELS}
    assert "results/pretrained/tiny_encoder/" in planned.outputs["measure_model"][0]
    assert clone.planned() == {}


def test_a_claim_is_judged_again_and_nothing_else(clone: Clone) -> None:
    """By what the file holds: one that replaces it may be older, as of `cp -p` or `rsync -a`."""
    text = (clone.root / "claims.yaml").read_text()
    clone.edit("claims.yaml", ("paper: 36\n", "paper: 36.4\n"))
    os.utime(clone.root / "claims.yaml", (1, 1))
    planned = clone.planned()
    (clone.root / "claims.yaml").write_text(text)
    assert planned == LEDGER


def test_measure_code_never_retrains(clone: Clone) -> None:
    clone.edit_code("measures/stability:noise_stability")
    assert clone.planned() == {"evaluate_pack": sum(PACKS.values()), **DOWNSTREAM}


def test_training_code_retrains(clone: Clone) -> None:
    clone.edit_code("training/step:TrainingStep")
    assert clone.planned() == packs(sum(PACKS.values()))


def test_the_text_s_choice_reruns_its_task(clone: Clone) -> None:
    of_text = {"fetch_text": 1, "make_dataset": 1, **packs(PACKS["next_token"])}
    of_text |= {"measure_model": MODELS, **OF_MODELS, "draw_figure": FIGURES + len(PRETRAINED_FIGURES)}
    clone.edit(TINY, ("source: embedded", "source: local, path: config.yaml"))
    assert clone.planned() == of_text


def test_a_target_reruns_the_analysis_alone(clone: Clone) -> None:
    clone.edit(TINY, ("model: {d_model: 8}", "target: {threshold: 0.5}\n        model: {d_model: 8}"))
    assert clone.planned() == DOWNSTREAM


def test_another_seed_runs_that_seed(clone: Clone) -> None:
    clone.edit(TINY, ("seeds: [0, 1]", "seeds: [0, 1, 2]"))
    planned = clone.planned()
    assert planned == {"make_dataset": sum(DATASETS.values()), **packs(sum(PACKS.values()))}
    for rule in ("make_dataset", "train_pack", "evaluate_pack"):
        assert all("seeds-2-2" in made and "seeds-0-1" not in made for made in planned.outputs[rule])


def export(clone: Clone, *paths: str) -> None:
    """Records of the finished tiny grid in the clone's folder `records`; of these cells alone, if any are named."""
    command = ["records", "export", "--out", "exported", "--configfile", "config.yaml", TINY]
    status, said = clone.warm.run("nsbench", command, clone.root, clone.environment())
    assert status == 0, said
    for path in paths or ["."]:
        place = clone.root / "records" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (clone.root / "exported" / path).is_dir() else shutil.copy)(
            clone.root / "exported" / path, place
        )
    clone.edit(TINY, ("scale: demo", "scale: demo\nrecords: [records]"))


def forget(clone: Clone) -> None:
    for name in ("exported", "records"):
        shutil.rmtree(clone.root / name, ignore_errors=True)


def test_records_stand_for_runs_and_another_seed_trains_alone(clone: Clone) -> None:
    # What tables come of records is in test_run_records; here nothing is made, since the clone is used again.
    try:
        export(clone)
        (clone.root / "results/packs").rename(clone.root / "packs_aside")
        assert clone.planned() == DOWNSTREAM
        clone.edit(TINY, ("seeds: [0, 1]", "seeds: [0, 1, 2]"))
        planned = clone.planned()
        assert planned == {"make_dataset": sum(DATASETS.values()), **packs(sum(PACKS.values()))}
        assert all("seeds-2-2" in made for made in planned.outputs["train_pack"])
    finally:
        (clone.root / "packs_aside").rename(clone.root / "results/packs")
        forget(clone)


def test_records_that_arrive_in_the_middle_of_a_grid_train_what_neither_has(clone: Clone) -> None:
    arms = {name: clone.root / f"results/packs/sparse_parity/tiny/{name}" for name in ("noise_stability", "every_10th")}
    aside = {path: clone.root / f"aside_{name}" for name, path in arms.items()}
    try:
        export(clone, "sparse_parity/tiny/every_10th.parquet")
        for path, place in aside.items():
            path.rename(place)
        planned = clone.planned()
        assert planned == packs(1)
        assert all("noise_stability" in made for made in planned.outputs["train_pack"])
        _, said = clone.snakemake("partial", "--dry-run")
        assert "rule list_run_states" in said
    finally:
        for path, place in aside.items():
            place.rename(path)
        forget(clone)


def test_another_arm_runs_that_arm(clone: Clone) -> None:
    arms = "arms: [baseline, noise_stability]"
    clone.edit(TINY, (arms, "arms: [baseline, noise_stability, noise_stability_s0]"))
    assert clone.planned() == packs(1)


def test_partial_work_is_reported_beside_a_workflow_and_strict_results_stay(clone: Clone) -> None:
    results = clone.root / "results"
    strict = {path: path.stat().st_mtime_ns for path in results.glob("tables/*")}
    out = {results / f"packs/{task}": results / f"aside/{task}" for task in ("modular_addition", "next_token")}
    n_finished, runs = SEEDS * PACKS["sparse_parity"], SEEDS * sum(PACKS.values())
    out[results / "tables/theory.parquet"] = results / "aside/theory.parquet"
    (results / "aside").mkdir()
    for pack, aside in out.items():
        pack.rename(aside)
    try:
        with occupied(results):  # as by a workflow that trains
            status, said = clone.snakemake("partial", path=clone.root / "bin")
            assert status == 0, said[-3000:]
            assert f"partial report on {n_finished} of {runs} runs: results/partial/report.html" in said
            assert "what is missing: results/partial/missing.csv" in said
            assert "of training and evaluation" not in said
            status, again = clone.snakemake("partial", "--dry-run")
            assert "Nothing to be done" in again, again
        missing = pd.read_csv(results / "partial/missing.csv")
        # The folders of its runs are there still.
        assert set(missing["reason"]) == {"trained, not evaluated"}
        tasks = [place.name for place in out if place.name in PACKS]
        assert missing["task"].value_counts().to_dict() == {task: SEEDS * PACKS[task] for task in tasks}
        page = (results / "partial/report.html").read_text()
        assert f"PARTIAL: {n_finished} of {runs} runs" in page
        reasons = pd.read_csv(results / "partial/claims.csv").set_index("id")["reason"]
        assert reasons["theorem_5_1"].startswith("theory.parquet was not made")
        drawn = {path.stem for path in (results / "partial/figures").glob("*.png")}
        assert drawn == {"figure_05_sparse_parity", "figure_11", "time_to_target", "grokking_gap", "arms"}
        assert all(f'<figure id="{name}">' in page for name in (*drawn, *THEORY_FIGURES, *PRETRAINED_FIGURES))
        # Strict results want every pack.
        _, said = clone.snakemake("--dry-run", "--forcerun", "collect_packs")
        assert Planned(said)["train_pack"] == sum(PACKS[task] for task in tasks)
    finally:
        for pack, aside in out.items():
            aside.rename(pack)
    assert clone.planned() == {}
    assert "rule list_run_states" in clone.snakemake("partial", "--dry-run")[1]
    assert {path: path.stat().st_mtime_ns for path in results.glob("tables/*")} == strict


def test_files_without_a_record_of_snakemake_are_judged_by_what_they_say(clone: Clone, tmp_path: Path) -> None:
    """In another clone, which has these results by a link, and after `rm -rf .snakemake` alike."""
    other = Clone(tmp_path, clone.warm)
    (other.root / "results").symlink_to(clone.root / "results")
    shutil.copytree(clone.root / "tiny_models", other.root / "tiny_models", dirs_exist_ok=True)
    os.utime(other.root / "claims.yaml", (1, 1))
    # Figures and the page are made again, since they do not say of what they are.
    figures = {"draw_figure": FIGURES + len(THEORY_FIGURES) + len(PRETRAINED_FIGURES), **REPORT, "track_runs": 1}
    assert other.planned() == figures
    # The budget of all runs of a task.
    other.edit(TINY, ("steps: 12", "steps: 8"))
    planned = other.planned()
    assert planned == {**figures, **packs(planned["train_pack"]), "draw_figure": figures["draw_figure"]}
    assert planned["train_pack"] in PACKS.values()


def test_a_file_of_other_settings_is_made_again_whatever_its_time(clone: Clone) -> None:
    """Of each stage, as where another clone works in these results, or files are copied from there: a file that says
    that others made it, or, as text, nothing."""
    results = clone.root / "results"
    names = (
        *("text", "packs/*/*/*/*/runs", "packs/*/*/*/*/evaluation", "collected/floors", "claim_evidence"),
        *("theory/*.examples", "tables/theory"),
        *("pretrained/*/measured", "tables/table_1"),
    )
    alone = ["datasets/*/*/*.safetensors", "tables/power.csv"]
    changed = [min(results.glob(name)) for name in (*(f"{name}.parquet" for name in names), *alone)]
    kept = {path: (path.read_bytes(), path.stat()) for path in changed}
    try:
        for number, path in enumerate(changed):
            other = {"source_digest": "0" * 16} if number % 2 else {"spec": '{"of":"others"}'}
            if path.suffix == ".parquet":
                table = pq.read_table(path)
                write_table(path, table.to_pylist(), table.schema.remove_metadata(), read_stamp(path) | other)
            elif path.suffix == ".safetensors":
                tensors, stamp = read_tensors(path, "", "")
                write_tensors(path, tensors, stamp | other)
            # Newer ones make Snakemake run what follows in any case.
            os.utime(path, (kept[path][1].st_mtime - 3600,) * 2)
        status, said = clone.snakemake("--summary")
    finally:
        for path, (content, about) in kept.items():
            path.write_bytes(content)
            os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert status == 0, said
    rows = [line.split("\t") for line in said.splitlines() if line.startswith("results/")]
    told = {row[0] for row in rows if row[-2] == "params changed"}
    assert {str(path.relative_to(clone.root)) for path in changed} <= told
    rules = {row[2] for row in rows if row[0] in told}
    assert len(rules) == len(changed), rules
    assert clone.planned() == {}


PACK = "results/packs/sparse_parity/tiny/baseline/seeds-0-1"


def test_a_lost_pack_is_made_again_from_finished_runs_by_the_planned_code_alone(clone: Clone) -> None:
    """Code that is edited while the workflow runs, and restored after, would leave other numbers as its own."""
    pack = clone.root / PACK
    before = pd.read_parquet(pack / "history.parquet")
    (pack / "history.parquet").unlink()
    step, edited = clone.root / "src/nsbench/training/step.py", clone.root / "edited"
    edited.mkdir()
    (edited / "before.py").write_text(clone.edit_code("training/step:TrainingStep"))
    step.rename(edited / "after.py")
    shutil.copy(edited / "before.py", step)
    command = edited / "nsbench"
    command.write_text(f'#!/bin/sh\ncp {edited}/after.py {step}\nexec {clone.root}/bin/nsbench "$@"\n')
    command.chmod(0o755)
    status, said = clone.snakemake(f"{PACK}/history.parquet", path=edited)
    assert status != 0
    assert "failed: train sparse_parity tiny, baseline, seeds 0 and 1" in said
    assert "nsbench stage train: its code is not what the workflow planned with" in said
    assert "Traceback" not in said
    shutil.copy(edited / "before.py", step)
    # On a node of a cluster the rules are read once more, where code and settings may be others than were planned.
    planned, log = clone.root / "results/planned.json", clone.root / f"{PACK}.log".replace("packs", "logs/train")
    kept = json.loads((clone.root / "src/nsbench/__pycache__/code_digests.json").read_text())["digests"]
    settings = canonical_json(load(overlaid(TINY)))
    planned.write_text(json.dumps({"code": dict.fromkeys(kept, "0" * 16), "config": settings}))
    job = "train_pack:task=sparse_parity,variant=tiny,arm=baseline,pack=seeds-0-1"
    node = ("--mode", "remote", "--no-hooks", "--allowed-rules", "train_pack", "--target-jobs", job)
    status, said = clone.snakemake(*node, path=clone.root / "bin")
    assert status != 0, said
    assert "not 0000000000000000)" in log.read_text()
    planned.write_text(json.dumps({"code": {}, "config": settings.replace('"seeds":[0,1]', '"seeds":[0]')}))
    status, said = clone.snakemake(*node, path=clone.root / "bin")
    planned.unlink()
    assert status != 0
    assert "the configuration cannot be used. It was edited since these jobs were submitted" in said
    status, said = clone.snakemake(f"{PACK}/history.parquet", path=clone.root / "bin")
    assert status == 0, said
    # To the bit, seconds included, and nothing is trained: the runs are still there.
    pd.testing.assert_frame_equal(pd.read_parquet(pack / "history.parquet"), before, check_exact=True)
    assert log.read_text().count("finished before, kept") == 2
