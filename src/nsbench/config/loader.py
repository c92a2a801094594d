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


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
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
        _refuse_twice(root, path, set())
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


def _refuse_twice(node: yaml.Node, path: Path, seen: set[int]) -> None:
    """Refuse a key that stands twice in a section; seen: the nodes met, since aliases repeat them."""
    if id(node) in seen or isinstance(node, yaml.ScalarNode):
        return
    seen.add(id(node))
    inner = node.value
    if isinstance(node, yaml.MappingNode):
        inner = [part for pair in node.value for part in pair]
        names = set()
        for key in inner[::2]:
            if isinstance(key, yaml.ScalarNode) and key.value in names:
                line = key.start_mark.line + 1
                raise ConfigError(f"{path}, line {line}: key {show(key.value)} stands twice; once is allowed")
            names.add(str(key.value))
    for part in inner:
        _refuse_twice(part, path, seen)
