"""Import of finished runs into MLflow: a view of the Parquet files, which stay the source.

One MLflow run stands for each (task, variant, arm, seed), in the experiment `nsbench/<task>`. A tag
with a digest of all that was imported is written last: a run that carries the right digest is left
alone; any other run of the same key, stale or cut short, is deleted and imported anew. So an import
may be repeated, interrupted or started twice at once, and still ends in one run per key.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from nsbench.tracking_content import Content, read_contents

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NAME_TAG, CONTENT_TAG = "nsbench.run", "nsbench.content"
METRICS_PER_BATCH, PARAMETERS_PER_BATCH = 1000, 100  # MLflow's limits
PATIENCE_SECONDS, LOCKED_ATTEMPTS = 5.0, 15
STORE_LIBRARIES = {"mlflow", "sqlalchemy", "sqlite3", "alembic", "requests"}

# MLflow must contact nobody but its store and be silent; an unreachable server must show within a minute.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}
EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",
    "mlflow.note.content": "Imported by `nsbench track`, one run per variant, arm and seed. "
    "Time is training time; the source is the Parquet files of the results folder.",
}


class TrackingError(RuntimeError):
    """MLflow's store cannot be used; the message names its URI and what to do."""


@dataclass(frozen=True)
class TrackSummary:
    """What one import did, counted in runs."""

    uri: str
    added: int
    replaced: int
    """Runs that stood with other content, or cut short."""
    unchanged: int
    missing: tuple[str, ...]
    """Runs of the grid, as task/variant/arm/seed-3, that are not among the collected ones."""
    seconds: float
    spec: str
    digest: str


def track(
    collected_folder: Path,
    tables_folder: Path,
    cells: list[dict[str, Any]],
    uri: str,
    spec: str,
    digest: str,
    project: str = "nsbench",
) -> TrackSummary:
    """Bring the MLflow store at `uri` in line with the collected runs of `cells`.

    Reads history, runs and evaluation.parquet of `collected_folder` and time_to_target.parquet of
    `tables_folder`. Runs in the store that belong to none of `cells` are left alone. One import
    works at a time: others wait for it, with a message. `spec` and `digest` go into the summary.

    Raises RecordError where a Parquet file is missing or broken, TrackingError where the store
    cannot be reached, read or written.
    """
    clock, outcomes = time.monotonic(), {}
    contents, missing = read_contents(Path(collected_folder), Path(tables_folder), cells)
    collected_at = (Path(collected_folder) / "runs.parquet").stat().st_mtime
    start = collected_at - max((content.seconds for content in contents), default=0.0)
    database = _sqlite_path(uri)
    lock = Path(collected_folder) / "mlflow.lock" if database is None else Path(f"{database}.lock")
    with _one_sentence(uri), _alone(lock):
        for attempt in range(1, LOCKED_ATTEMPTS + 1):
            try:
                _check_sqlite(database)
                with _client(uri) as client:
                    _import(client, contents, project, start, database is not None, outcomes)
                break
            except Exception as error:
                if "database is locked" not in str(error) or attempt == LOCKED_ATTEMPTS:
                    raise
                _say(f"{uri} is locked by another program; trying again ({attempt} of {LOCKED_ATTEMPTS - 1})")
                time.sleep(PATIENCE_SECONDS)
    n = Counter(outcomes.values())
    counts = {name: n[name] for name in ("added", "replaced", "unchanged")}
    return TrackSummary(uri, **counts, missing=missing, seconds=time.monotonic() - clock, spec=spec, digest=digest)


def _import(
    client: MlflowClient, contents: list[Content], project: str, start: float, local: bool, outcomes: dict[str, str]
) -> None:
    """Make one complete run stand for each content; `outcomes` tells what that took, by key."""
    experiments: dict[str, tuple[str, dict[str, list[Run]]]] = {}
    for index, content in enumerate(contents):
        task, _, _ = content.key.partition("/")
        if task not in experiments:
            experiment = _experiment(client, f"{project}/{task}", local)
            experiments[task] = experiment, _standing(client, experiment)
        experiment, standing = experiments[task]
        old, digest = standing.get(content.key, []), content.digest
        if len(old) == 1 and old[0].data.tags.get(CONTENT_TAG) == digest:
            outcomes.setdefault(content.key, "unchanged")
            continue
        for run in old:
            _delete(client, run.info.run_id)
        # Newest first is MLflow's order: a millisecond between runs makes it the order of the grid.
        _write(client, experiment, content, digest, round(start * 1000) - index)
        outcomes[content.key] = "replaced" if old else "added"


def _experiment(client: MlflowClient, name: str, local: bool) -> str:
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        # Nothing is stored there; a path would be made absolute and break when the results move.
        location = f"mlflow-artifacts:/{name}" if local else None
        return client.create_experiment(name, artifact_location=location, tags=EXPERIMENT_TAGS)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    return experiment.experiment_id


def _standing(client: MlflowClient, experiment: str) -> dict[str, list[Run]]:
    """The active runs of an experiment that an import has made, by key."""
    found: dict[str, list[Run]] = {}
    token = None
    while True:
        page = client.search_runs([experiment], max_results=500, page_token=token)
        for run in page:
            if NAME_TAG in run.data.tags:
                found.setdefault(run.data.tags[NAME_TAG], []).append(run)
        token = page.token
        if not token:
            return found


def _delete(client: MlflowClient, run_id: str) -> None:
    """Delete for good where the store can (a database opened directly), else into MLflow's bin."""
    getattr(client._tracking_client.store, "_hard_delete_run", client.delete_run)(run_id)


def _write(client: MlflowClient, experiment: str, content: Content, digest: str, start_ms: int) -> None:
    """Create a run whose clock is its training time."""
    from mlflow.entities import Metric, Param, RunTag

    source = {"name": "nsbench", "type": "LOCAL", "git.commit": content.origin.get("commit", "unknown")}
    tags = {NAME_TAG: content.key, **content.tags, **content.origin} | {
        f"mlflow.source.{k}": v for k, v in source.items()
    }
    run_id = client.create_run(experiment, start_time=start_ms, tags=tags, run_name=content.name).info.run_id
    parameters = [Param(name, value) for name, value in content.parameters.items()]
    for chunk in _chunks(parameters, PARAMETERS_PER_BATCH):
        client.log_batch(run_id, params=chunk)
    metrics = [Metric(p.metric, p.value, start_ms + round(p.seconds * 1000), p.step) for p in content.points]
    for chunk in _chunks(metrics, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=chunk)
    status, end_ms = "FINISHED" if content.completed else "FAILED", start_ms + round(content.seconds * 1000)
    client.set_terminated(run_id, status=status, end_time=end_ms)
    client.log_batch(run_id, tags=[RunTag(CONTENT_TAG, digest)])


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


# --- reaching the store ----------------------------------------------------------------------------


@contextlib.contextmanager
def _client(uri: str) -> Iterator[MlflowClient]:
    """A quiet client of the store at `uri`; a database without MLflow's tables gets them."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # failures reach the user as TrackingError
    client = MlflowClient(tracking_uri=uri)
    try:
        yield client
    finally:
        if engine := getattr(client._tracking_client.store, "engine", None):
            engine.dispose()


def _sqlite_path(uri: str) -> Path | None:
    match = re.match(r"sqlite(?:\+\w+)?:///([^?]+)", uri)
    return Path(match[1]) if match else None


def _check_sqlite(path: Path | None) -> None:
    """Touch a SQLite file before MLflow does, which would retry for an hour to open a broken one."""
    if path is not None and path.exists():
        with contextlib.closing(sqlite3.connect(path, timeout=PATIENCE_SECONDS)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.execute("PRAGMA schema_version").fetchone()


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the writers' lock; the system frees it when its holder dies, so waiting has no limit."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=PATIENCE_SECONDS)
    except Timeout:
        _say(f"another import holds {path}; waiting for it")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def _one_sentence(uri: str) -> Iterator[None]:
    """Tell any failure of the store as a TrackingError; the libraries are known by name, so as not to import them."""
    try:
        yield
    except Exception as error:
        libraries = {base.__module__.partition(".")[0] for base in type(error).__mro__}
        if not isinstance(error, OSError) and not libraries & STORE_LIBRARIES:
            raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        reason = textwrap.shorten(reason, 250, placeholder="...").rstrip(". ")
        raise TrackingError(
            f"{uri}: MLflow's store cannot be used ({reason}); the results are safe in their Parquet files: "
            "repair the store, move its file away or set another tracking.uri, then run `nsbench track` again"
        ) from error


def _say(message: str) -> None:
    print(f"nsbench track: {message}", file=sys.stderr, flush=True)
