"""What the project promises about itself: pins, targets, checks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import nsbench
from tests.source_code import all_modules, imports

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "requirements.lock").read_text()
PACKAGE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
PINS = {line.split("==")[0].lower() for line in LOCK.splitlines() if "==" in line}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s=<>\[;]", requirement)[0].lower() for requirement in requirements}


def needs(extra: str) -> set[str]:
    """What `pip install nsbench[extra]` asks for, or `pip install nsbench` for no extra."""
    wanted = set(PACKAGE["optional-dependencies"][extra] if extra else PACKAGE["dependencies"])
    ours = {one for one in wanted if one.startswith("nsbench[")}
    inner = {name.strip() for one in ours for name in one[len("nsbench[") : -1].split(",")}
    return names([*wanted - ours]).union(needs("") if extra else (), *map(needs, inner))


def test_what_make_installs_is_pinned_and_has_all_that_people_may_install() -> None:
    assert needs("dev") | needs("docs") <= PINS
    assert needs("dev") >= needs("all") == needs("measure") | needs("workflow") | needs("track")
    assert needs("") == {"numpy", "scipy", "torch"}


COMES_WITH = {
    "PIL": "matplotlib",
    "llvmlite": "numba",
    "markupsafe": "jinja2",
    "pydantic_core": "pydantic",
    "sqlalchemy": "mlflow",
    "triton": "torch",
    "uvicorn": "mlflow",
    "yaml": "pyyaml",
}


@pytest.mark.parametrize(
    ("extra", "roots"),
    [
        ("", ("nsbench.regularizer.", "nsbench.theory.")),
        ("measure", ("nsbench.cli.measure", "nsbench.measures.", "nsbench.pretrained.")),
        ("track", ("nsbench.tracking.",)),
        ("all", ("nsbench.",)),
    ],
)
def test_an_extra_has_what_its_modules_import(extra: str, roots: tuple[str, ...]) -> None:
    waiting, seen = [module for module in all_modules() if f"{module}.".startswith(roots)], set()
    assert waiting
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        # Importing a module imports the packages it lies in, of which `nsbench` imports names on demand alone.
        if module.startswith("nsbench."):
            waiting += [name for name in {*imports(module), module.rpartition(".")[0]} - {"nsbench"} if name]
    others = {module.split(".")[0] for module in seen} - sys.stdlib_module_names - {"nsbench"}
    assert {COMES_WITH.get(name, name.replace("_", "-")) for name in others} <= needs(extra)


def test_torch_is_exact_and_no_cuda_package_is_named() -> None:
    assert re.search(r"^torch==2\.13\.0$", LOCK, flags=re.MULTILINE)
    assert not re.search(r"^(nvidia|cuda|triton)", LOCK, flags=re.MULTILINE)
    assert "://" not in LOCK


def test_the_software_that_snakemake_records_is_the_locks() -> None:
    environment = yaml.safe_load((PROJECT / "workflow/envs/nsbench.yaml").read_text())
    pinned = next(entry for entry in environment["dependencies"] if isinstance(entry, dict))["pip"]
    assert pinned
    for pin in pinned:
        assert re.search(rf"^{re.escape(pin)}( ;|$)", LOCK, flags=re.MULTILINE), pin


@pytest.mark.parametrize("target", ["install", "demo", "test", "reproduce", "partial", "ui", "lint"])
def test_make_has_the_target(target: str) -> None:
    shown = subprocess.run(["make", "--dry-run", target], cwd=PROJECT, capture_output=True, text=True)
    assert "No rule to make target" not in shown.stderr


FAKE_PYTHON = """#!/bin/sh
[ "$1" = -m ] && [ "$2" = venv ] || exit 0
mkdir -p "$3/bin"
printf '#!/bin/sh\\nenv > "%s/pip.env"\\n' "$3" > "$3/bin/pip"
printf '#!/bin/sh\\nexit 0\\n' > "$3/bin/python"
printf '#!/bin/sh\\nexit %s\\n' "$FAKE_STATUS" > "$3/bin/nsbench"
chmod +x "$3"/bin/*
"""


def test_pip_settings_of_place_and_kind_do_not_reach_the_install_which_is_ready_once_it_runs(tmp_path: Path) -> None:
    python, venv = tmp_path / "python", tmp_path / "venv"
    python.write_text(FAKE_PYTHON)
    python.chmod(0o755)
    of_place = dict.fromkeys(("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_NO_DEPS", "PIP_DRY_RUN"), "1")
    mine = {**os.environ, **of_place, "PIP_INDEX_URL": "https://mine"}
    for status, there in (("1", False), ("0", True)):
        call = ["make", "install", f"PYTHON={python}", f"VENV={venv}"]
        done = subprocess.run(call, cwd=PROJECT, capture_output=True, text=True, env={**mine, "FAKE_STATUS": status})
        assert (done.returncode == 0) == (venv / ".ready").exists() == there, done.stderr
        assert there or "the command does not run" in done.stdout
    given = dict(line.split("=", 1) for line in (venv / "pip.env").read_text().splitlines() if line.startswith("PIP_"))
    assert {name: given.get(name, "") for name in of_place} == {
        **dict.fromkeys(of_place, ""),
        "PIP_USER": "0",
        "PIP_NO_DEPS": "0",
    }
    assert given["PIP_INDEX_URL"] == "https://mine"


def test_readme_names_only_files_that_are_there() -> None:
    text = (PROJECT / "README.md").read_text()
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    named = re.findall(r"`((?:src|docs|workflow|benchmarks|tests)/[\w./-]+)`", text)
    assert linked
    for name in [*linked, *named]:
        assert (PROJECT / name).exists(), name


def test_both_cis_run_the_same_script() -> None:
    steps = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text())["jobs"]["check"]["steps"]
    assert any(step.get("run") == "bash .ci/run" for step in steps)
    script = (PROJECT / ".ci/run").read_text()
    for command in ("make install", "make lint", "make test", "tests/config/tiny.yaml", "mkdocs build --strict"):
        assert command in script


def test_forms_and_the_catalog_s_file_are_as_their_readers_want_them() -> None:
    forms = list((PROJECT / ".github/ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 2
    for form in forms:
        read = yaml.safe_load(form.read_text())
        assert read["name"]
        assert read["description"]
        assert all(field["attributes"]["label"] for field in read["body"])
    usage = yaml.safe_load((PROJECT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert set(usage) == {"mandatory-flags", "software-stack-deployment", "report"}
    for name in ("workflow/Snakefile", "config/README.md"):
        assert (PROJECT / name).is_file()
    readme = (PROJECT / "README.md").read_text().lower()
    assert "snakemake" in readme
    assert "workflow" in readme


def test_the_notebook_is_small_and_has_no_outputs() -> None:
    path = PROJECT / "examples/does_it_help.ipynb"
    cells = json.loads(path.read_text())["cells"]
    assert path.stat().st_size < 100_000
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)


def test_the_changelog_has_the_version() -> None:
    heads = re.findall(r"^## (.*)$", (PROJECT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert heads[0] == "[Unreleased]"
    assert re.fullmatch(r"\[(.*)\] - \d{4}-\d\d-\d\d", heads[1])[1] == nsbench.__version__


def test_licence_and_citation_are_there() -> None:
    assert (PROJECT / "LICENSE").read_text().startswith("MIT License")
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["references"][0]["title"] == "Noise Stability of Transformer Models"
