"""The report's section on the theory."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd

from nsbench.schemas import theory_labels as labels
from nsbench.schemas.theory import THEORY
from nsbench.storage.parquet import write_table
from tests.report.pages import IMAGE, flat, report, section

THEORY_ROWS = [
    # experiment, reading, series, formula, status, x, theory, simulated, standard error
    ("relu", "Gaussians", "mean 0", "Theorem 5.1", "exact", 0.0, 0.159, 0.160, 0.001),
    ("relu", "Gaussians", "mean 0", "Theorem 5.1", "exact", 1.0, 0.500, 0.497, 0.001),
    ("relu", "Gaussians", "mean 0", "Equation 4", "approximation", 1.0, 0.489, 0.497, 0.001),
    ("attention", "<scaled>", "W", "ρ s(ρ)", "published", 0.9, 0.5, 0.2, 0.0),
    ("transformer", "γ I", "γ = 1", "Equation 8", "published", 8.0, 0.2, 0.0, 1e-9),
    ("recurrence", "ρ = 1", "cosine", "2 s(ρ)", "limit", 1.0, 1.0, 1.0, 0.0),
    ("intervals", "scale 1", labels.entry_moments("attention", "mean"), "lemma", "lower", 1.0, 0.1, 0.2, 0.001),
    ("intervals", "scale 1", labels.entry_moments("attention", "mean"), "lemma", "upper", 1.0, math.inf, 0.2, 0.001),
    ("intervals", "scale 1", labels.entry_moments("MLP", "mean"), "lemma", "lower", 2.0, 0.5, 0.2, 0.001),
    ("intervals", "scale 1", labels.entry_moments("MLP", "mean"), "lemma", "upper", 2.0, math.nan, 0.2, 0.001),
    ("intervals", "scale 1", labels.entry_moments("MLP", "largest"), "lemma", "upper", 2.0, 0.3, 0.303, 0.001),
]


def theory_table(path: Path) -> Path:
    names = ["experiment", "reading", "series", "formula", "status", "x", "theory", "simulated", "standard_error"]
    table = pd.DataFrame(THEORY_ROWS, columns=names).assign(n_draws=4, n_pairs=10)
    table["difference"] = table["simulated"] - table["theory"]
    table["z"] = table["difference"] / table["standard_error"].replace(0.0, float("nan"))
    table["ratio"] = table["theory"] / table["simulated"]
    write_table(path, table, THEORY, {})
    return path


def test_the_theory_stands_beside_its_simulation(results: Path, tmp_path: Path) -> None:
    (tmp_path / "figure_09.png").write_bytes(IMAGE)
    figures = [results / "figure_99.png", tmp_path / "figure_09.png"]
    table = theory_table(tmp_path / "theory.parquet")
    html = report(results, tmp_path / "report.html", figures=figures, theory=table)
    part = section(html, "theory")
    text = flat(part)
    assert "figure 09 Gaussians Theorem 5.1 exact 2 −0.003 mean 0, at 1 2.0 3.0" in text
    assert "Equation 4 approximation 1 +0.008 mean 0, at 1 8.0 8.0" in text
    assert "figure 02 &lt;scaled&gt; ρ s(ρ) published 1 −0.3 W, at 0.9 – –" in text
    assert "figure 10 γ I Equation 8 published 1 −0.2 γ = 1, at 8 over 1,000 over 1,000" in text
    assert "figure 04b ρ = 1 2 s(ρ) limit 1 +0 cosine, at 1 – –" in text
    # A lower bound lies above what was simulated, and one bound there is not.
    assert "scale 1 lemma 3 of 5 0.5 – ∞ 2.5 – –" in text
    assert 'id="figure_09"' in part
    assert 'id="figure_99"' not in part
    assert 'id="figure_09"' not in section(html, "figures")
