"""Import into MLflow: one run per key, whatever is repeated, changed, interrupted or started twice."""

from __future__ import annotations

import math
import shutil
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from filelock import FileLock

from nsbench.analysis.collect import OF_NOISE
from nsbench.arms.colours import arm_colour
from nsbench.schemas.training import COLLECTED_RUNS, HISTORY
from nsbench.storage.parquet import read_table, write_table
from nsbench.tracking import importer, stores
from nsbench.tracking.content import read_contents
from tests.tracked_results import LIBRARIES_WARN, STAMP, Results, cell

pytestmark = [pytest.mark.filterwarnings(warning) for warning in LIBRARIES_WARN]


def curve(results: Results, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in results.client().get_metric_history(run_id, metric)]


def test_one_run_per_key_with_parameters_curves_and_final_metrics(
    results: Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = results.track()
    assert (summary.added, summary.replaced, summary.unchanged, summary.missing) == (5, 0, 0, ())
    names = [f"nsbench/{c['task']}/calibrated/{c['arm']}/seed-{seed}" for c in results.cells for seed in c["seeds"]]
    assert sorted(results.runs()) == sorted(names)

    run_id = results.runs()["nsbench/modular_addition/calibrated/steady/seed-0"]
    run = results.client().get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 20_000
    expected = {
        **{"task": "modular_addition", "variant": "calibrated", "arm": "steady", "seed": "0"},
        **{"arm.kind": "noise_stability", "arm.rho": "0.5", "n_parameters": "42", "budget_steps": "200"},
        **{"data.n": "4", "model.d_model": "8", "model.ffn_width": "null", "noise.same_symbol": "true"},
        **{"training.steps": "200", "target.metric": "val_accuracy", "target.threshold": "0.95"},
    }
    assert run.data.params == expected
    assert {
        "status": "completed",
        "run_key": "key0",
        "commit": "c0ffee",
        "version_torch": "2.13.0",
    }.items() <= run.data.tags.items()
    assert not {"nonfinite", "spec"} & run.data.tags.keys()
    assert run.data.metrics["result/val_accuracy"] == 1.0
    assert run.data.metrics["result/flops"] == 2e11
    assert {name: run.data.metrics[f"target/{name}"] for name in ("reached", "step", "seconds")} == {
        "reached": 1,
        "step": 200,
        "seconds": 20,
    }
    assert curve(results, run_id, "eval/val_accuracy") == [(0, 0.0), (100, 0.5), (200, 1.0)]
    assert [step for step, _ in curve(results, run_id, "fit/train_loss")] == [100, 200]
    assert curve(results, run_id, "measures/noise_stability/decision/rho_-0.5") == [
        (0, 0.0),
        (100, -50.0),
        (200, -100.0),
    ]
    assert curve(results, run_id, "measures/average_sensitivity/decision") == [(0, 3.0), (100, 3.0), (200, 3.0)]
    parity = results.runs()["nsbench/sparse_parity/calibrated/baseline/seed-0"]
    assert results.client().get_run(parity).data.params["secret"] == "[1, 4]"
    assert [path.name for path in tmp_path.iterdir()] == ["results"], "MLflow left files in the working directory"
    files = {path.name for path in results.folder.iterdir()} - {"mlflow.db.lock", "track.lock"}
    assert files == {"artifacts", "collected", "tables", "mlflow.db", "clone.json"}


def test_text_and_leaks_are_told_and_only_curves_of_their_own_are_shown(results: Results) -> None:
    results.cells = [cell("modular_addition", "baseline", [0]), cell("next_token", "baseline", [0])]
    results.write()
    results.track()
    addition, text = (
        results.client().get_run(results.runs()[f"nsbench/{task}/calibrated/baseline/seed-0"])
        for task in ("modular_addition", "next_token")
    )
    assert {"text": "a made-up text", "leak": "windows overlap; no mask"}.items() <= text.data.tags.items()
    assert not {"text", "leak"} & addition.data.tags.keys()
    assert {"eval/val_loss_known", "eval/val_accuracy_unpadded"} <= text.data.metrics.keys()
    assert not {name for name in addition.data.metrics if name.endswith(("_known", "_unpadded"))}
    assert text.data.metrics["eval/val_accuracy_known"] == pytest.approx(0.9)


def test_what_was_not_measured_is_told_and_is_no_value_that_is_not_finite(results: Results) -> None:
    """A shared baseline has no stability of its own noise; a record may come without measures."""
    results.write()
    path, collected = "modular_addition/calibrated/baseline/seed-0", results.folder / "collected"
    history = read_table(collected / "history.parquet", HISTORY)
    runs = read_table(collected / "runs.parquet", COLLECTED_RUNS)
    steady = runs["arm"].eq("steady")
    write_table(
        collected / "runs.parquet",
        runs.assign(no_evaluation=steady.map({True: "measured otherwise", False: ""})),
        COLLECTED_RUNS,
        STAMP,
    )
    history.loc[history["arm"] == "baseline", list(OF_NOISE)] = math.nan
    write_table(collected / "history.parquet", history, HISTORY, STAMP)
    cells = [{**cell, "shares": "a_twin" if cell["arm"] == "baseline" else None} for cell in results.cells]
    contents, _ = read_contents(collected, results.folder / "tables", cells)
    by_key = {content.key: content for content in contents}
    assert by_key[path].tags["runs_of"] == "a_twin"
    assert not {"nonfinite", "no_evaluation"} & by_key[path].tags.keys()
    assert not {"eval/outputs/stability", "result/stability"} & {point.metric for point in by_key[path].points}
    of_arm = by_key["modular_addition/calibrated/steady/seed-0"].tags
    assert (of_arm["no_evaluation"], "runs_of" in of_arm) == ("measured otherwise", False)
    assert "nonfinite" in by_key["modular_addition/calibrated/steady/seed-1"].tags  # it diverged


def test_diverged_run_stays_visible(results: Results) -> None:
    results.track()
    run_id = results.runs()["nsbench/modular_addition/calibrated/steady/seed-1"]
    run = results.client().get_run(run_id)
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", "diverged")
    assert run.data.tags["nonfinite"] == "train_loss is inf at step 100; val_loss is inf at step 100"
    assert run.data.metrics["target/reached"] == 0
    assert not {"target/step", "result/val_loss", "fit/train_loss"} & run.data.metrics.keys()
    assert curve(results, run_id, "eval/val_loss") == [(0, 2.0)]


def test_validation_accuracy_is_the_first_of_all_charts_and_curves_precede_single_values(results: Results) -> None:
    """MLflow sorts sections, and the charts in them, by name; what has no later step than 0 it draws as bars."""
    results.track()
    run_id = results.runs()["nsbench/sparse_parity/calibrated/baseline/seed-0"]
    steps = dict(results.sql(f"SELECT key, max(step) FROM metrics WHERE run_uuid = '{run_id}' GROUP BY key"))
    sections = sorted({name.rpartition("/")[0] for name in steps})
    measures = [section for section in sections if section.startswith("measures/")]
    assert sections == ["eval", "eval/outputs", "fit", *measures, "result", "target"]
    assert min(name for name in steps if name.rpartition("/")[0] == "eval") == "eval/val_accuracy"
    assert {name.partition("/")[0] for name in steps if steps[name] == 0} == {"result", "target"}
    # A run's page lists them as they were written.
    (first,) = results.sql(f"SELECT key FROM latest_metrics WHERE run_uuid = '{run_id}' ORDER BY rowid LIMIT 1")
    assert first == ("eval/val_accuracy",)


def files_of(results: Results, key: str) -> dict[str, str]:
    run = results.client().get_run(results.runs()[f"nsbench/{key}"])
    folder = results.folder / "artifacts" / run.info.artifact_uri.removeprefix("mlflow-artifacts:/")
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_run_has_a_description_its_settings_and_the_curves_of_its_cell(results: Results) -> None:
    results.track()
    client, runs = results.client(), results.runs()
    steady, diverged = (
        client.get_run(runs[f"nsbench/modular_addition/calibrated/steady/seed-{seed}"]).data.tags for seed in (0, 1)
    )
    note = steady["mlflow.note.content"]
    for part in (
        "It reached validation accuracy 0.95 at step 200 and held it, after 20 s of training and 2.00e+11 FLOPs.",
        "It ended with validation accuracy 1 and validation loss 1.",
        "Modular addition, variant `calibrated`: a model of 42 parameters, trained for 200 of 200 steps on cpu.",
        "Arm `steady` (noise stability: rho 0.5), seed 0.",
        "`runs/modular_addition/calibrated/steady/seed-0` in the results folder (run key `key0`)",
    ):
        assert part in note
    assert "It diverged by step 200. It did not reach validation accuracy 0.95" in diverged["mlflow.note.content"]
    assert steady["mlflow.runColor"] == diverged["mlflow.runColor"] == arm_colour(results.cells[1]["arm_settings"])
    files = files_of(results, "modular_addition/calibrated/steady/seed-0")
    settings = yaml.safe_load(files["settings.yaml"])
    assert settings["seeds"] == [0]
    assert settings["grid"] == [
        {"task": "modular_addition", "variants": ["calibrated"], "arms": ["baseline", "steady"]}
    ]
    assert settings["tasks"]["modular_addition"]["arms"]["steady"] == {"kind": "noise_stability", "rho": 0.5}
    root = ElementTree.fromstring(files["curves.svg"])
    assert [
        text.text for text in root.iter("{http://www.w3.org/2000/svg}text") if (text.text or "").startswith("seed")
    ] == [
        "seed 0",
        "seed 1",
    ]
    assert len(list(root.iter("{http://www.w3.org/2000/svg}polyline"))) == 4
    size = sum(map(len, files.values()))
    assert size < 10_000


def test_what_is_new_changed_or_lost_is_imported_and_nothing_else(results: Results) -> None:
    key = "modular_addition/calibrated/baseline/seed-0"
    results.track()
    before, size, files = results.runs(), results.size(), files_of(results, key)
    # The same content again changes nothing.
    results.write()
    summary = results.track()
    assert (summary.added, summary.replaced, summary.unchanged) == (0, 0, 5)
    assert (results.runs(), results.size()) == (before, size)
    # A seed that is absent is named; one more changes the picture of the cell, and no run of it.
    results.cells[0]["seeds"].append(2)
    assert results.track().missing == ("modular_addition/calibrated/baseline/seed-2",)
    results.write()
    summary = results.track()
    assert (summary.added, summary.unchanged, summary.missing) == (1, 5, ())
    assert before.items() <= results.runs().items()
    after = files_of(results, key)
    assert after["settings.yaml"] == files["settings.yaml"]
    assert "seed 2" in after["curves.svg"]
    # What was lost is there again.
    shutil.rmtree(results.folder / "artifacts")
    assert results.track().unchanged == 6
    assert files_of(results, key) == after
    # A run that is changed is replaced, and only that; its files leave none behind.
    before, size = results.runs(), results.size()
    results.write(val_loss=0.25)
    summary = results.track()
    assert (summary.added, summary.replaced, summary.unchanged) == (0, 1, 5)
    runs, name = results.runs(), f"nsbench/{key}"
    assert {one for one in before if before[one] != runs[one]} == {name}
    assert results.size() == size
    assert results.client().get_run(runs[name]).data.metrics["result/val_loss"] == 0.25
    folders = {path.parent.name for path in (results.folder / "artifacts").rglob("artifacts")}
    assert folders == set(runs.values())


@pytest.mark.parametrize("cut", ["set_terminated", "log_batch"])
def test_interrupted_import_is_healed(results: Results, monkeypatch: pytest.MonkeyPatch, cut: str) -> None:
    from mlflow import MlflowClient

    calls, real = [], getattr(MlflowClient, cut)

    def interrupted(self: MlflowClient, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        made = real(self, *args, **kwargs)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return made

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, cut, interrupted)
        with pytest.raises(KeyboardInterrupt):
            results.track()
    summary = results.track()
    finished = {"set_terminated": 2, "log_batch": 1}[cut]
    broken = {"set_terminated": 1, "log_batch": 0}[cut]
    assert (summary.unchanged, summary.replaced, summary.added) == (finished, broken, 5 - finished - broken)
    assert len(results.runs()) == 5
    assert results.track().unchanged == 5


def test_duplicates_and_deleted_experiments_are_healed(results: Results) -> None:
    results.track()
    experiment = results.client().get_experiment_by_name("Modular addition").experiment_id
    first = results.client().search_runs([experiment])[0]
    results.client().create_run(experiment, tags=first.data.tags)
    summary = results.track()
    assert (summary.replaced, summary.unchanged) == (1, 4)
    results.client().delete_experiment(experiment)
    results.track()
    assert len(results.client().search_runs([experiment])) == len(results.runs()) - 1 == 4


def test_a_renamed_experiment_keeps_its_runs(results: Results) -> None:
    results.track()
    client, name = results.client(), "Modular addition"
    experiment = client.get_experiment_by_name(name).experiment_id
    client.rename_experiment(experiment, "mine")
    results.write(val_loss=0.25)
    summary = results.track()
    assert (summary.added, summary.replaced, summary.unchanged) == (0, 1, 4)
    assert client.get_experiment_by_name(name) is None
    assert (len(client.search_runs([experiment])), len(results.runs())) == (4, 5)
    client.delete_experiment(experiment)
    results.track()
    assert len(client.search_runs([experiment])) == 4


def test_an_experiment_is_found_again_with_what_a_user_made_of_it(results: Results) -> None:
    client = results.client()
    assert results.track().added == 5
    found = client.get_experiment_by_name("Modular addition")
    experiment = found.experiment_id
    assert found.tags["mlflow.note.content"].startswith("Runs of the task `modular_addition`")
    names = sorted(run.info.run_name for run in client.search_runs([experiment]))
    assert names == [f"{arm}, seed {seed} (calibrated)" for arm in ("baseline", "steady") for seed in (0, 1)]
    client.rename_experiment(experiment, "mine")
    client.set_experiment_tag(experiment, "mlflow.note.content", "my notes")
    assert results.track().unchanged == 5
    assert client.get_experiment(experiment).name == "mine"
    assert client.get_experiment(experiment).tags["mlflow.note.content"] == "my notes"


def test_an_experiment_of_somebody_else_is_left_alone(results: Results) -> None:
    client = results.client()
    other = client.create_experiment("Modular addition")
    for _ in range(2):
        assert results.track().added in (5, 0)
    assert client.search_runs([other]) == []
    experiment = client.get_experiment_by_name("Modular addition (nsbench)").experiment_id
    assert len(client.search_runs([experiment])) == 4


def test_lost_points_are_imported_again(results: Results) -> None:
    results.track()
    size, (run, *_) = results.size(), sorted(results.runs().values())
    results.sql(f"DELETE FROM metrics WHERE run_uuid = '{run}' AND step = 100")
    summary = results.track()
    assert (summary.replaced, summary.unchanged, results.size()) == (1, 4, size)


def test_a_store_without_one_of_its_tables_is_told(results: Results) -> None:
    results.track()
    whole = (results.folder / "mlflow.db").read_bytes()
    for table in ("metrics", "latest_metrics", "params", "tags", "runs", "experiments"):
        results.sql(f"DROP TABLE {table}")
        with pytest.raises(importer.TrackingError, match=f"no such table: {table}.*move its file away") as caught:
            results.track()
        assert "\n" not in str(caught.value)
        (results.folder / "mlflow.db").write_bytes(whole)


def test_import_waits_for_another_with_a_message(results: Results, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    held = threading.Event()

    def hold() -> None:
        with FileLock(results.folder / "mlflow.db.lock"):
            held.set()
            deadline = time.monotonic() + 600
            while not caplog.messages and time.monotonic() < deadline:
                time.sleep(0.01)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    assert results.track().added == 5
    other.join()
    assert f"another import holds {results.folder}/mlflow.db.lock; waiting for it" in caplog.messages


def test_database_held_by_another_program_is_tried_again(
    results: Results, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    results.track()
    other = sqlite3.connect(results.folder / "mlflow.db", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(stores, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(importer.time, "sleep", lambda seconds: other.rollback())
    assert results.track().unchanged == 5
    other.close()
    assert "is locked by another program; trying again" in caplog.text


def test_corrupt_database_is_one_sentence(results: Results) -> None:
    damage = b"SQLite format 3\0" + b"\x10\0\1\1\0\x40\x20\x20" + b"?" * 8168
    (results.folder / "mlflow.db").write_bytes(damage)
    with pytest.raises(importer.TrackingError, match="give the same command again") as caught:
        results.track()
    assert str(caught.value).startswith(f"{results.uri}: MLflow's store cannot be used (")
    assert "\n" not in str(caught.value)
    assert (results.folder / "mlflow.db").read_bytes() == damage
