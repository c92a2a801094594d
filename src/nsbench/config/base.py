"""Closed, frozen models and what they share: one-sentence errors, canonical JSON.

Every model forbids unknown keys, and every error is one sentence that names the key, the value and
what is allowed. The models carry no behaviour beyond validation: a stage's numbers depend on its
spec, the canonical JSON of its settings with all defaults spelled out, so the three modules of
settings (`base`, `variant`, `sections`) are left out of the source digests.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from nsbench.config.errors import (
    LEVEL_FORMAT,
    LONGEST_NAME,
    LONGEST_TEXT,
    NAME_FORMAT,
    NAME_RULE,
    WORDS_FORMAT,
    nearest,
    sentence,
    show,
    side_by_side,
)

CHANGES_NO_RESULT = True

NAME_PATTERN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}")
DEEPEST = 50
"""Levels of sections and lists inside each other that values may have; a configuration needs ten."""
MOST_VALUES = 200_000
"""Values, lists and sections that may stand in values, each counted wherever a YAML alias repeats it."""


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, the value and what is allowed."""


def _number(value: Any) -> Any:
    """Let YAML's `1e-3`, which its parser reads as text, count as the number it looks like."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
        return float(value)
    return value


def _name(value: Any) -> Any:
    if isinstance(value, str) and not NAME_PATTERN.fullmatch(value):
        raise ValueError(NAME_RULE)
    return value


def _words(value: Any) -> Any:
    # No file can be called so, and a line break would tear a message or a table apart.
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("text without control characters")
    return value


def _level(value: Any) -> Any:
    fits = (
        value is None
        or isinstance(value, bool)
        or (isinstance(value, int) and abs(value) < 2**63)
        or (isinstance(value, float) and math.isfinite(value))
        or (isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable())
    )
    if not fits:
        raise ValueError("a number, one line of text, true, false or null")
    return value


def no_duplicates(values: list[Any], where: str) -> None:
    """Raise ConfigError, its message starting with `where`, for a value that stands twice."""
    seen: set[Any] = set()
    unhashable: list[Any] = []
    for value in values:
        try:
            twice, keep = value in seen, seen.add
        except TypeError:
            twice, keep = value in unhashable, unhashable.append
        if twice:
            raise ConfigError(f"{where}: {show(value)} is listed twice; each value is allowed once")
        keep(value)


def known(name: str, names: Any, where: str, what: str) -> None:
    """Raise ConfigError where `name` is none of the `names`; `what` it is, for the message."""
    if name not in names:
        raise ConfigError(f"{where}: unknown {what} {show(name)}{nearest(name, names)}; allowed: {side_by_side(names)}")


def refuse_tangled(values: Any, where: str = "") -> None:
    """Check that values can be walked through: not inside themselves, not too deep and not too many.

    A few lines of YAML make what no memory holds, by aliases of aliases. `where` is the key of `values`. Raises
    ConfigError.
    """
    counts: dict[int, int] = {}
    """Of each section and list its values, by identity; 0 while they are being counted."""
    keys = [where] if where else []

    def refuse(what: str) -> None:
        place = ".".join(
            key if isinstance(key, str) and key.isprintable() and len(key) < 50 else show(key) for key in keys[:6]
        )
        raise ConfigError(f"{place or 'config'}: {what}")

    def count(value: Any) -> int:
        if not isinstance(value, dict | list | tuple | set | frozenset):
            return 1
        if len(keys) > DEEPEST:
            refuse(f"sections and lists stand more than {DEEPEST} deep in each other; fewer are allowed")
        if id(value) not in counts:
            counts[id(value)] = 0
            total = 1
            for key, part in value.items() if isinstance(value, dict) else enumerate(value):
                keys.append(key)
                total += count(part)
                keys.pop()
            counts[id(value)] = total
        if counts[id(value)] == 0:
            refuse("a section or list stands inside itself; leave that alias out")
        if counts[id(value)] > MOST_VALUES:
            refuse(f"has more than {MOST_VALUES:,} values, its aliases written out; fewer are allowed")
        return counts[id(value)]

    count(values)


def _once(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise ValueError("each value once")
    return values


Seeds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]], AfterValidator(_once), Field(min_length=1, max_length=1024)
]
"""The seeds of a pack, each once."""
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Name = Annotated[str, BeforeValidator(_name), Field(json_schema_extra={"format": NAME_FORMAT})]
Words = Annotated[
    str, BeforeValidator(_words), Field(max_length=LONGEST_TEXT, json_schema_extra={"format": WORDS_FORMAT})
]
"""Text of one line, as a path."""
FilePart = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")]
"""A name that may be made of several, as that of a variant of a sweep."""
Level = Annotated[Any, BeforeValidator(_level), Field(json_schema_extra={"format": LEVEL_FORMAT})]
"""One value of a field that is varied."""


class Closed(BaseModel):
    """A frozen model that refuses unknown keys and silent type changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


def _to_pairs(value: Any) -> Any:
    """Mappings as lists of pairs, two deep: what a name maps to may be one that keeps its order too."""
    if not isinstance(value, dict):
        return value
    return [
        [name, list(map(list, inner.items())) if isinstance(inner, dict) else inner] for name, inner in value.items()
    ]


def _from_pairs(value: Any) -> Any:
    """What `_to_pairs` made, as mappings again; anything else as it is."""

    def mapping(pairs: Any, inner: type = object) -> Any:
        fits = isinstance(pairs, list) and all(
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and isinstance(pair[1], inner)
            for pair in pairs
        )
        return dict(pairs) if fits and pairs else pairs

    outer = {} if value == [] else mapping(value)
    return {name: mapping(inner, dict) for name, inner in outer.items()} if isinstance(outer, dict) else outer


KEEPS_ORDER = (BeforeValidator(_from_pairs), PlainSerializer(_to_pairs, when_used="json"))
"""Marks a mapping whose order means something: canonical JSON, which sorts keys, has it as a list of pairs."""


def parse(model: type[BaseModel], values: Any, where: str = "") -> Any:
    """Validate `values` as `model`.

    Raises ConfigError: one sentence with key, value and what is allowed.
    """
    refuse_tangled(values, where)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error, model, values, where)) from None
