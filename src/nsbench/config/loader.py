"""Configuration files, checked before their values are: what YAML allows and a configuration does not.

Snakemake loads the files itself; it says little of what is wrong with one, and keeps the last of two equal keys.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from nsbench.config.base import DEEPEST, MOST_VALUES, ConfigError, refuse_tangled
from nsbench.config.errors import show

LARGEST_BYTES = 1_000_000
"""Of a file: fifty times config.yaml."""
PLAIN = {
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge")
}
"""YAML's kinds of values that a file may have."""


def read(path: Path) -> dict[str, Any]:
    """The sections of a file of JSON or YAML.

    Raises ConfigError, one sentence with the file and mostly the line: where it cannot be read, is no such file or
    has no sections; for a key that stands twice in a section, for aliases that stand inside themselves or make too
    much, and for what would run code: YAML's tags and Snakemake's templates (`__use_yte__`).
    """
    text = _text(path)
    try:
        values = json.loads(text, object_pairs_hook=lambda pairs: _section(pairs, path))
    except RecursionError:
        raise _too_deep(str(path)) from None
    except ConfigError:
        raise
    except ValueError:
        values = _yaml(text, path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: {show(values)} is not allowed; allowed: sections, each with its key")
    if "__use_yte__" in values:
        raise ConfigError(f"{path}: __use_yte__ would run code; allowed: plain values, so write them out")
    refuse_tangled(values, str(path))
    return values


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise ConfigError(f"{path}: is larger than {LARGEST_BYTES:,} bytes; a smaller file is allowed")
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a file of settings") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: is no UTF-8 text; save the file as UTF-8") from None


def _section(pairs: list[tuple[str, Any]], path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ConfigError(f"{path}: key {show(key)} stands twice; once is allowed")
        found[key] = value
    return found


class _Loader(yaml.SafeLoader):
    """A safe loader that stops where nodes stand too deep in each other, before Python's own stack ends."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _too_deep(f"line {self.line + 1}")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _too_deep(where: str) -> ConfigError:
    return ConfigError(f"{where}: sections and lists stand more than {DEEPEST} deep in each other; fewer are allowed")


def _yaml(text: str, path: Path) -> Any:
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _count(root, path, {})
        return loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(error.problem or error.context).split())
        raise ConfigError(
            f"{path}{line}: cannot be read as YAML ({problem[:200]}); check indents and brackets"
        ) from None
    except ConfigError as error:
        raise error if str(error).startswith(str(path)) else ConfigError(f"{path}, {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise ConfigError(f"{path}: cannot be read as YAML ({problem[:200]})") from None


def _count(node: yaml.Node, path: Path, counts: dict[int, int]) -> int:
    """The values of a node, its aliases written out; refuses tags, keys that stand twice, and nodes inside themselves.

    counts: of each node seen, by identity; 0 while it is counted. An anchor stands before its aliases, so that this
    goes no deeper than the text does.
    """
    if id(node) not in counts:
        counts[id(node)] = 0
        if node.tag not in PLAIN:
            raise ConfigError(f"{_place(node, path)}: the tag {show(node.tag)} is not allowed; plain values are")
        inner: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            _refuse_twins([key for key, _ in node.value], path)
            inner = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            inner = node.value
        counts[id(node)] = 1 + sum(_count(part, path, counts) for part in inner)
    found = counts[id(node)]
    if found == 0:
        raise ConfigError(f"{_place(node, path)}: stands inside itself; leave that alias out")
    if found > MOST_VALUES:
        raise ConfigError(
            f"{_place(node, path)}: has more than {MOST_VALUES:,} values, its aliases written out; fewer are allowed"
        )
    return found


def _refuse_twins(keys: list[yaml.Node], path: Path) -> None:
    seen: set[str] = set()
    for key in keys:
        if isinstance(key, yaml.ScalarNode):
            if key.value in seen:
                raise ConfigError(f"{_place(key, path)}: key {show(key.value)} stands twice; once is allowed")
            seen.add(key.value)


def _place(node: yaml.Node, path: Path) -> str:
    return f"{path}, line {node.start_mark.line + 1}"
