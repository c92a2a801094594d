"""Reaching MLflow's store: one writer at a time, a SQLite file made whole, every failure as one sentence."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import textwrap
import traceback
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nsbench.config.tracking_uri import ELSEWHERE, flaw, secrets, shown, sqlite_path, without_secrets
from nsbench.storage.atomic import FileError, atomic_write
from nsbench.storage.locks import locked

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 5.0
ADVISORY_LOCK = 0x6E736265  # any number that others are unlikely to take
LIBRARIES = {"mlflow", "sqlalchemy", "sqlite3", "alembic", "requests", "urllib3", "psycopg2"}
SECRET_VARIABLES = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
JOURNALS = ("-journal", "-wal", "-shm")

# MLflow must contact nobody but its store and be silent; a store that does not answer must show within a minute.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "PGCONNECT_TIMEOUT": "15",
}
ADVICE = {
    r"No module named 'psycopg2": "install PostgreSQL's driver (pip install psycopg2-binary)",
    r"database is locked": "end the program that holds it",
    r"disk is full|No space left|Disk quota": "free some space",
    r"read-?only|Permission denied|unable to open": "make the file and its folder writable or set another tracking.uri",
    r"\b40[13]\b|authentication failed|no password supplied": f"as to passwords, {ELSEWHERE}",
    r"timed out|timeout|refused|Max retries|Connection": "start the server or set another tracking.uri",
    r"not a database|malformed|no such table|already exists": "move its file away or set another tracking.uri",
}
OTHER_ADVICE = "repair the store or set another tracking.uri"


class TrackingError(RuntimeError):
    """MLflow's store cannot be used; the message names its URI, without what is secret in it, and what to do."""


@contextlib.contextmanager
def one_sentence(uri: str, environ: Mapping[str, str]) -> Iterator[None]:
    """Tell any failure of the store as a TrackingError; the libraries are known by name, so as not to import them.

    environ: where passwords may stand, which the libraries' words are cleared of.
    """
    if reason := flaw(uri):
        raise TrackingError(f"the URI of MLflow's store (tracking.uri or NSBENCH_TRACKING_URI): {reason}")
    try:
        yield
    except Exception as error:
        if isinstance(error, TrackingError | FileError) or not (isinstance(error, OSError) or _is_theirs(error)):
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        known = [*secrets(uri), *(environ.get(name, "") for name in SECRET_VARIABLES)]
        reason = textwrap.shorten(without_secrets(reason, *known), 250, placeholder="...").rstrip(". ")
        advice = next((text for pattern, text in ADVICE.items() if re.search(pattern, reason, re.I)), OTHER_ADVICE)
        raise TrackingError(
            f"{shown(uri)}: MLflow's store cannot be used ({reason}); the results are safe in their Parquet files: "
            f"{advice}, then give the same command again"
        ) from error


@contextlib.contextmanager
def alone(uri: str, results: Path) -> Iterator[None]:
    """Be the only import of a results folder, and the only one into a store where that can be known.

    That is so for files, and for PostgreSQL whatever the machine; a server orders its clients itself. The system frees
    the locks when their holder dies.
    """
    database = sqlite_file(uri)
    with contextlib.ExitStack() as stack:
        for lock in [results / "track.lock", *([] if database is None else [Path(f"{database}.lock")])]:
            stack.enter_context(locked(lock, f"another import holds {lock}; waiting for it"))
        if database is None and not uri.lower().startswith(("http", "databricks")):
            stack.enter_context(_connected(uri))
        yield


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store, itself and not a link to it; None for other stores."""
    name = sqlite_path(uri)
    return None if name is None else Path(os.path.realpath(name) if os.path.islink(name) else name)


def make_sqlite(path: Path) -> None:
    """Make a SQLite store with MLflow's tables where there is none, whole or not at all.

    MLflow cannot go on from tables that were half made when their maker was killed.
    """
    if path.is_file() and path.stat().st_size > 0:
        return
    path.unlink(missing_ok=True)
    for ending in JOURNALS:
        # SQLite would roll what a killed writer of a deleted file left back into the new one.
        for journal in (Path(f"{path}{ending}"), *path.parent.glob(f".{path.name}.*{ending}")):
            journal.unlink(missing_ok=True)
    with atomic_write(path) as temporary, client_of(f"sqlite:///{temporary}"):
        pass


@contextlib.contextmanager
def client_of(uri: str) -> Iterator[MlflowClient]:
    """A quiet client of the store at `uri`, opened anew; a database without MLflow's tables gets them."""
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failures reach the user as TrackingError
    client = MlflowClient(tracking_uri=uri)
    try:
        yield client
    finally:
        if (engine := getattr(client._tracking_client.store, "engine", None)) is not None:
            engine.dispose()


def touch_sqlite(path: Path) -> None:
    """Open a SQLite file for writing before MLflow does, which would retry for minutes to open a broken one."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", PATIENCE_SECONDS, uri=True)) as file:
        file.execute("BEGIN IMMEDIATE")
        file.execute("PRAGMA schema_version").fetchone()


def count_points(path: Path) -> dict[str, int]:
    """How many points of curves a SQLite store has of each run; MLflow's search of runs does not look at them."""
    with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", PATIENCE_SECONDS, uri=True)) as file:
        return dict(file.execute("SELECT run_uuid, count(*) FROM metrics GROUP BY run_uuid"))


@contextlib.contextmanager
def _connected(uri: str) -> Iterator[None]:
    """Reach a database server before MLflow does, which would try ten times; hold PostgreSQL's lock for imports."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.pool import NullPool

    engine = create_engine(uri, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            key = {"key": ADVISORY_LOCK}
            if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
                logger.info("another import holds %s; waiting for it", shown(uri))
                connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
        yield


def _is_theirs(error: Exception) -> bool:
    """Whether an error is of the store's libraries, or arose in them."""
    names = [base.__module__ for base in type(error).__mro__]
    names += [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.partition(".")[0] in LIBRARIES for name in names)
