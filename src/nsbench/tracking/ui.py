"""MLflow's pages of a results folder, for whoever has their address: `python -m nsbench.tracking.ui results 5000`.

MLflow lets every account of a machine in, and its artifact routes read and write whatever the server's owner may. So
every address begins with a secret, new at each start, that only the terminal shows. It is no cookie: browsers send
cookies to all ports of a host, so to other accounts' servers too. MLflow's pages use relative addresses. Its assistant,
which runs commands on the machine and takes a quarter of the page at the first visit, is left out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from nsbench.tracking.pages import REPORT, first_page, with_report
from nsbench.tracking.stores import ENVIRONMENT

HOST = "127.0.0.1"
PAGE = "#/experiments?workflowType=machine_learning"
ASSISTANT = "ajax-api/3.0/mlflow/assistant"
REFUSED = b"nsbench | open the address that `make ui` printed\n"

App = Callable[[dict[str, Any], Callable[..., Awaitable[Any]], Callable[..., Awaitable[Any]]], Awaitable[None]]


def guarded(app: App, secret: str) -> App:
    """An ASGI application that gives requests below `/secret/` to `app`, without that, and refuses all others (403)."""

    async def guard(scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "lifespan":
            return await app(scope, receive, send)
        first, slash, rest = scope["path"].removeprefix("/").partition("/")
        known = slash and secrets.compare_digest(first.encode(), secret.encode())
        if known and not rest.lower().lstrip("/").startswith(ASSISTANT):
            raw = scope["raw_path"].removeprefix(b"/").partition(b"/")[2]
            return await app({**scope, "path": f"/{rest}", "raw_path": b"/" + raw}, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close"})
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(REFUSED))]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": REFUSED})

    return guard


def serve(results: Path, port: int) -> None:
    """Serve the store `mlflow.db` of a results folder until interrupted; port 0: any. Exits where the port is taken."""
    try:
        place = socket.create_server((HOST, port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        sys.exit(f"nsbench | port {port} cannot be used ({reason}); name another: make ui PORT=5001")
    with place:
        os.environ |= ENVIRONMENT | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        import uvicorn  # before MLflow, which then knows itself a server
        from mlflow.server import constants

        os.environ |= {
            constants.BACKEND_STORE_URI_ENV_VAR: (store := f"sqlite:///{results / 'mlflow.db'}"),
            constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
            constants.ARTIFACTS_DESTINATION_ENV_VAR: str(results / "artifacts"),
            constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        }
        from mlflow.server.fastapi_app import app

        secret = secrets.token_urlsafe(24)
        address = f"http://{HOST}:{place.getsockname()[1]}/{secret}/"
        print(f"nsbench | MLflow on {address}{PAGE} (keep this address to yourself; Ctrl-C ends it)", flush=True)
        print(f"nsbench | the report, with links to its runs, on {address}{REPORT}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            pages = with_report(app, results, store, first_page())
            uvicorn.Server(uvicorn.Config(guarded(pages, secret), log_level="warning")).run(sockets=[place])


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
