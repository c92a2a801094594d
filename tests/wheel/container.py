"""The steps of workflow/envs/Dockerfile in a fresh environment without an index, from a folder filled as it says."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
RECIPE = PROJECT / "workflow/envs/Dockerfile"
COPIED = ("src", "pyproject.toml", "requirements.lock", "README.md", "LICENSE")


def try_out(folder: Path, package: str = ".") -> str:
    """What the environment says of itself. package: `.[all]` is what the recipe installs; `.` is less to load down."""
    text = RECIPE.read_text(encoding="utf-8")
    (fill,) = re.findall(r"^#     (pip download .*)$", text, re.MULTILINE)
    (steps,) = re.findall(r"^RUN ((?:.*\\\n)*.*)$", text, re.MULTILINE)
    place = folder / "nsbench"
    place.mkdir(parents=True)
    for name in COPIED:
        if (PROJECT / name).is_dir():
            ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
            shutil.copytree(PROJECT / name, place / name, ignore=ignored)
        else:
            shutil.copy(PROJECT / name, place)
    call([sys.executable, "-m", *shlex.split(fill.replace(".[all]", package)), "--quiet"], place)
    n_files = len(list((place / "wheelhouse").iterdir()))
    size = sum(file.stat().st_size for file in (place / "wheelhouse").iterdir())
    call([sys.executable, "-m", "venv", folder / "venv"], place)
    commands = folder / "venv" / "bin"
    # No settings of pip of this machine, and no variable of its own: nothing but the folder can be used.
    alone = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    alone |= {"PATH": f"{commands}:{os.environ['PATH']}", "PIP_CONFIG_FILE": os.devnull, "PACKAGE": package}
    call(["sh", "-c", steps], place, alone)
    assert not (place / "wheelhouse").exists()
    frozen = call([commands / "pip", "freeze"], place, alone)
    lock = set(re.findall(r"^([\w.-]+==[\w.]+)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE))
    for name, version in re.findall(r"^([\w.-]+)==([\w.]+)", frozen, re.MULTILINE):
        assert f"{name.lower().replace('_', '-')}=={version}" in lock, f"{name} {version} is not what the lock pins"
    version = call([commands / "nsbench", "--version"], folder, alone)
    return f"{version.strip()} by the container's steps, offline from {n_files} files of {size / 1e6:.0f} MB\n"


def call(command: list[str | Path], place: Path, environment: dict[str, str] | None = None) -> str:
    ran = subprocess.run(
        command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert ran.returncode == 0, f"{' '.join(map(str, command))}\n{ran.stdout}"
    return ran.stdout
