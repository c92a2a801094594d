"""A failed validation told in one sentence: the key, the value, and what is allowed there.

What is allowed is read from the model's own JSON schema, so that a sentence never lags behind it.
"""

from __future__ import annotations

import difflib
import itertools
import math
import reprlib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from nsbench.config.tracking_uri import shown, without_secrets

CHANGES_NO_RESULT = True

LONGEST_NAME, LONGEST_TEXT = 100, 1000
"""Characters that a name and other text may have: names become parts of file names."""
NAME_RULE = f"a name of at most {LONGEST_NAME} letters, digits, '_', '-' and '.', starting with a letter or digit"
NAME_FORMAT, WORDS_FORMAT, LEVEL_FORMAT = "nsbench-name", "nsbench-words", "nsbench-level"
"""Mark in a JSON schema: text that follows NAME_RULE, other text, and a value of a field that is varied."""
FORMATS = {
    NAME_FORMAT: (NAME_RULE, NAME_RULE.replace("a name", "names").replace("starting", "each starting")),
    WORDS_FORMAT: ("text of one line",) * 2,
    LEVEL_FORMAT: ("a number, a word, true, false or null", "values, each a number, a word, true, false or null"),
}
"""What each of them is in words, for one and for many."""
LONGEST_LIST = 300
"""Characters of a list of what is allowed."""


def sentence(error: ValidationError, model: type[BaseModel], values: Any, where: str = "") -> str:
    """One problem of a failed validation of `values` as `model`; `where` is the key of `values`.

    Of several an unknown key comes first: a misspelt key is also missed under its right name.
    """
    problems = error.errors(include_url=False)
    problem = next((entry for entry in problems if entry["type"] in ("extra_forbidden", "invalid_key")), problems[0])
    kind, loc, value, near = problem["type"], problem["loc"], problem["input"], ""
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        # The key that tells models apart (`kind` of arms, `source` of pretrained models) is a key of its own.
        tag = problem["ctx"]["discriminator"].strip("'")
        if kind == "union_tag_not_found" and not (isinstance(value, dict) and tag in value):
            kind, loc = "missing", (*loc, tag)
        else:
            loc, value = (*loc, tag), value[tag]
            near = nearest(value, problem["ctx"]["expected_tags"].replace("'", "").split(", "))
    schema = _Schema(model)
    if loc[-1:] == ("[key]",):
        key, _ = _place(where, loc[:-2], values, schema, False)
        return _line(f"{key}: {show(value)} is not allowed as a name; allowed: {NAME_RULE}")
    key, loc = _place(where, loc, values, schema, kind in ("missing", "invalid_key"))
    key = key or "config"
    if kind in ("extra_forbidden", "invalid_key"):
        known = schema.keys(loc[:-1])
        return _line(f"{key}: unknown key{nearest(loc[-1], known)}; allowed: {side_by_side(known)}")
    if kind == "missing":
        return _line(f"{key}: this key is missing; needed: {schema.allowed(loc)}")
    if kind == "value_error" and schema.is_section(loc):
        return _line(f"{key}: {problem['msg'].removeprefix('Value error, ')}")
    return _line(f"{key}: {show(value)} is not allowed{near}; allowed: {schema.allowed(loc)}")


def nearest(name: Any, known: Iterable[Any]) -> str:
    """`, did you mean ...?` with the most similar of the known names, or nothing."""
    wanted = str(name)[: 2 * LONGEST_NAME] if isinstance(name, str) else show(name)
    words = {str(entry).lower(): str(entry) for entry in known}
    close = difflib.get_close_matches(wanted.lower(), words, n=1, cutoff=0.5)
    return f", did you mean {words[close[0]]!r}?" if close else ""


def side_by_side(known: Iterable[Any]) -> str:
    """Names side by side, the first of them where they are too many to read."""
    names = list(map(str, known))
    ends = itertools.accumulate(len(name) + 2 for name in names)
    shown = [name for name, end in zip(names, ends, strict=True) if end <= LONGEST_LIST]
    return ", ".join(shown) + (f", ... ({len(names)} in all)" if len(shown) < len(names) else "")


class _Shown(reprlib.Repr):
    """Values as YAML users know them, cut short before they are written out: some are too big to be."""

    def __init__(self) -> None:
        super().__init__()
        self.maxdict = self.maxlist = self.maxtuple = self.maxset = 12
        self.maxstring = self.maxother = 80

    def repr_NoneType(self, value: None, level: int) -> str:
        return "null"

    def repr_bool(self, value: bool, level: int) -> str:
        return str(value).lower()

    def repr_int(self, value: int, level: int) -> str:
        # Python refuses to write out an int of thousands of digits.
        return repr(value) if value.bit_length() < 128 else f"a whole number of {value.bit_length()} bits"

    def repr_str(self, value: str, level: int) -> str:
        # Before it is cut short, which may take what tells a password in a URI from the rest.
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


def _place(
    where: str, loc: tuple[Any, ...], values: Any, schema: _Schema, missing: bool
) -> tuple[str, tuple[Any, ...]]:
    """A place as users write it, and as the schema has it.

    Where one of several models or types was tried pydantic names it in `loc`; such a part is none of the values. For
    users all of them are left out; for the schema those stay that are the value of a key which tells models apart.
    Where a key is missing, the last part is none of the values either.
    """
    key, here, kept = where, values, []
    for index, part in enumerate(loc):
        if schema.is_tag(tuple(kept), part):
            kept.append(part)
            continue
        in_list = isinstance(here, list)
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            if not (missing and index == len(loc) - 1):
                continue
        kept.append(part)
        word = part if isinstance(part, str) and part.isprintable() and 0 < len(part) <= LONGEST_NAME else show(part)
        key += f"[{part}]" if in_list else f".{word}" if key else word
    return key, tuple(kept)


class _Schema:
    """A model's JSON schema, looked up by place."""

    def __init__(self, model: type[BaseModel]) -> None:
        self.root = model.model_json_schema()
        self.definitions = self.root.get("$defs", {})

    def keys(self, loc: tuple[Any, ...]) -> list[str]:
        """The keys that are allowed in the section at a place."""
        return sorted({key for node in self._nodes(loc) for key in node.get("properties", {})})

    def allowed(self, loc: tuple[Any, ...]) -> str:
        """What is allowed at a place, in words."""
        words: list[str] = []
        for node in self._nodes(loc):
            words += [word for word in [self._words(node)] if word not in words]
        return " or ".join(words) or "nothing"

    def _nodes(self, loc: tuple[Any, ...]) -> list[dict[str, Any]]:
        nodes = self._options(self.root)
        for part in loc:
            nodes = [option for node in nodes for step in self._steps(node, part) for option in self._options(step)]
        return nodes

    def _options(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        """A node with references followed and alternatives side by side."""
        if "$ref" in node:
            return self._options(self.definitions[node["$ref"].rsplit("/", 1)[-1]])
        inner = node.get("anyOf", []) + node.get("oneOf", [])
        return [option for entry in inner for option in self._options(entry)] or [node]

    def is_section(self, loc: tuple[Any, ...]) -> bool:
        """Whether a section with keys of its own stands at a place."""
        return any(node.get("properties") for node in self._nodes(loc))

    def is_tag(self, loc: tuple[Any, ...], part: Any) -> bool:
        """Whether `part` after a place is the value of a key, like `kind`, that tells models apart there."""
        return any(_has_tag(node, part) for node in self._nodes(loc))

    def _steps(self, node: dict[str, Any], part: Any) -> list[dict[str, Any]]:
        if _has_tag(node, part):
            return [node]
        if part in node.get("properties", {}):
            return [node["properties"][part]]
        if isinstance(node.get("additionalProperties"), dict):
            return [node["additionalProperties"]]
        return [node["items"]] if "items" in node else []

    def _words(self, node: dict[str, Any], many: bool = False) -> str:
        """A node in words, `many` of it in the plural."""
        if "const" in node or "enum" in node:
            return " or ".join(show(value) for value in node.get("enum", [node.get("const")]))
        kind = node.get("type")
        if kind in ("integer", "number"):
            return _number_words(node, many)
        if node.get("format") in FORMATS:
            return FORMATS[node["format"]][many]
        if kind == "string":
            text = f"text that matches {node['pattern']}" if "pattern" in node else "text"
            return f"non-empty {text}" if node.get("minLength") else text
        if kind == "array":
            items = " or ".join(self._words(option, many=True) for option in self._options(node["items"]))
            most = f", at most {node['maxItems']} of them" if "maxItems" in node else ""
            return f"a {'non-empty ' if node.get('minItems') else ''}list of {items}{most}"
        if kind == "object" and node.get("properties"):
            return f"{'sections' if many else 'a section'} (keys: {', '.join(node['properties'])})"
        if kind == "object":
            return "a section of names, each with its settings"
        return {"boolean": "true or false", "null": "null"}.get(kind, "values" if many else "a value")


def _has_tag(node: dict[str, Any], part: Any) -> bool:
    return any(part == inner.get("const", math.nan) for inner in node.get("properties", {}).values())


def _number_words(node: dict[str, Any], many: bool) -> str:
    """A number and its whole range, in words; pydantic names some limits in its own way."""

    def limit(name: str, short: str) -> float | None:
        return node.get(name, node.get(short))

    low, above = limit("minimum", "ge"), limit("exclusiveMinimum", "gt")
    high, below = limit("maximum", "le"), limit("exclusiveMaximum", "lt")
    word = "number"
    if node["type"] == "integer":
        word = "whole number"
        if below is not None:
            high, below = below - 1, None
    elif (low, above, high, below) == (None,) * 4:
        word = "finite number"
    word = f"{word}s" if many else f"a {word}"
    if low is not None and high is not None:
        return f"{word} in {low:.12g} ... {high:.12g}"
    limits = {"at least": low, "above": above, "at most": high, "below": below}
    parts = [f"{words} {value:.12g}" for words, value in limits.items() if value is not None]
    return " ".join([word, " and ".join(parts)]).strip()
