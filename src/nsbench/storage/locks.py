"""Locks on files, held by one process at a time and free again when it ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterator
from pathlib import Path

from nsbench.storage.atomic import AGAIN, FileError, explained

CHANGES_NO_RESULT = True

logger = logging.getLogger(__name__)

LONGEST_WAIT_SECONDS = 7 * 24 * 3600.0
"""For a lock that is waited for: whoever may read a lock file may hold it, and nothing of ours takes as long."""
WITHOUT = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
"""Errors of file systems without locks."""


class HeldError(RuntimeError):
    """Another process holds the lock."""


@contextlib.contextmanager
def locked(path: Path, meanwhile: str | None) -> Iterator[None]:
    """Hold the lock file `path`, which is made and stays.

    meanwhile: what to log before waiting where another process holds it; None: raise HeldError at once. If locking is
    unsupported, warn and continue. Raises FileError where the file cannot be made, or is held for a week.
    """
    from filelock import FileLock, Timeout  # .04 s, and most calls of Snakemake lock nothing

    # Users who share a folder share its locks.
    lock = FileLock(path, mode=0o666)
    held = True
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if meanwhile is None:
                raise HeldError(str(path)) from None
            logger.info(meanwhile)
            try:
                lock.acquire(timeout=LONGEST_WAIT_SECONDS)
            except Timeout:
                raise FileError(f"{path}: another process has held this lock for a week; end it {AGAIN}") from None
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in WITHOUT:
                raise
            held = False
            logger.warning("%s: this file system has no locks, so nothing stops a second process here", path.parent)
    try:
        yield
    finally:
        if held:
            lock.release()
