"""Nothing that is read may run code: no pickle anywhere, YAML by safe loaders, safetensors alone, no code of models."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from nsbench.data import hub
from tests.storage.test_bad_files import measure

PROJECT = Path(__file__).parents[2]
OURS = sorted((PROJECT / "src").rglob("*.py"))
RUNS_CODE = re.compile(
    r"\b(import|from) +_?(c?pickle|cloudpickle|dill|joblib|shelve|marshal|jsonpickle)\b"
    r"|\b(read_pickle|allow_pickle|weights_only|unsafe_load|full_load)\b"
    r"|\b(torch|jit|hub|serialization|yaml)\.load(_all)?\b|from torch import .*\bload\b"
    r"|\byaml\.(Unsafe|Full|C)?Loader\b|trust_remote_code(?!=False)|(?<![\w.])(eval|exec|__import__)\("
)
"""What may run the code of a file that is read."""


def test_no_module_and_no_rule_runs_what_it_reads() -> None:
    rules = [PROJECT / "Snakefile", *(PROJECT / "workflow").rglob("*.smk"), *(PROJECT / "benchmarks").rglob("*.py")]
    assert min(len(OURS), len(rules)) > 5
    assert not [path.name for path in [*OURS, *rules] if RUNS_CODE.search(path.read_text())]


@pytest.mark.parametrize(
    "source",
    [
        "import joblib.numpy_pickle",
        "from torch import load",
        "f = torch.load",
        "np.load(path, allow_pickle=asked)",
        "yaml.load(text)",
        "class L(yaml.UnsafeLoader): pass",
        "from yaml import unsafe_load",
        "Auto.from_pretrained(folder, trust_remote_code=True)",
        'more = {"trust_remote_code": asked}',
        "eval(text)",
    ],
)
def test_what_runs_code_is_found(source: str) -> None:
    assert RUNS_CODE.search(source)


def test_models_are_loaded_without_their_code_from_files_that_are_here() -> None:
    calls = 0
    for path in OURS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if name not in ("from_pretrained", "from_config"):
                continue
            calls += 1
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert given.get("trust_remote_code") == "False", path
            if name == "from_pretrained":
                assert given.get("local_files_only") == "True", path
                weightless = "AutoTokenizer" in ast.unparse(node.func) or "AutoConfig" in ast.unparse(node.func)
                assert weightless or "gguf_file" in given or given.get("use_safetensors") == "True", path
    assert calls >= 5


def test_no_pickle_and_no_code_is_fetched_from_the_hub() -> None:
    names = ["pytorch_model.bin", "model.pt", "model.ckpt", "weights.pkl", "modeling_x.py", "training_args.bin"]
    assert not [name for name in names for pattern in hub.WANTED if Path(name).match(pattern)]


# --- models that would run code ------------------------------------------------------------------------


class _Trap:
    """A pickle of it makes the file `path` when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (self.path,)


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
    assert measure(folder, made / "text.txt", tmp_path / "out") == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said == [
        f"nsbench measure: model: {folder} does not have all its weights as safetensors beside config.json but "
        f"{name}, which may run code when read; save them by save_pretrained(folder, safe_serialization=True)"
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
    assert measure(folder, made / "text.txt", tmp_path / "out") == 2
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
    status = measure(folder, made / "text.txt", tmp_path / "out")
    said = capsys.readouterr().err.strip().splitlines()
    assert status == 0 or (status == 2 and said[-1].startswith("nsbench measure: model: "))
    assert not sprung.exists()
