"""The page holds everything in one file, tells its scale, and hides nothing."""

from __future__ import annotations

import base64
import re
import shutil
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pyarrow as pa
import pytest

from nsbench.report.page import FOLDER, TABLES
from nsbench.storage.code_digest import reached
from nsbench.storage.parquet import RecordError, read_table, write_table
from tests.report.pages import CELLS, IMAGE, RISES, Page, flat, page_of, report, section
from tests.synthetic_records import make_cells


def test_the_page_is_whole_and_the_same_each_time(plain: str, results: Path, tmp_path: Path) -> None:
    assert plain == report(results, tmp_path / "again.html")


def test_figures_are_inside_with_their_captions(plain: str) -> None:
    page = Page(plain)
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources == ["data:image/png;base64," + base64.b64encode(IMAGE).decode()] * 2
    assert "Figure 5 of the paper, modular addition" in page.text
    assert "26.7% fewer steps, or 36.4% faster" in page.text
    assert not re.search(r"https?://|@import|url\(", plain)


def test_a_demo_says_so_loudly_and_the_paper_s_scale_does_not(results: Path, tmp_path: Path) -> None:
    demo, paper = (report(results, tmp_path / f"{scale}.html", scale) for scale in ("demo", "paper"))
    assert 'class="banner"' in demo
    assert "DEMO SCALE" in Page(demo).text
    assert "Demo scale, not the paper's setting." in Page(demo).text
    assert "<title>nsbench report (demo scale)</title>" in demo
    assert 'class="banner"' not in paper
    assert "SCALE" not in Page(paper).text


def test_tables_have_the_numbers_of_the_grid(plain: str) -> None:
    text = " ".join(Page(plain).text.split())
    assert "6 / 6" in text
    assert "0 / 6" in text
    assert "none reached" in text
    assert "18 runs in the grid 1 of them diverged" in text
    assert "validation accuracy ≥ 0.95, held for 3 evaluations in a row (200 steps)" in text
    assert "0, 1, 2, 3, 4, 5" in text
    assert "6 of 12 runs did not reach the target in 3,000 steps (baseline 0, arm 6)" in text
    effects = section(plain, "effects")
    rows = {row.split("<b>")[1].split("</b>")[0]: row for row in effects.split("<tr class=")[1:]}
    assert rows["gentle"].startswith('"fewer')
    assert rows["reversed"].startswith('"more')


def test_runs_that_were_stopped_at_their_target_are_counted(results: Path, tmp_path: Path) -> None:
    stopped = tuple(("gentle", seed) for seed in range(6))
    html = page_of(tmp_path, CELLS, RISES, stopped=stopped)
    text = flat(html)
    assert "18 runs in the grid 0 of them diverged 6 of them stopped at their target" in text
    assert "18 collected, 0 diverged, 6 stopped at their target" in text
    onsets = flat(section(html, "onsets"))
    assert "6 of 6 runs undefined (6 stopped at the target); no runs to compare" in onsets
    assert "stopped at" not in flat(report(results, tmp_path / "plain.html"))
    for name in ("effects", "times"):  # times to target are what they were
        assert "stopped" not in flat(section(html, name))


def test_colour_needs_pairs_enough(tmp_path: Path) -> None:
    """Three pairs that agree can have no interval."""
    cells = make_cells(seeds=(0, 1, 2))
    html = page_of(tmp_path, cells, RISES)
    assert '<tr class="open noted">' in html
    assert "3 pairs, and the first look is at 6: no interval yet" in html


def test_a_missing_table_or_figure_leaves_the_older_page(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("older")
    with pytest.raises(RecordError, match=r"cells\.parquet: no such file"):
        report(results, out, tables=tmp_path)
    with pytest.raises(RecordError, match=r"figure_98\.png: no such file"):
        report(results, out, figures=[tmp_path / "figure_98.png"])
    assert out.read_text() == "older"


def test_a_page_of_numbers_that_are_not_there_is_whole(results: Path, tmp_path: Path) -> None:
    shutil.copy(results / "tables" / "time_to_target.parquet", tmp_path)
    for name, schema in TABLES.items():
        table = read_table(results / "tables" / f"{name}.parquet", schema)
        numbers = [field.name for field in schema if field.nullable and pa.types.is_floating(field.type)]
        write_table(tmp_path / f"{name}.parquet", table.assign(**dict.fromkeys(numbers, float("nan"))), schema, {})
    html = report(results, tmp_path / "report.html", tables=tmp_path)
    for name in ("effects", "costs", "times", "onsets"):
        text = flat(section(html, name))
        assert "–" in text
        assert not re.search(r"\bnan\b|\bNone\b", text)


def test_provenance_names_time_and_what_each_part_was_made_by(plain: str) -> None:
    text = flat(section(plain, "provenance"))
    for part in ("fedcba9876543210", "cpu: 18 runs", "18 collected, 1 diverged", "torch"):
        assert part in text
    # The spec is escaped.
    assert '{"grid":["<b>"]}' in Page(plain).text
    assert '["<b>"]' not in plain
    # 3,000 steps of 0.03 s, twice that with the regulariser; the diverged run did half.
    assert "time in training steps 2,610 s over all runs (43.5 min)" in text
    assert re.search(r"collected records \S+ 0123456789abcdef cpu", text)
    assert re.search(r"tables \S+ 0123456789abcdef cpu", text)
    assert not re.search(r"\b20\d\d-\d\d-\d\d\b", text)


def test_every_template_counts_in_the_stage_s_digest_and_is_installed() -> None:
    templates = [path.name for path in FOLDER.iterdir() if path.suffix == ".j2"]
    modules = {found.module for found in reached("nsbench.report.page:write_report", "nsbench.report.measured")}
    assert {"page.html.j2", "page.css.j2", "claims.html.j2"} <= set(templates)
    # A module's data files are those beside it that share its name.
    assert {f"nsbench.report.{name.partition('.')[0]}" for name in templates} <= modules
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["nsbench.report"]
    assert all(any(fnmatch(name, pattern) for pattern in patterns) for name in templates)
