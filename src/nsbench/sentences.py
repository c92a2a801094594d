"""A failed validation told in one sentence: the key, the value, and what is allowed there.

What is allowed is read from the model's own JSON schema, so that a sentence never lags behind it.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

NAME_RULE = "a name of letters, digits, '_', '-' and '.', starting with a letter or digit"
NAME_FORMAT = "nsbench-name"
"""Marks text in a JSON schema that follows NAME_RULE."""


def sentence(error: ValidationError, model: type[BaseModel], values: Any, where: str = "") -> str:
    """One problem of a failed validation of `values` as `model`; `where` is the key of `values`.

    Of several an unknown key comes first: a misspelt key is also missed under its right name.
    """
    problems = error.errors(include_url=False)
    problem = next((entry for entry in problems if entry["type"] in ("extra_forbidden", "invalid_key")), problems[0])
    kind, loc, value = problem["type"], problem["loc"], problem["input"]
    if kind == "union_tag_not_found":
        # The key that tells models apart is missing in a section: seen as a missing key of its own.
        kind, loc = "missing", (*loc, "kind")
    elif kind == "union_tag_invalid":
        loc, value = (*loc, "kind"), value["kind"]
    schema = _Schema(model)
    if loc[-1:] == ("[key]",):
        return _line(
            f"{_key(where, loc[:-2], values)}: {show(value)} is not allowed as a name; allowed: {NAME_RULE}",
        )
    key = _key(where, loc, values) or "config"
    if kind in ("extra_forbidden", "invalid_key"):
        known = schema.keys(loc[:-1])
        return _line(f"{key}: unknown key{nearest(loc[-1], known)}; allowed: {', '.join(known)}")
    if kind == "missing":
        return _line(f"{key}: this key is missing; needed: {schema.allowed(loc)}")
    if kind == "value_error" and isinstance(value, dict):
        return _line(f"{key}: {problem['msg'].removeprefix('Value error, ')}")
    return _line(f"{key}: {show(value)} is not allowed; allowed: {schema.allowed(loc)}")


def nearest(name: Any, known: Iterable[Any]) -> str:
    """`, did you mean ...?` with the most similar of the known names, or nothing."""
    close = difflib.get_close_matches(str(name), [str(entry) for entry in known], n=1, cutoff=0.5)
    return f", did you mean {close[0]!r}?" if close else ""


def show(value: Any) -> str:
    """A value as YAML users know it, shortened."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _line(text: str) -> str:
    return " ".join(text.split())


def _key(where: str, loc: tuple[Any, ...], values: Any) -> str:
    """A place as users write it: without the tags that pydantic puts behind a section whose `kind`
    chooses its model. They are the parts that the values do not have; a missing key comes last."""
    key, here = where, values
    for index, part in enumerate(loc):
        in_list = isinstance(here, list)
        try:
            here = here[part]
        except (KeyError, IndexError, TypeError):
            if index < len(loc) - 1:
                continue
        key += f"[{part}]" if in_list else f".{part}" if key else str(part)
    return key


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

    def _steps(self, node: dict[str, Any], part: Any) -> list[dict[str, Any]]:
        if part in node.get("properties", {}):
            return [node["properties"][part]]
        if part == node.get("properties", {}).get("kind", {}).get("const", math.nan):
            return [node]  # pydantic's tag for this model
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
        if kind == "string":
            rule = NAME_RULE if node.get("format") == NAME_FORMAT else "text"
            return rule.replace("a name", "names").replace("starting", "each starting") if many else rule
        if kind == "array":
            items = " or ".join(self._words(option, many=True) for option in self._options(node["items"]))
            return f"a {'non-empty ' if node.get('minItems') else ''}list of {items}"
        if kind == "object" and node.get("properties"):
            return f"{'sections' if many else 'a section'} (keys: {', '.join(node['properties'])})"
        if kind == "object":
            return "a section of names, each with its settings"
        return {"boolean": "true or false", "null": "null"}.get(kind, "values" if many else "a value")


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
