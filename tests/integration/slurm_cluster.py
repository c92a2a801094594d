"""A Slurm of its own for the length of a test: a controller and virtual nodes with made-up GPUs, all on this machine.

It needs no root, no systemd, no cgroups and no database. Everything lies in one folder of /tmp, since a socket's path
must be short. Every process of it, jobs included, carries MARK in its environment; by that a process of its own, this
module's program, finds and ends them all when the test has ended, however it ended.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.integration.servers import free_port

MARK = "NSBENCH_TEST_CLUSTER"
"""The variable that holds the cluster's folder in the environment of all its processes."""
NODE = "SLURMD_NODENAME"
"""The variable by which Slurm tells a job's processes on which node they are."""
DAEMONS = ("slurmctld", "slurmd", "munged")
COMMANDS = ("sbatch", "srun", "squeue", "scancel", "scontrol", "sinfo", "sacct")
GONE_S = 10
"""Seconds of silence after which a node counts as lost."""
SAVES_S = 8.0
"""Seconds within which the controller has saved what it learnt."""
FOLDERS = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin", "/opt/slurm/bin", "/opt/slurm/sbin"))
MISSING = {
    "slurm": "Slurm is not installed; install it with: apt-get install slurmctld slurmd slurm-client munge",
    "plugin": "Snakemake's plugin is not installed; install it with: pip install snakemake-executor-plugin-slurm",
}


def missing() -> str:
    """What keeps a cluster from running here, and what to do; empty where nothing does."""
    if not all(shutil.which(name, path=FOLDERS) for name in (*DAEMONS, *COMMANDS)):
        return MISSING["slurm"]
    return "" if importlib.util.find_spec("snakemake_executor_plugin_slurm") else MISSING["plugin"]


class Cluster:
    """A cluster of `nodes` nodes, node1, node2 and so on, that starts at once; `stop` ends whatever is left of it.

    cpus, gpus, memory_mb: what each node claims to have; nothing of it need be there. A GPU is a link to /dev/null.
    """

    def __init__(self, nodes: int = 2, cpus: int = 2, gpus: int = 2, memory_mb: int = 64000) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="nsslurm-", dir="/tmp"))
        # A job's user may be another than the daemons'.
        self.folder.chmod(0o755)
        self.nodes = [f"node{n + 1}" for n in range(nodes)]
        self._cpus, self._gpus, self._memory_mb = cpus, gpus, memory_mb
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        # It holds the reading end of a pipe that closes with this process.
        reaper = [sys.executable, "-m", __name__, str(self.folder)]
        self._reaper = subprocess.Popen(
            reaper, cwd=Path(__file__).parents[2], stdin=subprocess.PIPE, start_new_session=True
        )
        try:
            self._configure()
            self._start("munged", self._munged())
            wait(lambda: self._socket.exists(), 30, "munged makes no socket", self.words)
            self.start_controller()
            for node in self.nodes:
                self.start_node(node)
            wait(lambda: self.states("idle") == set(self.nodes), 60, "nodes are not idle", self.words)
        except BaseException:
            self.stop()
            raise

    def environment(self, base: dict[str, str]) -> dict[str, str]:
        """`base` with what a program needs to use this cluster and no other."""
        path = os.pathsep.join((str(self.folder / "bin"), base.get("PATH", os.defpath), "/usr/bin", "/opt/slurm/bin"))
        # A test that itself runs in a job of another cluster.
        kept = {name: value for name, value in base.items() if not name.startswith(("SLURM", "SBATCH", "SRUN"))}
        return {**kept, "PATH": path, "SLURM_CONF": str(self._conf), MARK: str(self.folder)}

    def call(self, *command: str) -> str:
        """What a command of Slurm's says; RuntimeError where it fails, as all do while the controller is away."""
        environment = self.environment(dict(os.environ))
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise RuntimeError(f"{shlex.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def states(self, wanted: str) -> set[str]:
        """The nodes that are in a state now, as `idle`."""
        with contextlib.suppress(RuntimeError):
            return set(self.call("sinfo", "--noheader", "--Node", f"--states={wanted}", "--format=%N").split())
        return set()

    def jobs(self) -> dict[int, dict[str, str]]:
        """Slurm's jobs, the finished ones of the last minutes too: each one's fields as `scontrol` names them.

        `GPUs` is the places of its GPUs on its node, as "0" or "0-1". Empty while the controller is away.
        """
        try:
            said = self.call("scontrol", "--details", "--oneliner", "show", "job")
        except RuntimeError:
            return {}
        found = {}
        for line in said.splitlines():
            fields = dict(re.findall(r"(\w+)=(\S*)", line))
            if "JobId" in fields:
                gpus = re.search(r"GRES=gpu[^ ]*\(IDX:([\d,-]+)\)", line)
                found[int(fields["JobId"])] = {**fields, "GPUs": gpus[1] if gpus else ""}
        return found

    def log(self, daemon: str) -> str:
        """What a daemon has logged so far: `slurmctld`, or a node's name."""
        path = self.folder / "log" / f"{daemon}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def words(self) -> str:
        """The ends of all daemons' logs, for a failed test."""
        logs = sorted((self.folder / "log").glob("*.log"))
        return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}" for path in logs)

    def processes(self, node: str = "") -> dict[int, list[str]]:
        """The command lines of this cluster's processes; node: of the jobs there only, with who watches over them."""
        ours = {pid: found for pid, *found in _processes_of(self.folder)}
        there = [pid for pid, (_, environment) in ours.items() if environment.get(NODE) == node]
        chosen = {*there, *map(_parent, there)} if node else ours
        return {pid: command for pid, (command, _) in ours.items() if pid in chosen}

    def start_controller(self) -> None:
        self._start("slurmctld", ["slurmctld", "-D", "-f", str(self._conf)])

    def kill_controller(self) -> None:
        """End the controller at once, as a crash would; jobs run on. What it learnt in its last SAVES_S it forgets."""
        self._kill("slurmctld")

    def start_node(self, node: str) -> None:
        self._start(node, ["slurmd", "-D", "-f", str(self._conf), "-N", node])

    def kill_node(self, node: str) -> None:
        """End a node's daemon alone: Slurm takes the node for lost, while its jobs' processes live on."""
        self._kill(node)

    def crash_node(self, node: str) -> None:
        """End a node's daemon and all that runs there, as a power cut would."""
        self._kill(node)
        _kill_all(lambda: self.processes(node))

    def stop(self) -> None:
        """End all daemons and jobs, and remove the folder."""
        for name in list(self._daemons):
            self._kill(name)
        self._reaper.communicate()
        assert self._reaper.returncode == 0

    @property
    def _conf(self) -> Path:
        return self.folder / "etc/slurm.conf"

    @property
    def _socket(self) -> Path:
        return self.folder / "run/munge.socket"

    def _munged(self) -> list[str]:
        key = self.folder / "munge/munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        files = {"key-file": key, "socket": self._socket, "pid-file": self.folder / "run/munged.pid"}
        files |= {"log-file": self.folder / "munge/munged.log", "seed-file": self.folder / "munge/seed"}
        return ["munged", "--foreground", "--force", *(f"--{name}={path}" for name, path in files.items())]

    def _start(self, name: str, command: list[str]) -> None:
        program = shutil.which(command[0], path=FOLDERS)
        assert program is not None
        assert name not in self._daemons, f"{name} runs already"
        with (self.folder / f"log/{name}.out.log").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                [program, *command[1:]],
                env=self.environment(dict(os.environ)),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _kill(self, name: str) -> None:
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def _configure(self) -> None:
        for name in ("etc", "run", "log", "state", "dev", "munge", "bin", *(f"spool.{node}" for node in self.nodes)):
            (self.folder / name).mkdir(mode=0o700 if name == "munge" else 0o755)
        for gpu in range(self._gpus):
            # Anything but a character device, and Slurm sets no CUDA_VISIBLE_DEVICES.
            (self.folder / f"dev/gpu{gpu}").symlink_to("/dev/null")
        self._conf.write_text("\n".join([*self._settings(), *self._node_lines()]) + "\n")
        devices = f"{self.folder}/dev/gpu[0-{self._gpus - 1}]" if self._gpus > 1 else f"{self.folder}/dev/gpu0"
        gpus = [f"NodeName={node} Name=gpu File={devices}" for node in self.nodes]
        (self.folder / "etc/gres.conf").write_text("\n".join(["AutoDetect=off", *gpus]) + "\n")
        # Each slurmd loads a plugin for cgroups, used or not; before 23.02 none was called `disabled`.
        program = str(shutil.which("slurmd", path=FOLDERS))
        version = subprocess.run([program, "-V"], capture_output=True, text=True, check=True).stdout.split()[-1]
        old = tuple(map(int, version.split(".")[:2])) < (23, 2)
        plugin = "cgroup/v1" if old else "disabled"
        (self.folder / "etc/cgroup.conf").write_text(f"CgroupPlugin={plugin}\n")
        # Snakemake's job step drops SLURM_CONF before it calls srun.
        self._command("srun", f'export SLURM_CONF={self._conf}\nexec {shutil.which("srun", path=FOLDERS)} "$@"\n')
        # The plugin asks sacct once the controller is away, and without a database that never answers.
        self._command(
            "sacct",
            'while [ $# -gt 0 ]; do\n  if [ "$1" = --name ]; then\n'
            "    exec squeue --noheader --states=all --format='%i|%T' --name \"$2\"\n  fi\n  shift\ndone\n"
            "echo 'sacct: this cluster keeps no accounts' >&2\nexit 1\n",
        )

    def _command(self, name: str, script: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}")
        path.chmod(0o755)

    def _settings(self) -> list[str]:
        user = _user_name()
        settings = {
            "ClusterName": "nsbench",
            "SlurmctldHost": f"{socket.gethostname().split('.')[0]}(127.0.0.1)",
            "SlurmctldPort": free_port(),
            "SlurmUser": user,
            "SlurmdUser": user,
            "AuthType": "auth/munge",
            # A job that lost its node waits for this long before it starts again; 120 s if nothing is said.
            "AuthInfo": f"socket={self._socket},cred_expire=10",
            "CredType": "cred/munge",
            "SlurmctldPidFile": f"{self.folder}/run/slurmctld.pid",
            "SlurmdPidFile": f"{self.folder}/run/slurmd.%n.pid",
            "SlurmctldLogFile": f"{self.folder}/log/slurmctld.log",
            "SlurmdLogFile": f"{self.folder}/log/%n.log",
            "StateSaveLocation": f"{self.folder}/state",
            "SlurmdSpoolDir": f"{self.folder}/spool.%n",
            "CommunicationParameters": "NoCtldInAddrAny,NoInAddrAny",
            # Believe what the nodes claim to have.
            "SlurmdParameters": "config_overrides",
            "ProctrackType": "proctrack/linuxproc",
            "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none",
            "AccountingStorageType": "accounting_storage/none",
            "SwitchType": "switch/none",
            "MpiDefault": "none",
            "MailProg": "/bin/true",
            "SelectType": "select/cons_tres",
            "SelectTypeParameters": "CR_CPU_Memory",
            "SchedulerType": "sched/backfill",
            "SchedulerParameters": "sched_interval=2,bf_interval=2,batch_sched_delay=0,sched_min_interval=0",
            # A node that was lost is used again as soon as it is back.
            "ReturnToService": 2,
            "SlurmdTimeout": GONE_S,
            "SlurmctldTimeout": 10,
            "MessageTimeout": 10,
            "TCPTimeout": 2,
            "InactiveLimit": 0,
            "KillWait": 2,
            # Finished jobs are asked after with squeue alone.
            "MinJobAge": 1200,
            "JobRequeue": 1,
            "GresTypes": "gpu",
        }
        return [f"{name}={value}" for name, value in settings.items()]

    def _node_lines(self) -> Iterator[str]:
        host = socket.gethostname().split(".")[0]
        for node in self.nodes:
            yield (
                f"NodeName={node} NodeHostName={host} NodeAddr=127.0.0.1 Port={free_port()} CPUs={self._cpus}"
                f" RealMemory={self._memory_mb} Gres=gpu:{self._gpus} State=UNKNOWN"
            )
        yield f"PartitionName=main Nodes={','.join(self.nodes)} Default=YES MaxTime=INFINITE State=UP"


def wait(
    happened: Callable[[], object], seconds: float, complaint: str, words: Callable[[], str] = str, every: float = 0.1
) -> None:
    """Wait until `happened` is true; AssertionError with `complaint` and `words` where it is not within `seconds`."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"{complaint} (waited {seconds:g} s)\n{words()}"
        time.sleep(every)


def _kill_all(processes: Callable[[], dict[int, list[str]]]) -> None:
    """Kill processes until none is left; those first that would tell others of the end of the rest."""
    end = time.monotonic() + 30
    while found := processes():
        assert time.monotonic() < end, f"still there: {found}"
        for pid in sorted(found, key=lambda pid: not found[pid][0].startswith("slurmstepd")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)


def _processes_of(folder: Path) -> Iterator[tuple[int, list[str], dict[str, str]]]:
    """Number, command line and environment of each process of the cluster in `folder`."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            # Another user's may not be read, and one that is dead has neither.
            with contextlib.suppress(OSError):
                pairs = (word.partition("=") for word in _words(entry / "environ"))
                environment = {name: value for name, _, value in pairs}
                if environment.get(MARK) == str(folder):
                    yield int(entry.name), _words(entry / "cmdline"), environment


def _words(path: Path) -> list[str]:
    return path.read_bytes().decode(errors="replace").rstrip("\0").split("\0")


def _parent(pid: int) -> int | None:
    with contextlib.suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return None


def _user_name() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _end_with_parent(folder: Path) -> None:
    """Wait until standard input is closed, then end the cluster in `folder` and remove it."""
    sys.stdin.read()
    _kill_all(lambda: {pid: command for pid, command, _ in _processes_of(folder)})
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    _end_with_parent(Path(sys.argv[1]))
