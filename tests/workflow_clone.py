"""What the workflow's tests share: a copy of the project to edit, and what Snakemake plans in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tests import source_code, tiny_models
from tests.conftest import compile_kernels
from tests.warm import Warm

PROJECT = Path(__file__).parents[1]
TINY = "tests/config/tiny.yaml"


class Planned(dict[str, int]):
    """How many jobs of each rule a call would run; `outputs` has what each job makes, by rule, in order."""

    def __init__(self, said: str) -> None:
        self.outputs: dict[str, list[str]] = {}
        for rule, output in re.findall(r"^(?:local)?rule (\w+):$(?:\n {4}.*)*?\n    output: (.*)$", said, re.MULTILINE):
            self.outputs.setdefault(rule, []).append(output)
        super().__init__({rule: len(made) for rule, made in self.outputs.items()})
        # `all` makes nothing; every other job has been read, or the report of jobs has another form.
        table = said.rsplit("Job stats:", 1)[1] if "Job stats:" in said else ""
        told = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", table, re.MULTILINE)}
        told.pop("total", 0)
        told.pop("all", 0)
        assert told == self, said

    def times(self) -> Counter[str]:
        """How often each wildcard-free part of a path (a folder or a file's stem) stands in the outputs."""
        made = [output for outputs in self.outputs.values() for output in outputs]
        return Counter(part for output in made for part in {*re.split(r"[/, ]+", output)})


class Clone:
    """A copy of the project in a folder of its own, with its own results; `warm` starts its processes."""

    def __init__(self, root: Path, warm: Warm) -> None:
        self.root, self.warm = root, warm
        compile_kernels()
        for kind in ("causal", "encoder"):
            tiny_models.make(root / "tiny_models", kind)
        for name in (
            "Snakefile",
            "config.yaml",
            "claims.yaml",
            "config",
            "workflow",
            "profiles",
            "src",
            "tests/config",
        ):
            source, place = PROJECT / name, root / name
            place.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(
                    source, place, ignore=shutil.ignore_patterns("*.pyc", "code_digests.json", "*.egg-info")
                )
            elif source.exists():
                shutil.copy(source, place)

    def environment(self, *path: Path) -> dict[str, str]:
        """What a call sees: the clone's code, and these folders searched for commands first."""
        folders = (*map(str, path), str(Path(sys.executable).parent), os.environ["PATH"])
        return {**os.environ, "PYTHONPATH": str(self.root / "src"), "PATH": os.pathsep.join(folders)}

    def snakemake(self, *arguments: str, path: Path | None = None, overlay: str = TINY) -> tuple[int, str]:
        """Exit status and what was said. A fork of a warm process."""
        command = [*arguments, *self.options(overlay)]
        return self.warm.run("snakemake", command, self.root, self.environment(*([path] if path else [])))

    def write_command(self) -> Path:
        """Make a folder with an `nsbench` whose calls are forks of the warm process."""
        commands = self.root / "bin"
        commands.mkdir()
        self.warm.write_command(commands / "nsbench")
        return commands

    def run_all(self, **variables: str) -> str:
        """Run the tiny grid with a Snakemake of its own, its jobs as forks of the warm process; what was said.

        variables: more of the environment.
        """
        command = [sys.executable, "-m", "snakemake", *self.options(TINY)]
        environment = {**self.environment(self.write_command()), **variables}
        done = subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def planned(self, overlay: str = TINY) -> Planned:
        """The jobs that a call would run now."""
        status, said = self.snakemake("--dry-run", overlay=overlay)
        assert status == 0, said
        return Planned(said)

    def edit(self, name: str, *replacements: tuple[str, str]) -> None:
        path = self.root / name
        text = path.read_text()
        for old, new in replacements:
            assert old in text, f"{name} has no {old!r}"
            text = text.replace(old, new, 1)
        path.write_text(text)

    def edit_code(self, place: str) -> str:
        """Edit a definition of nsbench, `module:name` (`source_code.edit`); its module's text before."""
        path = self.root / f"src/nsbench/{place.partition(':')[0]}.py"
        text = path.read_text()
        source_code.edit(self.root / "src/nsbench", place)
        return text

    @staticmethod
    def options(overlay: str) -> list[str]:
        """The options of every call."""
        return ["--cores", "2", "--resources", "gpu=4", *(["--configfile", overlay] if overlay else [])]
