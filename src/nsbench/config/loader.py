"""Configuration files, checked before their values are: what YAML allows and a configuration does not.

Snakemake loads the files itself; it says little of what is wrong with one, and keeps the last of two equal keys.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from nsbench.config.base import ConfigError
from nsbench.config.errors import show

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
LARGEST_BYTES = 1_000_000
"""Of a file: fifty times config.yaml."""
MOST_VALUES = 200_000
"""Values, lists and sections of a file, each counted wherever an alias repeats it."""
PLAIN = {
    f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge")
}
"""YAML's kinds of values that a file may have."""


def read(path: Path) -> dict[str, Any]:
    """The sections of a file of YAML (or JSON).

    Raises ConfigError, one sentence with the file and mostly the line: where it cannot be read, is no such file or
    has no sections; for a key that stands twice in a section, for aliases that stand inside themselves or make too
    much, and for what would run code: YAML's tags and Snakemake's templates (`__use_yte__`).
    """
    values = _yaml(_text(path), path)
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: {show(values)} is not allowed; allowed: sections, each with its key")
    if "__use_yte__" in values:
        raise ConfigError(f"{path}: __use_yte__ would run code; allowed: plain values, so write them out")
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


def _yaml(text: str, path: Path) -> Any:
    try:
        loader = LOADER(text)
        root = loader.get_single_node()
        if root is None:
            return None
        _count(root, path, {})
        return loader.construct_document(root)
    except RecursionError:
        raise ConfigError(
            f"{path}: sections and lists stand too deep in each other; a few levels are allowed"
        ) from None
    except ConfigError:
        raise
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise ConfigError(
            f"{path}{line}: cannot be read as YAML ({problem[:200]}); check indents and brackets"
        ) from None


def _count(node: yaml.Node, path: Path, counts: dict[int, int]) -> int:
    """The values of a node, its aliases written out; refuses tags, keys that stand twice, and nodes inside themselves.

    A few lines of YAML make what no memory holds, by aliases of aliases. counts: of each node met, by identity; 0 while
    it is counted.
    """

    def refuse(where: yaml.Node, what: str) -> None:
        raise ConfigError(f"{path}, line {where.start_mark.line + 1}: {what}")

    if id(node) not in counts:
        counts[id(node)] = 0
        if node.tag not in PLAIN:
            refuse(node, f"the tag {show(node.tag)} is not allowed; plain values are")
        inner = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            inner = [part for pair in node.value for part in pair]
            names = set()
            for key in inner[::2]:
                if isinstance(key, yaml.ScalarNode) and key.value in names:
                    refuse(key, f"key {show(key.value)} stands twice; once is allowed")
                names.add(str(key.value))
        counts[id(node)] = 1 + sum(_count(part, path, counts) for part in inner)
    if counts[id(node)] == 0:
        refuse(node, "stands inside itself; leave that alias out")
    if counts[id(node)] > MOST_VALUES:
        refuse(node, f"has more than {MOST_VALUES:,} values, its aliases written out; fewer are allowed")
    return counts[id(node)]
