"""One workflow at a time in a results folder.

Snakemake's own lock outlives a workflow that was killed, and asks the user to remove it; this one is
the system's, free again when its holder ends, however it ends. So the profile turns Snakemake's off.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import time
from pathlib import Path

from filelock import FileLock, Timeout

from nsbench.files import write_text

logger = logging.getLogger(__name__)

LOCK, HOLDER = ".workflow.lock", ".workflow.json"


class OccupiedError(RuntimeError):
    """Another workflow works in the folder; the message says which."""


def occupy(folder: Path) -> FileLock:
    """Be the only workflow that works in `folder` for as long as the lock that is returned lives.

    Raises OccupiedError where another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise OccupiedError(
            f"{folder}: {_holder(folder)} is at work in this folder; wait until it ends, or stop it (its finished work "
            "is kept); one at a time is allowed"
        ) from None
    except NotImplementedError:
        logger.warning("%s: this file system has no locks, so nothing stops a second workflow here", folder)
        return lock
    who = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
    write_text(folder / HOLDER, json.dumps(who))
    return lock


def _holder(folder: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError):
        who = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"another snakemake (process {who['process']} on {who['host']}, since {who['since']})"
    return "another snakemake"
