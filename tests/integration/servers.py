"""A PostgreSQL server with a password, and MLflow's own server on it, for the length of a test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

USER, PASSWORD = "alice", "S3cret-Word"
MISSING = {
    "PostgreSQL": "PostgreSQL is not installed; install it with: apt-get install postgresql",
    "psycopg2": "PostgreSQL's driver is not installed; install it with: pip install psycopg2-binary",
    "user": "PostgreSQL does not run as root and there is no user postgres or nobody; run this test as another user",
}


def missing() -> str:
    """What keeps the servers from running here, and what to do; empty where nothing does."""
    if _programs() is None:
        return MISSING["PostgreSQL"]
    try:
        import psycopg2  # noqa: F401
    except ImportError:
        return MISSING["psycopg2"]
    return MISSING["user"] if os.geteuid() == 0 and _other_user() is None else ""


class Postgres:
    """A server in a folder of its own, on a free port of 127.0.0.1, as another user where this one is root."""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="nsbench-postgres-"))
        self.folder.chmod(0o755)
        self._as = {}
        if os.geteuid() == 0 and (user := _other_user()):
            self._as = {"user": user, "cwd": "/"}
            shutil.chown(self.folder, user)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        made = self._run("initdb", "-D", self._data, "-U", USER, "-A", "scram-sha-256", "--pwfile", str(secret), "-N")
        secret.unlink()
        assert made.returncode == 0, made.stdout + made.stderr
        self.start()

    @property
    def _data(self) -> str:
        return str(self.folder / "data")

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self.folder} -c fsync=off"
        started = self._run("pg_ctl", "-D", self._data, "-w", "-l", str(self.folder / "log"), "-o", options, "start")
        assert started.returncode == 0, started.stdout + started.stderr

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder)

    def uri(self, database: str, password: bool = False, make: bool = True) -> str:
        """The URI of a database, which is made empty."""
        if make:
            self.query("postgres", f'CREATE DATABASE "{database}"')
        secret = f":{PASSWORD}" if password else ""
        return f"postgresql://{USER}{secret}@127.0.0.1:{self.port}/{database}"

    def query(self, database: str, text: str) -> list[tuple[object, ...]]:
        import psycopg2

        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, user=USER, password=PASSWORD, dbname=database, connect_timeout=10
        )
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def _run(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        # Not through pipes, which the server would keep open.
        with tempfile.TemporaryFile("w+") as out:
            command = [str(_programs() / program), *arguments]
            done = subprocess.run(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, **self._as)
            out.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, out.read(), "")


class Server:
    """`mlflow server` on a database."""

    def __init__(self, database: str, folder: Path) -> None:
        self.port, self.database, self.folder = free_port(), database, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        settings = {
            **{"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PGPASSWORD": PASSWORD},
            **{"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONWARNINGS": "ignore"},
        }
        command = [
            *(str(Path(sys.executable).with_name("mlflow")), "server", "--backend-store-uri", self.database),
            *("--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1"),
            *("--port", str(self.port), "--workers", "2"),
        ]
        with (self.folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                command, env=os.environ | settings, stdout=log, stderr=log, cwd=self.folder, start_new_session=True
            )
        end = time.monotonic() + 180
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.place}/health", timeout=5):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise AssertionError((self.folder / "server.log").read_text()[-3000:]) from None
                time.sleep(0.3)

    def kill(self) -> None:
        """End it and its workers at once."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _programs() -> Path | None:
    """The folder of PostgreSQL's programs; Debian has it off the path."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in folders), key=lambda path: int(path.parent.name), default=None)


def _other_user() -> str | None:
    import pwd

    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)
