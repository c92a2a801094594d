"""The report beside MLflow's pages, and the way from its claims to their runs.

A file cannot link to the pages of `make ui`, whose address has a secret that is new each time. Served below the same
secret the report can: its links are relative.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

from nsbench.tracking.importer import TASK_TAG
from nsbench.tracking.stores import client_of

REPORT, RUNS = "report.html", "runs"
"""Paths below the secret: the page, and `runs?task=...&filter=...` as its links have it (report/page.js.j2)."""
HEAD = b"""<script>localStorage["mlflow.assistant.fab.autoOpenedOnFirstLoad_v1"] = "true"</script>\
<style>[data-assistant-ui] {display: none !important}
@media (max-width: 600px) {aside {display: none !important}}</style>"""
"""For MLflow's first page: its assistant counts as opened before, and has no button; on a phone the menu, which would
take half of the page, is hidden, as the path above each page leads to all experiments."""
CHARTS = {"compareRunsMode": "CHART", "workflowType": "machine_learning"}
"""How runs are shown."""
HTML = b"text/html; charset=utf-8"
NO_REPORT = b"nsbench | results/report.html is not there yet\n"
App = Callable[[dict[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable[None]]


def first_page() -> bytes:
    """MLflow's only page of HTML, with `HEAD`."""
    from mlflow import server

    page = Path(server.__file__).parent / server.REL_STATIC_DIR / "index.html"
    return page.read_bytes().replace(b"<head>", b"<head>" + HEAD, 1)


def with_report(app: App, results: Path, uri: str, first: bytes) -> App:
    """An ASGI application that adds the report of a results folder, and the way to runs in the store at `uri`.

    first: what is answered for the root.
    """

    async def pages(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        asked = scope["path"].lstrip("/") if scope["type"] == "http" and scope["method"] == "GET" else None
        if asked == "":
            status, headers, body = 200, [(b"content-type", HTML)], first
        elif asked == REPORT:
            status, headers, body = await asyncio.to_thread(_report, results / REPORT)
        elif asked == RUNS:
            place = await asyncio.to_thread(runs_page, uri, scope["query_string"].decode())
            status, headers, body = 302, [(b"location", place.encode())], b""
        else:
            return await app(scope, receive, send)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return pages


def _report(path: Path) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    if not path.is_file():
        return 404, [(b"content-type", b"text/plain")], NO_REPORT
    return 200, [(b"content-type", HTML)], path.read_bytes()


def runs_page(uri: str, query: str) -> str:
    """MLflow's page of the runs that a query asks for (`task`, and `filter`, an expression of its search); that of all
    experiments where the store has none of the task."""
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    task = asked.get("task", "").replace("'", "")
    with client_of(uri) as client:
        found = client.search_experiments(filter_string=f"tags.`{TASK_TAG}` = '{task}'")
    if not found:
        return "./#/experiments"
    chosen = {"searchFilter": asked["filter"]} if "filter" in asked else {}
    return f"./#/experiments/{found[0].experiment_id}/runs?{urlencode(chosen | CHARTS)}"
