"""The evaluate stage on real trails."""

from __future__ import annotations

import math
import shutil
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nsbench.config.base import ConfigError, parse
from nsbench.config.sections import Evaluation
from nsbench.config.variant import Noise
from nsbench.data.datasets import read_dataset
from nsbench.evaluation.run import EvaluateSpec, evaluate_pack
from nsbench.measures import MEASURES, Estimate, measure
from nsbench.schemas.metrics import TARGETS
from nsbench.schemas.training import EVALUATION
from nsbench.storage.parquet import RecordError, read_table
from nsbench.storage.run_folder import RunFolder
from tests.conftest import DATA, train, train_spec


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of sparse parity."""
    root = tmp_path_factory.mktemp("trained")
    train(root, train_spec("sparse_parity"))
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(trained, tmp_path / "copy"))


def evaluate(
    root: Path,
    task: str = "sparse_parity",
    digest: str = "code",
    keep: bool = True,
    measures: Iterable[str] = tuple(Evaluation().measures),
    **noise: object,
) -> pd.DataFrame:
    spec = parse(
        EvaluateSpec,
        {
            "task": task,
            "variant": "tiny",
            "arm": "arm",
            "data": DATA[task],
            "noise": Noise(**noise).model_dump(),
            "evaluation": {"measures": list(measures), "rho": [0.0, 0.5], "n_inputs": 20, "n_draws": 2},
            "keep_checkpoints": keep,
            "seeds": [3, 4],
        },
    )
    out = root / "evaluation.parquet"
    dataset = root / f"{task}.safetensors"
    evaluate_pack(spec, digest, root / "runs.parquet", dataset, root / "runs", out, torch.device("cpu"))
    return read_table(out, EVALUATION)


def test_every_checkpoint_rho_and_reduction_has_a_row(root: Path) -> None:
    rows = evaluate(root)
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
    on_task = evaluate(tmp_path, "modular_addition")
    tested = on_task["measure"].isin(["test_accuracy", "test_loss"])
    assert (on_task["target_value"].notna() == ~tested).all()
    off_task = evaluate(tmp_path, "modular_addition", symbols="vocabulary")
    assert off_task[off_task["measure"] == "noise_stability"]["target_value"].isna().all()


def test_next_token_is_measured_at_every_position(tmp_path: Path) -> None:
    train(tmp_path, train_spec("next_token"))
    rows = evaluate(tmp_path, "next_token", positions="task")
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


def test_evaluated_runs_are_kept_until_the_code_changes(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first = evaluate(root)
    assert "kept" not in caplog.text
    second = evaluate(root)
    assert caplog.text.count("kept") == 2
    assert first.equals(second)
    caplog.clear()
    evaluate(root, digest="other code")
    assert caplog.text.count("measurements") == 2


def test_a_trail_that_was_not_kept_is_named(root: Path) -> None:
    evaluate(root, keep=False)
    assert not list(root.glob("runs/**/step-*"))
    evaluate(root, keep=False)
    with pytest.raises(RecordError, match=r"seed 3.*checkpoints\.keep"):
        evaluate(root, digest="other code")


def test_a_broken_checkpoint_is_named(root: Path) -> None:
    victim = next(root.glob("runs/**/seed-4/trail/step-00000012.safetensors"))
    victim.write_bytes(victim.read_bytes()[:100])
    with pytest.raises(RecordError, match=r"seed-4/trail/step-00000012"):
        evaluate(root)


def test_a_diverged_run_is_evaluated_as_far_as_it_came(tmp_path: Path) -> None:
    train(tmp_path, train_spec("sparse_parity", optimizer={"learning_rate": 1e38}))
    rows = evaluate(tmp_path)
    assert set(rows["step"]) == {0}
    assert not math.isnan(rows["value"].iloc[0])


def test_runs_that_another_process_works_on_are_waited_for(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that outlived its workflow would write over newer measurements, or drop a trail that is being written."""
    caplog.set_level("INFO")
    (path,) = (root / "runs").rglob("seed-4/run.json")
    folder = RunFolder(root / "runs", *path.relative_to(root / "runs").parts[:3], 4)
    with folder.held():
        evaluation = threading.Thread(target=evaluate, args=(root,))
        evaluation.start()
        while "seed 4: another process works on it; waiting for that" not in caplog.text:
            assert evaluation.is_alive()
        assert not list(root.rglob("evaluation.parquet"))
    evaluation.join()
    assert len(read_table(root / "evaluation.parquet", EVALUATION)) > 0


# --- measures of a user's own ----------------------------------------------------------------------------


@pytest.fixture
def own() -> Iterator[None]:
    """What a test registers is gone afterwards."""
    before = dict(MEASURES)
    yield
    MEASURES.clear()
    MEASURES.update(before)


def test_the_numbers_of_a_measure_do_not_depend_on_which_others_are_asked_for(root: Path, own: None) -> None:
    @measure("drawn")
    def drawn(model: Any, data: Any, generator: torch.Generator, settings: Any) -> torch.Tensor:
        return torch.rand(len(data["test_tokens"]), 2, generator=generator)

    def of(rows: pd.DataFrame, name: str) -> pd.DataFrame:
        return rows[rows["measure"] == name].reset_index(drop=True)

    every = evaluate(root)
    some = evaluate(root, measures=["drawn", "average_sensitivity", "test_scores"])
    alone = evaluate(root, measures=["test_scores", "drawn"])
    for name in ("average_sensitivity", "test_accuracy"):
        pd.testing.assert_frame_equal(of(some, name), of(every, name), check_exact=True)
    pd.testing.assert_frame_equal(of(some, "drawn"), of(alone, "drawn"), check_exact=True)
    # The same noise at each checkpoint of a run, and another for each run.
    assert of(alone, "drawn").groupby("seed")["value"].nunique().tolist() == [1, 1]
    assert of(alone, "drawn")["value"].nunique() == 2


def test_estimates_ask_the_task_for_its_own_value(root: Path, own: None) -> None:
    """A measure of another name has none; of one that the task knows, by the correlation that it gives."""

    @measure("twice")
    def twice(model: Any, data: Any, generator: Any, settings: Any) -> list[Estimate]:
        return [
            Estimate("noise_stability", "decision", 0.5, 1.0, 0.1, 20, correlation=0.75),
            Estimate("twice", "decision", 0.5, 1.0, 0.1, 20, correlation=0.75),
        ]

    rows = evaluate(root, measures=["test_scores", "twice"])
    found = rows[rows["rho"] == 0.5].groupby("measure")["target_value"].unique()
    assert found["noise_stability"] == [0.75**2]
    assert np.isnan(found["twice"]).all()


def test_what_a_measure_may_not_give_is_told(root: Path, own: None) -> None:
    one = Estimate("own", "mean", math.nan, 1.0, 0.1)
    for name, given, told in (
        ("single", torch.tensor(1.0), "the measure 'single' gives a single number; allowed: one for each input"),
        ("doubled", [one, one], "the measure 'doubled' gives own, mean, nan again; each may be given once"),
        ("nothing", None, "the measure 'nothing' returns NoneType; a tensor with a number for each input"),
        ("bare", [1.0, 2.0], "the measure 'bare' returns list; a tensor"),
    ):
        MEASURES[name] = lambda model, data, generator, settings, given=given: given
        with pytest.raises(ConfigError, match=told):
            evaluate(root, measures=["test_scores", name])
