"""Closed, frozen models and what they share: kinds of values, and errors of one sentence.

Every model forbids unknown keys, and every error is one sentence that names the key, the value and what is allowed.
The models compute nothing: a stage's numbers depend on its spec, the canonical JSON of its settings with all defaults
spelled out, so the modules of settings are left out of the code digests.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Hashable
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from nsbench.config.errors import NOT_ALLOWED, UNKNOWN_KEY, nearest, sentence, show, side_by_side

CHANGES_NO_RESULT = True

LONGEST_NAME, LONGEST_TEXT = 100, 1000
"""Characters that a name and other text may have: names become parts of file names."""
NAME_PATTERN = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LONGEST_NAME - 1}}}")
NAME_RULE = f"a name of at most {LONGEST_NAME} letters, digits, '_', '-' and '.', starting with a letter or digit"


class ConfigError(ValueError):
    """A setting that cannot be used; the message names the key, the value and what is allowed."""


def _number(value: Any) -> Any:
    """Let YAML's `1e-3`, which its parser reads as text, count as the number it looks like."""
    if isinstance(value, str) and re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", value):
        return float(value)
    return value


def _name(value: Any) -> Any:
    if not (isinstance(value, str) and NAME_PATTERN.fullmatch(value)):
        raise PydanticCustomError(NOT_ALLOWED, NAME_RULE)
    return value


def _words(value: Any) -> Any:
    # No file can be called so, a line break would tear a message apart, and to Snakemake braces are a wildcard.
    if not (isinstance(value, str) and value.isprintable() and len(value) <= LONGEST_TEXT and not {*value} & {*"{}"}):
        raise PydanticCustomError(
            NOT_ALLOWED, f"text of one line and at most {LONGEST_TEXT} characters, without braces"
        )
    return value


def _level(value: Any) -> Any:
    fits = (
        value is None
        or (isinstance(value, int) and abs(value) < 2**63)
        or (isinstance(value, float) and math.isfinite(value))
        or (isinstance(value, str) and len(value) <= LONGEST_TEXT and value.isprintable())
    )
    if not fits:
        raise PydanticCustomError(NOT_ALLOWED, "a number, a word, true, false or null")
    return value


def no_duplicates(values: list[Any], where: str) -> None:
    """Raise ConfigError, its message starting with `where`, for a value that stands twice."""
    counts = Counter(value if isinstance(value, Hashable) else repr(value) for value in values)
    if twice := [value for value in values if counts[value if isinstance(value, Hashable) else repr(value)] > 1]:
        raise ConfigError(f"{where}: {show(twice[0])} is listed twice; each value is allowed once")


def known(name: str, names: Any, where: str, what: str) -> None:
    """Raise ConfigError where `name` is none of the `names`; `what` it is, for the message."""
    if name not in names:
        raise ConfigError(f"{where}: unknown {what} {show(name)}{nearest(name, names)}; allowed: {side_by_side(names)}")


def _once(values: list[Any]) -> list[Any]:
    if len(set(values)) < len(values):
        raise PydanticCustomError(NOT_ALLOWED, "each value once")
    return values


Seeds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]], AfterValidator(_once), Field(min_length=1, max_length=1024)
]
"""The seeds of a pack, each once."""
Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Name = Annotated[str, BeforeValidator(_name)]
Words = Annotated[str, BeforeValidator(_words)]
"""Text of one line, as a path."""
FilePart = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,199}$")]
"""A name that may be made of several, as that of a variant of a sweep."""
Level = Annotated[Any, BeforeValidator(_level)]
"""One value of a field that is varied."""


class Closed(BaseModel):
    """A frozen model that refuses unknown keys and silent type changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else []:
            if key not in cls.model_fields:
                raise PydanticCustomError(UNKNOWN_KEY, "unknown key", {"key": key, "known": sorted(cls.model_fields)})
        return values


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
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error, values, where)) from None
