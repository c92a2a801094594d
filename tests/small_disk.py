"""A file system of a given size: a tmpfs in a mount namespace of its own, gone with the process that holds it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

WHY_NOT = "no tmpfs can be mounted here (it needs root, or user namespaces and `unshare`)"


class SmallDisk:
    """`path` is the folder; as a context manager it ends with the block. Raises OSError where there can be none."""

    def __init__(self, folder: Path, size: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder.resolve()
        is_root = os.geteuid() == 0
        command = ["unshare", "--mount", *([] if is_root else ["--user", "--map-root-user"]), "sh", "-s"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        self._shell = subprocess.Popen(command, **pipes)
        try:
            self._do(self._mount(size))
        except OSError:
            self.close()
            raise
        # What another namespace has mounted is seen through one of its processes.
        self.path = Path(f"/proc/{self._shell.pid}/root{self.folder}")
        user = [] if is_root else ["--user", "--preserve-credentials"]
        self.within = ["nsenter", "--target", str(self._shell.pid), *user, "--mount"]
        """What a command starts with that is to see the disk at `folder` itself, as SQLite must."""

    def renew(self, size: int) -> None:
        """Put an empty one of this size in its place."""
        self._do(f"umount --lazy '{self.folder}' && {self._mount(size)}")

    def resize(self, size: int) -> None:
        """Give it another size in bytes."""
        self._do(f"mount -o remount,size={size} '{self.folder}'")

    def forbid_writing(self) -> None:
        """Make it read-only."""
        self._do(f"mount -o remount,ro '{self.folder}'")

    def fill(self, leave: int) -> None:
        """Fill it up to `leave` bytes, by a file `ballast`."""
        free = os.statvfs(self.path).f_bavail * os.statvfs(self.path).f_frsize
        with (self.path / "ballast").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, free - leave)

    def used(self) -> int:
        """The bytes that what is on it takes."""
        room = os.statvfs(self.path)
        return (room.f_blocks - room.f_bfree) * room.f_frsize

    def close(self) -> None:
        """Let go of it and of all that is on it."""
        self._shell.stdin.close()
        self._shell.wait()
        self._shell.stdout.close()

    def _mount(self, size: int) -> str:
        return f"mount -t tmpfs -o size={size} nsbench '{self.folder}'"

    def _do(self, command: str) -> None:
        said = ""
        try:
            self._shell.stdin.write(f"{command} && echo done || echo failed\n")
            self._shell.stdin.flush()
            said = self._shell.stdout.readline().strip()
        except BrokenPipeError:
            pass
        if said != "done":
            raise OSError(f"{WHY_NOT}: {said}")

    def __enter__(self) -> SmallDisk:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
