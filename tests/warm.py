"""A Python that has imported the slow packages already and forks for each call: a fresh process without the wait.

What runs is the same command line in a process of its own, `snakemake.cli.main` or `nsbench.cli.parser.main`; only
packages of others are there before, never nsbench, whose code the tests edit. The client side imports the standard
library alone, so that it can stand in for the `nsbench` command (see `write_command`).
"""

import contextlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

PLANNING = ("snakemake.cli", "snakemake.dag", "pandas", "pyarrow.parquet", "pydantic", "yaml")
"""What the Snakefile needs."""
STAGES = (
    *PLANNING,
    *("torch", "torch._dynamo", "safetensors.torch", "transformers.modeling_utils", "scipy.stats", "scipy.special"),
    *(
        "scipy.optimize",
        "matplotlib.figure",
        "matplotlib.backends.backend_agg",
        "matplotlib.backends.backend_pdf",
        "jinja2",
        "gensim",
    ),
)
"""What the stages need."""


class Warm:
    """A server with `packages` imported, which ends with `close` or with the process that started it.

    within: what a command starts with that runs it elsewhere, as `SmallDisk.within`.
    """

    def __init__(self, packages: Sequence[str], within: Sequence[str] = ()) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="nsbench-")
        self.address = str(Path(self.folder.name) / "socket")
        command = [*within, sys.executable, __file__, self.address, *packages]
        # Rules give each job one thread; libraries read it when they are imported.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.server.stdout is not None
        assert self.server.stdout.readline() == "ready\n", "the server of warm processes did not start"

    def run(self, program: str, arguments: Sequence[str], cwd: Path, environment: dict[str, str]) -> tuple[int, str]:
        """Exit status, and standard output and error together, of a program ('snakemake' or 'nsbench')."""
        with tempfile.TemporaryFile() as out:
            status = call(self.address, program, arguments, cwd, environment, (out.fileno(), out.fileno()))
            out.seek(0)
            return status, out.read().decode()

    def write_command(self, path: Path) -> None:
        """Write a script that stands in for the `nsbench` command."""
        here = os.path.dirname(os.path.abspath(__file__))
        path.write_text(
            f"#!{sys.executable} -IS\nimport os, sys\nsys.path.insert(0, {here!r})\nfrom warm import call\n"
            f"sys.exit(call({self.address!r}, 'nsbench', sys.argv[1:], os.getcwd(), dict(os.environ), (1, 2)))\n"
        )
        path.chmod(0o755)

    def processes(self) -> dict[int, str]:
        """The programs that run now, `snakemake ...` or `nsbench STAGE`, by process."""
        found = {}
        for pid in Path(f"/proc/{self.server.pid}/task/{self.server.pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                found[int(pid)] = Path(f"/proc/{pid}/comm").read_text().strip()
        return {pid: name for pid, name in found.items() if name.startswith(("snakemake ", "nsbench "))}

    def close(self) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.wait()
        self.server.stdout.close()
        self.folder.cleanup()


def call(
    address: str,
    program: str,
    arguments: Sequence[str],
    cwd: Path | str,
    environment: dict[str, str],
    outputs: tuple[int, int],
) -> int:
    """Run a program in a fork of the server, writing to the file descriptors `outputs`; its exit status."""
    request = json.dumps([program, list(arguments), str(cwd), environment]).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        socket.send_fds(connection, [struct.pack("!I", len(request))], list(outputs))
        connection.sendall(request)
        answer = connection.recv(4)
    # Without an answer the process was killed.
    return struct.unpack("!i", answer)[0] if len(answer) == 4 else 1


def serve(address: str, packages: Sequence[str]) -> None:
    """Answer calls, each in a fork, until standard input is closed."""
    import importlib
    import warnings

    with warnings.catch_warnings(action="ignore"):
        for name in packages:
            importlib.import_module(name)
    assert not any(name.partition(".")[0] == "nsbench" for name in sys.modules)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX)
    server.bind(address)
    server.listen(64)
    print("ready", flush=True)
    while True:
        ready, _, _ = select.select([server, sys.stdin], [], [])
        if sys.stdin in ready:
            return
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _answer(connection)
        connection.close()


def _answer(connection: socket.socket) -> None:
    import logging
    import traceback

    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        head, outputs, _, _ = socket.recv_fds(connection, 4, 2)
        (length,) = struct.unpack("!I", head)
        with connection.makefile("rb") as stream:
            program, arguments, cwd, environment = json.loads(stream.read(length))
        for source, target in zip(outputs, (1, 2), strict=True):
            os.dup2(source, target)
            os.close(source)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        # As a fresh Python would have it: PYTHONPATH before all, no folder of this file.
        sys.path[:1] = environment.get("PYTHONPATH", "").split(os.pathsep)
        sys.argv = [program, *arguments]
        # So that a test can find the process that does a job, to kill it.
        first = arguments[1 if arguments[0] == "stage" else 0]
        Path("/proc/self/comm").write_text(f"{program} {first}"[:15])
        if program == "snakemake":
            from snakemake.cli import main
        else:
            from nsbench.cli.parser import main
        status = main()
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        connection.sendall(struct.pack("!i", int(status or 0)))
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
