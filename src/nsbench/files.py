"""Files written whole or not at all, and what a user is told where one cannot be written. Standard library only."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

AGAIN = "and give the same command again: nothing that was finished is lost"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
WRITING = NO_ROOM | FORBIDDEN | {errno.EIO, errno.EFBIG, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT}
"""What only a write says, whatever it was called for."""
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""What file systems say that cannot sync a folder."""
LITTLE_ROOM = 2**20
"""Bytes: with less than this nothing of use can be written."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_RANDOM = "[a-z0-9_]{8}"
"""What `tempfile` puts into a name."""


class FileError(ValueError):
    """A file that cannot be written or read; the message, one sentence, names it and says what to do."""


@contextlib.contextmanager
def whole(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that becomes it, synced to disk, when the block ends well.

    Where the block fails nothing is left behind and an older file at `path` stays; what a writer of the same path
    left that was killed is removed first. durable: whether to wait for the disk; without, the file may be lost, or
    empty, after a power cut. The block must write into the temporary file itself, not replace it by another one.

    Raises FileError, one sentence, where the file cannot be written (no space, no permission, a broken disk ...); any
    other error of the block passes through.
    """
    path = Path(path)
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path)
        handle, temporary = _temporary(path)
    try:
        with explained(path, temporary):
            yield temporary
        with explained(path):
            if durable:
                _sync(temporary)
            temporary.chmod(0o666 & ~_umask())
            temporary.replace(path)
            if durable:
                _sync(path.parent)
    finally:
        # Both before anything is said: on a full disk that frees the room to say it.
        temporary.unlink(missing_ok=True)
        os.close(handle)


def write_text(path: Path | str, text: str, durable: bool = True) -> None:
    """Write a text file in UTF-8, as of `whole`."""
    with whole(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def explained(path: Path | str, within: Path | str | None = None) -> Iterator[None]:
    """Make FileError about `path` of the operating system's errors in the block.

    within: the temporary file or folder where others' code writes what becomes `path`; then only what is about that,
    or what writing alone can say, counts: an input that may not be read passes through, as does any other error.
    """
    try:
        yield
    except Exception as error:
        cause = _cause(error)
        number, name = _number(cause), getattr(cause, "filename", None)
        if within is not None and not (number in WRITING if name is None else str(name).startswith(str(within))):
            raise
        if number is None:
            raise
        raise FileError(_sentence(path, number)) from error


def lack_of_room(folder: Path | str) -> str:
    """One sentence where the file system of `folder` is as good as full, else nothing."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    if free >= LITTLE_ROOM:
        return ""
    return f"{folder}: its file system is full ({free / 1000:.0f} kB are left); free some space {AGAIN}"


def _cause(error: BaseException) -> BaseException:
    """The system's error that another came of: a library that tidies up after it may stumble again, as for a PDF."""
    found: BaseException | None = error
    while found is not None and _number(found) is None:
        found = found.__context__
    return error if found is None else found


def _number(error: BaseException) -> int | None:
    """The operating system's number of an error; libraries in Rust, as safetensors, put it into the text."""
    if isinstance(error, OSError):
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def _sentence(path: Path | str, number: int) -> str:
    if number in NO_ROOM:
        advice = "free some space"
    elif number in FORBIDDEN:
        advice = "make its folder writable"
    else:
        advice = "mend that"
    return f"{path}: could not be written ({os.strerror(number)}); {advice} {AGAIN}"


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, open and locked, so that others see that somebody writes it."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
        # Where the file system knows no locks nobody can take the file for abandoned either.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.fstat(handle), os.stat(name)):
                return handle, Path(name)
        except FileNotFoundError:  # Between the two lines above another writer took it for abandoned.
            pass
        os.close(handle)


def remove_abandoned(path: Path) -> None:
    """Remove what writers of `path` left that were killed: its temporary files that nobody holds."""
    ours = re.compile(re.escape(f".{path.name}.") + _RANDOM + re.escape(path.suffix))
    for entry in list(os.scandir(path.parent)):
        if not ours.fullmatch(entry.name):
            continue
        with contextlib.suppress(OSError):
            handle = os.open(entry.path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)
            finally:
                os.close(handle)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_FOLDER_SYNC):
            raise
    finally:
        os.close(handle)


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current
