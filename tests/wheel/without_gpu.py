"""A torch that was built for CUDA, where CUDA's own libraries (2 GB to load down) are not installed.

Such a torch links to them and does not start without. Each that is missing is made here, of functions that answer "no
CUDA device" alone. A torch for CPUs is left as it is.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

OF_CUDA = re.compile(r"lib(cu|nv|nccl).*\.so")
FUNCTION = re.compile(r"(cu|nv|nccl|__cuda)\w+")
NO_DEVICE = 100
"""cudaErrorNoDevice."""


def complete(site_packages: Path) -> None:
    """Make what torch in `site_packages` lacks, and take it from the requirements that pip reads there."""
    libraries = site_packages / "torch" / "lib"
    versions: dict[str, set[str]] = {}
    asked: set[str] = set()
    for library in libraries.glob("*.so*"):
        shown = run("readelf", "--dynamic", "--version-info", "--wide", library)
        for name in re.findall(r"\(NEEDED\).*\[(.+)\]", shown):
            if OF_CUDA.match(name) and not (libraries / name).exists():
                versions.setdefault(name, set())
        for name, lines in re.findall(r"File: (\S+)(.*(?:\n.*Name: .*)+)", shown):
            if name in versions:
                versions[name] |= set(re.findall(r"Name: (\S+)", lines))
        symbols = run("nm", "--dynamic", "--undefined-only", "--format=just-symbols", library).split()
        asked |= {symbol.split("@")[0] for symbol in symbols}
    code = "".join(map(function, sorted(filter(FUNCTION.fullmatch, asked))))
    for name, of_symbols in versions.items():
        wanted = libraries / "versions.map"
        wanted.write_text("".join(f"{version} {{ *; }};" for version in sorted(of_symbols)) or "{ *; };")
        linker = f"-Wl,-soname,{name},--version-script={wanted}"
        run("gcc", "-shared", "-fPIC", "-w", "-fno-builtin", linker, "-o", libraries / name, "-xc", "-", given=code)
    (metadata,) = site_packages.glob("torch-*.dist-info/METADATA")
    lines = metadata.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if not re.match(r"Requires-Dist: (nvidia|cuda|triton)", line)]
    metadata.write_text("".join(kept), encoding="utf-8")


def function(name: str) -> str:
    """In C; texts of errors are asked for by name."""
    if re.search("String|Name", name):
        return f'const char *{name}(void) {{ return "no CUDA device"; }}\n'
    return f"int {name}(void) {{ return {NO_DEVICE}; }}\n"


def run(*command: str | Path, given: str | None = None) -> str:
    return subprocess.run(command, input=given, capture_output=True, text=True, check=True).stdout
