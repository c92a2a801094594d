"""Import into a real PostgreSQL, straight and through a real MLflow server: one run per key, no password told.

Skips where PostgreSQL (apt-get install postgresql) or its driver (pip install psycopg2-binary) are not installed.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.servers import PASSWORD, USER, Postgres, Server, missing
from tests.tracked_results import LIBRARIES_WARN, MLFLOW, Results, assert_whole, small_grid
from tests.warm import Warm

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=missing() or "-"),
    *(pytest.mark.filterwarnings(warning) for warning in LIBRARIES_WARN),
]
AT_ONCE = 8


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(postgres.uri("served"), tmp_path_factory.mktemp("server"))
    yield made
    made.kill()


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    made = Warm((*MLFLOW, "psycopg2", "requests"))
    yield made
    made.close()


def imported(warm: Warm, results: Results, uri: str, **settings: str) -> tuple[int, str]:
    """Exit status and words of an import, in a process of its own, into the store that the environment names."""
    environment = {**os.environ, "NSBENCH_TRACKING_URI": uri, "NO_PROXY": "*", **settings}
    return warm.run("nsbench", results.arguments(), results.folder.parent, environment)


def assert_no_secret(folder: Path, *said: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if PASSWORD.encode() in path.read_bytes()] == []
    assert not [text for text in said if PASSWORD in text]


def assert_in_database(postgres: Postgres, database: str, results: Results) -> None:
    """Check what stands in a database, without the server in between."""
    from mlflow import MlflowClient

    assert_whole(MlflowClient(tracking_uri=postgres.uri(database, password=True, make=False)), results)


def runs_there(postgres: Postgres, database: str) -> int:
    try:
        return int(postgres.query(database, "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'")[0][0])
    except Exception:
        return 0


def places(postgres: Postgres, server: Server, way: str, name: str) -> tuple[str, str, str]:
    """The store's URI with a password, what is shown of it, and the database behind it, `name` or the server's."""
    if way == "straight":
        return postgres.uri(name, password=True), f"postgresql://{USER}:***@127.0.0.1:{postgres.port}/{name}", name
    return f"http://{USER}:{PASSWORD}@{server.place}", f"http://{USER}:***@{server.place}", "served"


WAYS = pytest.mark.parametrize("way", ["straight", "served"])


@WAYS
def test_an_import_again_changes_nothing_and_tells_no_password(
    postgres: Postgres, server: Server, warm: Warm, tmp_path: Path, way: str
) -> None:
    uri, seen, database = places(postgres, server, way, "again")
    results = small_grid(tmp_path / "results")
    told = []
    for counts in ([8, 0, 0], [0, 0, 8]):
        status, said = imported(warm, results, uri)
        assert (status, said) == (0, "")
        summary = json.loads((results.folder / "tracked.json").read_text())
        assert [summary[name] for name in ("added", "replaced", "unchanged")] == counts
        assert summary["uri"] == seen
        told.append(said)
    results.write(val_loss=0.25)
    assert imported(warm, results, uri) == (0, "")
    assert_in_database(postgres, database, results)
    assert_no_secret(tmp_path, *told)


@WAYS
def test_eight_grids_and_eight_of_the_same_at_once(
    postgres: Postgres, server: Server, warm: Warm, tmp_path: Path, way: str
) -> None:
    """Straight into an empty database: the first of them makes MLflow's tables."""
    uri, _, database = places(postgres, server, way, "at_once")
    grids = [small_grid(tmp_path / str(n) / "results", seeds=[n]) for n in range(AT_ONCE)]
    grids += [small_grid(tmp_path / "same/results")] * AT_ONCE
    with ThreadPoolExecutor(len(grids)) as pool:
        ended = list(pool.map(lambda results: imported(warm, results, uri), grids))
    for status, said in ended:
        assert status == 0, said
        assert all("another import holds" in line for line in said.splitlines()), said
    for results in grids[: AT_ONCE + 1]:
        assert_in_database(postgres, database, results)
    assert_no_secret(tmp_path, *(said for _, said in ended))


@WAYS
def test_a_server_killed_in_the_middle(
    postgres: Postgres, server: Server, warm: Warm, tmp_path: Path, way: str
) -> None:
    uri, seen, database = places(postgres, server, way, "killed")
    results = small_grid(tmp_path / "results", seeds=list(range(10)))
    killed = postgres if way == "straight" else server
    before = runs_there(postgres, database)
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(imported, warm, results, uri)
        while runs_there(postgres, database) < before + 3:
            assert not ending.done(), ending.result()
            time.sleep(0.02)
        killed.kill()
        struck = time.monotonic()
        status, said = ending.result()
    assert time.monotonic() - struck < 75
    killed.start()
    assert status == 2
    assert said.startswith(f"nsbench stage track: {seen}: MLflow's store cannot be used (")
    assert len(said.splitlines()) == 1
    assert not (results.folder / "tracked.json").exists()
    assert imported(warm, results, uri) == (0, "")
    assert_in_database(postgres, database, results)
    assert_no_secret(tmp_path, said)


@pytest.mark.parametrize("password", ["", "S3cret-Wrong"])
def test_a_wrong_password_is_told_at_once(postgres: Postgres, warm: Warm, tmp_path: Path, password: str) -> None:
    uri = postgres.uri("closed" + password.lower().replace("-", "_"))
    results = small_grid(tmp_path / "results")
    began = time.monotonic()
    status, said = imported(warm, results, uri, PGPASSWORD=password)
    assert time.monotonic() - began < 20
    assert status == 2
    assert (
        "PGPASSWORD for PostgreSQL, or NSBENCH_TRACKING_URI to the whole URI, then give the same command again" in said
    )
    assert len(said.splitlines()) == 1
    assert "S3cret" not in said
    assert imported(warm, results, uri, PGPASSWORD=PASSWORD) == (0, "")
    assert_no_secret(tmp_path)


def test_imports_into_one_database_wait_for_each_other(postgres: Postgres, warm: Warm, tmp_path: Path) -> None:
    import psycopg2

    from nsbench.tracking.stores import ADVISORY_LOCK

    uri = postgres.uri("waiting", password=True)
    results = small_grid(tmp_path / "results")
    holder = psycopg2.connect(uri)
    with holder.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_lock({ADVISORY_LOCK})")
    release = threading.Timer(4.0, holder.close)
    release.start()
    status, said = imported(warm, results, uri)
    release.join()
    assert status == 0, said
    place = f"postgresql://{USER}:***@127.0.0.1:{postgres.port}/waiting"
    assert said.endswith(f" INFO another import holds {place}; waiting for it\n")
    assert len(said.splitlines()) == 1
