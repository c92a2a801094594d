"""What a file was made by: versions, commit, device, and a digest of the source code used.

The digest of a stage covers the nsbench modules that it imports, transitively, with comments,
docstrings and layout left out, so that a comment invalidates nothing and a changed line of code
invalidates exactly the stages that run it. The settings and `provenance` are left out: all of
config that reaches a stage is in its spec, and provenance is about results, not part of them. So are the
theory's table of public names and its checks of arguments, which carry no number, and what says where
and until when a process works and how its files reach the disk.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

PACKAGE = "nsbench"
SOURCE_FOLDER = Path(__file__).parent
LEFT_OUT = {
    "nsbench.closed",
    "nsbench.settings",
    "nsbench.arms",
    "nsbench.theory_settings",
    "nsbench.pretrained_settings",
    "nsbench.theory",
    "nsbench.theory.domain",
    "nsbench.config",
    "nsbench.provenance",
    "nsbench.device",
    "nsbench.interruption",
    "nsbench.files",
    "nsbench.locks",
}
DATA_SUFFIXES = {".j2", ".json", ".yaml"}
RECORDED_PACKAGES = ("torch", "numpy", "scipy", "pandas", "pyarrow", "transformers", "tokenizers", "gguf")


def module_path(module: str) -> Path | None:
    """The file of an nsbench module, or None where there is none of that name."""
    base = SOURCE_FOLDER.joinpath(*module.split(".")[1:])
    for path in (base / "__init__.py", base.with_suffix(".py")):
        if path.is_file():
            return path
    return None


class _Read(NamedTuple):
    """What counts of a module's text. Not its tree: hundreds of them would slow all that Python does meanwhile."""

    bare: str
    """The syntax tree as text, docstrings removed (comments never enter the tree)."""
    imports: list[ast.Import | ast.ImportFrom]


@functools.cache
def _read(text: str) -> _Read:
    tree = ast.parse(text)
    statements = [tree, *_statements(tree)]
    for node in statements:
        if hasattr(node, "body"):
            node.body = [entry for entry in node.body if not _is_text(entry)]
    return _Read(ast.dump(tree), [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)])


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """The statements in a node, at all depths. Expressions, most of a tree, hold none."""
    for place in ("body", "orelse", "finalbody", "handlers", "cases"):
        for statement in getattr(node, place, ()):
            yield statement
            yield from _statements(statement)


@functools.cache
def imports(module: str) -> frozenset[str]:
    """The modules that `module` imports itself, ours and others', found in its source text."""
    path = module_path(module)
    if path is None:
        raise ValueError(f"no module {module!r} in {PACKAGE}")
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in _read(path.read_text(encoding="utf-8")).imports:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (parent, node.module) if part)
            found.add(base)
            found |= {f"{base}.{alias.name}" for alias in node.names if module_path_or_none(f"{base}.{alias.name}")}
    return frozenset(found)


def module_path_or_none(module: str) -> Path | None:
    """`module_path` for any dotted name; None outside this package."""
    return module_path(module) if module == PACKAGE or module.startswith(PACKAGE + ".") else None


@functools.cache
def closure(*roots: str) -> tuple[str, ...]:
    """`roots` and every nsbench module that they import, directly or not, sorted."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        module = waiting.pop()
        if module in seen or module in LEFT_OUT:
            continue
        seen.add(module)
        # The packages that a module lies in run too when it is imported.
        names = {*imports(module), module.rpartition(".")[0]}
        waiting += [name for name in names if module_path_or_none(name) and name != PACKAGE]
    return tuple(sorted(seen))


@functools.cache
def source_digest(*roots: str) -> str:
    """A digest (16 hex digits) of the code of `closure(*roots)`, comments and docstrings left out.

    A module's data files, those beside it that share its name, count as its code.
    """
    digest = hashlib.sha256()
    for module in closure(*roots):
        path = module_path(module)
        digest.update(f"{module}\n{_read(path.read_text(encoding='utf-8')).bare}\n".encode())
        for companion in sorted(path.parent.glob(f"{path.stem}.*")):
            if companion.suffix in DATA_SUFFIXES:
                digest.update(companion.read_bytes())
    return digest.hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def commit() -> str:
    """The checkout's commit, with '+changes' where files differ from it; 'unknown' outside git."""
    try:
        git = ["git", "-C", str(SOURCE_FOLDER)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+changes" if changed.strip() else "")


@functools.cache
def cpu() -> str:
    """The kind of this machine's CPU, as far as the system tells: float sums may round otherwise on another one."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").partition("\n\n")[0]
    except OSError:
        return f"{platform.machine()} {platform.processor()}".strip()
    found = dict(re.findall(r"^(.+?)\s*: (.*)$", text, re.MULTILINE))
    numbers = [f"{name} {found[key]}" for name, key in (("family", "cpu family"), ("model", "model")) if key in found]
    vectors = [flag for flag in ("avx512f", "avx2") if flag in found.get("flags", "").split()][:1]
    return ", ".join([found.get("model name", platform.machine()), *numbers, *vectors])


def stamp(spec: str, digest: str, device: str = "cpu", partial: str = "") -> dict[str, str]:
    """The provenance that a result file carries in its metadata; partial: how much of the grid it is of, if not all."""
    versions = {name: importlib.metadata.version(name) for name in RECORDED_PACKAGES}
    return {
        "spec": spec,
        "source_digest": digest,
        "commit": commit(),
        "device": device,
        "cpu": cpu(),
        **({"partial": partial} if partial else {}),
        "python": platform.python_version(),
        **{f"version_{name}": version for name, version in versions.items()},
    }
