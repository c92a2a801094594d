"""What the project promises about itself: pins, targets, checks."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

PROJECT = Path(__file__).parents[1]
LOCK = (PROJECT / "requirements.lock").read_text()
PINS = {line.split("==")[0].lower() for line in LOCK.splitlines() if "==" in line}


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\s=<>\[;]", requirement)[0].lower() for requirement in requirements}


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = names(project["dependencies"]) | names(project["optional-dependencies"]["dev"])
    assert wanted <= PINS


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
    for command in ("make install", "make lint", "make test", "tests/config/tiny.yaml"):
        assert command in script


def test_licence_and_citation_are_there() -> None:
    assert (PROJECT / "LICENSE").read_text().startswith("MIT License")
    citation = yaml.safe_load((PROJECT / "CITATION.cff").read_text())
    assert citation["references"][0]["title"] == "Noise Stability of Transformer Models"
