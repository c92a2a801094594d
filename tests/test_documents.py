"""What README and the pages show to be copied: each block of Python is run from the text, each command is read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {"import nsbench\n\n\n@nsbench.claim_quantity": "tests/claims/test_own_quantity.py"}
"""How a block begins that another test runs."""


def blocks() -> list[str]:
    return [one for page in PAGES for one in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)]


def block(part: str) -> str:
    (found,) = [one for one in blocks() if part in one]
    return found


def test_the_loop_learns() -> None:
    """For a torch model of any make."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(113, 8), nn.Flatten(), nn.Linear(16, 5))
    tokens = torch.cartesian_prod(torch.arange(5), torch.arange(5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    names = {"model": model, "optimizer": optimizer, "loader": [(tokens, tokens[:, 0])] * 200}
    before = F.cross_entropy(model(tokens), tokens[:, 0])
    exec(block("for tokens, labels in loader"), names)
    assert F.cross_entropy(model(tokens), tokens[:, 0]) < before / 2
    assert names["loss"] < F.cross_entropy(names["logits"], tokens[:, 0])


def test_the_theory_gives_its_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    lines = [line.partition("#")[0] for line in block("from nsbench.theory import").splitlines()]
    exec("\n".join([*lines[:2], "found = [", *[f"{line}," if line.strip() else "" for line in lines[2:]], "]"]), names)
    relu, attention, majority = names["found"]
    # Theorem 5.1: all of its argument's stability at 1, and 1/(2 pi) at 0 for unit variance.
    assert relu[0] == pytest.approx(1 / (2 * torch.pi))
    assert 0 < relu[0] < relu[1] < relu[2] < 0.5
    assert 0 < attention < 1
    # The arcsine law, which majorities of many bits come near to.
    assert majority == pytest.approx(2 / torch.pi * torch.asin(torch.tensor(0.5)).item(), abs=0.02)


def test_a_model_in_memory_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    transformers = pytest.importorskip("transformers")
    from tests import tiny_models

    monkeypatch.chdir(tmp_path)
    folder = tiny_models.make(tmp_path, "causal")
    names: dict[str, Any] = {
        "model": transformers.AutoModelForCausalLM.from_pretrained(folder),
        "tokenizer": transformers.AutoTokenizer.from_pretrained(folder),
        "texts": [" ".join(tiny_models.WORDS * 24)],
    }
    text = block("nsbench.measure(")
    exec(text, names)
    assert len(capsys.readouterr().out.splitlines()) >= 3
    also = re.findall(r"\.\w+\(.*?\)", text.partition("# also")[2])
    assert len(also) == 3
    for call in also:
        exec(f"result{call}", names)
    assert (tmp_path / "page.html").stat().st_size > 1000


def test_each_block_of_python_is_run() -> None:
    run = ("for tokens, labels in loader", "from nsbench.theory import", "nsbench.measure(")
    for text in blocks():
        known = any(part in text for part in run) or any(map(text.startswith, ELSEWHERE))
        assert known, f"no test runs this block:\n{text}"


def test_each_command_is_one_that_nsbench_knows() -> None:
    parser = pytest.importorskip("nsbench.cli.parser", exc_type=ImportError)._parser()
    found = 0
    for page in PAGES:
        for line in re.findall(r"^    nsbench ((?:.*\\\n)*.*)", page.read_text("utf-8"), re.MULTILINE):
            parser.parse_args(shlex.split(line.replace("\\\n", " "), comments=True))
            found += 1
    assert found > 5
