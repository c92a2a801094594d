"""One workflow at a time in a results folder.

Snakemake's own lock outlives a workflow that was killed, and asks the user to remove it; this one is
the system's, free again when its holder ends, however it ends. So the profile turns Snakemake's off.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from nsbench.storage.atomic import FileError, write_text
from nsbench.storage.locks import HeldError, locked

LOCK, HOLDER = ".workflow.lock", ".workflow.json"


class OccupiedError(RuntimeError):
    """Another workflow works in the folder; the message says which."""


@contextlib.contextmanager
def occupied(folder: Path) -> Iterator[None]:
    """Be the only workflow that works in `folder`.

    Raises OccupiedError where another one does, FileError where the folder cannot be written.
    """
    try:
        with locked(folder / LOCK, meanwhile=None):
            who = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
            with contextlib.suppress(FileError):  # Only a message needs it.
                write_text(folder / HOLDER, json.dumps(who))
            yield
    except HeldError:
        raise OccupiedError(
            f"{folder}: {_holder(folder)} is at work in this folder; wait until it ends, or stop it (its finished work "
            "is kept); one at a time is allowed"
        ) from None


def _holder(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError):
        who = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"another snakemake (process {who['process']} on {who['host']}, since {who['since']})"
    return "another snakemake"
