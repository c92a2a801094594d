"""Configuration files, checked before their values are: what YAML allows and a configuration does not.

Snakemake loads the files itself; it says little of what is wrong with one, and keeps the last of two equal keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from nsbench.config.base import ConfigError
from nsbench.config.errors import show

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
DEEPEST, MOST_VALUES = 50, 100_000
"""Levels, and values with each alias as what it stands for, of a file."""
TOO_DEEP = "sections and lists stand too deep in each other"
KINDS = {
    "bool": "true|True|TRUE|false|False|FALSE",
    "int": "[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+",
    "float": r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
    "null": "null|Null|NULL|~|",
    "str": "(?![-+]?0(o[0-7]+|[0-9]+)$).*",
    "timestamp": "(?!)",
    "value": "(?!)",
}
"""Kinds of plain values in YAML 1.1, which PyYAML and so Snakemake read -> those that YAML 1.2 understands alike.
Numbers of 1.2 that are text in 1.1, as 1e-3, are left: a setting takes such a text as its number."""


def read(path: Path) -> dict[str, Any]:
    """The sections of a file of YAML (or JSON).

    Raises ConfigError, one sentence with the file and mostly the line: where it cannot be read, is no such file or
    has no sections; for a key that stands twice in a section, and for Snakemake's templates, which would run code.
    """
    values = _yaml(_text(path), path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: {show(values)} is not allowed; allowed: sections, each with its key")
    if "__use_yte__" in values:
        raise ConfigError(f"{path}: __use_yte__ would run code; allowed: plain values, so write them out")
    return values


def options(entries: Iterable[str]) -> dict[str, Any]:
    """The lists and sections among Snakemake's `--config name=value`: it reads the numbers in these as text.

    Raises ConfigError as `read` does.
    """
    pairs = [entry.partition("=")[::2] for entry in entries]
    return {name: _yaml(value, f"--config {name}") for name, value in pairs if value.lstrip()[:1] in ("[", "{")}


def refuse_braces(paths: Iterable[str]) -> None:
    """Raise ConfigError for a path that Snakemake would take for a pattern."""
    if found := next((path for path in paths if "{" in path or "}" in path), None):
        raise ConfigError(f"{show(found)}: braces in a path are a wildcard to Snakemake; rename it")


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); name a file of settings") from None
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}, line {line}: is no UTF-8 text; save the file as UTF-8") from None


def _yaml(text: str, path: Path | str) -> Any:
    try:
        _refuse_deep(text, path)
        loader = LOADER(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _checked(root, path, {})
        return loader.construct_document(root)
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(
            f"{path}{line}: cannot be read as YAML ({problem[:200]}); check indents and brackets"
        ) from None


def _refuse_deep(text: str, path: Path | str) -> None:
    """Refuse what stands too deep in each other: PyYAML, in C or not, ends in a crash."""
    depth = 0
    for event in yaml.parse(text, LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            raise _error(event, path, f"{TOO_DEEP}; {DEEPEST} levels are allowed")


def _checked(node: yaml.Node, path: Path | str, met: dict[int, tuple[int, int]]) -> tuple[int, int]:
    """How many values a node stands for, and how deep. Refuses a key that stands twice in a section, a value that
    versions of YAML understand differently, and aliases that stand for too much; met: of the nodes seen."""
    if id(node) in met:
        return met[id(node)]
    if isinstance(node, yaml.ScalarNode):
        _refuse_ambiguous(node, path)
        return 1, 0
    met[id(node)] = 0, DEEPEST  # of an alias of itself
    inner = node.value
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
        names = set()
        for key in inner[::2]:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                raise _error(key, path, f"key {show(key.value)} stands twice; once is allowed")
            names.add(str(key.value))
    sizes, depths = zip((0, 0), *(_checked(part, path, met) for part in inner), strict=True)
    met[id(node)] = size, depth = 1 + sum(sizes), 1 + max(depths)
    if size > MOST_VALUES or depth > DEEPEST:
        raise _error(node, path, f"{TOO_DEEP}; {MOST_VALUES:,} values in {DEEPEST} levels are allowed")
    return size, depth


def _refuse_ambiguous(node: yaml.ScalarNode, path: Path | str) -> None:
    """Refuse a plain `0200`, `1:30`, `1_000`, `on`: in YAML 1.1 alone octal, sexagesimal, a number and true."""
    kind = node.tag.rpartition(":")[2]
    is_plain = kind != "str" or not node.style
    if is_plain and kind in KINDS and not re.fullmatch(KINDS[kind], node.value, re.DOTALL):
        raise _error(
            node,
            path,
            f"{show(node.value)} is one value in YAML 1.1 and another in 1.2; allowed: a number without leading zeros, "
            "'_' and ':', true, false, null, or text in quotes",
        )


def _error(at: yaml.Node | yaml.Event, path: Path | str, problem: str) -> ConfigError:
    return ConfigError(f"{path}, line {at.start_mark.line + 1}: {problem}")
