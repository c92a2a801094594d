"""The evaluate stage on real trails."""

from __future__ import annotations

import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

from nsbench.config.base import parse
from nsbench.config.sections import Evaluation
from nsbench.config.variant import Noise
from nsbench.data.datasets import read_dataset
from nsbench.evaluation.run import EvaluateSpec, evaluate_pack
from nsbench.schemas.metrics import TARGETS
from nsbench.schemas.training import EVALUATION
from nsbench.storage.parquet import RecordError, read_table
from nsbench.storage.run_folder import RunFolder
from tests.conftest import DATA, train, train_spec


def evaluate(root: Path, task: str = "sparse_parity", digest: str = "code", keep: bool = True, **noise: object) -> Path:
    spec = parse(
        EvaluateSpec,
        {
            "task": task,
            "variant": "tiny",
            "arm": "arm",
            "data": DATA[task],
            "noise": Noise(**noise).model_dump(),
            "evaluation": Evaluation(rho=[0.0, 0.5], n_inputs=20, n_draws=2).model_dump(),
            "keep_checkpoints": keep,
            "seeds": [3, 4],
        },
    )
    out = root / "evaluation.parquet"
    dataset = root / f"{task}.safetensors"
    evaluate_pack(spec, digest, root / "runs.parquet", dataset, root / "runs", out, torch.device("cpu"))
    return out


def test_every_checkpoint_rho_and_reduction_has_a_row(tmp_path: Path) -> None:
    train(tmp_path, train_spec("sparse_parity"))
    rows = read_table(evaluate(tmp_path), EVALUATION)
    stability = rows[rows["measure"] == "noise_stability"]
    assert len(stability) == 2 * 3 * 2 * 3
    assert set(stability["reduction"]) == {"probability_dot", "probability_cosine", "decision"}
    assert set(stability["rho"]) == {0.0, 0.5}
    assert set(rows["step"]) == {0, 12, 24}
    tested = rows["measure"].isin(["test_accuracy", "test_loss"])
    assert (rows["n_inputs"] == np.where(tested, 32, 20)).all()
    assert set(rows[tested]["reduction"]) == {"all", "unpadded", "known"}
    assert len(rows[tested]) == 2 * 3 * 2 * 3
    sensitivity = rows[rows["measure"] == "average_sensitivity"]
    assert len(sensitivity) == 2 * 3 * 2
    assert (sensitivity["target_value"] == 2).all()
    half = stability[(stability["rho"] == 0.5) & (stability["reduction"] == "decision")]
    assert half["correlation"].unique().tolist() == [0.75]
    assert half["target_value"].tolist() == pytest.approx([0.75**2] * len(half))
    # An untrained model gives every class the same chance.
    start = stability[(stability["step"] == 0) & (stability["reduction"] == "probability_dot")]
    assert start["value"].to_numpy() == pytest.approx(0.5, abs=0.01)


def test_noise_off_the_tasks_domain_has_no_target_value(tmp_path: Path) -> None:
    train(tmp_path, train_spec("modular_addition"))
    on_task = read_table(evaluate(tmp_path, "modular_addition"), EVALUATION)
    tested = on_task["measure"].isin(["test_accuracy", "test_loss"])
    assert (on_task["target_value"].notna() == ~tested).all()
    off_task = read_table(evaluate(tmp_path, "modular_addition", symbols="vocabulary"), EVALUATION)
    assert off_task[off_task["measure"] == "noise_stability"]["target_value"].isna().all()


def test_next_token_is_measured_at_every_position(tmp_path: Path) -> None:
    train(tmp_path, train_spec("next_token"))
    rows = read_table(evaluate(tmp_path, "next_token", positions="task"), EVALUATION)
    assert rows["target_value"].isna().all()
    assert rows["value"].notna().all()
    at_end = rows[(rows["step"] == 24) & (rows["measure"] == "test_accuracy") & (rows["seed"] == 3)]
    scores = at_end.set_index("reduction")["value"]
    data = read_dataset(tmp_path / "next_token.safetensors", 3)
    labels = data["test_labels"]
    counted = {kind: int(data.counted(kind, "test").sum()) for kind in TARGETS}
    assert counted["known"] < counted["unpadded"] < counted["all"] == labels.numel()
    # What is right is a whole number of targets.
    for kind, count in counted.items():
        assert scores[kind] * count == pytest.approx(round(scores[kind] * count), abs=1e-6)
    sensitivity = rows[(rows["measure"] == "average_sensitivity") & (rows["step"] == 24)]
    assert (sensitivity["value"] <= 6).all()


def test_evaluated_runs_are_kept_until_the_code_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    train(tmp_path, train_spec("sparse_parity"))
    first = read_table(evaluate(tmp_path), EVALUATION)
    assert "kept" not in caplog.text
    second = read_table(evaluate(tmp_path), EVALUATION)
    assert caplog.text.count("kept") == 2
    assert first.equals(second)
    caplog.clear()
    read_table(evaluate(tmp_path, digest="other code"), EVALUATION)
    assert caplog.text.count("measurements") == 2


def test_a_trail_that_was_not_kept_is_named(tmp_path: Path) -> None:
    train(tmp_path, train_spec("sparse_parity"))
    evaluate(tmp_path, keep=False)
    assert not list(tmp_path.glob("runs/**/step-*"))
    evaluate(tmp_path, keep=False)
    with pytest.raises(RecordError, match=r"seed 3.*checkpoints\.keep"):
        evaluate(tmp_path, digest="other code")


def test_a_broken_checkpoint_is_named(tmp_path: Path) -> None:
    train(tmp_path, train_spec("sparse_parity"))
    victim = next(tmp_path.glob("runs/**/seed-4/trail/step-00000012.safetensors"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(RecordError, match=r"seed-4/trail/step-00000012"):
        evaluate(tmp_path)


def test_a_diverged_run_is_evaluated_as_far_as_it_came(tmp_path: Path) -> None:
    train(tmp_path, train_spec("sparse_parity", optimizer={"learning_rate": 1e38}))
    rows = read_table(evaluate(tmp_path), EVALUATION)
    assert set(rows["step"]) == {0}
    assert not math.isnan(rows["value"].iloc[0])


def test_runs_that_another_process_works_on_are_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that outlived its workflow would write over newer measurements, or drop a trail that is being written."""
    caplog.set_level("INFO")
    train(tmp_path, train_spec("sparse_parity"))
    (path,) = (tmp_path / "runs").rglob("seed-4/run.json")
    folder = RunFolder(tmp_path / "runs", *path.relative_to(tmp_path / "runs").parts[:3], 4)
    with folder.held():
        evaluation = threading.Thread(target=evaluate, args=(tmp_path,))
        evaluation.start()
        while "seed 4: another process works on it; waiting for that" not in caplog.text:
            assert evaluation.is_alive()
        assert not list(tmp_path.rglob("evaluation.parquet"))
    evaluation.join()
    assert len(read_table(tmp_path / "evaluation.parquet", EVALUATION)) > 0
