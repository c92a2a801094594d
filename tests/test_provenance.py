"""The walls between modules, and the digest that says which stages an edit concerns."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsbench import plan, provenance
from nsbench.figures import FIGURES, module_of
from nsbench.figures.pretrained import FIGURES as PRETRAINED_FIGURES
from nsbench.figures.theory import FIGURES as THEORY_FIGURES
from nsbench.provenance import PACKAGE, closure, imports, module_path, source_digest
from nsbench.theory_settings import EXPERIMENTS

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
        "treatment",
        "grokfast",
        "regularizers",
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
        "arm_text",
        "partial",
        "config",
        "designs",
        "variants",
        "grid",
        "sentences",
        "seeding",
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


def all_modules() -> list[str]:
    files = provenance.SOURCE_FOLDER.rglob("*.py")
    parts = [(PACKAGE, *file.relative_to(provenance.SOURCE_FOLDER).with_suffix("").parts) for file in files]
    return sorted(".".join(part[:-1] if part[-1] == "__init__" else part) for part in parts)


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
    graph = {module: set(imports(module)) - {module} for module in all_modules()}
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
    """`imports` reads import statements; what importlib loads must be a root of the stage's digest."""
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


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package that the digests look at instead."""
    folder = tmp_path / PACKAGE
    shutil.copytree(provenance.SOURCE_FOLDER, folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "SOURCE_FOLDER", folder)
    forget()
    yield folder
    monkeypatch.undo()
    forget()


def forget() -> None:
    for function in (imports, closure, source_digest, provenance.commit):
        function.cache_clear()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os, nsbench.records as r", {"os", "nsbench.records"}),
        ("from nsbench import records", {"nsbench", "nsbench.records"}),
        ("from nsbench.records import HISTORY", {"nsbench.records"}),
        ("from . import plan", {"nsbench.figures", "nsbench.figures.style"}),
        ("from .style import save", {"nsbench.figures.style"}),
        ("from ..records import whole", {"nsbench.records"}),
        ("from .. import noise as n", {"nsbench", "nsbench.noise"}),
        ("def f():\n    if True:\n        import mlflow.entities", {"mlflow.entities"}),
        ("try:\n    import torch\nexcept ImportError:\n    torch = None", {"torch"}),
        ('text = "import torch"', set()),
    ],
)
def test_imports_are_found_wherever_they_stand(copy: Path, text: str, found: set[str]) -> None:
    (copy / "figures" / "new.py").write_text(text.replace("import plan", "import style"))
    assert imports("nsbench.figures.new") == found


def test_a_module_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"no module 'nsbench\.nowhere' in nsbench"):
        source_digest("nsbench.nowhere")


def test_the_closure_follows_imports_and_packages_and_stops_at_what_is_left_out(copy: Path) -> None:
    for name, text in {
        "one": "import nsbench.two, os",
        "two": "from nsbench.config import load\nfrom nsbench.inner.three import f",
        "inner/three": "import nsbench.one",
        "inner/__init__": "",
    }.items():
        (copy / f"{name}.py").parent.mkdir(exist_ok=True)
        (copy / f"{name}.py").write_text(text)
    found = closure("nsbench.one")
    assert found == ("nsbench.inner", "nsbench.inner.three", "nsbench.one", "nsbench.two")


# --- digests -------------------------------------------------------------------------------------------

TASKS = ("modular_addition", "sparse_parity", "next_token")
STAGES = [
    ("text", ""),
    *(("dataset", task) for task in TASKS),
    ("train", ""),
    *(("evaluate", task) for task in TASKS),
    ("collect", ""),
    ("analyse", ""),
    *(("figure", module) for module in sorted({module_of(name) for name in FIGURES})),
    *(("simulate", experiment) for experiment in EXPERIMENTS),
    ("theory", ""),
    *(("theory-figure", name) for name in THEORY_FIGURES),
    ("pretrained", ""),
    ("pretrained-tables", ""),
    *(("pretrained-figure", name) for name in PRETRAINED_FIGURES),
    ("report", ""),
    ("track", ""),
]


def digests() -> dict[str, str]:
    forget()
    return {f"{stage} {name}".strip(): plan.digest(stage, name) for stage, name in STAGES}


@pytest.fixture(scope="module")
def before() -> dict[str, str]:
    """The digests of the package as it is."""
    return digests()


def changed(before: dict[str, str]) -> set[str]:
    after = digests()
    return {stage for stage in before if before[stage] != after[stage]}


@pytest.mark.parametrize(("stage", "name"), STAGES)
def test_every_stage_has_a_digest_and_it_stays(stage: str, name: str) -> None:
    first = plan.digest(stage, name)
    assert re.fullmatch("[0-9a-f]{16}", first)
    forget()
    assert plan.digest(stage, name) == first


@pytest.mark.usefixtures("copy")
def test_the_digest_is_that_of_the_code_and_not_of_its_place(before: dict[str, str]) -> None:
    assert changed(before) == set()


def test_comments_docstrings_and_layout_change_no_digest(before: dict[str, str], copy: Path) -> None:
    for path in copy.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"^( *)(def |class )", r"\1# a comment\n\1\2", text, flags=re.MULTILINE)
        text = re.sub(r'^( *)"""(?=\w)', r'\1"""Otherwise put: ', text, flags=re.MULTILINE)
        path.write_text(text + "\n\n\n# the end\n", encoding="utf-8")
    assert changed(before) == set()
    for path in copy.rglob("*.py"):
        path.write_text(ast.unparse(ast.parse(path.read_text(encoding="utf-8"))), encoding="utf-8")
    assert changed(before) == set()


DATASETS = {f"dataset {task}" for task in TASKS}
EVALUATES = {f"evaluate {task}" for task in TASKS}
OF_TEXT = {"dataset next_token", "evaluate next_token"}
SIMULATES = {f"simulate {experiment}" for experiment in EXPERIMENTS}
THEORY_DRAWN = {f"theory-figure {name}" for name in THEORY_FIGURES}
MODELS_DRAWN = {f"pretrained-figure {name}" for name in PRETRAINED_FIGURES}
FIGURE_5, FIGURE_11 = "figure figure_05", "figure figure_11"
EVERYTHING = {f"{stage} {name}".strip() for stage, name in STAGES}


@pytest.mark.parametrize(
    ("module", "stages"),
    [
        ("measures/stability", EVALUATES),
        ("measures/sensitivity", EVALUATES),
        (
            "measures/__init__",
            EVALUATES | {"pretrained", "pretrained-figure figure_01", "pretrained-figure figure_08"},
        ),
        ("evaluation", EVALUATES),
        ("training", {"train"}),
        ("validation", {"train"}),
        ("step", {"train"}),
        ("regularizers", {"train"}),
        ("measures/resampling", {"pretrained"}),
        ("measures/influence", {"pretrained"}),
        ("measures/estimate", {"pretrained"} | EVALUATES),
        ("pretrained/cases", {"pretrained"}),
        ("pretrained/gguf", {"pretrained"}),
        ("pretrained/own", set()),
        ("pretrained/command", set()),
        ("pretrained_settings", set()),
        ("pretrained_tables", {"pretrained-tables", "report"}),
        ("pretrained_records", {"pretrained", "pretrained-tables", "report"} | MODELS_DRAWN),
        ("figures/figure_07", {"pretrained-figure figure_07"}),
        ("figures/pretrained_shares", {"pretrained-figure figure_01", "pretrained-figure figure_08"}),
        ("hub", {"text", "pretrained"}),
        ("noise", {"train", "pretrained"} | EVALUATES),
        ("model", {"train"} | EVALUATES),
        ("runstore", {"train"} | EVALUATES),
        ("seeding", {"train", "pretrained"} | EVALUATES | DATASETS | SIMULATES),
        ("datasets", {"train", "dataset modular_addition", "dataset sparse_parity"} | EVALUATES),
        ("tasks/sparse_parity", {"dataset sparse_parity", "evaluate sparse_parity"}),
        ("tasks/modular_addition", {"dataset modular_addition", "evaluate modular_addition"}),
        ("tasks/next_token", OF_TEXT),
        ("vocabulary", OF_TEXT),
        ("texts", {"text", "pretrained"} | OF_TEXT),
        ("text_sources", {"text"}),
        ("floors", DATASETS | EVALUATES),
        ("generation", DATASETS),
        ("measures/scores", EVALUATES),
        ("collection", {"collect"}),
        ("leaks", {"analyse", "report", "track", *(stage for stage in EVERYTHING if stage.startswith("figure "))}),
        ("tasks/__init__", DATASETS | EVALUATES),
        ("figures/figure_05", {FIGURE_5}),
        ("figures/figure_11", {FIGURE_11}),
        ("theory/relu", {"theory", "theory-figure figure_04b", "theory-figure figure_09"}),
        ("theory/attention", {"theory", "theory-figure figure_03"}),
        ("theory/recurrences", {"theory", "theory-figure figure_04b"}),
        ("theory/boolean", set()),
        ("theory/resampling", {"pretrained"} | EVALUATES),
        ("theory/__init__", set()),
        ("theory/domain", set()),
        ("theory/propagation", {"theory", "simulate intervals"}),
        ("theory_curves", {"theory"}),
        ("theory_settings", set()),
        ("readings", {"theory", "report"} | SIMULATES | THEORY_DRAWN),
        ("simulation/run", SIMULATES),
        ("simulation/montecarlo", SIMULATES),
        ("simulation/attention", {"simulate attention"}),
        ("simulation/transformer", {"simulate transformer"}),
        ("figures/figure_02", {"theory-figure figure_02"}),
        ("figures/theory", {"report"} | THEORY_DRAWN),
        ("tracking/importer", {"track"}),
        ("report/page", {"report"}),
        ("records", EVERYTHING),
        ("closed", set()),
        ("settings", set()),
        ("config", set()),
        ("sentences", set()),
        ("provenance", set()),
        ("plan", set()),
        ("progress", set()),
        ("device", set()),
        ("cli", set()),
    ],
)
def test_an_edit_changes_the_stages_that_run_it_and_no_other(
    before: dict[str, str], copy: Path, module: str, stages: set[str]
) -> None:
    with (copy / f"{module}.py").open("a", encoding="utf-8") as file:
        file.write("\nEDITED = 1\n")
    assert changed(before) == stages


@pytest.mark.parametrize(
    "module", ["figures/style", "statistics/power", "statistics/times", "analysis", "onsets", "scores", "selection"]
)
def test_an_edit_of_what_results_are_shown_by_never_retrains_or_evaluates(
    before: dict[str, str], copy: Path, module: str
) -> None:
    with (copy / f"{module}.py").open("a", encoding="utf-8") as file:
        file.write("\nEDITED = 1\n")
    found = changed(before)
    assert found
    assert not found & ({"train"} | EVALUATES | DATASETS)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""Word."""\nx = 1', "x = 1"),
        ("x = 1", "x = 1\n\n\n# why"),
        ("x = (1 +\n 2)", "x = 1 + 2"),
        ('x = 1\n"""What x is."""', "x = 1"),
        ('def f():\n    """Word."""\n    return 1', 'def f():\n    """Other."""\n    return 1'),
        ('class A:\n    a: int\n    """Word."""', "class A:\n    a: int"),
        ("x = 'a'", 'x = "a"'),
    ],
)
def test_an_edit_that_changes_no_code_changes_no_digest(copy: Path, old: str, new: str) -> None:
    path = copy / "sample.py"
    assert digest_of(path, old) == digest_of(path, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = 1", "y = 1"),
        ("x = 1\ny = 2", "y = 2\nx = 1"),
        ("x = 'a'", "x = 'a '"),
        ("def f(a=0): return a", "def f(a=1): return a"),
        ("x = a - b", "x = b - a"),
        ("def f():\n    return 1", "@cache\ndef f():\n    return 1"),
        ("x = ''", "x = '''Text that is a value.'''"),
    ],
)
def test_an_edit_of_code_changes_the_digest(copy: Path, old: str, new: str) -> None:
    path = copy / "sample.py"
    assert digest_of(path, old) != digest_of(path, new)


def digest_of(path: Path, text: str) -> str:
    path.write_text(text)
    forget()
    return source_digest("nsbench.sample")


def test_a_module_s_data_file_counts_as_its_code(before: dict[str, str], copy: Path) -> None:
    with (copy / "report/page.html.j2").open("a", encoding="utf-8") as file:
        file.write("<!-- edited -->")
    assert changed(before) == {"report"}
    (copy / "training.json").write_text("{}")
    assert changed(before) == {"report", "train"}


# --- the commit ----------------------------------------------------------------------------------------


def test_the_commit_says_whether_files_differ_from_it(copy: Path) -> None:
    assert provenance.commit() == "unknown"  # outside git
    git = ["git", "-C", str(copy), "-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"]):
        subprocess.run([*git, *arguments], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    forget()
    assert provenance.commit() == head
    (copy / "cli.py").write_text("")
    forget()
    assert provenance.commit() == f"{head}+changes"
