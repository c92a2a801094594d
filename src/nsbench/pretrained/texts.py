"""Texts to measure on. Imports no torch, so that a text that is not there is told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nsbench.data.text import read_text_file


class InputError(ValueError):
    """A text that cannot be measured on; the message names it and says what is allowed."""


def read_lines(texts: Path | str | Sequence[str]) -> tuple[tuple[str, ...], str]:
    """The lines of a text to measure on, and its name: of some texts, the test part of the text stage's file, or
    any UTF-8 file.

    Raises InputError for a file that is missing or no text, RecordError for a broken Parquet file.
    """
    if not isinstance(texts, Path | str):
        return tuple(
            line for text in texts for line in text.splitlines()
        ), f"{len(texts)} given text{'s' * (len(texts) != 1)}"
    path = Path(texts)
    if path.suffix == ".parquet":
        text = read_text_file(path)
        return text.test, text.label
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); give a text file") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is not UTF-8 at byte {error.start}; only UTF-8 text is allowed") from error
    if "\0" in text:
        raise InputError(f"{path}: has a NUL at character {text.index(chr(0))}, as UTF-16 has; only UTF-8 is allowed")
    return tuple(text.splitlines()), path.name
