"""A digest of the code that a stage runs: of the definitions that it reaches, wherever they stand.

From the functions that a stage starts with, every reference to a definition of ours (function, class, constant) is
followed, through imports. What is hashed is the content of those definitions in the order in which they are reached,
with references to ours as numbers. So an edit concerns the stages that reach it and no other; a comment, a docstring,
the layout, another name for a definition and another file for it concern none.

Left out: modules that say `CHANGES_NO_RESULT = True` (files, locks, provenance ...), and of settings, which reach a
stage as its spec, all but their methods. What is found by a name at run time cannot be followed: it is a root of its
own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

from nsbench.storage import definitions
from nsbench.storage.atomic import FileError, only_if, write_text
from nsbench.storage.definitions import (
    Definition,
    definitions_of,
    first_times,
    parts,
    source_digest,
    source_files,
    source_times,
)

CHANGES_NO_RESULT = True


given: dict[str, str] = {}
"""Roots -> a digest that counts in place of that of the code as it is: on a node of a cluster, of what was planned."""


class CodeError(RuntimeError):
    """Code that is not what was planned; the message, one sentence, says what to do."""


@functools.cache
def code_digest(*roots: str) -> str:
    """A digest (16 hex digits) of all that `roots` reach: `module:name`, or `module` for all that it defines.

    Kept beside Python's bytecode for as long as no source file changes. Raises ValueError for a root, or a name that is
    imported from a module of ours, that is not there.
    """
    known, key = _known(), " ".join(roots)
    if key in given:
        return given[key]
    if key not in known:
        known[key] = _computed(roots)
        if source_times() != first_times():  # Edited since: what was read is of no one source.
            definitions.forget()
            _known.cache_clear()
            return known[key]
        with contextlib.suppress(FileError):
            write_text(_kept(), json.dumps({"source": source_digest(), "digests": known}), durable=False)
    return known[key]


@contextlib.contextmanager
def held_to(planned: str, own: Callable[[], str]) -> Iterator[None]:
    """Let the block run, and write durable files, only as long as its code has the digest `planned`.

    own: computes the digest of the code as it is, where the source was edited since `planned` was. Raises CodeError.
    """
    files, seen = [file for _, file in source_files()], [0]

    def check() -> None:
        times = [file.stat().st_mtime_ns if file.exists() else 0 for file in files]
        if times == seen:
            return
        if len(seen) > 1:
            forget()
        # What the source as it is was found to give need not be computed again.
        if planned not in _known().values() and (now := own()) != planned:
            raise CodeError(
                f"its code is not what the workflow planned with (digest {now}, not {planned}): it was edited since, "
                "or another version checked out; give the same command again, finished work is kept"
            )
        seen[:] = times

    check()
    with only_if(check):
        yield


def known() -> dict[str, str]:
    """Roots -> digest, of those that were asked for."""
    return dict(_known())


def _kept() -> Path:
    return definitions.SOURCE_FOLDER / "__pycache__" / "code_digests.json"


@functools.cache
def _known() -> dict[str, str]:
    """The digests that are kept, where they are of the source as it is."""
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        kept = json.loads(_kept().read_text(encoding="utf-8"))
        if kept["source"] == source_digest():
            return dict(kept["digests"])
    return {}


def _computed(roots: tuple[str, ...]) -> str:
    order = reached(*roots)
    numbers = {found: f"#{number}" for number, found in enumerate(order)}
    digest = hashlib.sha256()
    for found in order:
        content = "\n".join(numbers.get(part, part) for part in parts(found))
        digest.update(f"{content}\n\n".encode())
    return digest.hexdigest()[:16]


def reached(*roots: str) -> list[Definition]:
    """The definitions that roots reach, in order. Raises ValueError as `code_digest` does."""
    waiting = [found for root in roots for found in definitions_of(root)]
    order = dict.fromkeys(waiting)
    for found in waiting:
        new = [part for part in parts(found) if isinstance(part, Definition) and part not in order]
        order |= dict.fromkeys(new)
        waiting += list(dict.fromkeys(new))
    return list(order)


def forget() -> None:
    """Read the source again: it was edited, or `definitions.elsewhere` has more."""
    definitions.forget()
    code_digest.cache_clear()
    _known.cache_clear()
