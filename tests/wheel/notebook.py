"""The cells of examples/does_it_help.ipynb, as a notebook runs them: run by tests/wheel, as it trains 16 models.

pytest tests/wheel/notebook.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib
import pytest
import torch

NOTEBOOK = Path(__file__).parents[2] / "examples" / "does_it_help.ipynb"


def test_the_notebook_says_whether_it_helps(capsys: pytest.CaptureFixture[str]) -> None:
    matplotlib.use("Agg")
    torch.set_num_threads(1)
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    assert names["effect"].n_pairs == 8
    assert names["effect"].n_both_reached == 8
    # The regulariser of this strength is in the way of a model that is to learn a parity.
    assert capsys.readouterr().out.startswith("more steps: 1.")
    assert {row["rho"] for row in names["rows"]} == {0.0, 0.5, 0.9}
    assert all(0.5 < row["stability"] < 1 for row in names["rows"])
