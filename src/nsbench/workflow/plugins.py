"""Plug-ins: what a user adds to the registries, by Python files that a configuration names or by installed packages.

A file, in the list `plugins` of a configuration, is found from the working folder. A package names its modules in the
entry point group `nsbench.plugins`. Each is imported once in a process, before settings are validated.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType
from typing import Any

from nsbench.config.base import ConfigError
from nsbench.config.errors import show
from nsbench.config.registry import REGISTRIES
from nsbench.storage.code_digest import forget
from nsbench.storage.definitions import definitions_of, elsewhere

GROUP = "nsbench.plugins"
_FILES: dict[str, str] = {}
"""Module of a plug-in -> the path that it was first loaded by."""


class _Afresh(SourceFileLoader):
    """Compiles a file each time: the cache of compiled code misses an edit within a second that keeps its length."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def load(paths: Iterable[Path | str] = ()) -> None:
    """Import the plug-ins of installed packages, and these files, as far as they are not.

    Raises ConfigError naming the file and what is wrong: it is not there, cannot be imported, registers a name
    that is taken or what is not its own, imports another plug-in, or has the name of one.
    """
    _load_installed()
    for path in paths:
        _load_file(Path(path))


def file_of(registered: Any) -> str | None:
    """The file that what is registered is from, by the path that it was loaded by; None where it is from a package."""
    return _FILES.get(registered.__module__)


def added_to(what: str) -> list[Any]:
    """What plug-ins added to a registry, in order; what: as its `what`, `claim quantity`."""
    return [value for registry in REGISTRIES if registry.what == what for value in registry.values() if _is_own(value)]


def _is_own(registered: Any) -> bool:
    """Whether what is registered is a user's own."""
    return not registered.__module__.startswith("nsbench.")


@functools.cache
def _load_installed() -> None:
    for entry in importlib.metadata.entry_points(group=GROUP):
        _import(f"{GROUP}: {entry.name} = {entry.value}", entry.load, entry.module.partition(".")[0])


def _load_file(path: Path) -> None:
    where = f"plugins: {show(str(path))}"
    # The name, and so all that a class is called by, is the same wherever the file lies.
    name = f"nsbench_plugin_{path.stem}"
    try:
        text = path.read_text(encoding="utf-8") if path.suffix == ".py" else None
    except (OSError, ValueError):
        text = None
    if text is None:
        raise ConfigError(f"{where} is no Python file in {show(str(Path.cwd()))}; the path of a .py file is allowed")
    if name in _FILES:
        if not path.samefile(_FILES[name]):
            raise ConfigError(f"{where} has the name of the plug-in {show(_FILES[name])}; rename one of them")
        return
    if "nsbench_plugin_" in text:
        # A stage gets the files that it uses one by one.
        raise ConfigError(f"{where} imports another plug-in; one file for both, or an installed package, is allowed")
    spec = importlib.util.spec_from_file_location(name, path.resolve(), loader=_Afresh(name, str(path.resolve())))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        _import(where, lambda: spec.loader.exec_module(module), name, str(path.resolve()))
    except ConfigError:
        del sys.modules[name]
        raise
    _FILES[name] = str(path)


def _import(where: str, run: Callable[[], object], package: str, file: str = "") -> None:
    """Run an import; the modules of `package` count as code of ours from then on.

    Raises ConfigError for whatever it raises, and for what it registers that is not of `package` or not at the top of
    a module; the registries are then as they were before.
    """
    before = {(id(registry), name) for registry in REGISTRIES for name in registry}

    def added() -> list[tuple[dict[str, Any], str]]:
        # An import may bring a registry of ours with it, and what is ours in that.
        every = [(registry, name) for registry in REGISTRIES for name in registry]
        return [
            (registry, name)
            for registry, name in every
            if (id(registry), name) not in before and _is_own(registry[name])
        ]

    try:
        run()
        # All of a package, as what is registered may stand on any of it.
        elsewhere.update({name: path for name in list(sys.modules) if (path := _source(name, package))})
        forget()
        for registry, name in added():
            _check_place(registry[name], name, package)
    except (Exception, SystemExit) as error:
        for registry, name in added():
            del registry[name]
        for name in [name for name in elsewhere if _is_of(name, package)]:
            del elsewhere[name]
        forget()
        if isinstance(error, ConfigError):
            raise ConfigError(f"{where}: {error}") from None
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
        line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(
            f"{where}{f', line {line}' if line else ''}: cannot be imported ({what}); a file that Python can import is "
            "allowed"
        ) from error


def _is_of(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _source(module: str, package: str) -> Path | None:
    """The source file of a module that is loaded, if it is of the package."""
    file = getattr(sys.modules[module], "__file__", None) if _is_of(module, package) else None
    return Path(file) if file and file.endswith(".py") else None


def _check_place(registered: Any, name: str, package: str) -> None:
    """Raise ConfigError for what a digest could not find: code of another package, or inside a function."""
    place = f"{registered.__module__}:{registered.__name__}"
    try:
        known = _is_of(registered.__module__, package) and definitions_of(place)
    except ValueError:
        known = None
    if not known:
        raise ConfigError(f"'{name}' registers {place}; a function or class at the top of the plug-in is allowed")
