"""`make ui` answers whoever knows its address, and nobody else of the machine."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.tracked_results import lend_tables

MODULE = "nsbench.tracking.ui"
ROUTES = """
GET /
GET /health
GET /static-files/favicon.ico
GET /get-artifact?run_id=x&path=a
GET /model-versions/get-artifact?name=x&version=1&path=a
POST /ajax-api/2.0/mlflow/upload-artifact?run_uuid=x&path=a
GET /ajax-api/2.0/mlflow/artifacts/list?run_id=x
GET /ajax-api/2.0/mlflow/logged-models/x/artifacts/files?artifact_file_path=a
GET /ajax-api/2.0/mlflow/experiments/search?max_results=9
POST /api/2.0/mlflow/experiments/create
POST /graphql
PUT /api/2.0/mlflow-artifacts/artifacts/a
GET /ajax-api/2.0/mlflow-artifacts/artifacts/a
POST /ajax-api/3.0/mlflow/assistant/message
POST /v1/traces
GET //{secret}/health
GET /{secret}
GET /{secret}x/health
GET /%2e/{secret}/health
"""


@contextlib.contextmanager
def another_account() -> Iterator[None]:
    """Be one, where root runs this."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_only_who_knows_the_address_is_let_in(tmp_path: Path, tables: Path) -> None:
    lend_tables(tables, tmp_path / "mlflow.db")
    command = [sys.executable, "-W", "ignore", "-m", MODULE, str(tmp_path), "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = urlsplit(re.search(r"http://\S+", server.stdout.readline())[0])
        secret = address.path.strip("/")
        assert (address.hostname, len(secret)) == ("127.0.0.1", 32)

        def ask(method: str, target: str, body: str = "{}") -> tuple[int, bytes]:
            link = http.client.HTTPConnection("127.0.0.1", address.port)
            link.request(method, target, body, {"Content-Type": "application/json"})
            answer = link.getresponse()
            found = answer.status, answer.read()
            link.close()
            return found

        # All that another account sees of a process.
        assert secret not in Path(f"/proc/{server.pid}/cmdline").read_text()
        with another_account():
            for line in ROUTES.strip().format(secret=secret).splitlines():
                status, said = ask(*line.split())
                assert (status, said) == (403, b"nsbench | open the address that `make ui` printed\n"), line
        assert not (tmp_path / "artifacts").exists()
        page = ask("GET", address.path)
        assert page[0] == 200
        assert b"MLflow" in page[1]
        assert b"autoOpenedOnFirstLoad" in page[1]
        # Commands of the machine are nobody's, not even by the address.
        for name in ("ajax-api/3.0/mlflow/assistant/config", "/ajax-api/3.0/mlflow/assistant/config"):
            assert ask("GET", address.path + name)[0] == 403
        # What the page refers to is relative to its own address.
        assert not re.search(rb'(src|href)="/', page[1])
        status, found = ask("GET", f"{address.path}ajax-api/2.0/mlflow/experiments/search?max_results=9")
        assert [experiment["name"] for experiment in json.loads(found)["experiments"]] == ["Default"]
        server.send_signal(signal.SIGINT)
        assert server.wait(60) == 0
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def test_a_port_that_is_taken_is_one_sentence_before_any_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["ui", str(tmp_path), str(port)])
        with pytest.raises(SystemExit, match=rf"^nsbench \| port {port} cannot be used \(Address already in use\)"):
            runpy.run_module(MODULE, run_name="__main__")
    assert capsys.readouterr().out == ""
