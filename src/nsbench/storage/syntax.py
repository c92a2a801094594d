"""What a statement of Python binds, imports and is, by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

CHANGES_NO_RESULT = True
CHECKS = ("field_validator", "model_validator", "field_serializer", "model_serializer")
"""What decorates methods of settings that check or write values, and compute nothing for a stage."""


def imports_of(node: ast.AST, package: str) -> Iterator[tuple[str, str]]:
    """The names that import statements in a node bind, and what they stand for."""
    for found in ast.walk(node):
        if isinstance(found, ast.Import):
            for alias in found.names:
                yield (alias.asname, alias.name) if alias.asname else (alias.name.split(".")[0],) * 2
        elif isinstance(found, ast.ImportFrom):
            parent = package.rsplit(".", found.level - 1)[0] if found.level else ""
            base = ".".join(part for part in (parent, found.module) if part)
            for alias in found.names:
                yield alias.asname or alias.name, f"{base}.{alias.name}"
        elif isinstance(found, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and found is node:
            return


def only_imports(statement: ast.stmt) -> bool:
    """Whether a statement, such as `if TYPE_CHECKING`, does nothing but import."""
    inner = [node for node in ast.walk(statement) if isinstance(node, ast.stmt) and node is not statement]
    return bool(inner) and all(isinstance(entry, ast.Import | ast.ImportFrom | ast.Pass) for entry in inner)


def bound_names(statement: ast.stmt) -> Iterator[str]:
    """The names that a statement at the top of a module binds, imports apart."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign | ast.AugAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        for target in targets:
            for node in ast.walk(target):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    yield node.id
    elif isinstance(statement, ast.If | ast.Try | ast.With | ast.For):
        for node in ast.iter_child_nodes(statement):
            if isinstance(node, ast.stmt | ast.ExceptHandler):
                inner = node.body if isinstance(node, ast.ExceptHandler) else [node]
                for entry in inner:
                    yield from bound_names(entry)


def is_docstring(node: ast.AST) -> bool:
    """Whether a statement is nothing but a string."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def is_plain(value: Any) -> bool:
    """Whether the target of an assignment is a name, or several."""
    targets = value if isinstance(value, list) else [value]
    return all(isinstance(target, ast.Name) for target in targets)


def is_field(entry: ast.stmt) -> bool:
    """Whether an entry of a class of settings is a setting."""
    return isinstance(entry, ast.AnnAssign) and "ClassVar" not in ast.unparse(entry.annotation)


def is_check(entry: ast.stmt) -> bool:
    """Whether a method of a class of settings checks or writes values."""
    if not isinstance(entry, ast.FunctionDef):
        return False
    return any(check in ast.unparse(decorator) for decorator in entry.decorator_list for check in CHECKS)


def local_names(node: ast.AST) -> set[str]:
    """The names that a function or a comprehension binds itself."""
    names: set[str] = set()
    of_module: set[str] = set()
    for inner in ast.walk(node):
        match inner:
            case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                names.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names |= {name} - ({name} if inner is node else set())
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                names.add(name)
            case ast.Global(names=found):
                of_module |= set(found)
    return names - of_module
