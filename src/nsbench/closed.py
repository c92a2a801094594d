"""Closed, frozen models and what they share: one-sentence errors, canonical JSON.

Every model forbids unknown keys, and every error is one sentence that names the key, the value and
what is allowed. The models carry no behaviour beyond validation: a stage's numbers depend on its
spec, the canonical JSON of its settings with all defaults spelled out, so the three modules of
settings (`closed`, `settings`, `config`) are left out of the source digests.
"""

from __future__ import annotations

import json
import re
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from nsbench.sentences import NAME_FORMAT, NAME_RULE, sentence

NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


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


def no_duplicates(values: list[Any], where: str) -> None:
    seen: list[Any] = []
    for value in values:
        if value in seen:
            raise ConfigError(f"{where}: {value!r} is listed twice; each value is allowed once")
        seen.append(value)


Real = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Name = Annotated[str, BeforeValidator(_name), Field(json_schema_extra={"format": NAME_FORMAT})]


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


def canonical_json(value: Any) -> str:
    """One string for one value: sorted keys, no spaces, models with all defaults spelled out."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_dump)


def _dump(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot write {type(value).__name__} as JSON")


def parse(model: type[BaseModel], values: Any, where: str = "") -> Any:
    """Validate `values` as `model`.

    Raises ConfigError: one sentence with key, value and what is allowed.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(sentence(error, model, values, where)) from None
