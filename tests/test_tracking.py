"""Import into MLflow: one run per key, whatever is repeated, changed, interrupted or started twice."""

from __future__ import annotations

import itertools
import json
import math
import sqlite3
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from nsbench import tracking
from nsbench.records import EVALUATION, HISTORY, RUNS, TIME_TO_TARGET, RecordError, write_table

pytestmark = [
    pytest.mark.filterwarnings(f"ignore::{kind}:{library}")
    for kind in ("DeprecationWarning", "FutureWarning")
    for library in (r"mlflow\.", r"alembic\.", r"sqlalchemy\.", r"google\.")
]

SCORES = ("val_loss", "val_accuracy")
TEXT = {"modular_addition": "", "sparse_parity": "", "next_token": "a made-up text"}
STAMP = {"spec": "{}", "source_digest": "0f", "commit": "c0ffee", "device": "cpu", "version_torch": "2.13.0"}
STEPS, DIVERGED = (0, 100, 200), ("modular_addition", "calibrated", "steady", 1)


@dataclass
class Results:
    """A folder with the Parquet files of a small grid, and its MLflow store."""

    folder: Path
    cells: list[dict[str, Any]]

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.folder}/mlflow.db"

    def track(self, **changes: Any) -> tracking.TrackSummary:
        settings = {"cells": self.cells, "uri": self.uri, "spec": "{}", "digest": "d1"} | changes
        return tracking.track(self.folder / "collected", self.folder / "tables", **settings)

    def sql(self, query: str) -> list[tuple[Any, ...]]:
        database = sqlite3.connect(self.folder / "mlflow.db")
        try:
            with database:
                return database.execute(query).fetchall()
        finally:
            database.close()

    def runs(self) -> dict[str, str]:
        """Run ids by name, experiment first; every row of the table, deleted or not."""
        rows = self.sql("SELECT e.name || '/' || r.name, run_uuid FROM runs r JOIN experiments e USING (experiment_id)")
        assert len(dict(rows)) == len(rows)
        return dict(rows)

    def size(self) -> tuple[int, ...]:
        return tuple(self.sql(f"SELECT count(*) FROM {table}")[0][0] for table in ("runs", "metrics", "params", "tags"))

    def write(self, val_loss: float = 0.5) -> None:
        """The Parquet files; `val_loss` is that of the first run at its last step."""
        history, runs, evaluation, target = [], [], [], []
        for cell in self.cells:
            for seed in cell["seeds"]:
                run = {name: cell[name] for name in ("task", "variant", "arm")} | {"seed": seed}
                diverged = tuple(run.values()) == DIVERGED
                for step in STEPS:
                    loss = math.inf if diverged and step == 100 else math.nan if diverged and step else 2.0 - step / 200
                    train = (
                        {"train_loss": loss, "train_accuracy": 0.5}
                        if step
                        else dict.fromkeys(("train_loss", "train_accuracy"), math.nan)
                    )
                    if not history or not any(row["step"] == step for row in history):
                        loss = val_loss if step == STEPS[-1] else loss
                    rates = {"val_accuracy": step / 200, "stability": 0.1, "learning_rate": 1e-3}
                    history.append(
                        run
                        | {
                            "step": step,
                            "epoch": step / 8,
                            **train,
                            "val_loss": loss,
                            **rates,
                            "seconds": step / 10,
                            "flops": step * 1e9,
                        }
                    )
                    for reduction, rho in (("decision", 0.5), ("decision", -0.5), ("probability_dot", 0.5)):
                        values = {
                            "correlation": rho,
                            "value": rho * step,
                            "standard_error": 0.1,
                            "target_value": math.nan,
                        }
                        row = {"step": step, "measure": "noise_stability", "reduction": reduction, "rho": rho, **values}
                        evaluation.append(run | row | {"n_inputs": 9, "n_draws": 2})
                    row |= {
                        "measure": "average_sensitivity",
                        "reduction": "decision",
                        "rho": math.nan,
                        "correlation": math.nan,
                    }
                    evaluation.append(run | row | {"value": 3.0, "n_inputs": 9, "n_draws": 2})
                status = {"status": "diverged" if diverged else "completed"}
                cost = {"n_parameters": 42, "seconds": 20.0, "flops": 2e11, "device": "cpu"}
                digests = {"run_key": f"key{seed}", "history_sha256": "h", "data_sha256": "d"}
                secret = [1, 4] if cell["task"] == "sparse_parity" else None
                runs.append(
                    run
                    | status
                    | {"steps": STEPS[-1]}
                    | cost
                    | digests
                    | {"secret": secret, "text": TEXT[cell["task"]]}
                )
                arm = {
                    "arm_kind": cell["arm_settings"]["kind"],
                    "rho": math.nan,
                    "gamma": math.nan,
                    "orientation": math.nan,
                }
                goal = {"metric": "val_accuracy", "threshold": 0.95, "hold_evaluations": 1, "budget_steps": 200}
                reached = (
                    {"step": 200.0, "flops": 2e11, "seconds": 20.0}
                    if not diverged
                    else dict.fromkeys(("step", "flops", "seconds"), math.nan)
                )
                target.append(
                    run | arm | goal | status | {"reached": not diverged} | reached | {"text": TEXT[cell["task"]]}
                )
        for row in history:
            # Padding counts 0.1 less and unknown words too, so that the three curves of text differ.
            for name, ending in itertools.product(SCORES, ("_unpadded", "_known")):
                row[name + ending] = row[name] - 0.1 * (row["task"] == "next_token")
        for name, rows, schema in (
            ("history", history, HISTORY),
            ("runs", runs, RUNS),
            ("evaluation", evaluation, EVALUATION),
        ):
            write_table(self.folder / "collected" / f"{name}.parquet", rows, schema, STAMP)
        write_table(self.folder / "tables" / "time_to_target.parquet", target, TIME_TO_TARGET, STAMP)


def cell(task: str, arm: str, seeds: list[int]) -> dict[str, Any]:
    settings = {
        "data": {"n": 4},
        "model": {"d_model": 8, "ffn_width": None},
        "noise": {"same_symbol": True},
        "training": {"steps": 200},
    }
    return {
        "task": task,
        "variant": "calibrated",
        "arm": arm,
        "arm_settings": {"kind": "baseline"} if arm == "baseline" else {"kind": "noise_stability", "rho": 0.5},
        "settings": settings,
        "seeds": seeds,
        "target": {"metric": "val_accuracy", "threshold": 0.95},
        "budget_steps": 200,
        "leaks": ["windows overlap", "no mask"] if task == "next_token" else [],
    }


@pytest.fixture
def results(tmp_path: Path) -> Results:
    cells = [cell("modular_addition", arm, [0, 1]) for arm in ("baseline", "steady")]
    made = Results(tmp_path / "results", [*cells, cell("sparse_parity", "baseline", [0])])
    made.write()
    return made


@pytest.fixture(scope="module", autouse=True)
def _mlflow() -> None:
    """Import MLflow once, outside any test's time."""
    pytest.importorskip("mlflow")


def client(results: Results) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=results.uri)


def curve(results: Results, run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client(results).get_metric_history(run_id, metric)]


def test_one_run_per_key_with_parameters_curves_and_final_metrics(
    results: Results, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    summary = results.track()
    assert (summary.added, summary.replaced, summary.unchanged, summary.missing) == (5, 0, 0, ())
    names = [f"nsbench/{c['task']}/calibrated/{c['arm']}/seed-{seed}" for c in results.cells for seed in c["seeds"]]
    assert sorted(results.runs()) == sorted(names)

    run_id = results.runs()["nsbench/modular_addition/calibrated/steady/seed-0"]
    run = client(results).get_run(run_id)
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
    assert run.data.metrics["final/val_accuracy"] == 1.0
    assert run.data.metrics["final/flops"] == 2e11
    assert {name: run.data.metrics[f"time_to_target/{name}"] for name in ("reached", "step", "seconds")} == {
        "reached": 1,
        "step": 200,
        "seconds": 20,
    }
    assert curve(results, run_id, "val_accuracy") == [(0, 0.0), (100, 0.5), (200, 1.0)]
    assert [step for step, _ in curve(results, run_id, "train_loss")] == [100, 200]
    assert curve(results, run_id, "noise_stability/decision/rho_-0.5") == [(0, 0.0), (100, -50.0), (200, -100.0)]
    assert curve(results, run_id, "average_sensitivity/decision") == [(0, 3.0), (100, 3.0), (200, 3.0)]
    parity = results.runs()["nsbench/sparse_parity/calibrated/baseline/seed-0"]
    assert client(results).get_run(parity).data.params["secret"] == "[1, 4]"
    assert [path.name for path in tmp_path.iterdir()] == ["results"], "MLflow left files in the working directory"


def test_text_and_leaks_are_told_and_only_curves_of_their_own_are_shown(results: Results) -> None:
    results.cells = [cell("modular_addition", "baseline", [0]), cell("next_token", "baseline", [0])]
    results.write()
    results.track()
    addition, text = (
        client(results).get_run(results.runs()[f"nsbench/{task}/calibrated/baseline/seed-0"])
        for task in ("modular_addition", "next_token")
    )
    assert {"text": "a made-up text", "leak": "windows overlap; no mask"}.items() <= text.data.tags.items()
    assert not {"text", "leak"} & addition.data.tags.keys()
    assert {"val_loss_known", "val_accuracy_unpadded"} <= text.data.metrics.keys()
    assert not {name for name in addition.data.metrics if name.endswith(("_known", "_unpadded"))}
    assert text.data.metrics["val_accuracy_known"] == pytest.approx(0.9)


def test_diverged_run_stays_visible(results: Results) -> None:
    results.track()
    run_id = results.runs()["nsbench/modular_addition/calibrated/steady/seed-1"]
    run = client(results).get_run(run_id)
    assert (run.info.status, run.data.tags["status"]) == ("FAILED", "diverged")
    assert run.data.tags["nonfinite"] == "train_loss is inf at step 100; val_loss is inf at step 100"
    assert run.data.metrics["time_to_target/reached"] == 0
    assert not {"time_to_target/step", "final/val_loss", "train_loss"} & run.data.metrics.keys()
    assert curve(results, run_id, "val_loss") == [(0, 2.0)]


def test_same_content_again_changes_nothing(results: Results) -> None:
    results.track()
    runs, size = results.runs(), results.size()
    results.write()
    summary = results.track()
    assert (summary.added, summary.replaced, summary.unchanged) == (0, 0, 5)
    assert (results.runs(), results.size()) == (runs, size)


def test_changed_run_is_replaced_and_only_that(results: Results) -> None:
    results.track()
    before, size = results.runs(), results.size()
    results.write(val_loss=0.25)
    summary = results.track()
    assert (summary.added, summary.replaced, summary.unchanged) == (0, 1, 4)
    after = results.runs()
    name = "nsbench/modular_addition/calibrated/baseline/seed-0"
    assert {key for key in before if before[key] != after[key]} == {name}
    assert results.size() == size
    assert client(results).get_run(after[name]).data.metrics["final/val_loss"] == 0.25


def test_new_seed_adds_and_an_absent_one_is_named(results: Results) -> None:
    results.track()
    before = results.runs()
    results.cells[0]["seeds"].append(2)
    assert results.track().missing == ("modular_addition/calibrated/baseline/seed-2",)
    results.write()
    summary = results.track()
    assert (summary.added, summary.unchanged, summary.missing) == (1, 5, ())
    assert before.items() <= results.runs().items()


@pytest.mark.parametrize("cut", ["set_terminated", "log_batch", "create_run"])
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
    finished = {"set_terminated": 2, "log_batch": 1, "create_run": 2}[cut]
    broken = {"set_terminated": 1, "log_batch": 0, "create_run": 1}[cut]
    assert (summary.unchanged, summary.replaced, summary.added) == (finished, broken, 5 - finished - broken)
    assert len(results.runs()) == 5
    assert results.track().unchanged == 5


def test_duplicates_and_deleted_experiments_are_healed(results: Results) -> None:
    results.track()
    experiment = client(results).get_experiment_by_name("nsbench/modular_addition").experiment_id
    first = client(results).search_runs([experiment])[0]
    client(results).create_run(experiment, tags=first.data.tags)
    summary = results.track()
    assert (summary.replaced, summary.unchanged) == (1, 4)
    client(results).delete_experiment(experiment)
    results.track()
    assert len(client(results).search_runs([experiment])) == len(results.runs()) - 1 == 4


def test_two_first_imports_at_once_end_in_one_run_per_key(results: Results) -> None:
    program = (
        "import json, pathlib, sys; from nsbench.tracking import track; folder = pathlib.Path(sys.argv[1]);"
        "track(folder / 'collected', folder / 'tables', json.loads(sys.argv[2]), sys.argv[3], '{}', 'd1')"
    )
    command = [sys.executable, "-c", program, str(results.folder), json.dumps(results.cells), results.uri]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        out, err = process.communicate(timeout=120)
        said = [line for line in err.splitlines() if not line.startswith("nsbench track: another import holds")]
        assert (process.returncode, out, said) == (0, "", [])
    assert len(results.runs()) == 5
    assert results.track().unchanged == 5


def test_import_waits_for_another_with_a_message(
    results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.05)
    held = threading.Event()

    def hold() -> None:
        with FileLock(results.folder / "mlflow.db.lock"):
            held.set()
            time.sleep(0.5)

    other = threading.Thread(target=hold)
    other.start()
    held.wait()
    assert results.track().added == 5
    other.join()
    assert "another import holds" in capsys.readouterr().err


def test_database_held_by_another_program_is_tried_again(
    results: Results, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results.track()
    other = sqlite3.connect(results.folder / "mlflow.db", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    monkeypatch.setattr(tracking, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(tracking.time, "sleep", lambda seconds: other.rollback())
    assert results.track().unchanged == 5
    other.close()
    assert "is locked by another program; trying again" in capsys.readouterr().err


@pytest.mark.parametrize(
    "damage", [b"no database " * 99, b"SQLite format 3\0" + b"\x10\0\1\1\0\x40\x20\x20" + b"?" * 8168]
)
def test_corrupt_database_is_one_sentence(results: Results, damage: bytes) -> None:
    (results.folder / "mlflow.db").write_bytes(damage)
    with pytest.raises(tracking.TrackingError, match="run `nsbench track` again") as caught:
        results.track()
    assert str(caught.value).startswith(f"{results.uri}: MLflow's store cannot be used (")
    assert "\n" not in str(caught.value)
    assert (results.folder / "mlflow.db").read_bytes() == damage


def test_unreachable_stores_are_one_sentence(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("NO_PROXY", "*")
    for uri in ("http://127.0.0.1:9", f"sqlite:///{results.folder}/collected/runs.parquet/mlflow.db", "nowhere://x"):
        with pytest.raises(tracking.TrackingError, match=uri):
            results.track(uri=uri)


def test_missing_parquet_file_is_named(results: Results) -> None:
    (results.folder / "collected" / "evaluation.parquet").unlink()
    with pytest.raises(RecordError, match=r"evaluation\.parquet: no such file"):
        results.track()


def test_importing_the_module_does_not_import_mlflow() -> None:
    program = "import sys, nsbench.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
