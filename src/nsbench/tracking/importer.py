"""Import of finished runs into MLflow: a view of the Parquet files, which stay the source.

One MLflow run stands for each (task, variant, arm, seed), in an experiment for each task. A tag with a digest of
all that was imported is written last: a run that carries the right digest, and as many points, is left alone; any other
run of the same key, stale or cut short, is deleted and imported anew. Whatever was written is read again, from the
store opened anew, until nothing is left to do. So an import may be repeated, interrupted, started twice at once or have
its store deleted under it, and still ends in one run per key. Runs of other results folders in the same store are left
alone (`clones`).
"""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nsbench.tracking.stores as stores  # not from the package, which imports this module
from nsbench.config.tracking_uri import shown
from nsbench.tracking.artifacts import Artifacts
from nsbench.tracking.clones import Clone, identify
from nsbench.tracking.content import Content, read_contents
from nsbench.tracking.descriptions import NOTE, title
from nsbench.tracking.stores import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

NAME_TAG, CONTENT_TAG = "nsbench.run", "nsbench.content"
TASK_TAG = "nsbench.task"
"""Of an experiment, which is found by it, whatever it is called."""
METRICS_PER_BATCH, PARAMETERS_PER_BATCH = 1000, 100  # MLflow's limits
ROUNDS, WAITS = 5, 14
"""How often at most a store is imported into, and a locked one waited for."""
CHANGED_UNDER_US = {"RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE", "INVALID_PARAMETER_VALUE"}
"""What MLflow says of a run that somebody else deleted in the middle, or of an experiment that somebody else made."""
NOTE_TAG = "mlflow.note.content"


@dataclass(frozen=True)
class TrackSummary:
    """What one import did, counted in runs."""

    uri: str
    """Without what is secret in it."""
    added: int
    replaced: int
    """Runs that stood with other content, or cut short."""
    unchanged: int
    missing: tuple[str, ...]
    """Runs of the grid, as task/variant/arm/seed-3, that are not among the collected ones."""
    seconds: float
    spec: str
    digest: str


@dataclass
class _Import:
    """What is to stand in the store, and what was done for it so far."""

    contents: list[Content]
    clone: Clone
    start: float
    """Seconds since the epoch at which training is shown to begin."""
    local: bool
    """Whether the store is a file."""
    copied_store: bool
    """Whether the store lies in the results folder."""
    artifacts: Artifacts
    outcomes: dict[str, str] = field(default_factory=dict)
    """added, replaced or unchanged, by key: what the first look at each run led to."""

    def tell(self, key: str, outcome: str) -> None:
        if self.outcomes.get(key, "unchanged") == "unchanged":
            self.outcomes[key] = outcome


def track(
    collected_folder: Path,
    tables_folder: Path,
    cells: list[dict[str, Any]],
    uri: str,
    spec: str,
    digest: str,
) -> TrackSummary:
    """Bring the MLflow store at `uri` in line with the collected runs of `cells`.

    Reads history, runs and evaluation.parquet of `collected_folder` and time_to_target.parquet of
    `tables_folder`. The results folder, that in which `collected_folder` lies, gets an identity if it has
    none; runs in the store that are another folder's, or belong to none of `cells`, are left alone. One
    import works at a time: others wait for it, with a message. `spec` and `digest` go into the summary.

    Raises RecordError where a Parquet file is missing or broken, TrackingError where the store
    cannot be reached, read or written, FileError where a file cannot be written.
    """
    clock = time.monotonic()
    contents, missing = read_contents(Path(collected_folder), Path(tables_folder), cells)
    collected_at = (Path(collected_folder) / "runs.parquet").stat().st_mtime
    start = collected_at - max((content.seconds for content in contents), default=0.0)
    results = Path(collected_folder).parent
    for name, value in stores.ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    with stores.one_sentence(uri, os.environ), stores.alone(uri, results):
        file = stores.sqlite_file(uri)
        inside = file is not None and file.parent.resolve() == results.resolve()
        task = _Import(contents, identify(results), start, file is not None, inside, Artifacts(file, uri))
        _settle(uri, file, task)
    n = Counter(task.outcomes.values())
    counts = {name: n[name] for name in ("added", "replaced", "unchanged")}
    seconds = time.monotonic() - clock
    return TrackSummary(shown(uri), **counts, missing=missing, seconds=seconds, spec=spec, digest=digest)


def _settle(uri: str, file: Path | None, task: _Import) -> None:
    """Import until an import, with the store opened anew, finds nothing to do; a locked database is tried again."""
    left, waits, wrote = ROUNDS, WAITS, False
    while left:
        if file is not None:
            stores.make_sqlite(file)
        opened = _identity(file)
        try:
            if file is not None:
                stores.touch_sqlite(file)
            points = stores.count_points(file) if file is not None else None
            with stores.client_of(uri) as client:
                busy = _import(client, task, points)
            if not busy and opened == _identity(file):
                return
            changed = wrote or not busy
        except Exception as error:
            if waits and "database is locked" in str(error):
                waits -= 1
                logger.info("%s is locked by another program; trying again", shown(uri))
                time.sleep(stores.PATIENCE_SECONDS)
                continue
            # Where the path names another file now, or none, the failure may be that of the old one.
            mendable = left > 1 and getattr(error, "error_code", None) in CHANGED_UNDER_US
            if opened == _identity(file) and not mendable:
                raise
            changed, busy = True, False
        if changed:
            logger.info("%s was changed by somebody else meanwhile; importing again", shown(uri))
        left, wrote = left - 1, busy
    raise TrackingError(
        f"{shown(uri)}: MLflow's store changes whenever it is written; the results are safe in their Parquet files: "
        "end what else writes or deletes its runs, then give the same command again"
    )


def _identity(file: Path | None) -> tuple[int, int] | None:
    """Which file a path names now."""
    try:
        status = file.stat() if file is not None else None
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status else None


def _import(client: MlflowClient, task: _Import, points: dict[str, int] | None) -> bool:
    """Make one complete run stand for each content; whether there was anything to do.

    points: how many points of curves each run has in the store; None: not known.
    """
    experiments: dict[str, tuple[str, dict[str, list[Run]]]] = {}
    busy = False
    for index, content in enumerate(task.contents):
        name, _, _ = content.key.partition("/")
        if name not in experiments:
            experiment = _experiment(client, name, task.local)
            experiments[name] = experiment, _standing(client, experiment, task)
        experiment, standing = experiments[name]
        old, digest = standing.get(content.key, []), content.digest
        whole = len(old) == 1 and old[0].data.tags.get(CONTENT_TAG) == digest
        if whole and (points is None or points.get(old[0].info.run_id) == len(set(content.points))):
            busy |= _amend(client, old[0], content, task)
            task.tell(content.key, "unchanged")
            continue
        for run in old:
            task.artifacts.remove(run)
            _delete(client, run.info.run_id)
        # Newest first is MLflow's order: a millisecond between runs makes it the order of the grid.
        _write(client, experiment, content, digest, round(task.start * 1000) - index, task)
        task.tell(content.key, "replaced" if old else "added")
        busy = True
    return busy


def _experiment(client: MlflowClient, task: str, local: bool) -> str:
    """The experiment of a task, which a user may have renamed or deleted; made where there is none."""
    from mlflow.entities import ViewType

    tagged = client.search_experiments(view_type=ViewType.ALL, filter_string=f"tags.`{TASK_TAG}` = '{task}'")
    same = client.get_experiment_by_name(title(task))
    if same is not None and same.tags.get(TASK_TAG) == task:
        tagged.append(same)
    experiment = min(tagged, key=lambda one: one.lifecycle_stage, default=None)
    # One of that name without the tag is somebody else's.
    name = title(task) if same is None else f"{title(task)} (nsbench)"
    tags = {TASK_TAG: task, NOTE_TAG: NOTE.format(task=task)}
    if experiment is None:
        # A path would be made absolute and break when the results move.
        location = f"mlflow-artifacts:/nsbench/{task}" if local else None
        tags["mlflow.experimentKind"] = "custom_model_development"
        return client.create_experiment(name, artifact_location=location, tags=tags)
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    if NOTE_TAG in experiment.tags:  # perhaps a user's own
        del tags[NOTE_TAG]
    for tag, value in tags.items():
        if experiment.tags.get(tag) != value:
            client.set_experiment_tag(experiment.experiment_id, tag, value)
    return experiment.experiment_id


def _standing(client: MlflowClient, experiment: str, task: _Import) -> dict[str, list[Run]]:
    """The active runs of an experiment that imports of this results folder have made, by key."""
    found: dict[str, list[Run]] = {}
    page = client.search_runs([experiment], max_results=500)
    while page:
        for run in page:
            if NAME_TAG in run.data.tags and task.clone.owns(run.data.tags, task.copied_store):
                found.setdefault(run.data.tags[NAME_TAG], []).append(run)
        page = page.token and client.search_runs([experiment], max_results=500, page_token=page.token)
    return found


def _amend(client: MlflowClient, run: Run, content: Content, task: _Import) -> bool:
    """Tag a run of ours from before there were identities, or before the folder moved, and renew its files.

    Returns whether there was anything to do.
    """
    from mlflow.entities import RunTag

    tags = {name: value for name, value in task.clone.tags.items() if run.data.tags.get(name) != value}
    if task.artifacts.missing(run, content.artifacts):
        tags |= task.artifacts.write(client, run, content.artifacts)
    if tags:
        client.log_batch(run.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
    return bool(tags)


def _delete(client: MlflowClient, run_id: str) -> None:
    """Delete for good where the store can (a database opened directly), else into MLflow's bin."""
    getattr(client._tracking_client.store, "_hard_delete_run", client.delete_run)(run_id)


def _write(client: MlflowClient, experiment: str, content: Content, digest: str, start_ms: int, task: _Import) -> None:
    """Create a run whose clock is its training time."""
    from mlflow.entities import Metric, Param, RunTag

    source = {"name": "nsbench", "type": "LOCAL", "git.commit": content.origin.get("commit", "unknown")}
    tags = {NAME_TAG: content.key, **task.clone.tags, **content.tags, **content.origin} | {
        f"mlflow.source.{k}": v for k, v in source.items()
    }
    run = client.create_run(experiment, start_time=start_ms, tags=tags, run_name=content.name)
    run_id = run.info.run_id
    parameters = [Param(name, value) for name, value in content.parameters.items()]
    for chunk in _chunks(parameters, PARAMETERS_PER_BATCH):
        client.log_batch(run_id, params=chunk)
    metrics = [Metric(p.metric, p.value, start_ms + round(p.seconds * 1000), p.step) for p in content.points]
    for chunk in _chunks(metrics, METRICS_PER_BATCH):
        client.log_batch(run_id, metrics=chunk)
    status, end_ms = "FINISHED" if content.completed else "FAILED", start_ms + round(content.seconds * 1000)
    client.set_terminated(run_id, status=status, end_time=end_ms)
    last = {**task.artifacts.write(client, run, content.artifacts), CONTENT_TAG: digest}
    client.log_batch(run_id, tags=[RunTag(name, value) for name, value in last.items()])


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
