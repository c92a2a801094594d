"""Whose runs are whose in a store that clones share: each results folder has an identity, which its runs carry."""

from __future__ import annotations

import json
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

from nsbench.files import write_text
from nsbench.records import RecordError

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

    A folder that was moved keeps its identity; a copy whose original is still there gets one of its own.

    Raises RecordError where the file is broken, FileError where it cannot be written.
    """
    path = folder / FILE
    place = f"{socket.gethostname()}:{folder.resolve()}"
    old = _read(path)
    if old is None:
        clone = Clone(uuid.uuid4().hex, place)
    elif _has_original(path, old, place):
        clone = Clone(uuid.uuid4().hex, place, (old.id, *old.copied_from))
    else:
        clone = Clone(old.id, place, old.copied_from)
    if clone != old:
        write_text(path, json.dumps(vars(clone)))
    return clone


def _read(path: Path) -> Clone | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        clone = Clone(values["id"], values["place"], tuple(values["copied_from"]))
        uuid.UUID(clone.id)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        raise RecordError(
            f"{path}: not the identity of a results folder; delete it and give the same command again: a tracking "
            "store that others use too then keeps the runs imported so far beside the new ones"
        ) from None
    return clone


def _has_original(path: Path, old: Clone, place: str) -> bool:
    """Whether another folder of this machine has this identity, so that the one at `path` is a copy of it."""
    host, _, folder = old.place.partition(":")
    original = Path(folder) / FILE
    if old.place == place or host != place.partition(":")[0] or not original.is_file() or original.samefile(path):
        return False
    try:
        there = _read(original)
    except RecordError:
        return False
    return there is not None and there.id == old.id
