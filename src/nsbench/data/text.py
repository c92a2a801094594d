"""The text that next-token prediction is cut from, in three parts, and the Parquet file that holds it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from nsbench.schemas.training import TEXT
from nsbench.storage.parquet import RecordError, read_arrow, read_stamp, write_table

PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Text:
    """Lines of three parts in the text's order: words apart by single spaces; blank lines are "".

    `label` says what the text is: exactly "WikiText-2" for that corpus in its own three parts.
    """

    label: str
    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def write_text_file(path: Path | str, text: Text, stamp: dict[str, str]) -> None:
    """Write a text as Parquet under `schemas.training.TEXT`, its label in the metadata, whole or not at all."""
    rows = [{"split": part, "line": line} for part in PARTS for line in getattr(text, part)]
    write_table(path, rows, TEXT, {**stamp, "text": text.label})


@functools.lru_cache(maxsize=2)
def read_text_file(path: Path | str) -> Text:
    """The text that `write_text_file` wrote; the last two are remembered by their path.

    Raises RecordError naming the file where it is missing, broken or of another kind.
    """
    table = read_arrow(path, TEXT)
    label = read_stamp(path).get("text")
    if label is None:
        raise RecordError(f"{path}: does not say which text it is; delete it and run its stage again")
    lines: dict[str, list[str]] = {part: [] for part in PARTS}
    for part, line in zip(table["split"].to_pylist(), table["line"].to_pylist(), strict=True):
        if part not in lines:
            raise RecordError(f"{path}: has a part {part!r}; delete it and run its stage again")
        lines[part].append(line)
    return Text(label, *(tuple(lines[part]) for part in PARTS))
