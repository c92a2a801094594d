"""The report below the secret address, and the way from a claim to its runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from nsbench.tracking.pages import CHARTS, with_report
from tests.tracked_results import LIBRARIES_WARN, Results, cells, lend_tables

pytestmark = [pytest.mark.filterwarnings(one) for one in LIBRARIES_WARN]


def ask(results: Results, path: str, method: str = "GET", **query: str) -> tuple[int, dict[str, str], bytes]:
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
    assert ask(results, "/report.html")[0] == 404
    (tmp_path / "report.html").write_text("the report, ρ")
    status, headers, body = ask(results, "/report.html")
    assert (status, body.decode()) == (200, "the report, ρ")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert ask(results, "/")[::2] == (200, b"first")
    for method, path in (("POST", "/"), ("GET", "/ajax-api/2.0/mlflow/runs/search"), ("POST", "/report.html")):
        assert ask(results, path, method)[0] == 418


def test_a_claim_s_link_leads_to_the_experiment_of_its_task_and_its_runs(tmp_path: Path, tables: Path) -> None:
    results = Results(tmp_path, cells())
    lend_tables(tables, tmp_path / "mlflow.db")
    assert ask(results, "/runs", task="sparse_parity")[1]["location"] == "./#/experiments"  # none there yet
    results.track()
    expression = "params.variant = 'calibrated'"
    status, headers, _ = ask(results, "/runs", task="sparse_parity", filter=expression)
    place, _, search = headers["location"].partition("?")
    (experiment,) = results.client().search_experiments(filter_string="tags.`nsbench.task` = 'sparse_parity'")
    assert (status, place) == (302, f"./#/experiments/{experiment.experiment_id}/runs")
    assert search == urlencode({"searchFilter": expression} | CHARTS)
    found = results.client().search_runs([experiment.experiment_id], expression)
    assert [run.data.params["task"] for run in found] == ["sparse_parity"]
    assert not results.client().search_runs([experiment.experiment_id], "params.variant = 'other'")
    assert ask(results, "/runs", task="x' or '1' = '1")[1]["location"] == "./#/experiments"
