"""What a file was made by: versions, commit, device, and the digest of the code (`nsbench.storage.code_digest`)."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import platform
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

CHANGES_NO_RESULT = True

SOURCE_FOLDER = Path(__file__).parents[1]
RECORDED_PACKAGES = ("torch", "numpy", "numba", "scipy", "pandas", "pyarrow", "transformers", "tokenizers", "gguf")


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
    """The kind of this machine's CPU, as the system reports it: float sums may round otherwise on another one."""
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
    versions = {name: _version(name) for name in RECORDED_PACKAGES}
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


def content_digest(files: Iterable[Path | str]) -> str:
    """A digest of what files hold, in their order, whatever their paths and times; one that is not there is skipped."""
    found = [hashlib.sha256(path.read_bytes()).hexdigest() for path in map(Path, files) if path.is_file()]
    return hashlib.sha256(" ".join(found).encode()).hexdigest()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"
