"""The walls between modules."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from nsbench.storage.definitions import PACKAGE, module_path
from tests.source_code import all_modules, imports, imports_of

Graph = dict[str, set[str]]
"""Module -> the modules that it imports, ours by their full names."""

LAYERS = [
    {"cli"},
    {"report", "records"},
    {"figures", "pretrained", "evaluation", "claims", "workflow"},
    {"measures"},
    {"training"},
    {"data", "simulation", "analysis", "tracking"},
    {"arms", "integrations"},
    {"storage"},
    {"config"},
    {"schemas"},
    {"theory", "regularizer"},
    {"perturbations"},
]
"""From top to bottom: a room may import from those of lower layers alone, not from its neighbours, so that no two rooms
import each other."""
ONLY = {
    "mlflow": "tracking",
    "transformers": "pretrained",
    "huggingface_hub": "data.hub",
    "gensim": "data.text_sources",
    "tokenizers": "data.vocabulary",
    "snakemake": None,
}
"""Libraries and the one room, or module of a room, that may import them."""
APART = [
    ("training", "measures"),
    ("figures", "analysis"),
    ("theory", "torch"),
    ("schemas", "torch"),
    ("simulation.curves", "torch"),
]
"""Rooms or modules that may not reach what stands beside them, not even through others of ours."""


def room(module: str) -> str:
    """The first part of a name inside the package, else the library's name."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else parts[0]


def within(module: str, place: str | None) -> bool:
    """Whether a module is a place (`data.hub`, `data`, `torch`), or lies in it."""
    return f"{module}.".startswith((f"{PACKAGE}.{place}.", f"{place}."))


def is_ours(module: str) -> bool:
    return module.startswith(PACKAGE + ".")


def reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in graph.get(waiting.pop(), set()) - seen:
            seen.add(name)
            waiting.append(name)
    return seen


def violations(graph: Graph) -> list[str]:
    """Every import that goes through a wall, as `importer -> imported: why`."""
    layer = {name: number for number, names in enumerate(LAYERS) for name in names}
    found = []
    for module in sorted(graph):
        here = room(module)
        if module != PACKAGE and here not in layer:
            found.append(f"{module}: belongs to no layer")
            continue
        for name in sorted(graph[module]):
            there = room(name)
            if there in ONLY and not is_ours(name) and not (is_ours(module) and within(module, ONLY[there])):
                found.append(f"{module} -> {name}: only {ONLY[there]} may")
            if is_ours(name) and there != here and layer.get(there, -1) <= layer.get(here, -1):
                found.append(f"{module} -> {name}: goes up")
        for name in sorted(reachable(graph, module)):
            if any(within(module, one) and within(name, other) for one, other in APART):
                found.append(f"{module} -> {name}: are apart")
        if module in reachable(graph, module):
            found.append(f"{module}: imports itself in a circle")
    return found


# --- the walls -----------------------------------------------------------------------------------------


def test_the_walls_stand() -> None:
    # `from nsbench.figures import style` inside that package names the package itself.
    graph = {module: set(imports(module)) - {module, PACKAGE} for module in all_modules()}
    assert len(graph) > 25
    assert violations(graph) == []


SOUND: Graph = {
    "nsbench": {"importlib"},
    "nsbench.cli.parser": {"nsbench.workflow.config", "nsbench.training.pack", "nsbench.tracking"},
    "nsbench.training.pack": {"nsbench.training.step", "nsbench.storage.parquet", "torch"},
    "nsbench.evaluation.run": {"nsbench.measures.stability", "nsbench.training.models.base"},
    "nsbench.tracking": {"mlflow", "mlflow.entities", "nsbench.storage.parquet"},
    "nsbench.pretrained": {"transformers"},
    "nsbench.data.hub": {"huggingface_hub"},
    "nsbench.training.step": {"nsbench.training.models.base"},
    "nsbench.training.models.base": {"nsbench.config.variant", "torch"},
    "nsbench.measures.stability": {"nsbench.perturbations.tokens", "torch"},
    "nsbench.perturbations.tokens": {"torch"},
    "nsbench.theory.hermite": {"numpy"},
    "nsbench.workflow.config": {"nsbench.config.variant"},
    "nsbench.config.variant": set(),
    "nsbench.storage.parquet": {"pyarrow"},
}


def test_a_sound_graph_has_no_violations() -> None:
    assert violations(SOUND) == []


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        (
            "nsbench.storage.parquet",
            "snakemake.utils",
            ["nsbench.storage.parquet -> snakemake.utils: only None may"],
        ),
        (
            "nsbench.training.models.base",
            "transformers.models",
            ["nsbench.training.models.base -> transformers.models: only pretrained may"],
        ),
        ("nsbench.data.text", "huggingface_hub", ["nsbench.data.text -> huggingface_hub: only data.hub may"]),
        ("nsbench.config.variant", "nsbench.cli.parser", ["nsbench.config.variant -> nsbench.cli.parser: goes up"]),
        ("nsbench.data.datasets", "nsbench.tracking", ["nsbench.data.datasets -> nsbench.tracking: goes up"]),
        ("nsbench.theory.hermite", "torch.nn", ["nsbench.theory.hermite -> torch.nn: are apart"]),
        ("nsbench.cellar", "os", ["nsbench.cellar: belongs to no layer"]),
        (
            "nsbench.training.models.base",
            "nsbench.training.step",
            [
                "nsbench.training.models.base: imports itself in a circle",
                "nsbench.training.step: imports itself in a circle",
            ],
        ),
    ],
)
def test_a_planted_violation_is_caught(module: str, name: str, told: list[str]) -> None:
    graph = {**SOUND, module: SOUND.get(module, set()) | {name}}
    assert set(told) <= set(violations(graph))


def test_a_measure_that_training_reaches_through_others_is_caught() -> None:
    graph = {**SOUND, "nsbench.training.models.base": {"nsbench.measures.stability"}}
    assert "nsbench.training.pack -> nsbench.measures.stability: are apart" in violations(graph)
    assert "nsbench.training.step -> nsbench.measures.stability: are apart" in violations(graph)


def test_the_command_line_imports_nothing_heavy_before_it_knows_its_stage() -> None:
    code = "import sys, nsbench.cli.parser; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "nsbench.config.base" in loaded
    assert not {"torch", "numba", "mlflow", "pandas", "pyarrow", "matplotlib", "scipy", "snakemake"} & set(loaded)


def test_modules_imported_by_name_are_named_by_the_plan() -> None:
    """References are followed by name; what importlib loads must be a root of the stage's digest."""
    found = {
        (module, argument)
        for module in all_modules()
        for argument in re.findall(r"import_module\((.+?)\)", module_path(module).read_text(encoding="utf-8"))
    }
    assert found == {
        ("nsbench", "_PUBLIC[name]"),
        ("nsbench.figures", 'f"nsbench.figures.{_name}"'),
        ("nsbench.simulation.run", 'f"nsbench.simulation.{spec.experiment}"'),
        ("nsbench.theory", "_PUBLIC[name]"),
        ("nsbench.theory", 'f"nsbench.theory.{name}"'),
    }


def test_formulas_are_imported_from_their_own_modules() -> None:
    """The package gives its public names by importlib, which no digest would see."""
    outside = [module for module in all_modules() if not module.startswith("nsbench.theory.")]
    assert [module for module in outside if "nsbench.theory" in imports(module) - {module}] == []


# --- reading imports -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os, nsbench.storage.parquet as r", {"os", "nsbench.storage.parquet"}),
        ("from nsbench import figures", {"nsbench", "nsbench.figures"}),
        ("from nsbench.storage import parquet", {"nsbench.storage", "nsbench.storage.parquet"}),
        ("from nsbench.schemas.training import HISTORY", {"nsbench.schemas.training"}),
        ("from . import style", {"nsbench.figures", "nsbench.figures.style"}),
        ("from .style import save", {"nsbench.figures.style"}),
        ("from ..storage.parquet import read_table", {"nsbench.storage.parquet"}),
        ("from ..perturbations import tokens as t", {"nsbench.perturbations", "nsbench.perturbations.tokens"}),
        ("def f():\n    if True:\n        import mlflow.entities", {"mlflow.entities"}),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None", {"torch"}),
        ('text = "import torch"', set()),
    ],
)
def test_imports_are_found_wherever_they_stand(text: str, found: set[str]) -> None:
    assert imports_of(text, "nsbench.figures") == found


def test_the_page_on_the_architecture_shows_each_room_on_its_layer() -> None:
    page = (Path(__file__).parents[1] / "docs" / "architecture.md").read_text(encoding="utf-8")
    picture = page.split("```")[3].strip().splitlines()
    assert len(picture) == len(LAYERS)
    for line, rooms in zip(picture, LAYERS, strict=True):
        assert rooms <= set(line.split())
