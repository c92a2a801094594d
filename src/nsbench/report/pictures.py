"""The figures of the page: each image stands in it once, at the first section that asks for it."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image

from nsbench.figures import caption, of_kind
from nsbench.storage.parquet import AGAIN, RecordError

Picture = dict[str, Any]
"""name, title, caption, the image as base64 text, and whether it is `of_runs`, that is of training."""


class Pictures:
    """Hands out each figure once; `names` keeps the order in which they were given."""

    def __init__(self, paths: list[Path]) -> None:
        self._waiting = {Path(path).stem: Path(path) for path in paths}
        self.names = list(self._waiting)

    def take(self, *names: str) -> list[Picture]:
        """Those of `names` that are there and were not taken before. Raises RecordError for a bad file."""
        return [_picture(self._waiting.pop(name)) for name in dict.fromkeys(names) if name in self._waiting]

    def rest(self) -> list[Picture]:
        """All that nothing has taken."""
        return self.take(*list(self._waiting))

    def elsewhere(self, *names: str) -> list[Picture]:
        """Those of `names` that stand in a section before this one: names and titles alone."""
        return [figure for figure in self.index() if figure["name"] in names and figure["name"] not in self._waiting]

    def index(self) -> list[Picture]:
        """Name and title of every figure, in the order given."""
        return [{"name": name, "title": caption(name)[0]} for name in self.names]


def _picture(path: Path) -> Picture:
    title, text = caption(path.stem)
    of_runs = path.stem not in (*of_kind("theory"), *of_kind("pretrained"))
    data = base64.b64encode(_png(path)).decode()
    return {"name": path.stem, "title": title, "caption": text, "data": data, "of_runs": of_runs}


def _png(path: Path) -> bytes:
    try:
        data = path.read_bytes()
        # Reads all of it and compares its checksums.
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            image.verify()
    except FileNotFoundError:
        raise RecordError(f"{path}: no such file; run the stage that makes it") from None
    except Exception:  # The library has no error of its own for a bad file.
        raise RecordError(f"{path}: not a whole PNG; {AGAIN}") from None
    return data
