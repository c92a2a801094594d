"""Atomic file writes, and one sentence where a file cannot be written or read.

No locks: on some network file systems a lock keeps even its holder from writing. Standard library only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

CHANGES_NO_RESULT = True

AGAIN = "and give the same command again: nothing that was finished is lost"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}
WRITING = NO_ROOM | FORBIDDEN | {errno.EIO, errno.EFBIG, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT}
"""Errors that only a write has, whatever it was called for."""
OF_THE_FILE = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR}
"""Errors of a read that concern the file itself; any other concerns the disk, the network or the process."""
NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""Errors of file systems that cannot sync a folder."""
LITTLE_ROOM = 2**20
"""Bytes: with less than this nothing of use can be written."""
ABANDONED_S = 24 * 3600.0
"""Seconds without a change after which a temporary file of another machine counts as abandoned."""
_PIDS = "/proc/self/ns/pid"
HOST = f"{socket.gethostname()}-{os.stat(_PIDS).st_ino if os.path.exists(_PIDS) else 0}"
"""Where the number of a process means something: a machine, and there the container's PID namespace."""
_OS_ERROR = re.compile(r"(?:\(os error |^unable to .* \(|Error code )(\d+)")
"""The system's number in the words of safetensors and of torch."""
_conditions: list[Callable[[], None]] = []


class FileError(ValueError):
    """A file that cannot be written or read; the message, one sentence, names it and says what to do."""


@contextlib.contextmanager
def only_if(condition: Callable[[], None]) -> Iterator[None]:
    """In the block a durable file takes its place only where `condition`, called just before, raises nothing."""
    _conditions.append(condition)
    try:
        yield
    finally:
        _conditions.remove(condition)


@contextlib.contextmanager
def atomic_write(path: Path | str, durable: bool = True) -> Iterator[Path]:
    """A temporary path beside `path` that becomes it, synced to disk, when the block ends well.

    Where the block fails nothing is left behind and an older file at `path` stays; what a killed writer of the same
    path left is removed first. durable: whether to wait for the disk; without, a power cut may lose the file.

    Raises FileError, one sentence, where the file cannot be written (no space, no permission, a broken disk ...); any
    other error of the block passes through.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{HOST}-{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path)
        temporary.touch(exist_ok=False)
    try:
        with explained(path, temporary):
            yield temporary
        for condition in _conditions if durable else []:
            condition()
        with explained(path):
            if durable:
                _sync(temporary)
            temporary.replace(path)
            if durable:
                _sync(path.parent)
    finally:
        # Before the error is reported: on a full disk that frees the room to log it.
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str, durable: bool = True) -> None:
    """Write a text file in UTF-8 by `atomic_write`."""
    with atomic_write(path, durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextlib.contextmanager
def explained(path: Path | str, within: Path | str | None = None) -> Iterator[None]:
    """Turn the operating system's errors in the block into FileError about `path`.

    within: the temporary file or folder where others' code writes what becomes `path`; then only errors about that,
    or that only a write has, count: an input that may not be read passes through, as does any other error.
    """
    try:
        yield
    except FileError:  # Reported already, perhaps of another file.
        raise
    except Exception as error:
        cause = _cause(error)
        number, name = _number(cause), getattr(cause, "filename", None)
        of_others = not (number in WRITING if name is None else str(name).startswith(str(within)))
        if number is None or (within is not None and of_others):
            raise
        advice = _advice(number, "make its folder writable")
        raise FileError(f"{path}: could not be written ({os.strerror(number)}); {advice} {AGAIN}") from error


def refuse_passing(path: Path | str, error: Exception) -> None:
    """Raise FileError if `error` is of the read (disk, network, process), not of the content of the file at `path`.

    A damaged file is made again, and what it had is lost with it: a network that fails, too many open files or too
    little memory must not do that.
    """
    number = errno.ENOMEM if isinstance(error, MemoryError) else _number(error)
    if number is None or number in OF_THE_FILE:
        return
    advice = _advice(number, "make it readable")
    raise FileError(f"{path}: could not be read ({os.strerror(number)}); {advice} {AGAIN}") from error


def lack_of_room(folder: Path | str) -> str:
    """One sentence where the file system of `folder` is as good as full, else nothing."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return ""
    if free >= LITTLE_ROOM:
        return ""
    return f"{folder}: its file system is full ({free / 1000:.0f} kB are left); free some space {AGAIN}"


def remove_abandoned(path: Path) -> None:
    """Remove temporary files of killed writers of `path`: of this machine where the process is gone, else by age."""
    pattern = re.compile(re.escape(f".{path.name}.") + r"(.+)-(\d+)-[0-9a-f]{8}" + re.escape(path.suffix))
    for entry in os.listdir(path.parent):
        if found := pattern.fullmatch(entry):
            left = path.with_name(entry)
            with contextlib.suppress(OSError):
                old = time.time() - left.stat().st_mtime > ABANDONED_S
                if _is_gone(int(found[2])) if found[1] == HOST else old:
                    left.unlink()


def _cause(error: BaseException) -> BaseException:
    """The system's error that another came of: a library that tidies up after it may stumble again, as for a PDF."""
    found: BaseException | None = error
    while found is not None and _number(found) is None:
        found = found.__context__
    return error if found is None else found


def _number(error: BaseException) -> int | None:
    """The operating system's number of an error; libraries in Rust, as safetensors, put it into the text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def _advice(number: int, if_forbidden: str) -> str:
    if number in NO_ROOM:
        return "free some space"
    if number in FORBIDDEN:
        return if_forbidden
    return "free some memory" if number == errno.ENOMEM else "mend that"


def _is_gone(process: int) -> bool:
    """Whether a process of this machine has ended; killed counts, though its parent may never ask for it."""
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0]
    except OSError as error:
        return error.errno == errno.ESRCH
    return state in (b"Z", b"X")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno in NO_FOLDER_SYNC):
            raise
    finally:
        os.close(handle)
