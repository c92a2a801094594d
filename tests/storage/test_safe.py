"""Nothing that is read may run code: no pickle anywhere, YAML by safe loaders, safetensors alone, no code of models."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nsbench.cli import parser as cli
from nsbench.data import hub

PROJECT = Path(__file__).parents[2]
SOURCES = [path for folder in ("src", "tests", "workflow", "benchmarks") for path in (PROJECT / folder).rglob("*.py")]
MODULES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
"""Modules that run what a file says."""
CALLS = {
    *("torch.load", "torch.jit.load", "torch.hub.load", "torch.serialization.load"),
    *("pandas.read_pickle", "pd.read_pickle"),
    *("yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load", "yaml.full_load_all"),
    *("yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader"),
}
"""Names of other modules that do so."""
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}
THIS = Path(__file__)
"""The one file that makes a pickle, for others to refuse."""


def dotted(node: ast.AST) -> str:
    """`a.b.c` of an expression, else nothing."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return node.id if isinstance(node, ast.Name) else ""


def is_constant(node: ast.AST | None, value: Any) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) is type(value) and node.value == value


def unsafe(source: str) -> Iterator[str]:
    """What in a module may run the code of a file that it reads, as `line: why`."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for why in _of_import(node) if isinstance(node, ast.Import | ast.ImportFrom) else _of_expression(node):
            yield f"{node.lineno}: {why}"


def _of_import(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        modules = [alias.name for alias in node.names]
    else:
        modules = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
    for name in modules:
        if name.partition(".")[0] in MODULES or name in CALLS:
            yield name


def _of_expression(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Attribute) and dotted(node) in CALLS:
        yield dotted(node)
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if is_constant(key, "trust_remote_code") and not is_constant(value, False):
                yield "trust_remote_code"
    if not isinstance(node, ast.Call):
        return
    name, given = dotted(node.func), {keyword.arg: keyword.value for keyword in node.keywords}
    if name in ("eval", "exec", "__import__"):
        yield name
    if "allow_pickle" in given and not is_constant(given["allow_pickle"], False):
        yield "allow_pickle"
    if "trust_remote_code" in given and not is_constant(given["trust_remote_code"], False):
        yield "trust_remote_code"
    if "weights_only" in given:
        yield "a pickle of torch"
    if name in ("yaml.load", "yaml.load_all"):
        loader = given.get("Loader", node.args[1] if len(node.args) > 1 else None)
        if loader is None or dotted(loader) not in SAFE_LOADERS:
            yield name


def unguarded(source: str) -> Iterator[str]:
    """Models and tokenizers that are loaded without saying that their code and their pickles are refused."""
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        if node.func.attr in ("from_pretrained", "from_config"):
            if not is_constant(given.get("trust_remote_code"), False):
                yield f"{node.lineno}: does not refuse code"
            weights = not dotted(node.func).startswith(("transformers.AutoTokenizer.", "transformers.AutoConfig."))
            from_file = node.func.attr == "from_pretrained" and weights and "gguf_file" not in given
            if from_file and not is_constant(given.get("use_safetensors"), True):
                yield f"{node.lineno}: takes pickles"
        if node.func.attr == "from_pretrained" and not is_constant(given.get("local_files_only"), True):
            yield f"{node.lineno}: may fetch files"


def found_in(paths: list[Path], rule: Callable[[str], Iterator[str]]) -> set[str]:
    return {f"{path.relative_to(PROJECT)}:{line}" for path in paths for line in rule(path.read_text(encoding="utf-8"))}


def test_no_module_runs_what_it_reads() -> None:
    # A trap for others, an example of the docs that is run, and conditions of claims, whose syntax is checked before.
    allowed = (f"tests/storage/{THIS.name}:", "tests/analysis/test_statistics.py:", "src/nsbench/claims/conditions.py:")
    assert len(SOURCES) > 200
    found = found_in(SOURCES, unsafe)
    assert {line for line in found if not line.startswith(allowed)} == set()
    assert {line.split(": ")[1] for line in found} <= {"eval", "exec", "pickle"}


def test_models_are_loaded_without_their_code() -> None:
    ours = sorted((PROJECT / "src").rglob("*.py"))
    assert sum(path.read_text(encoding="utf-8").count(".from_pretrained(") for path in ours) >= 5
    assert found_in(ours, unguarded) == set()


def test_rules_run_nothing_that_they_read() -> None:
    words = re.compile(r"\b(pickle|shelve|marshal|joblib|torch\.load|yaml\.load|unsafe_load|eval|exec)\b")
    files = [PROJECT / "Snakefile", *(PROJECT / "workflow").rglob("*.smk")]
    assert len(files) > 5
    for path in files:
        assert words.findall(path.read_text(encoding="utf-8")) == [], path


@pytest.mark.parametrize(
    "source",
    [
        "import joblib.numpy_pickle",
        "from torch import load",
        "f = torch.load",
        "np.load(path, allow_pickle=asked)",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "class L(yaml.UnsafeLoader): pass",
        "from yaml import unsafe_load",
        "Auto.from_pretrained(folder, trust_remote_code=True)",
        'more = {"trust_remote_code": asked}',
        "eval(text)",
    ],
)
def test_what_runs_code_is_found(source: str) -> None:
    assert list(unsafe(source))


@pytest.mark.parametrize(
    "source",
    ["np.load(path)", "np.load(path, allow_pickle=False)", "yaml.safe_load(text)", "yaml.load(text, yaml.SafeLoader)"],
)
def test_what_runs_no_code_is_let_through(source: str) -> None:
    assert not list(unsafe(source))


@pytest.mark.parametrize(
    "source",
    [
        "transformers.AutoModel.from_pretrained(f, local_files_only=True, trust_remote_code=False)",
        "auto.from_pretrained(f, local_files_only=True, use_safetensors=True)",
        "auto.from_pretrained(f, use_safetensors=True, trust_remote_code=False)",
        "transformers.AutoTokenizer.from_pretrained(f, local_files_only=True)",
        "auto.from_config(config)",
    ],
)
def test_a_model_that_is_loaded_without_a_guard_is_found(source: str) -> None:
    assert len(list(unguarded(source))) == 1


def test_no_pickle_and_no_code_is_fetched_from_the_hub() -> None:
    names = ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl", "modeling_x.py", "training_args.bin"]
    assert not [name for name in names for pattern in hub.WANTED if Path(name).match(pattern)]


def test_the_ui_listens_to_this_machine_alone() -> None:
    shown = subprocess.run(["make", "--dry-run", "ui"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    joined = shown.replace("\\\n", " ")
    servers = [line for line in joined.splitlines() if re.search(r"\bmlflow (server|ui)\b", line)]
    assert servers
    for line in servers:
        assert re.findall(r"--host[ =](\S+)", line) == ["127.0.0.1"]
        assert "--dev" not in line
    told = [PROJECT / "Makefile", PROJECT / "README.md"]
    told += [path for folder in ("docs", "workflow") for path in (PROJECT / folder).rglob("*.md")]
    assert not [path for path in told if "0.0.0.0" in path.read_text(encoding="utf-8")]


# --- models that would run code ------------------------------------------------------------------------


class _Trap:
    """A pickle of it makes the file `path` when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self.path,)


def measure(model: Path, made: Path, out: Path) -> int:
    sizes = ["--n-tokens", "8", "--n-sequences", "2", "--rho", "0.5", "--device", "cpu", "--no-control"]
    return cli.main(["measure", "--model", str(model), "--text", str(made / "text.txt"), "--out", str(out), *sizes])


@pytest.fixture
def sprung(tmp_path: Path) -> Path:
    """The file that is there once a trap has run."""
    return tmp_path / "sprung"


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model-00001-of-00001.bin"])
def test_a_model_of_pickles_is_refused_in_one_sentence(
    made: Path, tmp_path: Path, sprung: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = shutil.copytree(made / "causal", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    torch.save({"a": _Trap(sprung)}, folder / name)
    if "-of-" in name:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": {"a": name}}))
    assert measure(folder, made, tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [
        f"nsbench measure: model: {folder} does not have all its weights as safetensors but {name}, which may run code "
        "when read; save them by save_pretrained(folder, safe_serialization=True)"
    ]
    assert not sprung.exists()


@pytest.mark.parametrize("disguise", ["model.safetensors", "index"])
def test_a_pickle_in_disguise_is_not_read(
    made: Path, tmp_path: Path, sprung: Path, capsys: pytest.CaptureFixture[str], disguise: str
) -> None:
    folder = shutil.copytree(made / "causal", tmp_path / "model")
    (folder / "model.safetensors").unlink()
    if disguise == "index":
        torch.save({"a": _Trap(sprung)}, folder / "weights.bin")
        (folder / "model.safetensors.index.json").write_text('{"metadata": {}, "weight_map": {"a": "weights.bin"}}')
    else:
        torch.save({"a": _Trap(sprung)}, folder / disguise)
    assert measure(folder, made, tmp_path / "out") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not sprung.exists()


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_the_code_beside_a_model_is_not_run(
    made: Path, tmp_path: Path, sprung: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    folder = shutil.copytree(made / "causal", tmp_path / "model")
    (folder / "trap.py").write_text(f"open({str(sprung)!r}, 'w').close()\n")
    settings = json.loads((folder / name).read_text())
    classes = {"AutoConfig": "trap.C", "AutoModelForCausalLM": "trap.M", "AutoTokenizer": ["trap.T", "trap.T"]}
    settings |= {"auto_map": classes, "model_type": "nothing_known", "tokenizer_class": "TrapTokenizer"}
    (folder / name).write_text(json.dumps(settings))
    status = measure(folder, made, tmp_path / "out")
    said = capsys.readouterr().err.strip().splitlines()
    assert status == 0 or (status == 2 and said[-1].startswith("nsbench measure: model: "))
    assert not sprung.exists()
