"""Whose runs are whose in a store that clones share: each results folder has an identity, which its runs carry."""

from __future__ import annotations

import json
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from nsbench.storage.atomic import explained, refuse_passing, write_text
from nsbench.storage.parquet import RecordError

FILE = "clone.json"
CLONE_TAG, PLACE_TAG = "nsbench.clone", "nsbench.folder"


@dataclass(frozen=True)
class Clone:
    """The identity of a results folder."""

    id: str
    """Random, made once."""
    place: str
    """host:folder, for people."""
    copied_from: tuple[str, ...] = ()
    """The identities of the folders that this one is a copy of."""
    inode: int | None = None
    """The folder's number in its file system, the same on every host that shares it; None where not recorded."""

    @property
    def tags(self) -> dict[str, str]:
        return {CLONE_TAG: self.id, PLACE_TAG: self.place}

    def owns(self, tags: dict[str, str], copied_store: bool = False) -> bool:
        """Whether a run with these tags is this folder's; one without an identity, from before there were any, is.

        copied_store: whether the store lies in the folder, so that a copy of the folder has a copy of the runs too.
        """
        owners = {self.id, *self.copied_from} if copied_store else {self.id}
        return tags.get(CLONE_TAG, self.id) in owners


def identify(folder: Path) -> Clone:
    """The identity of a results folder, which is made where it has none. One process at a time may ask.

    A folder that was moved on its host keeps its identity, and so does one that several hosts share. A copy gets one
    of its own: on the host of its original where that is still there, on another host always.

    Raises RecordError where the file is broken, FileError where it cannot be written.
    """
    path = folder / FILE
    place = f"{socket.gethostname()}:{folder.resolve()}"
    old = _read(path)
    with explained(path):
        inode = folder.stat().st_ino
    if old is None:
        clone = Clone(uuid.uuid4().hex, place, inode=inode)
    elif _was_copied(path, old, place, inode):
        clone = Clone(uuid.uuid4().hex, place, (old.id, *old.copied_from), inode)
    else:
        clone = Clone(old.id, place, old.copied_from, inode)
    if clone != old:
        write_text(path, json.dumps(vars(clone)))
    return clone


def _read(path: Path) -> Clone | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        clone = Clone(values["id"], values["place"], tuple(values["copied_from"]), values.get("inode"))
        uuid.UUID(clone.id)
        if type(clone.inode) not in (int, type(None)):
            raise TypeError
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        refuse_passing(path, error)
        raise RecordError(
            f"{path}: not the identity of a results folder; delete it and give the same command again: a tracking "
            "store that others use too then keeps the runs imported so far beside the new ones"
        ) from None
    return clone


def _was_copied(path: Path, old: Clone, place: str, inode: int) -> bool:
    """Whether the folder at `path` is not the one that its identity was written for, but a copy of that."""
    host, _, folder = old.place.partition(":")
    if host != place.partition(":")[0]:
        # Nodes of a cluster share one folder under many names of hosts, so the name alone says nothing.
        return old.inode not in (None, inode)
    original = Path(folder) / FILE
    if old.place == place or not original.is_file() or original.samefile(path):
        return False
    try:
        there = _read(original)
    except RecordError:
        return False
    return there is not None and there.id == old.id
