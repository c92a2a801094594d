"""The walls between modules."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from nsbench.code_digest import PACKAGE, module_path
from tests.source_code import all_modules, imports, imports_of

Graph = dict[str, set[str]]
"""Module -> the modules that it imports, ours by their full names."""

LAYERS = {
    "cli": {"cli", "commands"},
    "stage": {
        "finished",
        "exchange",
        "queue",
        "collection",
        "generation",
        "training",
        "loop",
        "validation",
        "evaluation",
        "analysis",
        "simulation",
        "theory_curves",
        "pretrained",
        "pretrained_tables",
        "claims",
        "report",
        "tracking",
    },
    "core": {
        "tasks",
        "datasets",
        "floors",
        "text_sources",
        "hub",
        "model",
        "step",
        "figures",
        "runstore",
        "plan",
        "needs",
        "progress",
        "of_now",
    },
    "ground": {
        "closed",
        "config_files",
        "sizes",
        "settings",
        "arms",
        "plugins",
        "new",
        "regularizers",
        "partial",
        "config",
        "designs",
        "variants",
        "grid",
        "sentences",
        "seeding",
        "code_digest",
        "records",
        "run_records",
        "target",
        "provenance",
        "device",
        "interruption",
        "occupancy",
        "locks",
        "noise",
        "measures",
        "theory",
        "theory_settings",
        "theory_records",
        "pretrained_settings",
        "pretrained_records",
        "readings",
        "statistics",
        "specifications",
        "onsets",
        "selection",
        "scores",
        "leaks",
        "claim_records",
        "texts",
        "tracking_uri",
        "vocabulary",
        "files",
        "tensor_files",
    },
}
"""From top to bottom: a room may import from its own layer and from those below."""
ONLY = {
    "mlflow": "tracking",
    "transformers": "pretrained",
    "huggingface_hub": "hub",
    "gensim": "text_sources",
    "tokenizers": "vocabulary",
    "snakemake": None,
}
"""Libraries and the one room that may import them."""
APART = [
    ("training", "measures"),
    ("loop", "measures"),
    ("step", "measures"),
    ("validation", "measures"),
    ("theory", "torch"),
    ("theory_curves", "torch"),
]
"""Rooms that may not reach what stands beside them, not even through others of ours."""


def room(module: str) -> str:
    """The first part of a name inside the package, else the library's name."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 else parts[0]


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
    order = list(LAYERS)
    layer = {name: order.index(title) for title, names in LAYERS.items() for name in names}
    found = []
    for module in sorted(graph):
        here = room(module)
        if module != PACKAGE and here not in layer:
            found.append(f"{module}: belongs to no layer")
            continue
        for name in sorted(graph[module]):
            there = room(name)
            if there in ONLY and not is_ours(name) and ONLY[there] != here:
                found.append(f"{module} -> {name}: only {ONLY[there]} may")
            if is_ours(name) and layer.get(there, -1) < layer.get(here, 0):
                found.append(f"{module} -> {name}: goes up")
        for name in sorted(reachable(graph, module)):
            if (here, room(name)) in APART:
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
    "nsbench.cli": {"nsbench.config", "nsbench.training", "nsbench.tracking"},
    "nsbench.training": {"nsbench.step", "nsbench.records", "torch"},
    "nsbench.evaluation": {"nsbench.measures.stability", "nsbench.model"},
    "nsbench.tracking": {"mlflow", "mlflow.entities", "nsbench.records"},
    "nsbench.pretrained": {"transformers"},
    "nsbench.step": {"nsbench.model"},
    "nsbench.model": {"nsbench.config", "torch"},
    "nsbench.measures.stability": {"nsbench.noise", "torch"},
    "nsbench.noise": {"torch"},
    "nsbench.theory.hermite": {"numpy"},
    "nsbench.config": set(),
    "nsbench.records": {"pyarrow"},
}


def test_a_sound_graph_has_no_violations() -> None:
    assert violations(SOUND) == []


@pytest.mark.parametrize(
    ("module", "name", "told"),
    [
        ("nsbench.records", "snakemake.utils", ["nsbench.records -> snakemake.utils: only None may"]),
        ("nsbench.cli", "snakemake", ["nsbench.cli -> snakemake: only None may"]),
        ("nsbench.training", "mlflow", ["nsbench.training -> mlflow: only tracking may"]),
        ("nsbench.model", "transformers.models", ["nsbench.model -> transformers.models: only pretrained may"]),
        ("nsbench.measures.stability", "nsbench.model", ["nsbench.measures.stability -> nsbench.model: goes up"]),
        ("nsbench.theory.hermite", "nsbench.evaluation", ["nsbench.theory.hermite -> nsbench.evaluation: goes up"]),
        ("nsbench.model", "nsbench.tracking", ["nsbench.model -> nsbench.tracking: goes up"]),
        ("nsbench.config", "nsbench.cli", ["nsbench.config -> nsbench.cli: goes up"]),
        ("nsbench.theory.hermite", "torch.nn", ["nsbench.theory.hermite -> torch.nn: are apart"]),
        ("nsbench.theory.hermite", "nsbench.noise", ["nsbench.theory.hermite -> torch: are apart"]),
        (
            "nsbench.training",
            "nsbench.measures.stability",
            ["nsbench.training -> nsbench.measures.stability: are apart"],
        ),
        ("nsbench.cellar", "os", ["nsbench.cellar: belongs to no layer"]),
        ("nsbench.config", "nsbench.cellar", ["nsbench.config -> nsbench.cellar: goes up"]),
        (
            "nsbench.noise",
            "nsbench.measures.stability",
            ["nsbench.measures.stability: imports itself in a circle", "nsbench.noise: imports itself in a circle"],
        ),
    ],
)
def test_a_planted_violation_is_caught(module: str, name: str, told: list[str]) -> None:
    graph = {**SOUND, module: SOUND.get(module, set()) | {name}}
    assert set(told) <= set(violations(graph))


def test_a_measure_that_training_reaches_through_others_is_caught() -> None:
    graph = {**SOUND, "nsbench.model": {"nsbench.measures.stability"}}
    assert "nsbench.training -> nsbench.measures.stability: are apart" in violations(graph)
    assert "nsbench.step -> nsbench.measures.stability: are apart" in violations(graph)


def test_the_command_line_imports_nothing_heavy_before_it_knows_its_stage() -> None:
    code = "import sys, nsbench.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "nsbench.config" in loaded
    assert not {"torch", "mlflow", "pandas", "pyarrow", "matplotlib", "scipy", "snakemake"} & set(loaded)


def test_modules_imported_by_name_are_named_by_the_plan() -> None:
    """References are followed by name; what importlib loads must be a root of the stage's digest."""
    found = {
        (module, argument)
        for module in all_modules()
        for argument in re.findall(r"import_module\((.+?)\)", module_path(module).read_text(encoding="utf-8"))
    }
    assert found == {
        ("nsbench", "_PUBLIC[name]"),
        ("nsbench.generation", 'f"nsbench.tasks.{spec.task}"'),
        ("nsbench.evaluation", 'f"nsbench.tasks.{spec.task}"'),
        ("nsbench.figures", 'f"nsbench.figures.{module}"'),
        ("nsbench.figures.pretrained", 'f"nsbench.figures.{name}"'),
        ("nsbench.figures.theory", 'f"nsbench.figures.{name}"'),
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
        ("import os, nsbench.records as r", {"os", "nsbench.records"}),
        ("from nsbench import records", {"nsbench", "nsbench.records"}),
        ("from nsbench.records import HISTORY", {"nsbench.records"}),
        ("from . import style", {"nsbench.figures", "nsbench.figures.style"}),
        ("from .style import save", {"nsbench.figures.style"}),
        ("from ..records import whole", {"nsbench.records"}),
        ("from .. import noise as n", {"nsbench", "nsbench.noise"}),
        ("def f():\n    if True:\n        import mlflow.entities", {"mlflow.entities"}),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None", {"torch"}),
        ('text = "import torch"', set()),
    ],
)
def test_imports_are_found_wherever_they_stand(text: str, found: set[str]) -> None:
    assert imports_of(text, "nsbench.figures") == found
