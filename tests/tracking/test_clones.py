"""Clones that share a store do not mix their runs; imports at the same moment lose and double nothing."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nsbench.storage.parquet import RecordError
from nsbench.tracking.clones import PLACE_TAG, identify
from tests.tracked_results import (
    LIBRARIES_WARN,
    MLFLOW,
    Results,
    assert_whole,
    cells,
    lend_tables,
    small_grid,
)
from tests.warm import Warm

pytestmark = [pytest.mark.filterwarnings(warning) for warning in LIBRARIES_WARN]
AT_ONCE = 2
"""Grids; tests/integration/test_mlflow_server.py starts eight."""


@pytest.fixture
def clones(tmp_path: Path, tables: Path) -> list[Results]:
    """Two results folders with the same keys, their first runs not alike, and one store."""
    uri = f"sqlite:///{tmp_path}/shared/mlflow.db"
    lend_tables(tables, tmp_path / "shared/mlflow.db")
    losses = {"a": 0.5, "b": 0.7}
    return [Results(tmp_path / name / "results", cells(), uri, val_loss=loss) for name, loss in losses.items()]


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    server = Warm(MLFLOW)
    yield server
    server.close()


def counts(results: Results, **changes: Any) -> tuple[int, int, int]:
    summary = results.track(**changes)
    return summary.added, summary.replaced, summary.unchanged


def losses(results: Results) -> dict[str, float]:
    """The first run's last validation loss, by the folder that its tags name."""
    rows = results.sql(
        "SELECT t.value, m.value FROM latest_metrics m JOIN tags t USING (run_uuid) JOIN runs r USING (run_uuid) "
        f"WHERE r.name = 'baseline, seed 0 (calibrated)' AND m.key = 'result/val_loss' AND t.key = '{PLACE_TAG}' "
        "AND EXISTS (SELECT 1 FROM tags n WHERE n.run_uuid = r.run_uuid AND n.value LIKE 'modular_addition/%')"
    )
    assert len(dict(rows)) == len(rows)
    return {place.split("/")[-2]: value for place, value in rows}


def test_two_clones_keep_their_runs_apart_in_one_store(clones: list[Results]) -> None:
    a, b = clones
    assert [counts(a), counts(b)] == [(5, 0, 0)] * 2
    assert [counts(a), counts(b)] == [(0, 0, 5)] * 2
    assert losses(a) == {"a": 0.5, "b": 0.7}
    a.write(val_loss=0.25)
    assert [counts(a), counts(b)] == [(0, 1, 4), (0, 0, 5)]
    assert losses(a) == {"a": 0.25, "b": 0.7}
    for results in clones:
        assert_whole(results.client(), results)


def test_a_folder_that_was_moved_keeps_its_runs(clones: list[Results], tmp_path: Path) -> None:
    a, _ = clones
    a.track()
    (tmp_path / "a").rename(tmp_path / "c")
    a.folder = tmp_path / "c/results"
    size = a.size()
    assert counts(a) == (0, 0, 5)
    assert a.size() == size
    assert losses(a) == {"c": 0.5}


def test_a_copied_folder_is_a_clone_of_its_own(clones: list[Results], tmp_path: Path) -> None:
    a, _ = clones
    a.track()
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    c = Results(tmp_path / "c/results", a.cells, a.uri, val_loss=0.9)
    assert counts(c) == (5, 0, 0)
    assert counts(a) == (0, 0, 5)
    assert losses(a) == {"a": 0.5, "c": 0.9}


def test_a_folder_that_hosts_share_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = identify(tmp_path)
    assert first.inode == tmp_path.stat().st_ino
    for host in ("node1", "node2", "node1"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        assert identify(tmp_path) == replace(first, place=f"{host}:{tmp_path}")


def test_a_store_that_was_copied_with_its_folder_has_one_run_per_key(tmp_path: Path, tables: Path) -> None:
    lend_tables(tables, tmp_path / "a/results/mlflow.db")
    a = Results(tmp_path / "a/results", cells())
    a.track()
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    c = Results(tmp_path / "c/results", cells(), val_loss=0.9)
    assert counts(c) == (0, 1, 4)
    assert (len(c.runs()), losses(c), losses(a)) == (5, {"c": 0.9}, {"a": 0.5})
    assert counts(a) == (0, 0, 5)


@pytest.mark.parametrize("text", ["", '{"id": "x"}'])
def test_a_broken_identity_is_named_and_comes_back_when_it_is_deleted(tmp_path: Path, text: str) -> None:
    first = identify(tmp_path)
    (tmp_path / "clone.json").write_text(text)
    with pytest.raises(RecordError, match=r"clone\.json: not the identity of a results folder; delete it"):
        identify(tmp_path)
    (tmp_path / "clone.json").unlink()
    assert identify(tmp_path) == first


def test_a_deleted_identity_doubles_no_run(clones: list[Results]) -> None:
    a, b = clones
    assert [counts(a), counts(b)] == [(5, 0, 0)] * 2
    (a.folder / "clone.json").unlink()
    assert [counts(a), counts(b)] == [(0, 0, 5)] * 2


def test_first_imports_at_once_lose_and_double_no_run(warm: Warm, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/shared/mlflow.db"
    grids = [small_grid(tmp_path / str(n) / "results", uri, seeds=[n]) for n in range(AT_ONCE)]

    def run(results: Results) -> tuple[int, str]:
        return warm.run("nsbench", results.arguments(), results.folder.parent, dict(os.environ))

    with ThreadPoolExecutor() as pool:  # One of them twice.
        ended = list(pool.map(run, [*grids, grids[0]]))
    for status, said in ended:
        assert status == 0, said
        assert all("another import holds" in line for line in said.splitlines()), said
    for results in grids:
        assert_whole(results.client(), results)
    assert grids[0].size()[0] == 4 * AT_ONCE
