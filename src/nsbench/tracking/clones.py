"""A UUID per results folder, which its runs carry in an MLflow store that several folders share."""

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
    """Made once, of the folder's first place and number: what is lost is made again as it was."""
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

    A folder that is renamed keeps its identity, and so does one that several hosts share. A copy, which has another
    inode, gets one of its own. Raises RecordError where the file is broken, FileError where it cannot be written.
    """
    path = folder / FILE
    old = _read(path)
    with explained(path):
        inode = folder.stat().st_ino
    place = f"{socket.gethostname()}:{folder.resolve()}"
    new = uuid.uuid5(uuid.NAMESPACE_URL, f"{CLONE_TAG}:{place}:{inode}").hex
    clone_id, copied_from = (old.id, old.copied_from) if old else (new, ())
    if old and old.inode not in (None, inode):
        clone_id, copied_from = new, (old.id, *old.copied_from)
    clone = Clone(clone_id, place, copied_from, inode)
    if clone != old:
        write_text(path, json.dumps(vars(clone)))
    return clone


def _read(path: Path) -> Clone | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return Clone(uuid.UUID(values["id"]).hex, values["place"], tuple(values["copied_from"]), values.get("inode"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        refuse_passing(path, error)
        raise RecordError(
            f"{path}: not the identity of a results folder; delete it and give the same command again"
        ) from None
