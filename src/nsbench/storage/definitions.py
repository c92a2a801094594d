"""The definitions of the package as its source text has them, and what each refers to."""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from nsbench.storage.syntax import (
    bound_names,
    imports_of,
    is_check,
    is_docstring,
    is_field,
    is_plain,
    local_names,
    only_imports,
)

CHANGES_NO_RESULT = True
PACKAGE = "nsbench"
SOURCE_FOLDER = Path(__file__).parents[1]
DATA_SUFFIXES = {".j2", ".json", ".yaml"}
MARK = "CHANGES_NO_RESULT"

elsewhere: dict[str, Path] = {}
"""Modules outside this package whose code counts as ours: name -> file."""


class Definition(NamedTuple):
    """The statements of a module that bind a name; an empty name: those that bind none, and files beside it."""

    module: str
    name: str


class Reference(NamedTuple):
    """A name in a definition that stands for something else: of ours, or of another package."""

    full_name: str


Part = str | Definition | Reference


def forget() -> None:
    """Read the source again: it was edited, or `elsewhere` has more."""
    for function in (module_path, source_digest, first_times, _module, _data, _find, parts):
        function.cache_clear()


@functools.cache
def module_path(module: str) -> Path | None:
    """The file of a module of ours; None where there is none of that name."""
    if module in elsewhere:
        return elsewhere[module]
    first, *rest = module.split(".")
    base = SOURCE_FOLDER.joinpath(*rest)
    if first != PACKAGE:
        return None
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)


def source_files() -> list[tuple[str, Path]]:
    """All files whose content may count, each with a name; an editor's hidden ones, as `.#step.py`, do not."""
    named = sorted((os.path.relpath(entry.path, SOURCE_FOLDER), Path(entry.path)) for entry in _counted(SOURCE_FOLDER))
    return named + _elsewhere()


def source_times() -> list[tuple[str, int, int]]:
    """Path, time and size of these files: an edit shows in them, without a look into the files."""
    found = []
    for entry in (*_counted(SOURCE_FOLDER), *(path for _, path in _elsewhere())):
        with contextlib.suppress(FileNotFoundError):
            about = entry.stat()
            found.append((os.fspath(entry), about.st_mtime_ns, about.st_size))
    return sorted(found)


def _counted(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            if entry.name != "__pycache__":
                yield from _counted(entry.path)
        elif entry.name.endswith((".py", *DATA_SUFFIXES)) and entry.name[0] != ".":
            yield entry


def _elsewhere() -> list[tuple[str, Path]]:
    return [(name, file) for name, path in sorted(elsewhere.items()) for file in (path, *_beside(path))]


first_times = functools.cache(source_times)
"""Those from before the source was read."""


@functools.cache
def source_digest() -> str:
    """A digest of all files whose content may count."""
    first_times()
    found = []
    for name, file in source_files():
        with contextlib.suppress(FileNotFoundError):
            found.append(f"{name} {hashlib.sha256(file.read_bytes()).hexdigest()}")
    return hashlib.sha256("\n".join(found).encode()).hexdigest()


def definitions_of(root: str) -> list[Definition]:
    """What `module:name` is; or all that `module` defines; or what a package's modules decorate, `package:@`.

    Raises ValueError where it is not there.
    """
    name, _, attribute = root.partition(":")
    if attribute == "@":
        modules = [_module(f"{name}.{path.stem}") for path in sorted(module_path(name).parent.glob("[!_.]*.py"))]
        own = [(module.name, bound, entry) for module in modules for bound, (entry, *_) in module.own.items()]
        return [Definition(module, bound) for module, bound, entry in own if getattr(entry, "decorator_list", [])]
    module = _module(name)
    if not attribute:
        return [Definition(name, own) for own in module.own] or [Definition(name, "")]
    found = _find(f"{name}.{attribute}")
    if not isinstance(found, Definition):
        raise ValueError(f"{name} defines no {attribute!r}")
    return [found]


class _Module(NamedTuple):
    """What counts of a module's text."""

    name: str
    package: str
    imports: dict[str, str]
    """Name -> what it stands for, by its full name."""
    own: dict[str, list[ast.stmt]]
    """Name -> the statements that bind it."""
    effects: list[ast.stmt]
    """Statements that bind nothing, or change what stands elsewhere."""
    left_out: bool
    written: dict[str, list[Part]]
    """Name -> its content, once it was asked for."""


@functools.cache
def _module(name: str) -> _Module:
    path = module_path(name)
    if path is None:
        raise ValueError(f"no module {name!r} in {PACKAGE}")
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _read(name, package, path.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=1000)
def _read(name: str, package: str, text: str) -> _Module:
    tree = ast.parse(text)
    left_out = any(MARK in bound_names(statement) for statement in tree.body)
    module = _Module(name, package, {}, {}, [], left_out, {})
    for statement in tree.body:
        if is_docstring(statement):
            continue
        module.imports.update(imports_of(statement, package))
        if isinstance(statement, ast.Import | ast.ImportFrom):
            continue
        bound = list(bound_names(statement))
        for own in bound:
            module.own.setdefault(own, []).append(statement)
        if not bound and not only_imports(statement):
            module.effects.append(statement)
    return module


@functools.cache
def _data(name: str) -> list[str]:
    """Digests of the files beside a module that share its name."""
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in _beside(module_path(name))]


def _beside(path: Path) -> list[Path]:
    return [file for file in sorted(path.parent.glob(f"{path.stem}.*")) if file.suffix in DATA_SUFFIXES]


@functools.cache
def _find(dotted: str) -> Definition | str | None:
    """What a full name is of ours: a definition, or a module by its name; None for others' code.

    Raises ValueError where a module of ours has no such name.
    """
    if not any(f"{dotted}.".startswith(f"{name}.") for name in (PACKAGE, *elsewhere)):
        return None
    if module_path(dotted):
        return dotted
    parent, _, name = dotted.rpartition(".")
    if not module_path(parent):
        return None
    module = _module(parent)
    if name in module.own:
        return Definition(parent, name)
    if name in module.imports:
        return _find(module.imports[name])
    raise ValueError(f"{parent} defines no {name!r}")


@functools.cache
def parts(found: Definition) -> list[str | Definition]:
    """The content of a definition, in which references to ours are those definitions."""
    module = _module(found.module)
    if module.left_out:
        return ["left out"]
    if found.name not in module.written:
        module.written[found.name] = _merged(_Writer(module).written(found.name))
    content = [] if found.name else _data(found.module)
    for part in module.written[found.name]:
        if not isinstance(part, Reference):
            content.append(part)
        elif (there := _find(part.full_name)) is None:
            content.append(f"import {part.full_name}")
        else:  # A module as a value is all that it defines.
            content += [there] if isinstance(there, Definition) else definitions_of(there)
    if found.name and (module.effects or _data(found.module)):
        content.append(Definition(found.module, ""))
    return content


def _merged(written: list[Part]) -> list[Part]:
    """The same text in fewer parts."""
    merged: list[Part] = []
    for is_text, run in itertools.groupby(written, lambda part: isinstance(part, str)):
        alike = list(run)
        merged += ["\n".join(alike)] if is_text else alike
    return merged


class _Writer:
    """Writes the syntax tree of a definition as parts. Empty fields are left out: Python's versions differ in them."""

    def __init__(self, module: _Module) -> None:
        self.module = module
        self.imports = [module.imports]
        self.local: list[set[str]] = []
        self.parts: list[Part] = []

    def written(self, name: str) -> list[Part]:
        """The content of what the module binds to a name, without that name; of its effects for an empty one."""
        if not name:
            self.statements(self.module.effects)
        for statement in self.module.own.get(name, []):
            names = list(dict.fromkeys(bound_names(statement)))
            if len(names) > 1:
                self.parts.append(f"number {names.index(name)}")
            self.node(statement, own=names)
        return self.parts

    def statements(self, body: list[ast.stmt]) -> None:
        for statement in body:
            if not (is_docstring(statement) or isinstance(statement, ast.Import | ast.ImportFrom)):
                self.node(statement)

    def node(self, node: ast.AST, own: list[str] | None = None) -> None:
        """A node and all in it; own: names that the node binds at the top of the module."""
        if isinstance(node, ast.Name | ast.Attribute) and (full_name := self.full_name(node)) is not None:
            self.parts.append(Reference(full_name))
            return
        self.parts.append(type(node).__name__)
        scoped = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or hasattr(node, "generators")
        if scoped:
            inner = node.body if isinstance(getattr(node, "body", None), list) else []
            self.local.append(local_names(node))
            self.imports.append(dict(imports_of(ast.Module(inner, []), self.module.package)))
        body = self.of_settings(node) if isinstance(node, ast.ClassDef) else None
        for field, value in ast.iter_fields(node):
            if value is None or value == [] or field in ("ctx", "type_comment", "kind"):
                continue
            if own and (field == "name" or (field in ("targets", "target") and is_plain(value))):
                continue
            self.parts.append(field)
            self.value(body if field == "body" and body is not None else value)
        if scoped:
            self.local.pop()
            self.imports.pop()

    def value(self, value: Any) -> None:
        if isinstance(value, ast.AST):
            self.node(value)
        elif isinstance(value, list):
            if all(isinstance(entry, ast.stmt) for entry in value):
                self.statements(value)
            else:
                for entry in value:
                    self.value(entry)
            self.parts.append("]")
        else:
            self.parts.append(repr(value))

    def full_name(self, node: ast.expr) -> str | None:
        """The full name of what a name or a chain of attributes stands for; None where it is local, or built in."""
        if isinstance(node, ast.Attribute):
            parent = self.full_name(node.value)
            # What a definition or another package has as attribute is written as such.
            return f"{parent}.{node.attr}" if parent and module_path(parent) else None
        if not isinstance(node, ast.Name) or not isinstance(node.ctx, ast.Load):
            return None
        for imports in reversed(self.imports[1:]):
            if node.id in imports:
                return imports[node.id]
        if any(node.id in names for names in self.local):
            return None
        if node.id in self.module.own:
            return f"{self.module.name}.{node.id}"
        return self.imports[0].get(node.id)

    def of_settings(self, node: ast.ClassDef) -> list[ast.stmt] | None:
        """What counts of a class of settings: its methods and constants. None for any other class."""
        if not any(self.is_settings(base) for base in node.bases):
            return None
        return [entry for entry in node.body if not (is_field(entry) or is_check(entry))]

    def is_settings(self, base: ast.expr) -> bool:
        dotted = self.full_name(base)
        if dotted is None and isinstance(base, ast.Attribute):
            dotted = ast.unparse(base)
        if dotted in ("pydantic.BaseModel", "BaseModel"):
            return True
        found = _find(dotted) if dotted else None
        if not isinstance(found, Definition):
            return False
        statements = _module(found.module).own[found.name]
        inner = _Writer(_module(found.module))
        return any(isinstance(entry, ast.ClassDef) and any(map(inner.is_settings, entry.bases)) for entry in statements)
