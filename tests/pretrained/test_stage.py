"""The stage that measures a pretrained model, and what an interruption or a change leaves of it."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.config.base import parse
from nsbench.config.pretrained import MeasureSpec
from nsbench.pretrained import cases, run
from nsbench.pretrained.sources import ModelError, Unavailable
from nsbench.schemas.pretrained import PARTS
from nsbench.storage.parquet import read_stamp
from tests.pretrained.small_models import CPU, SMALL, STAMP, loaded, measured, spec_of


def test_the_stage_writes_every_part_for_the_model_and_its_control(made: Path, tmp_path: Path) -> None:
    run.measure_model(spec_of(made / "causal", remark="mine"), made / "text.txt", tmp_path, CPU, STAMP)
    found = measured(tmp_path)
    models_table = found["models"].set_index("weights")
    assert list(models_table.index) == ["pretrained", "random"]
    assert models_table["remark"].to_dict() == {"pretrained": "mine", "random": ""}
    assert models_table.loc["random", "origin"] == "initialised with seed 0"
    assert (models_table["n_sequences"] == 3).all()
    for part in ("measured", "influence", "concentration", "stability", "moments"):
        assert set(found[part]["model"]) == {"mine"}
        cases_found = set(zip(found[part]["weights"], found[part]["inputs"], strict=True))
        assert cases_found == {(w, i) for w in ("pretrained", "random") for i in ("text", "uniform", "gaussian")}
    assert read_stamp(tmp_path / "influence.parquet")["spec"] == "spec"
    assert sorted(path.stem for path in tmp_path.iterdir()) == sorted(PARTS)


def test_an_interrupted_measurement_goes_on_and_ends_the_same(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = (spec_of(made / "encoder"), made / "text.txt")
    run.measure_model(*arguments, tmp_path / "undisturbed", CPU, STAMP)
    real, calls = run.measure_case, []

    def stops_at_the_fourth(*given: Any) -> cases.Found:
        calls.append(given)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(run, "measure_case", stops_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run.measure_model(*arguments, tmp_path / "out", CPU, STAMP)
    assert not (tmp_path / "out/influence.parquet").exists()
    with caplog.at_level(logging.INFO):
        run.measure_model(*arguments, tmp_path / "out", CPU, STAMP)
    assert len(calls) == 7
    assert caplog.text.count("measured before, kept") == 3
    for part, frame in measured(tmp_path / "undisturbed").items():
        pd.testing.assert_frame_equal(frame, measured(tmp_path / "out")[part], check_exact=True)


def test_cases_of_another_configuration_or_code_are_measured_again(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(made / "encoder", tmp_path / "encoder")
    arguments = (spec_of(folder), made / "text.txt", tmp_path / "out", CPU)
    monkeypatch.setattr(run.shutil, "rmtree", lambda *given, **more: None)  # keeps the cases
    run.measure_model(*arguments, STAMP)
    calls = []
    real = run.measure_case
    monkeypatch.setattr(run, "measure_case", lambda *given: calls.append(given) or real(*given))
    run.measure_model(*arguments, STAMP)
    assert calls == []
    run.measure_model(*arguments, {**STAMP, "source_digest": "other"})
    assert len(calls) == 6
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**settings, "hidden_act": "relu"}))
    run.measure_model(*arguments, {**STAMP, "source_digest": "other"})
    assert len(calls) == 12


def test_an_unavailable_model_stops_or_gets_rows_that_say_so(made: Path, tmp_path: Path) -> None:
    model = {"source": "package", "package": "nsbench-absent", "version": "1", "file": "a.gguf", "sha256": "0" * 64}
    spec = parse(MeasureSpec, {"name": "mine", "model": model, "measurement": SMALL.model_dump()})
    with pytest.raises(Unavailable, match="nsbench-absent 1 is not installed"):
        run.measure_model(spec, made / "text.txt", tmp_path, CPU, STAMP)
    assert not list(tmp_path.iterdir())
    run.measure_model(spec, made / "text.txt", tmp_path, CPU, STAMP, unreachable="skip")
    found = measured(tmp_path)
    assert set(found["models"]["status"]) == {"unavailable"}
    assert found["models"]["reason"].str.contains("nsbench-absent 1 is not installed; pip install").all()
    assert len(found["measured"]) == 2 * 3 * 4
    assert set(found["measured"]["status"]) == {"unavailable"}
    for part in ("influence", "concentration", "stability", "moments"):
        assert found[part].empty


def test_heads_that_a_model_has_not_are_refused(made: Path, tmp_path: Path) -> None:
    spec = spec_of(made / "causal", heads=[[0, 0], [2, 0]])
    with pytest.raises(ModelError, match=r"\[2, 0\] is not in a model of 2 layers with 2 heads"):
        run.measure_model(spec, made / "text.txt", tmp_path, CPU, STAMP)


def test_memory_bounds_the_batch(made: Path) -> None:
    model = loaded(made, "causal")
    gigabytes = 4 * model.values_per_sequence(8) / 1e9
    assert [run._batch_size(model, 8, factor * gigabytes) for factor in (0.1, 1.01, 3.5, 1e6)] == [1, 1, 3, 8]
    assert model.values_per_sequence(16) > 2 * model.values_per_sequence(8)
