"""The wheel in fresh environments, with the oldest torch and transformers that it allows and with the newest.

    python -m tests.wheel [--only oldest newest container]

Each environment first gets what the wheel alone brings, then the extra `measure`. A third is made by the container's
steps, where pip finds the lock's torch for CPUs. Where pip's cache is empty, about 2 GB are loaded down, most of it
torch; where pip finds no index, that is said and nothing is done.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.wheel import container, without_gpu

PROJECT = Path(__file__).parents[2]
PACKAGE = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCKED_TORCH = re.search(r"^torch==(\S+)", (PROJECT / "requirements.lock").read_text(), re.MULTILINE)[1]
OTHERS = ("matplotlib", "mlflow", "pandas", "pydantic", "snakemake", "transformers")
"""What may not come with the wheel alone."""
ENVIRONMENTS = ("oldest", "newest", "container")
ALONE = ["tests/regularizer/test_alone.py", "tests/regularizer/test_module.py", "tests/test_documents.py"]
MEASURING = ["tests/test_documents.py", "tests/test_integrations.py"]
LOOPS = ["tests/wheel/loops.py", "tests/wheel/notebook.py"]
"""For the newest alone."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=ENVIRONMENTS, default=ENVIRONMENTS)
    only = parser.parse_args().only
    found = {name: listed(name) for name in ("torch", "transformers")}
    if not all(found.values()):
        print("skipped: pip finds no index with torch and transformers")
        return
    began, tried = time.monotonic(), {}
    with tempfile.TemporaryDirectory(prefix="nsbench-wheel-") as name, ThreadPoolExecutor() as pool:
        folder = Path(name)
        wheel = build(folder)
        oldest = [f"{name}=={oldest_series(name, versions)}.*" for name, versions in found.items()]
        for end, asked in (("oldest", oldest), ("newest", list(found))):
            if end in only:
                tried[end] = pool.submit(try_out, folder / end, wheel, *asked)
        if "container" in only:
            if f"{LOCKED_TORCH}+cpu" in found["torch"]:
                tried["container"] = pool.submit(container.try_out, folder / "container")
            else:
                print("skipped: the container's steps, which would load down torch with CUDA's libraries")
        for end, one in tried.items():
            print(f"--- {end}\n{one.result()}", flush=True)
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"the wheel: {time.monotonic() - began:.0f} s, {spent.ru_utime + spent.ru_stime:.0f} s of processor time")


def listed(name: str) -> list[str]:
    """The versions that pip finds; none without an index."""
    call = [sys.executable, "-m", "pip", "index", "versions", name, "--retries", "1", "--timeout", "20"]
    shown = subprocess.run(call, capture_output=True, text=True).stdout
    versions = re.search(r"Available versions: (.*)", shown)
    return versions[1].split(", ") if versions else []


def oldest_series(name: str, versions: list[str]) -> str:
    """The oldest series, as 2.4, that the wheel allows."""
    asked = [*PACKAGE["dependencies"], *PACKAGE["optional-dependencies"]["measure"]]
    low = next(numbers(one.partition(">=")[2]) for one in asked if one.startswith(f"{name}>="))
    return ".".join(map(str, min(one for one in map(numbers, versions) if one >= low)[:2]))


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0]))


def build(folder: Path) -> Path:
    """The wheel, from a copy: setuptools leaves files where it builds."""
    source = folder / "source"
    shutil.copytree(PROJECT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    done(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, source)
    return next(folder.glob("*.whl"))


def try_out(folder: Path, wheel: Path, torch: str, transformers: str) -> str:
    """What an environment says of the wheel with this torch and these transformers."""
    done(sys.executable, "-m", "venv", folder)
    python, site_packages = folder / "bin" / "python", next(folder.glob("lib/python*/site-packages"))
    newest = torch == "torch"

    def install(*what: str | Path) -> None:
        done(python, "-m", "pip", "install", "--quiet", "--no-compile", *what)

    def run_tests(*what: str) -> str:
        # From a folder without src: what is tested is what was installed.
        return done(python, "-m", "pytest", "-q", "--tb=short", "--show-capture=no", *what, cwd=folder / "project")

    install("--no-deps", torch)
    without_gpu.complete(site_packages)
    install(wheel, "pytest")
    shutil.copytree(PROJECT / "tests", folder / "project" / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("docs", "examples"):
        shutil.copytree(PROJECT / name, folder / "project" / name)
    shutil.copy(PROJECT / "README.md", folder / "project")
    unwanted = [name for name in OTHERS if (site_packages / name).exists()]
    assert not unwanted, f"the wheel alone brings {unwanted}"
    assert (site_packages / "nsbench" / "py.typed").exists(), "the wheel has no py.typed"
    said = [done(folder / "bin" / "nsbench", "--version"), done(python, "-c", IMPORT)]
    said += [run_tests("--noconftest", *ALONE)]
    install(f"{wheel}[measure]", transformers, "accelerate", *(["lightning"] if newest else []))
    said += [done(python, "-c", "import transformers; print('transformers', transformers.__version__)")]
    said += [run_tests(*MEASURING, *(LOOPS if newest else []))]
    return "".join(said)


IMPORT = """
import sys, time
began = time.process_time()
import torch, numpy
of_torch = time.process_time() - began
from nsbench import NoiseStabilityRegularizer, resample_tokens
import nsbench.integrations, nsbench.theory
of_nsbench = time.process_time() - began - of_torch
assert of_nsbench < 2, f"importing nsbench takes {of_nsbench:.1f} s besides torch"
found = [name for name in sys.modules if name.startswith(("torch._dynamo.eval", "torch._inductor", "scipy.stats"))]
assert not found, f"importing nsbench imports {found[:3]}"
versions = f"torch {torch.__version__}, numpy {numpy.__version__}"
print(f"{versions}: imported in {of_torch:.1f} s, nsbench in {of_nsbench:.2f} s more")
"""


def done(*command: str | Path, cwd: Path | None = None) -> str:
    """What a command prints. Raises SystemExit, with all that it said, where it fails."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ran = subprocess.run(command, cwd=cwd, env=clean, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if ran.returncode:
        raise SystemExit(f"{ran.stdout}\nnsbench | failed: {' '.join(map(str, command))}")
    return ran.stdout


if __name__ == "__main__":
    main()
