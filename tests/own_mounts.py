"""A small file system that only a fork of this process sees, mounted where its folder is.

`SmallDisk` is reached through a link in /proc, which SQLite follows itself, and so to nowhere. Here a fork leaves the
mounts that it shares with others, mounts a tmpfs, and runs the test's function there.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

NEW_MOUNTS, NEW_USERS = 0x00020000, 0x10000000  # unshare(2)
WHY_NOT = "no tmpfs can be mounted here (it needs root, or user namespaces)"
CANNOT_MOUNT = 77


@dataclass(frozen=True)
class Disk:
    """A mounted tmpfs."""

    path: Path

    def fill(self, leave: int) -> None:
        """Fill it up to `leave` bytes, by a file `ballast`."""
        free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
        with (self.path / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - leave)

    def remount(self, options: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.path)], check=True)


def on_a_disk(folder: Path, size: int, function: Callable[[Disk], None]) -> None:
    """Run a function in a fork where a tmpfs of `size` bytes is mounted at `folder`; skip where none can be.

    Raises AssertionError with the function's traceback.
    """
    folder.mkdir(parents=True, exist_ok=True)
    read, write = os.pipe()
    with warnings.catch_warnings(action="ignore"):  # of threads, which do nothing here
        child = os.fork()
    if child == 0:
        os.close(read)
        os._exit(_run(folder, size, function, write))
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status == CANNOT_MOUNT:
        pytest.skip(f"{WHY_NOT}: {said.splitlines()[-1]}")
    assert status == 0, said


def _run(folder: Path, size: int, function: Callable[[Disk], None], report: int) -> int:
    status = CANNOT_MOUNT
    try:
        _leave_mounts()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "nsbench", str(folder)], check=True)
        status = 1
        function(Disk(folder))
        status = 0
    except BaseException:
        os.write(report, traceback.format_exc().encode())
    return status


def _leave_mounts() -> None:
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(NEW_MOUNTS | (NEW_USERS if user else 0)) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    if user:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
