"""The package's source text: its imports, and edits of it, for tests of walls and digests."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from nsbench.storage import syntax
from nsbench.storage.definitions import PACKAGE, SOURCE_FOLDER, module_path


def all_modules() -> list[str]:
    """The full names of all modules of the package."""
    parts = [(PACKAGE, *file.relative_to(SOURCE_FOLDER).with_suffix("").parts) for file in SOURCE_FOLDER.rglob("*.py")]
    return sorted(".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts)


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules that `module` imports itself, ours and others', wherever the statements stand."""
    path = module_path(module)
    return imports_of(
        path.read_text(encoding="utf-8"), module if path.name == "__init__.py" else module.rpartition(".")[0]
    )


def imports_of(text: str, package: str) -> frozenset[str]:
    """`imports` of a module with this text in this package."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (parent, node.module) if part)
            full = {f"{base}.{alias.name}" for alias in node.names}
            found |= {base} | {name for name in full if module_path(name)}
    return frozenset(found)


def edit(folder: Path, place: str) -> None:
    """Add a statement to a function or a class, `module:name`, or an element to what a constant is."""
    module, name = place.split(":")
    path = folder / f"{module}.py"
    lines = path.read_text(encoding="utf-8").split("\n")
    for node in ast.parse("\n".join(lines)).body:
        if getattr(node, "name", "") == name:
            first = node.body[1] if len(node.body) > 1 and syntax.is_docstring(node.body[0]) else node.body[0]
            line = first.lineno - 1 - len(getattr(first, "decorator_list", []))
            lines.insert(line, " " * first.col_offset + "edited = 1")
            break
        if name in syntax.bound_names(node):
            lines.insert(node.end_lineno, f"{name} = ({name}, 1)")
            break
    else:
        raise AssertionError(f"{place} is not there")
    path.write_text("\n".join(lines), encoding="utf-8")
