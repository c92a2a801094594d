"""The report holds everything in one file, tells its scale, and hides nothing."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from nsbench.analysis import analyse, collect
from nsbench.records import RecordError
from nsbench.report import write_report
from tests.synthetic_records import make_cells, make_records, write_records

IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CELLS = make_cells(arms=("baseline", "gentle", "reversed"), seeds=(0, 1, 2, 3, 4, 5), threshold=0.95)
RISES = {
    **{("baseline", seed): 2000.0 + 40 * seed for seed in range(6)},
    **{("gentle", seed): 1000.0 + 60 * seed for seed in range(6)},
    **{("reversed", seed): 1e9 for seed in range(6)},
}


class Page(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + " "


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    write_records(folder / "pack", make_records(CELLS, RISES, diverged=(("reversed", 5),)))
    collect(CELLS, [folder / "pack"], folder / "collected", "{}", "0123456789abcdef")
    analyse(folder / "collected", CELLS, 0.95, 199, folder / "tables", "{}", "0123456789abcdef")
    for name in ("figure_05_modular_addition", "figure_99"):
        (folder / f"{name}.png").write_bytes(IMAGE)
    return folder


def report(results: Path, out: Path, scale: str = "demo", **changes: Any) -> str:
    arguments = {
        "figures": sorted(results.glob("*.png")),
        "tables_folder": results / "tables",
        "collected_folder": results / "collected",
        "cells": CELLS,
        "spec": '{"grid":["<b>"]}',
        "digest": "fedcba9876543210",
    }
    write_report(out, scale=scale, **(arguments | changes))
    return out.read_text()


def test_the_page_is_whole_and_the_same_each_time(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    assert Page(html).open == []
    assert html == report(results, tmp_path / "again.html")


def test_figures_are_inside_with_their_captions(results: Path, tmp_path: Path) -> None:
    page = Page(report(results, tmp_path / "report.html"))
    sources = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert sources == ["data:image/png;base64," + base64.b64encode(IMAGE).decode()] * 2
    assert "Figure 5, modular addition" in page.text
    assert "26.7% fewer steps, or 36.4% faster" in page.text
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")


def test_nothing_is_loaded_from_elsewhere(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "base", "source"} & {tag for tag, _ in page.tags}
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"https?://|@import|url\(", html)


def test_a_demo_says_so_loudly_and_the_paper_s_scale_does_not(results: Path, tmp_path: Path) -> None:
    demo, paper = (report(results, tmp_path / f"{scale}.html", scale) for scale in ("demo", "paper"))
    assert 'class="banner"' in demo
    assert "DEMO SCALE" in Page(demo).text
    assert "Demo scale, not the paper's setting." in Page(demo).text
    assert "<title>nsbench report (demo scale)</title>" in demo
    assert 'class="banner"' not in paper
    assert "SCALE" not in Page(paper).text


def test_tables_have_the_numbers_of_the_grid(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    text = " ".join(Page(html).text.split())
    assert "6 / 6" in text
    assert "0 / 6" in text
    assert "none reached" in text
    assert "18 runs in the grid 1 of them diverged" in text
    assert "validation accuracy ≥ 0.95, held for 3 evaluations in a row" in text
    assert "0, 1, 2, 3, 4, 5" in text
    assert "6 of 12 runs censored (baseline 0, arm 6)" in text
    rows = {row.split("<b>")[1].split("</b>")[0]: row for row in html.split("<tr class=")[1:]}
    assert rows["gentle"].startswith('"fewer')
    assert rows["reversed"].startswith('"more')


def test_colour_needs_pairs_enough(tmp_path: Path) -> None:
    """Three pairs that agree have an interval that excludes zero, but it cannot mean 95%."""
    cells = make_cells(seeds=(0, 1, 2))
    write_records(tmp_path / "pack", make_records(cells, RISES))
    collect(cells, [tmp_path / "pack"], tmp_path / "collected", "{}", "0")
    analyse(tmp_path / "collected", cells, 0.95, 199, tmp_path / "tables", "{}", "0")
    html = report(tmp_path, tmp_path / "report.html", figures=[], cells=cells)
    assert '<tr class="open noted">' in html
    assert "only 3 pairs" in html


def test_provenance_is_there_and_the_spec_is_escaped(results: Path, tmp_path: Path) -> None:
    html = report(results, tmp_path / "report.html")
    text = " ".join(Page(html).text.split())
    for part in (
        "fedcba9876543210",
        "0123456789abcdef",
        "cpu: 18 runs",
        "18 collected, 1 diverged",
        "torch",
        "make ui",
    ):
        assert part in text
    assert '{"grid":["<b>"]}' in text
    assert '["<b>"]' not in html


def test_a_missing_table_leaves_the_older_page(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    out.write_text("older")
    with pytest.raises(RecordError, match=r"cells\.parquet: no such file"):
        report(results, out, tables_folder=tmp_path)
    assert out.read_text() == "older"
