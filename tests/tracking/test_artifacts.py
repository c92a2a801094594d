"""Where the files of a run go, by the kind of store."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nsbench.tracking.artifacts import TAG, Artifacts, digest

FILES = {"a.txt": "one", "b.txt": "two"}


def run(uri: str = "mlflow-artifacts:/nsbench/task/id/artifacts", **tags: str) -> Any:
    return SimpleNamespace(info=SimpleNamespace(run_id="id", artifact_uri=uri), data=SimpleNamespace(tags=tags))


class Client:
    """A client that keeps what it is sent, or fails."""

    def __init__(self, fails: bool = False) -> None:
        self.fails, self.sent = fails, {}

    def log_text(self, run_id: str, text: str, name: str) -> None:
        if self.fails:
            raise ConnectionError("no artifacts here")
        self.sent[run_id, name] = text


def test_beside_a_sqlite_file_they_are_written_and_missed_where_one_is_lost(tmp_path: Path) -> None:
    there, client = Artifacts(tmp_path / "mlflow.db", f"sqlite:///{tmp_path}/mlflow.db"), Client()
    assert there.missing(run(), FILES)
    tags = there.write(client, run(), FILES)
    assert tags == {TAG: digest(FILES)}
    assert client.sent == {}
    folder = tmp_path / "artifacts/nsbench/task/id/artifacts"
    assert {path.name: path.read_text() for path in folder.iterdir()} == FILES
    assert not there.missing(run(**tags), FILES)
    assert there.missing(run(**tags), {**FILES, "a.txt": "another"})
    (folder / "b.txt").unlink()
    assert there.missing(run(**tags), FILES)
    there.remove(run())
    assert not folder.parent.exists()


def test_a_server_is_sent_them_once() -> None:
    there, client = Artifacts(None, "http://host:5000"), Client()
    assert there.missing(run(), FILES)
    tags = there.write(client, run(), FILES)
    assert client.sent == {("id", name): text for name, text in FILES.items()}
    assert not there.missing(run(**tags), FILES)
    there.remove(run())


def test_a_server_that_takes_none_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    there = Artifacts(None, "https://host")
    assert there.write(Client(fails=True), run(), FILES) == {}
    assert there.write(Client(fails=True), run(), FILES) == {}
    assert not there.missing(run(), FILES)
    assert caplog.messages == ["MLflow's server takes no artifacts (ConnectionError); runs are imported without"]


@pytest.mark.parametrize(
    ("address", "uri"),
    [
        ("http://host:5000", "s3://bucket/1/id/artifacts"),
        ("http://host:5000", "/mlruns/1/id/artifacts"),
        ("postgresql://host/runs", "./mlruns/1/id/artifacts"),
        ("postgresql://host/runs", "mlflow-artifacts:/1/id/artifacts"),
    ],
)
def test_no_other_place_gets_any(address: str, uri: str) -> None:
    there, client = Artifacts(None, address), Client()
    assert not there.missing(run(uri), FILES)
    assert there.write(client, run(uri), FILES) == {}
    assert client.sent == {}
