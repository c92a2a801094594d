"""A failed validation as one sentence: the key, the value, and what pydantic says is allowed there."""

from __future__ import annotations

import difflib
import itertools
import re
import reprlib
from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from nsbench.config.tracking_uri import shown, without_secrets

CHANGES_NO_RESULT = True

UNKNOWN_KEY, NOT_ALLOWED = "unknown_key", "not_allowed"
"""Types of errors that our own validators raise; the message of the second says what is allowed."""
LONGEST_LIST = 300
"""Characters of a list of what is allowed."""


def sentence(error: ValidationError, values: Any, where: str = "") -> str:
    """One problem of a failed validation of `values`; `where` is the key of `values`.

    Of several an unknown key comes first: a misspelt key is also missed under its right name.
    """
    problems = error.errors(include_url=False)
    problem = next((entry for entry in problems if entry["type"] == UNKNOWN_KEY), problems[0])
    kind, loc, value, allowed = problem["type"], problem["loc"], problem["input"], problem["msg"]
    if kind == UNKNOWN_KEY:
        key, known = problem["ctx"]["key"], problem["ctx"]["known"]
        place = _place(where, (*loc, key), values)
        return _line(f"{place}: unknown key{nearest(key, known)}; allowed: {side_by_side(known)}")
    if kind == "union_tag_not_found":
        kind, loc = "missing", (*loc, problem["ctx"]["discriminator"].strip("'"))
    if kind == "missing":
        return _line(f"{_place(where, loc, values)}: this key is missing")
    if kind == "union_tag_invalid":
        # The key that distinguishes models (`kind` of arms, `source` of pretrained models) is a key of its own.
        loc, value = (*loc, problem["ctx"]["discriminator"].strip("'")), problem["ctx"]["tag"]
        known = problem["ctx"]["expected_tags"].replace("'", "").split(", ")
        near, allowed = nearest(value, known), side_by_side(known)
        return _line(f"{_place(where, loc, values)}: {show(value)} is not allowed{near}; allowed: {allowed}")
    # Of a name that is not allowed, the section that it stands in.
    key = _place(where, loc[:-2] if loc[-1:] == ("[key]",) else loc, values, missing=False) or "config"
    if kind == "value_error":
        return _line(f"{key}: {allowed.removeprefix('Value error, ')}")
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        allowed = "a section of keys"
    return _line(f"{key}: {show(value)} is not allowed; allowed: {re.sub('^.* should (be |have )?', '', allowed)}")


def nearest(name: Any, known: Iterable[Any]) -> str:
    """`, did you mean ...?` with the most similar of the known names, or nothing."""
    words = {str(entry).lower(): str(entry) for entry in known}
    close = difflib.get_close_matches(str(name)[:200].lower(), words, n=1, cutoff=0.5)
    return f", did you mean {words[close[0]]!r}?" if close else ""


def side_by_side(known: Iterable[Any]) -> str:
    """Names side by side, the first of them where they are too many to read."""
    names = list(map(str, known))
    ends = itertools.accumulate(len(name) + 2 for name in names)
    first = [name for name, end in zip(names, ends, strict=True) if end <= LONGEST_LIST]
    return ", ".join(first) + (f", ... ({len(names)} in all)" if len(first) < len(names) else "")


class _Shown(reprlib.Repr):
    """Values as YAML users know them, cut short before they are written out: some are too big to be."""

    def __init__(self) -> None:
        super().__init__()
        self.maxdict = self.maxlist = self.maxtuple = 12
        self.maxstring = self.maxother = 80

    def repr_NoneType(self, value: None, level: int) -> str:
        return "null"

    def repr_bool(self, value: bool, level: int) -> str:
        return str(value).lower()

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write out an int of thousands of digits.
        return repr(value) if value.bit_length() < 128 else f"a whole number of {value.bit_length()} bits"

    def repr_str(self, value: str, level: int) -> str:
        # Before it is cut short, which may remove the marks by which a password in a URI is found.
        return super().repr_str(shown(value) if "://" in value else value, level)

    def repr_date(self, value: Any, level: int) -> str:
        return str(value)

    repr_datetime = repr_date


def show(value: Any) -> str:
    """A value as YAML users know it, shortened."""
    text = _Shown().repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _line(text: str) -> str:
    return " ".join(without_secrets(text).split())


def _place(where: str, loc: tuple[Any, ...], values: Any, missing: bool = True) -> str:
    """A place as users write it: `grid[0].arms`.

    Where one of several models or types was tried, pydantic names it in `loc`; such a part is none of the values and
    left out, but for the last one where that may be a key that is missing.
    """
    key, here = where, values
    for number, part in enumerate(loc):
        is_list = isinstance(here, list)
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            if number < len(loc) - 1 or not (missing and isinstance(here, dict)):
                continue
        word = part if isinstance(part, str) and part.isprintable() and 0 < len(part) <= 100 else show(part)
        key += f"[{part}]" if is_list else f".{word}" if key else word
    return key
