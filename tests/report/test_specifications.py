"""The report's section on specification curves: pooled ratios, choices, single specifications, their figures."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nsbench.report.page import TABLES
from nsbench.storage.parquet import write_table
from tests.report.pages import CELLS, IMAGE, flat, open_part, report, section
from tests.synthetic_specifications import effect_row, make_curve_cells, make_curves

CURVE = make_curve_cells(4, choices={"model.norm": ["pre", "post"], "data.n_train": [2000, 3830]})
LEAKY = make_curve_cells(2, task="next_token", curve="rows", leaks=("<windows> overlap",))
GIVEN: dict[str, dict[str, Any]] = {
    "calibrated": {"ratio": 1.25, "low": 1.1, "high": 1.4},
    "calibrated-001": {"ratio": 0.5, "low": 0.4, "high": 0.6, "p_value": 0.0004},
    "calibrated-002": {"ratio": 0.98, "low": 0.9, "high": 1.1},
    "calibrated-003": {"ratio": math.nan, "n_baseline_reached": 0, "n_arm_reached": 0, "p_value": math.nan},
    "rows": {"ratio": math.nan, "n_baseline_reached": 1, "n_arm_reached": 0, "text": "Some <excerpt>"},
    "rows-001": {"ratio": math.nan, "n_baseline_reached": 0, "n_arm_reached": 0, "text": "Some <excerpt>"},
}


def with_curves(results: Path, folder: Path, cells: list[dict[str, Any]]) -> Path:
    """The tables of `results`, with the specifications of `cells`, in `folder`."""
    shutil.copytree(results / "tables", folder, dirs_exist_ok=True)
    effects = pd.DataFrame(
        [effect_row(cell, **GIVEN[cell["variant"]]) for cell in cells if cell["arm_settings"]["kind"] != "baseline"]
    )
    for name, table in zip(("", "_curve", "_choice"), make_curves(cells, effects), strict=True):
        write_table(folder / f"specification{name}.parquet", table, TABLES[f"specification{name}"], {})
    return folder


@pytest.fixture(scope="module")
def html(results: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("curves")
    figures = [folder / "specification_curve_modular_addition.png"]
    figures[0].write_bytes(IMAGE)
    cells = [*CURVE, *LEAKY]
    tables = with_curves(results, folder / "tables", cells)
    return report(results, folder / "report.html", figures=figures, tables=tables, cells=[*CELLS, *cells])


def test_pooled_ratios_are_of_specifications_that_count(html: str) -> None:
    text = flat(open_part(section(html, "specifications")))
    # Three count, with ratios of about 1.25, 0.5 and 0.98.
    middle = r"noise_stability curve of calibrated 3 of 4 0\.8[456] 0\.\d\d to \d\.\d\d 0\.\d\d to [\d,]+\.\d\d "
    assert re.search(middle + r"\d\.\d\d, 0\.\d\d 0\.[45]\d to 1\.2\d 1, 1, 1 none is settled", text)
    assert "noise_stability curve of rows LEAK: &lt;windows&gt; overlap 0 of 2 – – – – – –" in text
    assert "1 of 4 specifications not counted" in text
    assert "Data: Some &lt;excerpt&gt; (rows of next_token)." in text


def test_each_answer_to_each_choice_has_a_row(html: str) -> None:
    part = section(html, "specifications").partition("What each answer to each choice does")[2].partition("</table>")[0]
    rows = [flat("<tr" + one) for one in part.partition("<tbody>")[2].split("<tr")[1:]]
    assert [line.split(" noise_stability ")[0] for line in rows] == ["n train", "n train", "norm", "norm"]
    assert [line.split(" noise_stability ")[1].split()[0] for line in rows] == ["2,000", "3,830", "pre", "post"]
    assert all(re.search(r"\d \d\.\d+ \d\.\d\d to \d+\.\d\d \d\.\d{3} p \d\.\d{3} open$", line) for line in rows)
    assert '<td class="n effect fewer' not in part  # of a choice that is open no side is told


def test_single_specifications_are_folded_and_sorted_by_their_effect(html: str) -> None:
    part = section(html, "specifications")
    assert "calibrated-001" not in open_part(part)
    rows = part.partition("All 4 single specifications")[2].partition("</table>")[0].split("<tr class=")[1:]
    names = [row.partition("<b>")[2].partition("</b>")[0] for row in rows]
    assert names == ["calibrated-001", "calibrated-002", "calibrated", "calibrated-003"]
    assert [row.split('"')[1].split()[0] for row in rows] == ["fewer", "open", "more", "open"]
    first, *_, last = ("<tr class=" + row for row in rows)
    assert "6 6 → 6 0.50 0.40 to 0.60 1.000 0.80 to 1.20 &lt; 0.001 helps" in flat(first)
    assert "n train" in flat(first)
    assert "6 0 → 0 – – – not counted" in flat(last)
    assert "not counted: the baseline reached the target in 0 of 6 pairs" in flat(last)
    assert "calibrated the curve's base" in flat("<tr class=" + rows[2]).replace("&#39;", "'")


def test_the_curve_s_figure_stands_in_its_section(html: str) -> None:
    assert 'id="specification_curve_modular_addition"' in section(html, "specifications")
    assert html.count("<img") == 1
    assert 'href="#specifications"' in html


def test_variants_of_a_curve_alone_are_folded_out_of_ordinary_tables(results: Path, tmp_path: Path) -> None:
    only = [{**cell, "curve": "other", "choices": {}, "curve_only": True} for cell in CELLS]
    html = report(results, tmp_path / "report.html", cells=only)
    for name in ("effects", "costs", "times", "grid"):
        part = section(html, name)
        assert "calibrated" in part
        assert "modular_addition / calibrated" not in flat(open_part(part))
        assert "more: variants of the specification curves" in part
