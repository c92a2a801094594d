"""A quantity of a user's own: the file of docs/claims.md, a claim that asks for it, and nothing of the package."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from nsbench.claims.registry import QUANTITIES
from nsbench.cli import parser as cli
from nsbench.config.base import ConfigError
from nsbench.schemas.claims import CLAIM
from nsbench.schemas.training import COLLECTED_RUNS
from nsbench.storage.parquet import read_table, write_table
from nsbench.workflow import plugins
from nsbench.workflow.digests import digest
from nsbench.workflow.grid import load
from nsbench.workflow.plan import Plan
from nsbench.workflow.plugins import added_to
from tests.claims.synthetic_claims import STAMP
from tests.config.test_config import ROOT, TINY, overlaid
from tests.synthetic_records import make_cells, make_records
from tests.workflow.conftest import forget

NAME = "share_diverged"


def claims_digest() -> str:
    return digest("claims", *(quantity.root for quantity in added_to("claim quantity")))


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    (text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/claims.md").read_text(), re.DOTALL)
    (tmp_path / "mine.py").write_text(text)
    yield tmp_path / "mine.py"
    forget()


def test_a_quantity_of_one_s_own_answers_a_claim(plugin: Path) -> None:
    values = overlaid(TINY)
    bare = Plan(load(values)).grid("analysis", adds="claim quantity")
    before = claims_digest(), digest("analyse")
    plan = Plan(load(values | {"plugins": ["mine.py"]}))
    spec, after = plan.grid("analysis", adds="claim quantity"), claims_digest()
    assert (plan.grid("analysis"), digest("analyse")) == (bare, before[1])
    assert (spec == bare, after == before[0]) == (False, False)

    cells = make_cells("sparse_parity", seeds=range(4))
    runs = make_records(cells, diverged=(("gentle", 0),))["runs"]
    write_table(Path("collected/runs.parquet"), runs.to_dict("records"), COLLECTED_RUNS, STAMP)
    entry = {"id": "few_diverge", "place": "mine", "group": "training", "claim": "Few runs diverge."}
    entry |= {"paper_text": "few", "quantity": {"name": NAME, "parameters": {"task": "sparse_parity"}}}
    entry |= {"rule": {"reproduced": "value < 0.5 and n_diverged >= 1"}}
    Path("claims.yaml").write_text(yaml.safe_dump({"claims": [entry]}))
    Path("tables").mkdir()
    forget()
    asked = ["--claims", "claims.yaml", "--collected", "collected", "--tables", "tables", "--out", "ledger"]
    assert cli.main(["stage", "claims", "--spec", spec, "--digest", after, *asked]) == 0
    row = read_table(Path("ledger/claims.parquet"), CLAIM).iloc[0]
    assert (row["ours"], row["n"], row["verdict"]) == (1 / 8, 8, "reproduced")

    plugin.write_text(plugin.read_text().replace("diverged.mean()", "1 - diverged.mean()"))
    forget()
    plugins.load(["mine.py"])
    assert claims_digest() not in (after, before[0])


def test_a_file_that_registers_no_quantity_is_told(plugin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    known = dict(QUANTITIES)
    for text, told in [
        ('@nsbench.claim_quantity("arithmetic")\ndef mine(evidence): ...', "'arithmetic' is taken by nsbench"),
        ('@nsbench.claim_quantity("mine")\ndef mine(evidence, task): ...', "'task' of mine has no type"),
    ]:
        plugin.write_text(f"import nsbench\n{text}\n")
        os.utime(plugin, (1e9, 1e9))  # an edit within a second, of the same length: Python's cache would miss it
        with pytest.raises(ConfigError, match=told):
            plugins.load(["mine.py"])
        assert known == QUANTITIES
