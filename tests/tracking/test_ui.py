"""`make ui` answers whoever knows its address, and nobody else of the machine."""

from __future__ import annotations

import asyncio
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
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

import pytest

from nsbench import report
from nsbench.tracking.pages import CHARTS, with_report
from tests.browser import browser, look, needs_browser, wait
from tests.tracked_results import LIBRARIES_WARN, Results, cells, lend_tables

pytestmark = [pytest.mark.filterwarnings(one) for one in LIBRARIES_WARN]

MODULE = "nsbench.tracking.ui"
SCRIPT = Path(report.__file__).parent / "page.js.j2"
FILTER = "params.variant = 'calibrated' and params.arm = 'baseline'"
PAGE = f'''<input id="search"><output id="found"></output>
<code data-task="modular_addition" data-filter="{FILTER}">{FILTER}</code><script>{{script}}</script>'''
"""A page with what the report has of a claim's runs."""
SHOWN = "return document.body.innerText.includes(arguments[0])"
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, tables: Path) -> Iterator[tuple[subprocess.Popen[str], Results]]:
    """`make ui` of a folder with runs of two tasks; its address is the process's next line."""
    results = Results(tmp_path_factory.mktemp("served"), cells())
    lend_tables(tables, results.folder / "mlflow.db")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries'
        results.track()
    (results.folder / "report.html").write_text(PAGE.format(script=SCRIPT.read_text(encoding="utf-8")))
    command = [sys.executable, "-W", "ignore", "-m", MODULE, str(results.folder), "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process, results
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def address(server: tuple[subprocess.Popen[str], Results]) -> SplitResult:
    """The secret address."""
    told = [server[0].stdout.readline() for _ in range(2)]
    found = [urlsplit(re.search(r"http://\S+", line)[0]) for line in told]
    assert found[1].path == f"{found[0].path}report.html"
    return found[0]


def test_only_who_knows_the_address_is_let_in(
    server: tuple[subprocess.Popen[str], Results], address: SplitResult
) -> None:
    process, results = server
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
    assert secret not in Path(f"/proc/{process.pid}/cmdline").read_text()
    before = sorted(results.folder.rglob("*"))
    with another_account():
        for line in ROUTES.strip().format(secret=secret).splitlines():
            status, said = ask(*line.split())
            assert (status, said) == (403, b"nsbench | open the address that `make ui` printed\n"), line
    assert sorted(results.folder.rglob("*")) == before
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
    names = {experiment["name"] for experiment in json.loads(found)["experiments"]}
    assert names >= {"Modular addition", "Sparse parity"}


def answer(results: Results, path: str, method: str = "GET", **query: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of what the application answers; 418 where it is left to MLflow."""
    sent: list[dict[str, Any]] = []

    async def mlflow(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 418, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "query_string": urlencode(query).encode()}
    asyncio.run(with_report(mlflow, results.folder, results.uri, b"first")(scope, None, send))
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"]


def test_the_report_is_a_page_and_all_else_is_left_to_mlflow(tmp_path: Path) -> None:
    results = Results(tmp_path, cells())
    assert answer(results, "/report.html")[0] == 404
    (tmp_path / "report.html").write_text("the report, ρ")
    status, headers, body = answer(results, "/report.html")
    assert (status, body.decode()) == (200, "the report, ρ")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert answer(results, "/")[::2] == (200, b"first")
    for method, path in (("POST", "/"), ("GET", "/ajax-api/2.0/mlflow/runs/search"), ("POST", "/report.html")):
        assert answer(results, path, method)[0] == 418


def test_a_claim_s_link_leads_to_the_experiment_of_its_task_and_its_runs(
    server: tuple[subprocess.Popen[str], Results],
) -> None:
    results = server[1]
    expression = "params.variant = 'calibrated'"
    status, headers, _ = answer(results, "/runs", task="sparse_parity", filter=expression)
    place, _, search = headers["location"].partition("?")
    (experiment,) = results.client().search_experiments(filter_string="tags.`nsbench.task` = 'sparse_parity'")
    assert (status, place) == (302, f"./#/experiments/{experiment.experiment_id}/runs")
    assert search == urlencode({"searchFilter": expression} | CHARTS)
    found = results.client().search_runs([experiment.experiment_id], expression)
    assert [run.data.params["task"] for run in found] == ["sparse_parity"]
    assert not results.client().search_runs([experiment.experiment_id], "params.variant = 'other'")
    for task in ("next_token", "x' or '1' = '1"):
        assert answer(results, "/runs", task=task)[1]["location"] == "./#/experiments"


@needs_browser
def test_a_browser_shows_experiments_and_from_a_claim_of_the_report_its_runs(
    address: SplitResult, tmp_path: Path
) -> None:
    for driver in browser(tmp_path):
        look(driver, 1280)
        driver.get(address.geturl())
        for name in ("Modular addition", "Sparse parity"):
            wait(driver, SHOWN, name)
        driver.get(address._replace(path=f"{address.path}report.html", fragment="").geturl())
        wait(driver, "return document.querySelector('code + a')").click()
        driver.switch_to.window(driver.window_handles[-1])
        # Of five runs the two that the expression is of.
        name = "baseline, seed 1 (calibrated)"
        wait(driver, SHOWN, name)
        shown = driver.execute_script("return document.body.innerText")
        assert "steady, seed" not in shown
        assert "2 matching runs" in shown
        links = "return [...document.querySelectorAll('a')].find((one) => one.innerText === arguments[0])"
        wait(driver, links, name).click()
        wait(driver, SHOWN, "val_accuracy")


def test_a_port_that_is_taken_is_one_sentence_before_any_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["ui", str(tmp_path), str(port)])
        with pytest.raises(SystemExit, match=rf"^nsbench \| port {port} cannot be used \(Address already in use\)"):
            runpy.run_module(MODULE, run_name="__main__")
    assert capsys.readouterr().out == ""
