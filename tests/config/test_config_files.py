"""Files of settings that are none: what is said of them, also by Snakemake itself; and damage at random."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from nsbench.config.base import ConfigError
from nsbench.config.loader import read
from tests.config.test_config import ROOT, TINY, overlaid
from tests.faults import mutations
from tests.warm import PLANNING, Warm

FILES: dict[str, tuple[str | bytes | None, list[str]]] = {
    "missing": (None, ["c.yaml: cannot be read (No such file or directory)"]),
    "folder": ("FOLDER", ["c.yaml: cannot be read (Is a directory)", "name a file of settings"]),
    "empty": ("", ["c.yaml: null is not allowed; allowed: sections"]),
    "a list": ("- seeds: [0]\n", ["c.yaml: [{'seeds': [0]}] is not allowed; allowed: sections, each with its key"]),
    "a bracket open": ("seeds: [0\n", ["c.yaml, line 2: cannot be read as YAML", "check indents and brackets"]),
    "a tab": ("seeds:\n\t- 0\n", ["c.yaml, line 2: cannot be read as YAML (found character"]),
    "an indent off": ("text:\n  source: hub\n path: x\n", ["c.yaml, line 3: cannot be read as YAML"]),
    "an unknown alias": ("seeds: *all\n", ["c.yaml, line 1: cannot be read as YAML (found undefined alias"]),
    "nested deep": ("a: " + "[" * 100_000 + "]" * 100_000, ["c.yaml, line 1: sections and lists stand too deep"]),
    "nested deep in JSON": ('{"a":' * 100_000 + "1" + "}" * 100_000, ["too deep in each other; 50 levels are allowed"]),
    "an alias of itself": ("a: 1\nb: &b [*b]\n", ["c.yaml, line 2: sections and lists stand too deep"]),
    "aliases of much": (
        "a0: &a0 [1, 1]\n" + "".join(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}]\n" for n in range(40)),
        ["c.yaml, line 16: sections and lists stand too deep in each other; 100,000 values in 50 levels are allowed"],
    ),
    **{
        f"of two meanings: {value}": (
            f"scale: demo\nseeds: [{value}]\n",
            [f"c.yaml, line 2: {value!r} is one value in"],
        )
        for value in ("0200", "0800", "0o14", "0b11", "1_000", "1:30", "1:1:1:1", "-1:30.5", "1_0.5", "yes", "Off", "=")
    },
    "a date": ("scale: 2020-13-45\n", ["c.yaml, line 1: '2020-13-45' is one value in YAML 1.1 and another in 1.2"]),
    "minutes beyond all numbers": ("a: 1" + ":59" * 400 + ".5", ["c.yaml, line 1: '1:59:59"]),
    "another encoding": (
        "scale: démo\n".encode("latin-1"),
        ["c.yaml, line 1: is no UTF-8 text; save the file as UTF-8"],
    ),
    "a key twice": ("seeds: [0]\nscale: demo\nseeds: [1]\n", ["c.yaml, line 3: key 'seeds' stands twice; once is"]),
    "a key twice in JSON": ('{"seeds": [0], "seeds": [1]}', ["c.yaml, line 1: key 'seeds' stands twice"]),
    "a Python object": (
        "scale: !!python/name:os.system\n",
        ["c.yaml, line 1: cannot be read as YAML (could not"],
    ),
    "a template": ("__use_yte__: true\nscale: ?open('x', 'w')\n", ["c.yaml: __use_yte__ would run code"]),
}


def write(path: Path, content: str | bytes | None) -> None:
    if content == "FOLDER":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_none_is_told_in_one_sentence(name: str, tmp_path: Path) -> None:
    content, told = FILES[name]
    write(tmp_path / "c.yaml", content)
    with pytest.raises(ConfigError) as caught:
        read(tmp_path / "c.yaml")
    message = str(caught.value).replace(f"{tmp_path}/", "")
    assert message.startswith("c.yaml")
    assert message.isprintable()
    assert len(message) < 400
    for part in told:
        assert part in message


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("a: {x: 1}\nb: {x: 1}\n", {"a": {"x": 1}, "b": {"x": 1}}),
        ("\ufeffa: 1\r\nb: [1, 2]\r\n", {"a": 1, "b": [1, 2]}),
        ('{"a": 1,\n "b": [null, true]}', {"a": 1, "b": [None, True]}),
        ("a: [0, -12, 0x1F, 1., .5, 01.5, 2.5e-3]\n", {"a": [0, -12, 31, 1.0, 0.5, 1.5, 0.0025]}),
        (
            "a: [.inf, ~, True, '0200', \"on\", 1e-3, 12:ab]\n",
            {"a": [math.inf, None, True, "0200", "on", "1e-3", "12:ab"]},
        ),
        ("a: &a {x: 1}\nb: {<<: *a, y: 2}\nc: *a\n", {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 1}}),
    ],
)
def test_what_files_say_as_values(text: str, values: Any, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(text.encode())
    assert read(tmp_path / "c.yaml") == values


# --- the real entry --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., tuple[int, str]]]:
    """Calls of Snakemake in a copy of the project: (config.yaml or None, overlay or None, *options) -> status, said."""
    root = tmp_path_factory.mktemp("project")
    for name in ("Snakefile", "claims.yaml"):
        shutil.copy(ROOT / name, root)
    for name in ("workflow", "profiles"):
        shutil.copytree(ROOT / name, root / name)
    warm = Warm(PLANNING)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        # Where a job were started, it would fail instead of running for hours.
        "NSBENCH_WIKITEXT2": "/nonexistent",
    }

    def call(config: str | bytes | None, overlay: str | None = None, *options: str) -> tuple[int, str]:
        shutil.rmtree(root / "config.yaml") if (root / "config.yaml").is_dir() else None
        (root / "config.yaml").unlink(missing_ok=True)
        write(root / "config.yaml", (ROOT / "config.yaml").read_bytes() if config == "shipped" else config)
        (root / "overlay.yaml").write_text(overlay or "{}")
        layers = [] if overlay is None else ["--configfile", "overlay.yaml"]
        arguments = ["--cores", "1", "--resources", "gpu=1", *layers, *options]
        status, said = warm.run("snakemake", arguments, root, environment)
        there = {path.name for path in root.iterdir()} - {".snakemake"}
        assert there <= {"Snakefile", "claims.yaml", "workflow", "profiles", "config.yaml", "overlay.yaml"}, said
        return status, said

    yield call
    warm.close()


REAL: dict[str, tuple[tuple[str | bytes | None, ...], list[str]]] = {
    "an unknown key": (("shipped", "sedes: [0]"), ["sedes: unknown key, did you mean 'seeds'?; allowed: analysis"]),
    "a key twice": (("shipped", "scale: demo\nscale: paper"), ["overlay.yaml, line 2: key 'scale' stands twice"]),
    "a contradiction": (
        ("shipped", "tasks: {sparse_parity: {variants: {calibrated: {data: {n: 3, k: 5}}}}}"),
        ["tasks.sparse_parity.variants.calibrated.data: k = 5 is more than n = 3; k may be 1 ... n"],
    ),
    "an option": (("shipped", None, "--config", "seeds=x"), ["seeds: 'x' is not allowed", "a valid list"]),
    "an option of text": (("shipped", None, "--config", "seeds=['0']"), ["seeds[0]: '0' is not allowed", "integer"]),
    "an option of two meanings": (
        ("shipped", None, "--config", "seeds=[0, 0200]"),
        ["--config seeds, line 1: '0200' is one value in YAML 1.1 and another in 1.2"],
    ),
    "no file": ((None,), ["config.yaml: cannot be read (No such file or directory)"]),
}


@pytest.mark.parametrize("name", REAL)
def test_snakemake_refuses_before_any_job(name: str, project: Callable[..., tuple[int, str]]) -> None:
    call, told = REAL[name]
    status, said = project(*call)
    assert status == 1, said
    (message,) = {line for line in said.splitlines() if line.startswith("the configuration cannot be used. ")}
    for part in told:
        assert part in message
    assert "Traceback" not in said
    assert "Job stats" not in said


def test_a_list_on_the_command_line_has_numbers(project: Callable[..., tuple[int, str]]) -> None:
    _, said = project("shipped", None, "--config", f"seeds={[*range(12)]}")
    # It is looked for once the settings are found to be allowed.
    assert "$NSBENCH_WIKITEXT2 = '/nonexistent' cannot be read" in said


def test_another_working_directory_is_told_what_to_copy(
    project: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    _, said = project("shipped", None, "--directory", str(tmp_path))
    assert f"cannot be used. config.yaml and claims.yaml: not in {tmp_path}, the working directory; copy from /" in said
    (tmp_path / "config.yaml").write_text("{}")
    _, said = project("shipped", None, "--directory", str(tmp_path))
    assert f"cannot be used. claims.yaml: not in {tmp_path}" in said


# --- at random -------------------------------------------------------------------------------------------


def test_damage_at_random_ends_as_a_plan_or_as_one_sentence(tmp_path: Path) -> None:
    outcome = mutations.run(100, 0, tmp_path)
    assert outcome.found["planned"] > 10
    assert outcome.found["refused in one sentence"] > 40


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=9)
)
KEYS = (
    st.text(max_size=9)
    | st.integers()
    | st.none()
    | st.sampled_from(["seeds", "grid", "tasks", "kind", "rho", "theory"])
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
QUICK = examples(
    max_examples=50, deadline=2000, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def refusal(call: Callable[[], Any]) -> str:
    """Why a call is refused, if it is."""
    try:
        call()
    except ConfigError as error:
        return str(error)
    return ""


@QUICK
@given(values=VALUES, key=st.sampled_from(["seeds", "grid", "tasks", "theory", "pretrained", "evaluation", "text"]))
def test_no_value_ends_as_anything_but_a_sentence(values: Any, key: str) -> None:
    mutations.tried(lambda: {**overlaid(TINY), key: values}, "config.yaml")


@QUICK
@given(content=st.binary() | st.text(alphabet="ab:-?[]{}&*!|>'\"%@#,\n\t 01~<.", max_size=60).map(str.encode))
def test_no_file_ends_as_anything_but_a_sentence(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content)
    assert refusal(lambda: read(path)).isprintable()
